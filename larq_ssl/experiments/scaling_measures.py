"""The constants of the page on scale, measured here, and how they are kept."""

import dataclasses
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from larq_ssl import models
from larq_ssl.checkpoints import Checkpoints
from larq_ssl.data.datasets import ImageDataset
from larq_ssl.data.decode import decode
from larq_ssl.experiments import scaling_checks, scaling_methods
from larq_ssl.experiments.benchmark_networks import prepare_bare
from larq_ssl.experiments.run_folder import environment
from larq_ssl.experiments.scaling_formulas import Norms, Workload
from larq_ssl.models import profile
from larq_ssl.optimizers import build_optimizer

_BATCH = 32
_TURNS = 3
_SHARDS = (1, 8, 64)
_STEP_IMAGES = 8
_NETWORK, _SIDE = "resnet_50", 224

Tell = Callable[[str], object]


def measure(photographs: ImageDataset, seconds: float, tell: Tell) -> dict[str, Any]:
    """Everything that the page needs, as plain values.

    # Arguments
        photographs: Encoded images as those of ImageNet.
        seconds: About how long each speed is measured.
        tell: Called with what is being measured.
    """
    # Of every collective it tells how it is done, and of every method that there is another graph.
    tf.get_logger().setLevel("ERROR")
    found: dict[str, Any] = {"environment": {**environment(), "load_average": os.getloadavg()}}
    strategy = tf.distribute.MirroredStrategy([device.name for device in tf.config.list_logical_devices("CPU")[:2]])
    tell("decoding")
    found["decoding"] = decoding(photographs, seconds)
    found["workloads"] = []
    for recipe in scaling_methods.RECIPES:
        tell(recipe)
        found["workloads"].append(dataclasses.asdict(workload(recipe, photographs, seconds)))
    tell("a training step")
    found["step"] = training_step(seconds)
    found["exchanged"] = {}
    for work in workloads(found):
        tell(f"two replicas, {work.method}")
        counts = tuple(count for count, _ in work.views)
        formulas, counted = scaling_checks.exchanged(work.method, counts, strategy)
        found["exchanged"][work.method] = {"formulas": formulas, "counted": counted}
        tf.keras.backend.clear_session()
    tell(f"{', '.join(map(str, _SHARDS))} shards")
    chosen = scaling_methods.policy(scaling_methods.settings(scaling_methods.RECIPES[0]))
    found["shards"] = [
        dataclasses.asdict(scaling_checks.shard_speed(photographs, chosen, shards, _BATCH, _steps(seconds)))
        for shards in _SHARDS
    ]
    return found


def _steps(seconds: float) -> int:
    """So many batches take about that long, at some hundred images a second."""
    return max(2, round(seconds * 200 / _BATCH))


def workloads(found: Mapping[str, Any]) -> list[Workload]:
    """Those that were measured, from plain values."""
    return [
        Workload(
            **{
                **kept,
                "views": tuple(tuple(pair) for pair in kept["views"]),
                "norms": tuple(Norms(**part) for part in kept["norms"]),
            }
        )
        for kept in found["workloads"]
    ]


def decoding(photographs: ImageDataset, seconds: float) -> dict[str, float]:
    """Images that a core decodes in a second, and their size."""
    encoded = [photographs.encoded(index)[0] for index in range(photographs.size)]
    pixels = [image.width * image.height for image in (decode(data) for data in encoded)]
    count, started = 0, time.process_time()
    while time.process_time() - started < seconds:
        decode(encoded[count % len(encoded)])
        count += 1
    rate = count / (time.process_time() - started)
    return {"rate": rate, "bytes": statistics.mean(map(len, encoded)), "pixels": statistics.mean(pixels)}


def workload(recipe: str, photographs: ImageDataset, seconds: float) -> Workload:
    """What a recipe comes to: its networks are built at full size, its views made, a checkpoint written."""
    told = scaling_methods.settings(recipe)
    method, of, policy = recipe.partition("_")[0], scaling_methods.sizes(told), scaling_methods.policy(told)
    views = tuple((len(group), group[0].size) for group in policy.groups.values())
    counts, sides = zip(*views, strict=True)
    encoder = scaling_methods.encoder_arguments(told)
    model = scaling_methods.build(method, encoder, of, scaling_methods.TEACHER)
    model.compile(build_optimizer(told["optimizer"], 0.1))
    ran = scaling_methods.passes(method, counts)
    size, writing = checkpoint(model)
    kept = Workload(
        recipe=recipe,
        method=method,
        batch_size=int(told["batch_size"]),
        epochs=int(told["epochs"]),
        views=views,
        parameters=scaling_methods.parameters(model),
        macs=scaling_methods.macs(model, ran, sides),
        norms=scaling_methods.norms(model, ran),
        width=scaling_methods.width(method, of),
        checkpoint_bytes=size,
        checkpoint_seconds=writing,
        images_per_core_second=scaling_checks.shard_speed(photographs, policy, 1, _BATCH, _steps(seconds)).rate,
    )
    tf.keras.backend.clear_session()
    return kept


def checkpoint(model: tf.keras.Model) -> tuple[int, float]:
    """Bytes of a checkpoint of a method and its optimizer, and the seconds that it takes: the median of three."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoints, times = Checkpoints(pathlib.Path(folder), method=model, optimizer=model.optimizer), []
        for step in range(_TURNS):
            started = time.perf_counter()
            written = checkpoints.save(step)
            times.append(time.perf_counter() - started)
        return sum(file.stat().st_size for file in written.iterdir()), statistics.median(times)


def training_step(seconds: float) -> dict[str, float]:
    """What a core of this machine does in a second of training, in operations (two of a multiply-accumulate)."""
    network: dict[str, Any] = {"name": _NETWORK, "binarization": "none"}
    turn, before = prepare_bare(network, _SIDE, _STEP_IMAGES, "float32"), tf.keras.mixed_precision.global_policy()
    turn(1)
    images, started = 0, time.process_time()
    while time.process_time() - started < seconds:
        images += turn(1)[0]
    rate = images / (time.process_time() - started)
    tf.keras.mixed_precision.set_global_policy(before)
    cost = profile.cost(models.build(**network), _SIDE)
    return {"rate": rate, "flops": 2 * 3 * cost.float_macs * rate}

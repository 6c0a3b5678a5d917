"""Two predictions of the page on scale, tried: what two replicas exchange, and what one shard of many costs."""

import collections
import dataclasses
import functools
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from larq_ssl.data import pipeline
from larq_ssl.data.datasets import ImageDataset
from larq_ssl.data.views import ViewPolicy
from larq_ssl.experiments import scaling_methods
from larq_ssl.experiments.scaling_formulas import Collective, Workload, collectives
from larq_ssl.methods import SelfSupervisedModel
from larq_ssl.optimizers import SGD

REPLICAS, IMAGES = 2, 4
_SIDES = (16, 8)
_ENCODER: dict[str, Any] = {"name": "resnet_18", "binarization": "none", "stem": "cifar", "width": 0.125}
_OPERATIONS = {"CollectiveReduceV2": "sum", "CollectiveGatherV2": "gather"}

Totals = dict[str, tuple[int, int]]
"""Calls and bytes, by the kind of collective."""


def two_devices() -> None:
    """Makes two devices of the processor; call it before anything is computed."""
    (processor,) = tf.config.list_physical_devices("CPU")
    if len(tf.config.get_logical_device_configuration(processor) or ()) < REPLICAS:
        devices = [tf.config.LogicalDeviceConfiguration()] * REPLICAS
        tf.config.set_logical_device_configuration(processor, devices)


def exchanged(method: str, counts: tuple[int, ...], strategy: tf.distribute.Strategy) -> tuple[Totals, Totals]:
    """What the formulas say that two replicas of a small method exchange in a step, and what they do.

    # Arguments
        method: See `scaling_methods.build`.
        counts: Views of an image, of each size.
        strategy: Of two replicas.
    """
    of = scaling_methods.small_sizes(IMAGES)
    with strategy.scope():
        model = scaling_methods.build(method, _ENCODER, of, teacher=_ENCODER)
        model.compile(SGD(0.1))
    ran = scaling_methods.passes(method, counts)
    work = Workload(
        recipe=method,
        method=method,
        batch_size=IMAGES * REPLICAS,
        epochs=1,
        views=tuple(zip(counts, _SIDES, strict=False)),
        parameters=scaling_methods.parameters(model),
        macs=0,
        norms=scaling_methods.norms(model, ran),
        width=scaling_methods.width(method, of),
        checkpoint_bytes=0,
        checkpoint_seconds=0.0,
        images_per_core_second=1.0,
    )
    return totals(collectives(work, IMAGES, REPLICAS)), totals(run(model, counts, strategy))


def totals(found: Sequence[Collective]) -> Totals:
    """Calls and bytes of collectives, by kind."""
    calls, size = collections.Counter[str](), collections.Counter[str]()
    for one in found:
        calls[one.kind] += one.calls
        size[one.kind] += one.size
    return {kind: (calls[kind], size[kind]) for kind in sorted(calls)}


def run(model: SelfSupervisedModel, counts: tuple[int, ...], strategy: tf.distribute.Strategy) -> list[Collective]:
    """Takes a training step, and tells the collective operations of the first replica in it."""
    batch = {"id": tf.range(IMAGES, dtype=tf.int64), "label": tf.zeros([IMAGES], tf.int64)}
    for name, count, side in zip(("global", "local"), counts, _SIDES, strict=False):
        pixels = np.random.default_rng(0).integers(0, 256, [IMAGES, count, side, side, 3])
        batch[name] = tf.constant(pixels, tf.uint8)
    first = tf.config.list_logical_devices("CPU")[0].name.rpartition("device:")[2]
    found: list[tf.Operation] = []

    @functools.partial(tf.function, autograph=False)
    def step(one: Mapping[str, tf.Tensor]) -> list[tf.Tensor]:
        strategy.run(model.train_step, (one,))
        operations = tf.compat.v1.get_default_graph().get_operations()
        found[:] = [one for one in operations if one.type in _OPERATIONS and one.device.endswith(first)]
        # What a gather returns has no static shape, nor has the gradient that is summed up for it.
        return [tf.size(operation.inputs[0]) for operation in found]

    sizes = step(strategy.experimental_distribute_values_from_function(lambda _: batch))
    return [
        Collective(operation.name, _OPERATIONS[operation.type], 1, int(size) * operation.inputs[0].dtype.size)
        for operation, size in zip(found, sizes, strict=True)
    ]


@dataclasses.dataclass(frozen=True)
class Shard:
    """What the first of several workers did.

    # Attributes
        shards: Number of workers.
        batch_size: Global.
        decoded: Images that this worker decoded for each of its steps.
        rate: Images per second of a core.
    """

    shards: int
    batch_size: int
    decoded: float
    rate: float


def shard_speed(
    dataset: ImageDataset, policy: ViewPolicy, shards: int, images: int, steps: int, repeats: int = 3
) -> Shard:
    """Makes the batches of shard 0 of many, and counts what is decoded for them.

    # Arguments
        dataset: A few encoded images, which stand for as many as are needed.
        policy: The views.
        shards: Number of workers.
        images: Of a worker's batch.
        steps: That are timed at once.
        repeats: How often; the fastest counts, since others use the machine, too.
    """
    batch = shards * images
    repeated = dataset.subset(np.arange(2 * batch) % dataset.size, "cycle")
    counting = _Counting(repeated)
    batches = iter(pipeline.view_batches(counting.dataset, policy, batch, seed=0, num_shards=shards, shard=0))
    next(batches)
    rates, decoded = [], []
    for _ in range(repeats):
        before, started = counting.count, time.process_time()
        for _ in range(steps):
            next(batches)
        used = counting.count - before
        rates.append(used / (time.process_time() - started))
        decoded.append(used / steps)
    return Shard(shards, batch, float(np.mean(decoded)), max(rates))


class _Counting:
    """A data set that counts how many images are read."""

    def __init__(self, dataset: ImageDataset):
        self.count, self._lock, self._read = 0, threading.Lock(), dataset.encoded
        self.dataset = dataclasses.replace(dataset, read=self.read)

    def read(self, index: int) -> Any:
        with self._lock:
            self.count += 1
        return self._read(index)

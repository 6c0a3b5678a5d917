"""Ratios measured side by side: `python -m larq_ssl.experiments.benchmark --what=pipeline|train_step|encode|probes`.

Every variant has a process of its own; they take turns, and what counts is how a turn compares with that of the
reference just before. `pipeline`: our views against the same policy as a per-image `tf.data` map. `train_step`: steps
through `fit` against a bare `tf.function` of the encoder's forward and backward pass, those of S2-BNN against the
passes of its networks, and those of DINO with local views against those without. `encode`: the extraction of features
against the bare encoder, and kNN against its matrix product. `probes`: linear evaluation at eight learning rates
against one, with cached features and with augmented views; extraction and kNN, of images and features in memory.
"""

import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
from absl import flags

from larq_ssl.data.views import POLICIES
from larq_ssl.experiments import (
    benchmark_multi_crop,
    benchmark_networks,
    benchmark_pipeline,
    benchmark_probes,
    benchmark_s2bnn,
    common,
)
from larq_ssl.experiments.benchmark_networks import METHODS
from larq_ssl.experiments.benchmark_workers import Measurement, Variant, measure
from larq_ssl.experiments.run_folder import environment
from larq_ssl.files import AlreadyExistsError, write_json, write_whole
from larq_ssl.models import ARCHITECTURES
from larq_ssl.models.encoder import BINARIZATIONS, STEMS

FLAGS = flags.FLAGS

_WHAT = flags.DEFINE_enum(
    "what", None, ["pipeline", "train_step", "encode", "probes"], "What to measure.", required=True
)
_OUT = flags.DEFINE_string("out", None, "Also write the table to <out>.md and all numbers to <out>.json.")
_REPEATS = flags.DEFINE_integer("repeats", 3, "Turns of each variant.", 1)
_SECONDS = flags.DEFINE_float("seconds", 3.0, "About how long a turn lasts; it has at least one step.", 0)
_PRECISIONS = flags.DEFINE_list("precisions", ["float32", "mixed_bfloat16"], "Keras precision policies.")
_ENCODER = flags.DEFINE_enum("encoder", "reactnet_a", list(ARCHITECTURES), "Network.")
_BINARIZATION = flags.DEFINE_enum("binarization", "full", list(BINARIZATIONS), "Of the network.")
_WIDTH = flags.DEFINE_float("width", 1.0, "Factor of the network's channels.", 0.01, 16)
_STEM = flags.DEFINE_enum("stem", "imagenet", list(STEMS), "First layers of the networks.")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 224, "Side of the networks' images.", 8)
_BATCH = flags.DEFINE_integer("batch_size", None, "Images per step; by default 8, for the pipeline 64.", 1)
_METHODS = flags.DEFINE_list("methods", list(METHODS), "Training steps to measure; encoder: without a method.")
_VIEWS = flags.DEFINE_list("views", ["bssl", "moco_v2"], "View policies of the pipeline.")
_SMALL = flags.DEFINE_string("small_images", None, "Folder with train/ to make views of 32 px of; by default made up.")
_PHOTOGRAPHS = flags.DEFINE_string("photographs", None, "Likewise for views of 224 px, and for the extraction.")

# The columns compare speeds where the other side is to be beaten, times where it is a floor.
_COMPARES_TIME = ("train_step", "probes")
_MADE_UP = {32: (32, 32, 2048), 224: (375, 500, 48)}


def groups(folders: dict[int, pathlib.Path]) -> dict[str, list[Variant]]:
    """What the flags ask to be compared."""
    if _WHAT.value == "pipeline":
        unknown = [name for name in _VIEWS.value if name not in POLICIES]
        if unknown or not _VIEWS.value:
            raise ValueError(f"--views must be some of {', '.join(POLICIES)}, got {','.join(_VIEWS.value)}.")
        return benchmark_pipeline.groups(folders, _VIEWS.value, _BATCH.value or 64)
    encoder = {
        "name": _ENCODER.value,
        "binarization": _BINARIZATION.value,
        "stem": _STEM.value,
        "width": _WIDTH.value,
    }
    size, batch_size, precisions = _IMAGE_SIZE.value, _BATCH.value or 8, _PRECISIONS.value
    if _WHAT.value == "train_step":
        unknown = [name for name in _METHODS.value if name not in METHODS]
        if unknown or not _METHODS.value:
            raise ValueError(f"--methods must be some of {', '.join(METHODS)}, got {','.join(_METHODS.value)}.")
        return benchmark_networks.train_step_groups(encoder, size, batch_size, precisions, _METHODS.value)
    if _WHAT.value == "probes":
        return benchmark_probes.groups(encoder, size, batch_size, precisions)
    return benchmark_networks.encode_groups(encoder, size, batch_size, precisions, str(folders[224]))


def image_folders(beside: pathlib.Path) -> dict[int, pathlib.Path]:
    """Where the images of each view size lie; those that no flag names are made up."""
    needed = {"pipeline": (32, 224), "train_step": (), "encode": (224,), "probes": ()}[_WHAT.value]
    folders = {}
    for size in needed:
        flag = _SMALL if size == 32 else _PHOTOGRAPHS
        folders[size] = pathlib.Path(flag.value) if flag.value else beside / str(size)
        if flag.value and not (folders[size] / "train").is_dir():
            raise ValueError(
                f"--{flag.name} must be a folder that holds a folder train/ with images, got {flag.value}."
            )
        if not flag.value:
            benchmark_pipeline.make_images(folders[size], *_MADE_UP[size])
    return folders


def table(measured: Mapping[str, Sequence[Measurement]], compares_time: bool) -> str:
    """All groups as Markdown; the first variant of a group is what the others are compared with."""
    what = "time, relative" if compares_time else "speed, relative"
    text = ""
    for group, results in measured.items():
        text += f"\n### {group}\n\n| variant | images/s | lowest to highest | {what} | lowest to highest | peak MiB |"
        gpu = results[0].accelerator_memory is not None
        text += " GPU MiB |\n" if gpu else "\n"
        text += "| --- |" + " ---: |" * (6 if gpu else 5) + "\n"
        for result in results:
            compared = ratios(result, results[0], compares_time)
            cells = [result.name, *_spread(result.rates, 1), *_spread(compared, 2), f"{result.memory / 2**20:,.0f}"]
            cells += [f"{result.accelerator_memory / 2**20:,.0f}"] if result.accelerator_memory is not None else []
            text += "| " + " | ".join(cells) + " |\n"
    return text


def ratios(result: Measurement, reference: Measurement, of_times: bool) -> list[float]:
    """How each turn compares with that of the reference in the same round."""
    pairs = zip(result.rates, reference.rates, strict=True)
    return [other / own if of_times else own / other for own, other in pairs]


def _spread(values: Sequence[float], digits: int) -> tuple[str, str]:
    low, middle, high = (f"{value:,.{digits}f}" for value in (min(values), statistics.median(values), max(values)))
    return middle, f"{low} to {high}"


def machine() -> dict[str, Any]:
    """Where and with what is measured, and how busy the machine is otherwise."""
    gpus = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    return {**environment(), "gpus": [gpu.get("device_name") for gpu in gpus], "load_average": os.getloadavg()}


def footer(command: str, before: Mapping[str, Any], seconds: float) -> str:
    """What the numbers are, and how they came about."""
    hardware = [before["processor"], f"{before['cores']} cores", *before["gpus"]]
    return f"""
Medians of {_REPEATS.value} turns of about {_SECONDS.value:g} s. In every round all variants have a turn, and each is
compared with the first line of its table in that round. Peak memory is that of its process, TensorFlow included.

- command: `{command}`
- commit: {before["commit"]}, TensorFlow {tf.__version__}
- hardware: {", ".join(hardware)}; {before["platform"]}; load average {before["load_average"][0]:.1f} at the start
- time: {before["time"]}, took {seconds:.0f} s
"""


def main() -> int:
    with common.user_errors(), tempfile.TemporaryDirectory() as beside:
        for suffix in (".json", ".md"):
            if _OUT.value and os.path.lexists(_OUT.value + suffix):
                raise AlreadyExistsError(
                    f"--out={_OUT.value}: {_OUT.value}{suffix} exists already; choose another name."
                )
        before, started = machine(), time.perf_counter()
        wanted = groups(image_folders(pathlib.Path(beside)))
        measured = {
            name: measure(variants, _REPEATS.value, _SECONDS.value, common.bar(name))
            for name, variants in wanted.items()
        }
    command = " ".join(["python -m larq_ssl.experiments.benchmark", *sys.argv[1:]])
    text = table(measured, _WHAT.value in _COMPARES_TIME)
    text += benchmark_s2bnn.summary(measured)
    text += benchmark_multi_crop.summary(measured, _IMAGE_SIZE.value)
    text += footer(command, before, time.perf_counter() - started)
    common.say(text)
    if _OUT.value:
        numbers = {group: [vars(result) for result in results] for group, results in measured.items()}
        write_json(_OUT.value + ".json", {"command": command, "machine": before, "measured": numbers})
        write_whole(_OUT.value + ".md", f"# Benchmark: {_WHAT.value}\n{text}")
    return 0


if __name__ == "__main__":
    common.run(main)

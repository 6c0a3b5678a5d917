"""Ratios measured side by side: `python -m larq_ssl.experiments.benchmark --what=<one of the following>`.

Every variant has a process of its own; they take turns, and what counts is how a turn compares with that of the
reference just before. `pipeline`: our views against the same policy as a per-image `tf.data` map. `train_step`: steps
through `fit` against a bare `tf.function` of the encoder's forward and backward pass, those of S2-BNN against the
passes of its networks, and those of DINO with local views against those without. `encode`: the extraction of features
against the bare encoder, and kNN against its matrix product. `probes`: linear evaluation at eight learning rates
against one, with cached features and with augmented views; extraction and kNN, of images and features in memory.
`device`: an exported file, image by image, against the float twin under XNNPACK, at one thread and at two.

`train_step` with `--method=bssl`, or another command: its whole step, pipeline, teacher and callbacks included, in all
arithmetics against plain layers in float32; where its time and memory go, as a table and a picture. `growth`: its time
and memory by batch, images, width, views and queue. `--compare before.json after.json`: what became slower.
"""

import os
import pathlib
import platform
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf
from absl import flags

from larq_ssl.data.views import POLICIES
from larq_ssl.experiments import (
    benchmark_compare,
    benchmark_device,
    benchmark_growth,
    benchmark_method,
    benchmark_multi_crop,
    benchmark_networks,
    benchmark_pipeline,
    benchmark_probes,
    benchmark_s2bnn,
    benchmark_steps,
    common,
)
from larq_ssl.experiments.benchmark_networks import METHODS
from larq_ssl.experiments.benchmark_table import table
from larq_ssl.experiments.benchmark_workers import Measurement, Variant, measure
from larq_ssl.experiments.run_folder import environment
from larq_ssl.files import AlreadyExistsError, write_json, write_whole
from larq_ssl.models import ARCHITECTURES
from larq_ssl.models.encoder import BINARIZATIONS, STEMS

FLAGS = flags.FLAGS

_WHAT = flags.DEFINE_enum(
    "what", None, ["pipeline", "train_step", "growth", "encode", "probes", "device"], "What to measure."
)
_METHOD = flags.DEFINE_enum("method", None, benchmark_steps.METHODS, "Command whose whole training step is measured.")
_WITH_FLAGS = flags.DEFINE_string("with_flags", "", "Further flags of the command of --method.")
_COMPARE = flags.DEFINE_string("compare", None, "The .json file of an earlier --out; the later one is the next word.")
_OUT = flags.DEFINE_string(
    "out", None, "Also write the table to <out>.md, all numbers to <out>.json and the picture, if any, to <out>.png."
)
_REPEATS = flags.DEFINE_integer("repeats", 3, "Turns of each variant.", 1)
_SECONDS = flags.DEFINE_float("seconds", 3.0, "About how long a turn lasts; it has at least one step.", 0)
_PRECISIONS = flags.DEFINE_list("precisions", ["float32", "mixed_bfloat16"], "Keras precision policies.")
_ENCODER = flags.DEFINE_enum("encoder", "reactnet_a", list(ARCHITECTURES), "Network.")
_BINARIZATION = flags.DEFINE_enum("binarization", "full", list(BINARIZATIONS), "Of the network.")
_WIDTH = flags.DEFINE_float("width", 1.0, "Factor of the network's channels.", 0.01, 16)
_STEM = flags.DEFINE_enum("stem", "imagenet", list(STEMS), "First layers of the networks.")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 224, "Side of the networks' images.", 8, common.LARGEST_IMAGE)
_BATCH = flags.DEFINE_integer("batch_size", None, "Images per step; by default 8, for the pipeline 64.", 1)
_METHODS = flags.DEFINE_list("methods", list(METHODS), "Training steps to measure; encoder: without a method.")
_VIEWS = flags.DEFINE_list("views", ["bssl", "moco_v2"], "View policies of the pipeline.")
_SMALL = flags.DEFINE_string("small_images", None, "Folder with train/ to make views of 32 px of; by default made up.")
_EXPORT = flags.DEFINE_string("export", None, "Folder of an export, whose files --what=device measures.")
_PHOTOGRAPHS = flags.DEFINE_string("photographs", None, "Likewise for views of 224 px, and for the extraction.")

# The columns compare speeds where the other side is to be beaten, times where it is a floor.
_KNOWN_PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
_COMPARES_TIME = ("train_step", "probes")
_SMALL_IMAGES = 64
"""Side of views up to which they are made of images of 32 px."""
_MADE_UP = {32: (32, 32, 2048), 224: (375, 500, 48)}


def groups(folders: dict[int, pathlib.Path]) -> dict[str, list[Variant]]:
    """What the flags ask to be compared."""
    if _WHAT.value == "pipeline":
        unknown = [name for name in _VIEWS.value if name not in POLICIES]
        if unknown or not _VIEWS.value:
            raise ValueError(f"--views must be some of {', '.join(POLICIES)}, got {','.join(_VIEWS.value)}.")
        return benchmark_pipeline.groups(folders, _VIEWS.value, _BATCH.value or 64)
    # Of encode, kNN is measured without any.
    some = _PRECISIONS.value or _WHAT.value == "encode"
    if not some or set(_PRECISIONS.value) - set(_KNOWN_PRECISIONS):
        raise ValueError(
            f"--precisions must be some of {', '.join(_KNOWN_PRECISIONS)}, got {','.join(_PRECISIONS.value)}."
        )
    encoder = network()
    size, batch_size, precisions = _IMAGE_SIZE.value, _BATCH.value or 8, _PRECISIONS.value
    if _WHAT.value == "train_step":
        unknown = [name for name in _METHODS.value if name not in METHODS]
        if unknown or not _METHODS.value:
            raise ValueError(f"--methods must be some of {', '.join(METHODS)}, got {','.join(_METHODS.value)}.")
        return benchmark_networks.train_step_groups(encoder, size, batch_size, precisions, _METHODS.value)
    if _WHAT.value == "probes":
        return benchmark_probes.groups(encoder, size, batch_size, precisions)
    return benchmark_networks.encode_groups(encoder, size, batch_size, precisions, str(folders[224]))


def network() -> dict[str, Any]:
    """Arguments of `larq_ssl.models.build`, by the flags."""
    return {
        "name": _ENCODER.value,
        "binarization": _BINARIZATION.value,
        "stem": _STEM.value,
        "width": _WIDTH.value,
    }


def device_files(beside: pathlib.Path) -> benchmark_device.Files:
    """The files that `--what=device` measures: those of `--export`, or converted into a folder."""
    if _EXPORT.value is None:
        common.say(f"Converting {_ENCODER.value} and its float twin.")
        return benchmark_device.make_files(network(), _IMAGE_SIZE.value, beside)
    for flag in (_ENCODER, _BINARIZATION, _WIDTH, _STEM, _IMAGE_SIZE):
        if flag.present:
            raise ValueError(f"--{flag.name} has no meaning with --export, which has a network: leave one out.")
    return benchmark_device.exported_files(pathlib.Path(_EXPORT.value))


def image_folders(beside: pathlib.Path) -> dict[int, pathlib.Path]:
    """Where the images of each view size lie; those that no flag names are made up."""
    needed = {"pipeline": (32, 224), "encode": (224,)}.get(_WHAT.value, ())
    if _METHOD.value is not None:
        needed = (32 if _IMAGE_SIZE.value <= _SMALL_IMAGES else 224,)
    folders = {}
    for size in needed:
        flag = _SMALL if size == 32 else _PHOTOGRAPHS
        folders[size] = pathlib.Path(flag.value) if flag.value else beside / str(size)
        if flag.value and not (folders[size] / "train").is_dir():
            raise ValueError(
                f"--{flag.name} must be a folder that holds a folder train/ with images, got {flag.value}."
            )
        if not flag.value:
            height, width, count = _MADE_UP[size]
            most = 8 * (_BATCH.value or 8)  # twice the largest batch that grows: a queue is shorter than its data
            classes = 2 if _METHOD.value == "supervised" else None
            benchmark_pipeline.make_images(folders[size], height, width, max(count, most), classes=classes)
    return folders


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


def method_asked(folders: Mapping[int, pathlib.Path], beside: pathlib.Path) -> benchmark_steps.Asked | None:
    """The step of `--method`, `None` without one."""
    if _METHOD.value is None:
        return None
    (images,) = folders.values()
    sizes = _IMAGE_SIZE.value, _BATCH.value or 8
    return benchmark_steps.Asked(_METHOD.value, network(), *sizes, images, beside, _WITH_FLAGS.value)


def check() -> None:
    """Raises a `ValueError` if flags contradict each other, or files are there already."""
    if _WHAT.value is None:
        raise ValueError("Say what to measure, with --what, or which results to compare, with --compare.")
    for suffix in (".json", ".md", ".png"):
        if _OUT.value and os.path.lexists(_OUT.value + suffix):
            raise AlreadyExistsError(f"--out={_OUT.value}: {_OUT.value}{suffix} exists already; choose another name.")
    if _OUT.value:
        common.refuse_no_place("out", _OUT.value, is_file=True)
    if _EXPORT.value is not None and _WHAT.value != "device":
        raise ValueError(f"--export has no meaning with --what={_WHAT.value}: leave it out.")
    if _WHAT.value == "growth" and _METHOD.value is None:
        raise ValueError("--what=growth needs --method, whose step grows.")
    if _METHOD.value is not None and _WHAT.value not in ("train_step", "growth"):
        raise ValueError(f"--method has no meaning with --what={_WHAT.value}: leave it out.")
    if _WITH_FLAGS.value and _METHOD.value is None:
        raise ValueError("--with_flags has no meaning without --method, whose flags they are: leave it out.")
    try:
        shlex.split(_WITH_FLAGS.value)
    except ValueError as error:
        raise ValueError(f"--with_flags={_WITH_FLAGS.value} cannot be read: {error}.") from error
    if _METHOD.value is not None and (_METHODS.present or _PRECISIONS.present):
        raise ValueError("--methods and --precisions have no meaning with --method: leave them out.")


def wanted_groups(
    asked: benchmark_steps.Asked | None, folders: dict[int, pathlib.Path]
) -> Mapping[str, Sequence[Variant]]:
    """What is compared, with a method or without."""
    if asked is None:
        return groups(folders)
    if _WHAT.value == "growth":
        return benchmark_growth.groups(asked)
    return {asked.title: benchmark_steps.variants(benchmark_steps.step(asked))}


def compare(words: Sequence[str]) -> int:
    """Compares two results; the exit code says whether anything became worse."""
    if _WHAT.value is not None or _OUT.value is not None:
        raise ValueError("--compare compares what was measured and writes nothing: leave out --what and --out.")
    if len(words) != 1:
        raise ValueError("--compare needs two files, as in --compare before.json after.json.")
    text, worse = benchmark_compare.compare(_COMPARE.value, words[0])
    common.say(text)
    if worse:
        common.say(f"Slower or larger: {'; '.join(worse)}.")
    return int(bool(worse))


def main(words: list[str]) -> int:
    with common.user_errors(), tempfile.TemporaryDirectory() as beside:
        if _COMPARE.value is not None:
            return compare(words)
        common.refuse_words(words)
        check()
        before, started = machine(), time.perf_counter()
        place = pathlib.Path(beside)
        files = device_files(place) if _WHAT.value == "device" else None
        asked = None
        if files is not None:
            wanted: Mapping[str, Sequence[Variant]] = benchmark_device.groups(
                files, before["processor"] or platform.machine(), before["cores"]
            )
        else:
            folders = image_folders(place)
            asked = method_asked(folders, place)
            wanted = wanted_groups(asked, folders)
        measured = {
            name: measure(variants, _REPEATS.value, _SECONDS.value, common.bar(name))
            for name, variants in wanted.items()
        }
        found = benchmark_method.Found()
        if asked is not None:
            growing = _WHAT.value == "growth"
            found = benchmark_method.grown(asked, measured) if growing else benchmark_method.profiled(asked)
    command = " ".join(["python -m larq_ssl.experiments.benchmark", *sys.argv[1:]])
    # A step that is compared with a plain one is to be faster; other steps are compared with a floor.
    text = table(measured, _WHAT.value in _COMPARES_TIME and asked is None) + found.text
    text += benchmark_s2bnn.summary(measured)
    text += benchmark_multi_crop.summary(measured, _IMAGE_SIZE.value)
    if files is not None:
        text += benchmark_device.summary(measured, files.notes)
    text += footer(command, before, time.perf_counter() - started)
    common.say(text)
    if _OUT.value:
        write(text, {"command": command, "machine": before, "measured": _plain(measured), **found.numbers}, found.draw)
    return 0


def _plain(measured: Mapping[str, Sequence[Measurement]]) -> dict[str, list[dict[str, Any]]]:
    return {group: [vars(result) for result in results] for group, results in measured.items()}


def write(text: str, numbers: Mapping[str, Any], draw: Callable[[str], object] | None) -> None:
    """Writes the files of `--out`."""
    write_json(_OUT.value + ".json", numbers)
    picture = f"\n![The measurement]({pathlib.Path(_OUT.value).name}.png)\n" if draw is not None else ""
    if draw is not None:
        draw(_OUT.value + ".png")
    write_whole(_OUT.value + ".md", f"# Benchmark: {_WHAT.value}\n{picture}{text}")


if __name__ == "__main__":
    common.run_on_words(main)

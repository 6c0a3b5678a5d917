"""How time and memory of a training step grow with the batch, the images, the width, the views and the queue."""

import dataclasses
import os
import pathlib
import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from larq_ssl.experiments.benchmark_pipeline import make_images
from larq_ssl.experiments.benchmark_steps import Asked, prepare, step
from larq_ssl.experiments.benchmark_workers import Measurement, Variant

BATCH, _QUEUE = "batch", "queue, keys"
_KEYS = (1024, 4096, 16384, 65536)
# Larger than images that are kept decoded.
_SIDE, _IMAGES = 160, 32
# Their memory is not that of a step.
_MODULES = ("tensorflow", "larq_ssl.data.pipeline", "larq_ssl.methods.bssl", "larq_ssl.methods.dino")
_NOTE = """
Time and memory grow as a power of the size, whose exponent is fitted by least squares of logarithms; views begin at
none, and are told as what each adds to a step without. Own MiB is the peak of the process less what it used with all
modules imported. Queue and views are those of MoCo and DINO.
"""


@dataclasses.dataclass(frozen=True)
class Axis:
    """What grows.

    # Arguments
        title: Of its panel.
        method: Whose step it is.
        flag: Of the command.
        values: Of the flag, ascending.
        more: Further flags of the command.
    """

    title: str
    method: str
    flag: str
    values: tuple[float, ...]
    more: str = ""


def axes(method: str, image_size: int, batch_size: int, width: float) -> list[Axis]:
    """The axes along which a step is measured, around its own size.

    # Arguments
        method: Command whose batch, images and width grow. Views are those of `dino`, which has local ones; the queue
            is that of `moco`.
    """
    # A size that is small already may be the same twice.
    sizes = tuple(sorted({max(8, round(image_size * factor / 8) * 8) for factor in (0.5, 0.75, 1, 1.5)}))
    batches = tuple(sorted({max(2, round(batch_size * factor)) for factor in (0.5, 1, 2, 4)}))
    return [
        Axis(BATCH, method, "batch_size", batches),
        Axis("image side, px", method, "image_size", sizes),
        Axis("width", method, "width", tuple(width * factor for factor in (0.5, 1, 2, 4))),
        Axis("local views", "dino", "local_views", (0, 2, 4, 8), "--views=sslight --output_dim=4096"),
        Axis(_QUEUE, "moco", "queue_size", tuple(keys // batch_size * batch_size for keys in _KEYS)),
    ]


def groups(asked: Asked) -> dict[str, list[Variant]]:
    """Variants by axis, the smallest first, around the step that is asked for."""
    result = {}
    for axis in axes(asked.method, asked.image_size, asked.batch_size, asked.encoder["width"]):
        result[axis.title] = [
            Variant(f"{value:g}", prepare, step(_sized(asked, axis, value)).settings(), _MODULES)
            for value in axis.values
        ]
    return result


def _sized(asked: Asked, axis: Axis, value: float) -> Asked:
    """The same of another size; the further flags are those of its method alone."""
    more = f"{axis.more} {asked.more if axis.method == asked.method else ''}"
    asked = dataclasses.replace(asked, method=axis.method, more=more)
    if axis.title == _QUEUE:
        asked = dataclasses.replace(asked, images=_under_many_names(asked.beside / "queue", 2 * int(max(axis.values))))
    if axis.flag == "image_size":
        return dataclasses.replace(asked, image_size=int(value))
    if axis.flag == "batch_size":
        return dataclasses.replace(asked, batch_size=int(value))
    if axis.flag in asked.encoder:
        return dataclasses.replace(asked, encoder={**asked.encoder, axis.flag: value})
    return dataclasses.replace(asked, more=f"{more} --{axis.flag}={value:g}")


def _under_many_names(folder: pathlib.Path, names: int) -> pathlib.Path:
    """A folder of a few images with so many names, since a queue has to be shorter than the data."""
    if not folder.exists():
        make_images(folder, _SIDE, _SIDE, _IMAGES)
        images = sorted((folder / "train").iterdir())
        for number in range(len(images), names):
            os.link(images[number % len(images)], folder / "train" / f"{number:06d}.jpg")
    return folder


@dataclasses.dataclass(frozen=True)
class Growth:
    """A measured curve.

    # Attributes
        title: What grows.
        values: Its sizes, ascending.
        seconds: Median time of a step at each.
        memory: Largest memory at each, in bytes, without that of TensorFlow itself.
    """

    title: str
    values: Sequence[float]
    seconds: Sequence[float]
    memory: Sequence[float]

    def slope(self, measured: Sequence[float]) -> float:
        r"""How `seconds` or `memory` grow.

        The exponent \( p \) of \( c \, v^p \) by least squares of logarithms; where \( v \) begins at zero, what one
        more adds, as a share of what none costs.
        """
        if not self.values[0]:
            return float(np.polyfit(self.values, np.divide(measured, measured[0]), 1)[0])
        return float(np.polyfit(np.log(self.values), np.log(measured), 1)[0])

    def named(self, measured: Sequence[float]) -> str:
        """The slope as people read it."""
        slope = self.slope(measured)
        return f"~ size^{slope:.2f}" if self.values[0] else f"{100 * slope:+.0f} % each"


def growths(measured: Mapping[str, Sequence[Measurement]], batch_size: int) -> list[Growth]:
    """The curves of what was measured.

    # Arguments
        measured: Of the variants of `groups`.
        batch_size: Images of a step, but for those of the axis of batches.
    """
    curves = []
    for title, results in measured.items():
        sizes = [float(result.name) for result in results]
        images = sizes if title == BATCH else [batch_size] * len(sizes)
        seconds = [count / statistics.median(result.rates) for count, result in zip(images, results, strict=True)]
        curves.append(Growth(title, sizes, seconds, [float(result.own_memory or result.memory) for result in results]))
    return curves


def table(curves: Sequence[Growth]) -> str:
    """All curves as Markdown."""
    text = "\n| what grows | sizes | ms per step | time | own MiB | memory |\n| --- | --- | --- | --- | --- | --- |\n"
    for curve in curves:
        sizes = ", ".join(f"{value:g}" for value in curve.values)
        times = ", ".join(f"{1000 * seconds:,.0f}" for seconds in curve.seconds)
        memory = ", ".join(f"{size / 2**20:,.0f}" for size in curve.memory)
        text += f"| {curve.title} | {sizes} | {times} | {curve.named(curve.seconds)} |"
        text += f" {memory} | {curve.named(curve.memory)} |\n"
    return text + _NOTE

"""Pictures of a detector: what it found beside what is true, and its errors by class and by size."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from larq_ssl.evaluation._figures import FAINT, Path, colours, new_figure, save
from larq_ssl.evaluation.detection.errors import KINDS, Breakdown
from larq_ssl.evaluation.detection.extra import coco_tools
from larq_ssl.evaluation.detection.found import Detections
from larq_ssl.evaluation.detection.truth import DetectionImages

_WIDTH = 4.0  # of an image, in inches


def detection_sheet(
    file: Path, images: DetectionImages, found: Sequence[Detections], score: float = 0.5, overwrite: bool = False
) -> Figure:
    """Draw images in rows: the truth on the left, what was found with a score of at least `score` on the right.

    # Arguments
        file: Where to write.
        images: What is drawn, all of it.
        found: In each of them.
        score: Detections below it are left out.
        overwrite: Replace the file.
    # Returns
        The figure.
    """
    ratio = float(np.mean([truth.height / truth.width for truth in images.truths]))
    figure = new_figure(2 * _WIDTH, (_WIDTH * ratio + 0.3) * images.size)
    axes = figure.subplots(images.size, 2, squeeze=False)
    for index, (truth, one, (left, right)) in enumerate(zip(images.truths, found, axes, strict=True)):
        pixels = images.pixels(index)
        for axis in (left, right):
            axis.imshow(pixels)
            axis.axis("off")
        left.set_title(f"image {images.ids[index]}: truth", fontsize=8)
        right.set_title(f"found, scores of {score:g} and more", fontsize=8)
        names = [images.class_names[kind - 1] for kind in truth.classes]
        _objects(left, truth.boxes, truth.classes, names, None if truth.outlines is None else truth.runs())
        shown = np.flatnonzero(one.scores >= score)
        names = [f"{images.class_names[one.classes[i] - 1]} {one.scores[i]:.2f}" for i in shown]
        runs = None if one.runs is None else [one.runs[i] for i in shown]
        _objects(right, one.boxes[shown], one.classes[shown], names, runs)
    return save(figure, file, overwrite, dpi=100)


def error_bars(file: Path, table: Breakdown, overwrite: bool = False) -> Figure:
    """Draw what becomes of the objects (left) and what the detections are (right), by class and by size.

    # Arguments
        file: Where to write.
        table: Of `errors.errors`.
        overwrite: Replace the file.
    # Returns
        The figure.
    """
    rows = [(name, counts) for group in table.values() for name, counts in group.items()]
    names = [name for name, _ in rows]
    figure = new_figure(9, 0.4 * len(rows) + 1.3)
    left, right = figure.subplots(1, 2, sharey=True)
    missed = np.array([counts["missed"] for _, counts in rows])
    found = np.array([counts["objects"] for _, counts in rows]) - missed
    _bars(left, names, {"found": found, "missed": missed}, "objects")
    kinds = {kind: np.array([counts[kind] for _, counts in rows]) for kind in KINDS}
    _bars(right, names, kinds, "detections")
    left.invert_yaxis()
    for axis in (left, right):
        axis.axhline(len(table["class"]) - 0.5, color=FAINT, linewidth=0.8)
    return save(figure, file, overwrite, dpi=120)


def _bars(axis: Axes, names: Sequence[str], parts: dict[str, np.ndarray], title: str) -> None:
    begin = np.zeros(len(names))
    for (kind, values), colour in zip(parts.items(), colours(len(parts)), strict=True):
        axis.barh(names, values, left=begin, color=colour, label=kind)
        begin = begin + values
    axis.set_title(title, fontsize=9)
    # Below: bars may be anywhere.
    axis.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=len(parts), frameon=False)


def _objects(
    axis: Axes, boxes: np.ndarray, classes: np.ndarray, names: Sequence[str], runs: Sequence[dict[str, Any]] | None
) -> None:
    palette = colours(int(classes.max(initial=1)))
    for place, (box, kind, name) in enumerate(zip(boxes.tolist(), classes, names, strict=True)):
        colour = palette[kind - 1]
        top, left, bottom, right = box
        axis.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=1.2))
        frame = {"facecolor": colour, "alpha": 0.7, "pad": 0.5, "linewidth": 0}
        axis.text(left, top, name, fontsize=5, color="white", bbox=frame, va="bottom", clip_on=True)
        if runs is not None:
            mask = coco_tools("mask").decode(runs[place])
            axis.imshow(np.concatenate([np.full((*mask.shape, 3), to_rgb(colour)), 0.35 * mask[..., None]], axis=2))

"""The picture of which classes are taken for which."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from larq_ssl.evaluation._figures import FAINT, INK, Path, new_figure, save

# Above so many classes a cell has no room for its count, or a row for its name.
_MAX_COUNTS, _MAX_NAMES = 30, 60
_LISTED_CONFUSIONS = 12


def confusion_matrix(
    file: Path,
    labels: np.ndarray,
    predictions: np.ndarray,
    class_names: Sequence[str],
    title: str = "",
    overwrite: bool = False,
) -> Figure:
    """Draw which classes are taken for which: a row per class, a column per prediction.

    Colours are shares of the row. Up to 30 classes have their counts written in; beyond, the most frequent
    confusions are listed beside.

    # Arguments
        file: Where to write.
        labels: Integer array `[images]`.
        predictions: Integer array `[images]`.
        class_names: One per class.
        title: Above the accuracy.
        overwrite: Replace the file.
    # Returns
        The figure.
    # Raises
        ValueError: If the arrays do not fit each other or the names.
    """
    counts = _count(np.asarray(labels), np.asarray(predictions), len(class_names))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    classes = len(class_names)
    listed = classes > _MAX_COUNTS
    side = 7.5 if listed else max(3.2, 0.42 * classes + 1.0)
    figure = new_figure(side + (4.0 if listed else 1.6), side + (0.3 if listed else 0.9))
    grid = figure.add_gridspec(1, 2 if listed else 1, width_ratios=[side, 2.6][: 1 + listed])
    axes = figure.add_subplot(grid[0])
    # Shares of single confusions are small where there are many classes: the root lifts them off the white.
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5 if listed else 1.0, 0, 1), interpolation="nearest")
    if not listed:
        _write_counts(axes, counts, shares)
    _name_classes(axes, class_names)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("class")
    _title(figure, axes, title, f"accuracy {np.trace(counts) / counts.sum():.1%} of {counts.sum():,} images")
    bar = figure.colorbar(image, ax=axes, fraction=0.045, pad=0.03, label="share of the class's images")
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    if listed:
        _list_confusions(figure.add_subplot(grid[1]), counts, class_names)
    return save(figure, file, overwrite, dpi=200 if listed else 150)


def _count(labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    if labels.ndim != 1 or labels.shape != predictions.shape or not len(labels):
        raise ValueError(
            f"`labels` and `predictions` must be one per image, got shapes {labels.shape} " f"and {predictions.shape}."
        )
    for name, values in (("labels", labels), ("predictions", predictions)):
        if values.min() < 0 or values.max() >= classes:
            raise ValueError(
                f"`{name}` must lie in 0..{classes - 1} as there are {classes} `class_names`, "
                f"got {values.min()}..{values.max()}."
            )
    return np.bincount(labels * classes + predictions, minlength=classes**2).reshape(classes, classes)


def _title(figure: Figure, axes: Axes, title: str, line: str) -> None:
    axes.set_title(line, loc="left", fontsize=10, color=INK)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold", color=INK)


def _write_counts(axes: Axes, counts: np.ndarray, shares: np.ndarray) -> None:
    size = 9 if len(counts) <= 12 else 7
    for row, column in np.argwhere(counts):
        colour = "white" if shares[row, column] > 0.55 else INK
        axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", fontsize=size, color=colour)


def _name_classes(axes: Axes, class_names: Sequence[str]) -> None:
    axes.tick_params(length=0, colors=INK)
    for spine in axes.spines.values():
        spine.set_color("#cccccc")
    if len(class_names) > _MAX_NAMES:
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(10, integer=True, steps=[1, 2, 5, 10]))
        return
    size = 9 if len(class_names) <= _MAX_COUNTS else 6
    short = [name if len(name) <= 24 else name[:23] + "…" for name in class_names]
    upright = max(map(len, short)) > 3
    axes.set_xticks(range(len(short)), short, fontsize=size, rotation=90 if upright else 0)
    axes.set_yticks(range(len(short)), short, fontsize=size)


def _list_confusions(axes: Axes, counts: np.ndarray, class_names: Sequence[str]) -> None:
    wrong = counts * (1 - np.eye(len(counts), dtype=counts.dtype))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_LISTED_CONFUSIONS]
    axes.set_axis_off()
    axes.set_title("most frequent confusions", loc="left", fontsize=10, color=INK)
    for line, (row, column) in enumerate(zip(*np.unravel_index(order, wrong.shape), strict=True)):
        if wrong[row, column]:
            y = 0.985 - 0.07 * line
            names = f"{class_names[row][:22]} → {class_names[column][:22]}"
            axes.text(0, y, names, transform=axes.transAxes, va="top", fontsize=8.5, color=INK)
            detail = f"{wrong[row, column]:,} of its {counts[row].sum():,} images"
            axes.text(0, y - 0.028, detail, transform=axes.transAxes, va="top", fontsize=7.5, color=FAINT)

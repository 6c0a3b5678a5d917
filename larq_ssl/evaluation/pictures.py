"""Pictures of a run, drawn without a display and without pyplot's global state.

Each function writes its file (PNG, PDF or SVG by its ending) whole or not at all and returns the figure.
"""

import json
import math
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from larq_ssl import files

Path = str | os.PathLike[str]

# Okabe and Ito's colours, told apart by the colour-blind too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555")
_INK, _FAINT = "#222222", "#8a8a8a"
_FORMATS = (".png", ".pdf", ".svg")
# Above so many classes a cell has no room for its count, or a row for its name.
_MAX_COUNTS, _MAX_NAMES = 30, 60
_LISTED_CONFUSIONS = 12
# A group of more metrics (one per layer, say) is drawn as median and range.
_MAX_PANELS_OF_GROUP = 4
# A panel whose largest value is so many times its smallest is logarithmic.
_LOG_RATIO = 50.0


def confusion_matrix(
    file: Path,
    labels: np.ndarray,
    predictions: np.ndarray,
    class_names: Sequence[str],
    title: str = "",
    overwrite: bool = False,
) -> Figure:
    """Draw which classes are taken for which: a row per class, a column per prediction.

    Colours are shares of the row. Up to 30 classes have their counts written in; beyond, the most frequent confusions are listed beside.

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
    figure = _figure(side + (4.0 if listed else 1.6), side + (0.3 if listed else 0.9))
    grid = figure.add_gridspec(1, 2 if listed else 1, width_ratios=[side, 2.6][: 1 + listed])
    axes = figure.add_subplot(grid[0])
    # Shares of single confusions are small where there are many classes: the root lifts them off the white.
    image = axes.imshow(
        shares, cmap="Blues", norm=PowerNorm(0.5 if listed else 1.0, 0, 1), interpolation="nearest"
    )
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
    return _save(figure, file, overwrite, dpi=200 if listed else 150)


def loss_curves(
    file: Path,
    metrics: Path | Mapping[str, Path],
    names: Sequence[str] | None = None,
    title: str = "",
    overwrite: bool = False,
) -> Figure:
    """Draw what a run, or several in one picture, logged per epoch: one panel per metric, `loss` first.

    Scales are logarithmic where values span more than a factor of 50. Many metrics of one group
    (`sign_flips/<layer>`) share a panel, as their median and range.

    # Arguments
        file: Where to write.
        metrics: A `metrics.jsonl`, or several by the name of their run: lines of JSON with `epoch` and
            numbers. A last line that is cut off, as after a kill, is left out.
        names: The metrics to draw; by default all.
        title: Above the panels.
        overwrite: Replace the file.
    # Returns
        The figure.
    # Raises
        ValueError: If a file is not as described or there is nothing to draw.
    """
    runs = dict(metrics) if isinstance(metrics, Mapping) else {"": metrics}
    curves = {run: _read_curves(pathlib.Path(path)) for run, path in runs.items()}
    panels = _panels(dict.fromkeys(name for of_run in curves.values() for name in of_run), names)
    columns = min(4, math.ceil(math.sqrt(len(panels))))
    rows = math.ceil(len(panels) / columns)
    several = len(runs) > 1
    figure = _figure(3.5 * columns + 0.2, 2.35 * rows + 0.5 * bool(title) + 0.4 * several + 0.2)
    handles: dict[str, Line2D] = {}
    for index, (name, members) in enumerate(panels.items()):
        axes = figure.add_subplot(rows, columns, index + 1)
        for (run, of_run), colour in zip(curves.items(), _colours(len(curves)), strict=True):
            lines = [of_run[member] for member in members if member in of_run]
            if lines:
                handles.setdefault(run, _draw_curves(axes, lines, colour, last_value=not several))
        _finish_panel(axes, name, len(members), bottom=index + columns >= len(panels))
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold", color=_INK)
    if several:
        figure.legend(
            list(handles.values()),
            list(handles),
            loc="outside upper right",
            ncols=len(handles),
            frameon=False,
        )
    return _save(figure, file, overwrite, dpi=130)


def view_sheet(
    file: Path,
    views: np.ndarray,
    local_views: np.ndarray | None = None,
    originals: Sequence[np.ndarray] | None = None,
    boxes: np.ndarray | None = None,
    titles: Sequence[str] | None = None,
    overwrite: bool = False,
) -> Figure:
    """Draw the views that a network is trained on: a row per image, a column per view.

    # Arguments
        file: Where to write.
        views: Uint8 array `[images, views, height, width, 3]`.
        local_views: More views, of another size.
        originals: The images, uint8 arrays `[height, width, 3]`: they make the first column.
        boxes: Where the views were cut out of the originals, in their pixels: `[images, views, 4]` (top,
            left, height, width), local views last.
        titles: Of the view columns.
        overwrite: Replace the file.
    # Returns
        The figure.
    # Raises
        ValueError: If the arrays do not fit each other.
    """
    columns = _view_columns(views, local_views)
    titles = titles or [f"view {i + 1}" for i in range(len(columns))]
    _check_sheet(columns, originals, boxes, titles)
    first = 0 if originals is None else 1
    rows, width = len(views), first + len(columns)
    cell = 2.0 if views.shape[2] > 64 else 1.3
    figure = _figure(cell * width + 0.2, cell * rows + 0.4)
    figure.set_layout_engine("constrained", w_pad=0.03, h_pad=0.03, wspace=0.0, hspace=0.0)
    grid = figure.subplots(rows, width, squeeze=False)
    colours = _colours(len(columns))
    for row in range(rows):
        if originals is not None:
            _show(grid[row, 0], originals[row], None)
            for box, colour in zip([] if boxes is None else boxes[row], colours, strict=False):
                _draw_box(grid[row, 0], box, colour)
        for view, (images, colour) in enumerate(zip(columns, colours, strict=True)):
            _show(grid[row, first + view], images[row], colour if boxes is not None else None)
    for axes, text in zip(grid[0], [*["original"] * first, *titles], strict=True):
        axes.set_title(text, fontsize=10, color=_INK)
    return _save(figure, file, overwrite, dpi=110)


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, file: Path, overwrite: bool, dpi: int) -> Figure:
    ending = pathlib.Path(file).suffix.lower()
    if ending not in _FORMATS:
        raise ValueError(f"`file` must end in one of {', '.join(_FORMATS)}, got {str(file)!r}.")
    files.write_whole(file, lambda stream: figure.savefig(stream, format=ending[1:], dpi=dpi), overwrite)
    return figure


def _colours(count: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]


def _title(figure: Figure, axes: Axes, title: str, line: str) -> None:
    axes.set_title(line, loc="left", fontsize=10, color=_INK)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold", color=_INK)


def _count(labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    if labels.ndim != 1 or labels.shape != predictions.shape or not len(labels):
        raise ValueError(
            f"`labels` and `predictions` must be one per image, got shapes {labels.shape} "
            f"and {predictions.shape}."
        )
    for name, values in (("labels", labels), ("predictions", predictions)):
        if values.min() < 0 or values.max() >= classes:
            raise ValueError(
                f"`{name}` must lie in 0..{classes - 1} as there are {classes} `class_names`, "
                f"got {values.min()}..{values.max()}."
            )
    return np.bincount(labels * classes + predictions, minlength=classes**2).reshape(classes, classes)


def _write_counts(axes: Axes, counts: np.ndarray, shares: np.ndarray) -> None:
    size = 9 if len(counts) <= 12 else 7
    for row, column in np.argwhere(counts):
        colour = "white" if shares[row, column] > 0.55 else _INK
        axes.text(
            column, row, f"{counts[row, column]:,}", ha="center", va="center", fontsize=size, color=colour
        )


def _name_classes(axes: Axes, class_names: Sequence[str]) -> None:
    axes.tick_params(length=0, colors=_INK)
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


def _list_confusions(axes: Axes, counts: np.ndarray, shares: np.ndarray, class_names: Sequence[str]) -> None:
    wrong = counts * (1 - np.eye(len(counts), dtype=counts.dtype))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_LISTED_CONFUSIONS]
    axes.set_axis_off()
    axes.set_title("most frequent confusions", loc="left", fontsize=10, color=_INK)
    for line, (row, column) in enumerate(zip(*np.unravel_index(order, wrong.shape), strict=True)):
        if wrong[row, column]:
            y = 0.985 - 0.07 * line
            names = f"{class_names[row][:22]} → {class_names[column][:22]}"
            axes.text(0, y, names, transform=axes.transAxes, va="top", fontsize=8.5, color=_INK)
            detail = f"{wrong[row, column]:,} of its {counts[row].sum():,} images"
            axes.text(0, y - 0.028, detail, transform=axes.transAxes, va="top", fontsize=7.5, color=_FAINT)


def _read_curves(path: pathlib.Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    lines = path.read_text().splitlines()
    points: dict[str, list[tuple[float, float]]] = {}
    for number, line in enumerate(lines):
        try:
            row = json.loads(line)
            epoch = float(row.pop("epoch"))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if number == len(lines) - 1 and number:
                break
            raise ValueError(
                f"{str(path)!r} must have JSON with an `epoch` in each line; line {number + 1} has not."
            ) from error
        row.pop("step", None)
        for name, value in row.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                points.setdefault(name, []).append((epoch, float(value)))
    return {name: (np.array(pairs)[:, 0], np.array(pairs)[:, 1]) for name, pairs in points.items()}


def _panels(logged: Iterable[str], names: Sequence[str] | None) -> dict[str, list[str]]:
    """The metrics of each panel, in the order of drawing."""
    logged = list(logged)
    if names is not None:
        missing = [name for name in names if name not in logged]
        if missing:
            raise ValueError(f"`names` must be of {logged}, got {missing[0]!r}.")
        return {name: [name] for name in names}
    if not logged:
        raise ValueError("`metrics` holds no epoch to draw.")
    panels: dict[str, list[str]] = {}
    for name in sorted(logged, key=lambda name: name != "loss"):
        group = name.split("/")[0] + "/"
        members = [other for other in logged if "/" in name and other.startswith(group)]
        if len(members) > _MAX_PANELS_OF_GROUP:
            panels[group + "*"] = members
        else:
            panels[name] = [name]
    return panels


def _draw_curves(
    axes: Axes, lines: list[tuple[np.ndarray, np.ndarray]], colour: str, last_value: bool
) -> Line2D:
    epochs, values = lines[0]
    if len(lines) > 1:
        epochs = np.unique(np.concatenate([x for x, _ in lines]))
        table = np.full((len(lines), len(epochs)), np.nan)
        for row, (x, y) in zip(table, lines, strict=True):
            row[np.searchsorted(epochs, x)] = y
        values = np.nanmedian(table, axis=0)
        axes.fill_between(
            epochs, np.nanmin(table, axis=0), np.nanmax(table, axis=0), color=colour, alpha=0.18, linewidth=0
        )
    marker = "o" if len(epochs) <= 15 else None
    (handle,) = axes.plot(epochs, values, color=colour, linewidth=1.6, marker=marker, markersize=3)
    if last_value and np.isfinite(values[-1]):
        text = f"{values[-1]:,.0f}" if abs(values[-1]) >= 1000 else f"{values[-1]:.3g}"
        axes.annotate(
            text,
            (epochs[-1], values[-1]),
            (5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=colour,
            annotation_clip=False,
        )
    return handle


def _finish_panel(axes: Axes, name: str, members: int, bottom: bool) -> None:
    title = name.replace("_", " ")
    if members > 1:
        title = f"{title.removesuffix('/*')} of {members} (median, range)"
    axes.set_title(title, loc="left", fontsize=9.5, fontweight="bold", color=_INK)
    values = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.lines])
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0 and values.max() / values.min() > _LOG_RATIO:
        axes.set_yscale("log")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#bbbbbb")
    axes.tick_params(labelsize=8, colors="#555555", length=2)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    axes.margins(x=0.03)
    if bottom:
        axes.set_xlabel("epoch", fontsize=8.5, color="#555555")


def _view_columns(views: np.ndarray, local_views: np.ndarray | None) -> list[np.ndarray]:
    columns: list[np.ndarray] = []
    for name, part in (("views", views), ("local_views", local_views)):
        if part is None:
            continue
        if part.ndim != 5 or part.shape[-1] != 3 or part.dtype != np.uint8 or len(part) != len(views):
            raise ValueError(
                f"`{name}` must be uint8 [images, views, height, width, 3] of {len(views)} images, "
                f"got {part.dtype} {part.shape}."
            )
        columns.extend(np.moveaxis(part, 1, 0))
    return columns


def _check_sheet(
    columns: list[np.ndarray],
    originals: Sequence[np.ndarray] | None,
    boxes: np.ndarray | None,
    titles: Sequence[str],
) -> None:
    images = len(columns[0])
    if originals is not None and len(originals) != images:
        raise ValueError(f"`originals` must be {images}, one per row of `views`, got {len(originals)}.")
    if boxes is not None and (originals is None or boxes.shape != (images, len(columns), 4)):
        raise ValueError(
            f"`boxes` must be [{images}, {len(columns)}, 4] and come with `originals`, "
            f"got shape {boxes.shape}."
        )
    if len(titles) != len(columns):
        raise ValueError(f"`titles` must be {len(columns)}, one per view, got {len(titles)}.")


def _show(axes: Axes, image: np.ndarray, frame: str | None) -> None:
    # Small images stay made of pixels: smoothed, they would look better than what the network sees.
    axes.imshow(image, interpolation="nearest" if max(image.shape[:2]) <= 96 else "antialiased")
    # A square around every image, so that the rows and titles of a sheet line up.
    height, width = image.shape[:2]
    half = max(height, width) / 2
    axes.set_xlim((width - 1) / 2 - half, (width - 1) / 2 + half)
    axes.set_ylim((height - 1) / 2 + half, (height - 1) / 2 - half)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(visible=frame is not None, color=frame or "none", linewidth=2.0)


def _draw_box(axes: Axes, box: np.ndarray, colour: str) -> None:
    top, left, height, width = (float(value) for value in box)
    # Pixel 0 is drawn from -0.5 to 0.5.
    corner = (left - 0.5, top - 0.5)
    for line, line_width in (("white", 3.0), (colour, 1.6)):
        axes.add_patch(
            Rectangle(corner, width, height, fill=False, edgecolor=line, linewidth=line_width, clip_on=False)
        )

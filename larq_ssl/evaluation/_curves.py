"""The picture of what runs logged while they trained."""

import json
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from larq_ssl.evaluation._figures import INK, Path, colours, new_figure, save
from larq_ssl.files import read_text

# A group of more metrics (one per layer, say) is drawn as median and range.
_MAX_PANELS_OF_GROUP = 4
# A panel whose largest value is so many times its smallest is logarithmic.
_LOG_RATIO = 50.0


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
    curves = {run: read_curves(pathlib.Path(path)) for run, path in runs.items()}
    panels = _panels(dict.fromkeys(name for of_run in curves.values() for name in of_run), names)
    columns = min(4, math.ceil(math.sqrt(len(panels))))
    rows = math.ceil(len(panels) / columns)
    several = len(runs) > 1
    figure = new_figure(3.5 * columns + 0.2, 2.35 * rows + 0.5 * bool(title) + 0.4 * several + 0.2)
    handles: dict[str, Line2D] = {}
    for index, (name, members) in enumerate(panels.items()):
        axes = figure.add_subplot(rows, columns, index + 1)
        for (run, of_run), colour in zip(curves.items(), colours(len(curves)), strict=True):
            lines = [of_run[member] for member in members if member in of_run]
            if lines:
                handles.setdefault(run, _draw_curves(axes, lines, colour, last_value=not several))
        finish_panel(axes, name, len(members), bottom=index + columns >= len(panels))
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold", color=INK)
    if several:
        figure.legend(
            list(handles.values()),
            list(handles),
            loc="outside upper right",
            ncols=len(handles),
            frameon=False,
        )
    return save(figure, file, overwrite, dpi=130)


def read_curves(path: pathlib.Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Epochs and values of each metric in a `metrics.jsonl`."""
    lines = read_text(path).splitlines()
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


def _draw_curves(axes: Axes, lines: list[tuple[np.ndarray, np.ndarray]], colour: str, last_value: bool) -> Line2D:
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


def finish_panel(axes: Axes, name: str, members: int, bottom: bool) -> None:
    """Title, scale and grid of a panel that shows `members` metrics under one name."""
    title = name.replace("_", " ")
    if members > 1:
        title = f"{title.removesuffix('/*')} of {members} (median, range)"
    axes.set_title(title, loc="left", fontsize=9.5, fontweight="bold", color=INK)
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

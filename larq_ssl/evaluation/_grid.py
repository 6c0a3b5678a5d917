"""The picture of a grid of runs: small panels side by side, whose lines are told apart by one setting."""

import pathlib
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from larq_ssl.evaluation._curves import finish_panel, read_curves
from larq_ssl.evaluation._figures import Path, new_figure, save


def grid_curves(
    file: Path, runs: Mapping[str, Mapping[str, Sequence[Path]]], names: Sequence[str], overwrite: bool = False
) -> Figure:
    """Draw what the runs of a grid logged: a row of panels per metric, a column per group, a line per setting.

    A line is the mean over the runs (seeds) of a setting, with their range; panels of a row share their scale.

    # Arguments
        file: Where to write.
        runs: The `metrics.jsonl` of the runs, by group and setting; settings in their order, from dark to light.
        names: The metrics to draw.
        overwrite: Replace the file.
    # Returns
        The figure.
    # Raises
        ValueError: If there are no runs, or one of them did not log a metric.
    """
    settings = list(dict.fromkeys(setting for group in runs.values() for setting in group))
    if not settings or not names:
        raise ValueError("There is nothing to draw: `runs` and `names` must not be empty.")
    shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.88, len(settings)))
    figure = new_figure(3.3 * len(runs) + 0.3, 2.3 * len(names) + 0.7)
    panels = figure.subplots(len(names), len(runs), squeeze=False, sharex=True, sharey="row")
    handles: dict[str, Line2D] = {}
    for row, name in enumerate(names):
        for axes, (group, of_group) in zip(panels[row], runs.items(), strict=True):
            for setting, files in of_group.items():
                handles[setting] = _draw(axes, name, files, shades[settings.index(setting)])
            finish_panel(axes, f"{name}, {group}" if group else name, 1, bottom=name == names[-1])
    shown = [setting for setting in settings if setting in handles]
    figure.legend(
        [handles[setting] for setting in shown], shown, loc="outside upper left", ncols=len(shown), frameon=False
    )
    return save(figure, file, overwrite, dpi=130)


def _draw(axes: Axes, name: str, files: Sequence[Path], colour: np.ndarray) -> Line2D:
    """The mean of a metric over runs and, of several, their range."""
    curves = [read_curves(pathlib.Path(path)) for path in files]
    lacking = [str(path) for path, curve in zip(files, curves, strict=True) if name not in curve]
    if lacking:
        raise ValueError(f"`names` has {name!r}, which {lacking[0]} has not.")
    epochs = sorted(set.intersection(*(set(curve[name][0]) for curve in curves)))
    table = np.stack([y[np.isin(x, epochs)] for x, y in (curve[name] for curve in curves)])
    if len(curves) > 1:
        axes.fill_between(epochs, table.min(axis=0), table.max(axis=0), color=colour, alpha=0.16, linewidth=0)
    (handle,) = axes.plot(epochs, table.mean(axis=0), color=colour, linewidth=1.6, marker="o", markersize=3)
    return handle

"""The picture of growth: time and memory of a training step by the size of what grows."""

import math
from collections.abc import Callable, Mapping, Sequence

from matplotlib.figure import Figure

from larq_ssl.evaluation._figures import COLOURS, INK, Path, new_figure, save

_LINE = 14.0
"""Height of a line of text in the figure's pixels."""


def growth_curves(
    file: Path,
    panels: Mapping[str, tuple[Sequence[float], Mapping[str, tuple[Sequence[float], str]]]],
    overwrite: bool = False,
) -> Figure:
    """Draw a column per thing that grows, a row per quantity that grows with it.

    Axes are logarithmic and at least a factor of four high, so that what hardly grows is flat; where sizes begin at
    zero, they are linear and begin at zero.

    # Arguments
        file: Where to write.
        panels: By what grows, its sizes and, by the name of the quantity and its unit, values and how they grow.
        overwrite: Replace the file.
    # Returns
        The figure.
    # Raises
        ValueError: If there are no panels, or they have not the same quantities.
    """
    if not panels:
        raise ValueError("There is nothing to draw: `panels` must not be empty.")
    quantities = list(next(iter(panels.values()))[1])
    if any(list(curves) != quantities for _, curves in panels.values()):
        raise ValueError("All of `panels` must have the same quantities, in the same order.")
    figure = new_figure(2.7 * len(panels), 2.5 * len(quantities))
    grid = figure.subplots(len(quantities), len(panels), squeeze=False, sharex="col")
    for column, (title, (sizes, curves)) in enumerate(panels.items()):
        for row, (quantity, (values, slope)) in enumerate(curves.items()):
            axes = grid[row, column]
            axes.plot(sizes, values, color=COLOURS[row], linewidth=2, marker="o", markersize=4)
            if sizes[0] > 0:
                axes.set_xscale("log")
                axes.set_yscale("log")
                least, most = min(values), max(values)
                room = max(1.1, 2 * math.sqrt(least / most))
                axes.set_ylim(least / room, most * room)
            else:
                axes.set_ylim(0, 1.1 * max(values))
            axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
            shown = _apart(values, axes.transData.transform)
            axes.set_yticks(shown, [f"{value:,.0f}" for value in shown])
            axes.minorticks_off()
            axes.set_title(slope, fontsize=9, color=INK, loc="left")
            axes.grid(color="#e6e6e6", linewidth=0.7)
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(labelsize=8)
            if column == 0:
                axes.set_ylabel(quantity)
            if row == len(quantities) - 1:
                axes.set_xlabel(title)
    return save(figure, file, overwrite, dpi=130)


def _apart(values: Sequence[float], to_pixels: Callable[[tuple[float, float]], Sequence[float]]) -> list[float]:
    """The values that can be written beside an axis without covering each other, the largest one first."""
    shown: list[float] = []
    for value in sorted(values, reverse=True):
        if not shown or to_pixels((1.0, shown[-1]))[1] - to_pixels((1.0, value))[1] > _LINE:
            shown.append(value)
    return shown

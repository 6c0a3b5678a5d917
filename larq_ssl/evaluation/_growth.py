"""The picture of growth: time and memory of a training step by the size of what grows."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from larq_ssl.evaluation._figures import COLOURS, INK, Path, new_figure, save


def growth_curves(
    file: Path,
    panels: Mapping[str, tuple[Sequence[float], Mapping[str, tuple[Sequence[float], str]]]],
    overwrite: bool = False,
) -> Figure:
    """Draw a column per thing that grows, a row per quantity that grows with it.

    Axes are logarithmic, but for sizes that begin at zero.

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
            else:
                axes.set_ylim(0, 1.1 * max(values))
            axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
            axes.set_yticks(values, [f"{value:,.0f}" for value in values])
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

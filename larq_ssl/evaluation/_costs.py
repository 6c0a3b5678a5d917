"""The picture of what networks cost: operations against size."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from larq_ssl.evaluation._figures import INK, Path, new_figure, save
from larq_ssl.models.cost_table import NetworkCost

# Colour and marker by binarization: told apart without either.
_STYLES = {"full": ("#D55E00", "s", "binary"), "activations": ("#E69F00", "D", "binary activations")}
_FLOAT_STYLE = ("#0072B2", "o", "float")
# Points that are nearer to each other than this, in printer's points, have one label.
_NEAR = 8.0


def cost_scatter(file: Path, costs: Sequence[NetworkCost], overwrite: bool = False) -> Figure:
    """Draw the operations of networks for one image against their packed size, both on logarithmic scales.

    Points have numbers, whose names stand beside the picture.

    # Arguments
        file: Where to write.
        costs: Of the networks.
        overwrite: Replace the file.
    # Returns
        The figure.
    # Raises
        ValueError: If there is no network.
    """
    if not costs:
        raise ValueError("There is nothing to draw: `costs` must not be empty.")
    figure = new_figure(10.5, 6.5)
    axes, key = figure.subplots(1, 2, width_ratios=(4, 1))
    for cost in costs:
        colour, marker, label = _STYLES.get(cost.binarization, _FLOAT_STYLE)
        axes.plot([cost.size_bytes / 1e6], [cost.ops], marker, color=colour, label=label, markersize=6)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0), numticks=20))
        axis.set_minor_formatter(NullFormatter())
        axis.set_major_formatter(lambda value, _: _short(value))
    axes.margins(x=0.08, y=0.06)
    axes.set_xlabel("packed size in MB")
    axes.set_ylabel(f"OPs (BOPs / 64 + FLOPs) of an image of {costs[0].image_size} px")
    axes.grid(color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    kinds = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    axes.legend(kinds.values(), kinds.keys(), frameon=False, loc="upper left")
    names = "\n".join(f"{number:>2}  {cost.encoder}" for number, cost in enumerate(costs, 1))
    key.text(0, 1, names, va="top", fontsize=7.5, color=INK, linespacing=1.5, family="monospace")
    key.set_axis_off()
    _write_numbers(figure, axes, costs)
    return save(figure, file, overwrite, dpi=130)


def _write_numbers(figure: Figure, axes: Axes, costs: Sequence[NetworkCost]) -> None:
    """Beside the points, together where points are near each other."""
    figure.draw_without_rendering()
    scale = 72 / figure.dpi
    groups: list[tuple[float, float, list[str]]] = []
    for number, cost in enumerate(costs, 1):
        x, y = axes.transData.transform((cost.size_bytes / 1e6, cost.ops)) * scale
        near = next((group for group in groups if max(abs(group[0] - x), abs(group[1] - y)) < _NEAR), None)
        if near is None:
            near = (x, y, [])
            groups.append(near)
        near[2].append(str(number))
    for x, y, numbers in groups:
        axes.annotate(
            ", ".join(numbers),
            (x, y),
            (7, 4),
            xycoords="figure points",
            textcoords="offset points",
            fontsize=8,
            color=INK,
        )


def _short(value: float) -> str:
    for unit, name in ((1e9, " G"), (1e6, " M")):
        if value >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"

"""The picture of what networks cost: operations against size."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from larq_ssl.evaluation._figures import FAINT, INK, Path, new_figure, save
from larq_ssl.models.cost_table import NetworkCost

# Colour and marker by binarization: told apart without either.
_STYLES = {"full": ("#D55E00", "s", "binary"), "activations": ("#E69F00", "D", "binary activations")}
_FLOAT_STYLE = ("#0072B2", "o", "float")
# Height of a line of text, and how near in x texts must be to be in each other's way; in printer's points.
_LINE, _NEAR = 8.5, 90.0


def cost_scatter(file: Path, costs: Sequence[NetworkCost], overwrite: bool = False) -> Figure:
    """Draw the operations of networks for one image against their packed size, both on logarithmic scales.

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
    figure = new_figure(9.5, 6.5)
    axes = figure.add_subplot()
    for cost in costs:
        colour, marker, label = _STYLES.get(cost.binarization, _FLOAT_STYLE)
        axes.plot([cost.size_bytes / 1e6], [cost.ops], marker, color=colour, label=label, markersize=6)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0), numticks=20))
        axis.set_minor_formatter(NullFormatter())
        axis.set_major_formatter(lambda value, _: _short(value))
    axes.margins(x=0.14, y=0.06)
    axes.set_xlabel("packed size in MB")
    axes.set_ylabel(f"OPs (BOPs / 64 + FLOPs) of an image of {costs[0].image_size} px")
    axes.grid(color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    kinds = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    axes.legend(kinds.values(), kinds.keys(), frameon=False, loc="upper left")
    _write_names(figure, axes, costs)
    return save(figure, file, overwrite, dpi=130)


def _write_names(figure: Figure, axes: Axes, costs: Sequence[NetworkCost]) -> None:
    """Beside the points, equal ones together, and none over another."""
    names: dict[tuple[float, float], list[str]] = {}
    for cost in costs:
        names.setdefault((cost.size_bytes / 1e6, cost.ops), []).append(cost.encoder)
    figure.draw_without_rendering()
    scale = 72 / figure.dpi
    placed: list[tuple[float, float]] = []
    for point in sorted(names, key=lambda point: axes.transData.transform(point)[1]):
        left, bottom = axes.transData.transform(point) * scale
        y = max([bottom - 3, *(other + _LINE for x, other in placed if abs(x - left) < _NEAR)])
        placed.append((left, y))
        line = {"arrowstyle": "-", "color": FAINT, "linewidth": 0.5} if y - bottom > _LINE else None
        axes.annotate(
            ", ".join(names[point]), point, (7, y - bottom), textcoords="offset points", fontsize=7, color=INK,
            arrowprops=line, annotation_clip=False,
        )  # fmt: skip


def _short(value: float) -> str:
    for unit, name in ((1e9, " G"), (1e6, " M")):
        if value >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"

"""The picture that shows at a glance whether the binary layers learn."""

import dataclasses
import math
import textwrap

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from larq_ssl.evaluation._figures import COLOURS, INK, Path, new_figure, save
from larq_ssl.evaluation.diagnosis import MEASURES, History, Magnitudes, Measure, Verdict, judge, percent, read_history

_WELL, _TROUBLE, _UNKNOWN, _QUIET = COLOURS[0], COLOURS[1], "#d9d9d9", "#555555"
# Above so many layers not every row has room for its name.
_MAX_NAMES = 48
_WIDTH, _HEADER, _WEIGHTS = 13.5, 0.7, 2.1


@dataclasses.dataclass(frozen=True)
class _Panel:
    """How a measure is drawn: unit and kind of its scale, and what there is to say about its limit."""

    unit: str
    logarithmic: bool = False
    remark: str = ""


_PANELS = {
    "sign_flips": _Panel("share of the signs per epoch", True, " (by right where a schedule ends)"),
    "weight_change": _Panel("share of the kernel's length per epoch", True, " (by right where a schedule ends)"),
    "saturated": _Panel("share of the inputs"),
    "gradient_norm": _Panel("L2 norm, rms of the steps", True, " of the largest layer's"),
    "dead_channels": _Panel("share of the input channels"),
}


def layer_diagnostics(file: Path, diagnostics: Path, title: str = "", overwrite: bool = False) -> Figure:
    """Draw what a run measured of its binary layers: a row per layer, a column per epoch, a panel per measure.

    Shades of blue are values within the limits of `larq_ssl.evaluation.diagnosis`, orange is beyond them, grey was
    not measured. The headline is `diagnosis.judge`'s. Binary kernels also have a histogram of the magnitudes of all
    latent weights, at first and at last: what is left of the bulk has not far to its flip, what is right of the clip
    gets no gradient.

    # Arguments
        file: Where to write.
        diagnostics: The `diagnostics.jsonl` of the run.
        title: Before the headline.
        overwrite: Replace the file.
    # Returns
        The figure.
    # Raises
        ValueError: If `diagnostics` is not such a file, or no epoch has been measured yet.
    """
    history = read_history(diagnostics)
    verdict = judge(history)
    measures = [measure for measure in MEASURES if measure.name in _PANELS and measure.name in history.values]
    body = max(1.6, 0.19 * min(len(history.layers), 2 * _MAX_NAMES)) + 1.2
    binary_kernels = bool(history.weights) and "beyond_clip" in history.values
    heights = [_HEADER, body, *([_WEIGHTS] if binary_kernels else [])]
    figure = new_figure(_WIDTH, sum(heights))
    figure.set_layout_engine("constrained", w_pad=0.05, h_pad=0.05)
    grid = figure.add_gridspec(len(heights), len(measures), height_ratios=heights)
    _write_verdict(figure.add_subplot(grid[0, :]), verdict, title)
    for column, measure in enumerate(measures):
        axes = figure.add_subplot(grid[1, column])
        _draw_layers(axes, history, measure)
        _name_layers(axes, history.layers if column == 0 else ())
    if binary_kernels:
        bottom = grid[-1, :].subgridspec(1, 2, width_ratios=[1.4, 1])
        _draw_weights(figure.add_subplot(bottom[0]), history.weights)
        _draw_beyond_clip(figure.add_subplot(bottom[1]), history)
    return save(figure, file, overwrite, dpi=130)


def _write_verdict(axes: Axes, verdict: Verdict, title: str) -> None:
    axes.set_axis_off()
    headline = f"{title}: {verdict.headline}" if title else verdict.headline
    details = [textwrap.shorten(line, 130, placeholder=" ...") for line in verdict.details[:2]]
    key = "blue: within the limit, orange: beyond it, grey: not measured"
    colour = _WELL if verdict.learns else _TROUBLE
    bold = axes.text(0, 1, textwrap.fill(headline, 125), fontsize=13, fontweight="bold", color=colour, va="top")
    plain = axes.text(0, 0, "\n".join(details), fontsize=9, color=INK, va="bottom")
    # Lines of text are not to push the panels about.
    for text in (bold, plain, axes.text(1, 0, key, fontsize=8.5, color=_QUIET, ha="right", va="bottom")):
        text.set_in_layout(False)


def _draw_layers(axes: Axes, history: History, measure: Measure) -> None:
    panel, values = _PANELS[measure.name], history.values[measure.name]
    blues = ListedColormap(colormaps["Blues"](np.linspace(0.1, 0.95, 256)))
    colours = blues.with_extremes(bad=_UNKNOWN, under=_TROUBLE, over=_TROUBLE)
    low, high = _decades(values) if measure.relative else (max(measure.least, 0.0), min(measure.most, 1.0))
    norm = LogNorm(low, high) if panel.logarithmic else Normalize(low, high)
    end, outside = ("max", 2 * high) if math.isfinite(measure.most) else ("min", low / 2)
    shown = np.where(np.isfinite(values) & measure.beyond(values), outside, np.clip(values, low, high))
    rows = np.arange(len(history.layers) + 1) - 0.5
    axes.pcolormesh(_edges(history.epochs), rows, np.ma.masked_invalid(shown), cmap=colours, norm=norm)
    axes.set_facecolor(_UNKNOWN)
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(_epoch_ticks())
    axes.set_xlabel("epoch", fontsize=8.5, color=_QUIET)
    axes.set_title(measure.title, loc="left", fontsize=10.5, fontweight="bold", color=INK)
    bar = axes.figure.colorbar(
        ScalarMappable(norm, colours),
        ax=axes,
        location="bottom",
        extend=end,
        fraction=0.05,
        pad=0.02,
        aspect=28,
    )
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, colors=_QUIET, length=2)
    bar.ax.xaxis.set_minor_locator(NullLocator())
    if not measure.relative:
        bar.ax.xaxis.set_major_formatter(lambda value, _: percent(value))
    bar.set_label(f"{panel.unit}\norange: {measure.limit}{panel.remark}", fontsize=8, color=_QUIET)


def _decades(norms: np.ndarray) -> tuple[float, float]:
    """Limits of a logarithmic scale: whole decades, two at least and four at most."""
    known = norms[np.isfinite(norms) & (norms > 0)]
    last = np.ceil(np.log10(known.max())) if len(known) else 0.0
    first = np.clip(np.floor(np.log10(known.min())) if len(known) else 0.0, last - 4, last - 2)
    return 10.0**first, 10.0**last


def _epoch_ticks() -> MaxNLocator:
    return MaxNLocator(6, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1)


def _edges(epochs: np.ndarray) -> np.ndarray:
    """Limits `[epochs + 1]` of the columns: half-way to the neighbours."""
    middles = (epochs[1:] + epochs[:-1]) / 2
    before, after = (middles[0], middles[-1]) if len(middles) else (epochs[0] - 0.5, epochs[-1] + 0.5)
    return np.concatenate([[2 * epochs[0] - before], middles, [2 * epochs[-1] - after]])


def _name_layers(axes: Axes, layers: tuple[str, ...]) -> None:
    every = -(-len(layers) // _MAX_NAMES)
    places = range(0, len(layers), every) if layers else []
    axes.set_yticks(places, [layers[place] for place in places], fontsize=7.5)
    axes.tick_params(labelsize=8, colors=_QUIET, length=2)
    axes.tick_params(axis="y", labelsize=7.5, colors=INK, length=0)
    axes.spines[:].set_visible(False)


def _draw_weights(axes: Axes, weights: tuple[Magnitudes, ...]) -> None:
    for number, histogram in enumerate(weights):
        name = "before the first step" if histogram.epoch == 0 else f"after epoch {histogram.epoch}"
        last = number == len(weights) - 1
        colour = _WELL if last else _UNKNOWN
        axes.stairs(histogram.shares, histogram.edges, fill=not last, label=name, color=colour, linewidth=1.8)
    axes.axvline(1.0, color=_TROUBLE, linewidth=1.2, linestyle="--", label="where quantizers clip the gradient")
    axes.set_xscale("log")
    used, edges = np.flatnonzero(sum(histogram.shares for histogram in weights) > 1e-3), weights[0].edges
    axes.set_xlim(edges[used[0]], max(2.0, edges[used[-1] + 1]))
    _finish(axes, "magnitude of the latent weights", "|w| of all binary layers; signs flip at zero")
    axes.set_ylabel("share per bin", fontsize=8.5, color=_QUIET)
    axes.legend(frameon=False, fontsize=8, loc="upper left")


def _draw_beyond_clip(axes: Axes, history: History) -> None:
    values = history.values["beyond_clip"]
    values = values[np.isfinite(values).any(axis=1)]
    low, middle, high = (of(values, axis=0) for of in (np.nanmin, np.nanmedian, np.nanmax))
    axes.fill_between(history.epochs, low, high, color=_WELL, alpha=0.18, linewidth=0)
    axes.plot(
        history.epochs, middle, color=_WELL, linewidth=1.6, marker="o" if len(middle) <= 15 else None, markersize=3
    )
    axes.axhline(0.5, color=_TROUBLE, linewidth=1.2, linestyle="--")
    axes.xaxis.set_major_locator(_epoch_ticks())
    axes.set_xlim(*_edges(history.epochs)[[0, -1]])
    _finish(axes, "latent weights beyond the clip (median, range of the layers)", "epoch")
    axes.set_ylim(0, max(0.55, 1.05 * float(high.max())))


def _finish(axes: Axes, title: str, unit: str) -> None:
    axes.set_title(title, loc="left", fontsize=10.5, fontweight="bold", color=INK)
    axes.set_xlabel(unit, fontsize=8.5, color=_QUIET)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#bbbbbb")
    axes.tick_params(labelsize=8, colors=_QUIET, length=2)
    axes.yaxis.set_major_formatter(lambda value, _: percent(value))
    axes.set_ylim(0)

"""The picture of how the pixel scales of global and local views compare."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from larq_ssl.data import pixel_scale
from larq_ssl.evaluation._figures import COLOURS, FAINT, INK, Path, new_figure, save

_BINS_PER_OCTAVE = 12
# Ratios beyond are so rare that they would only squeeze the others.
_SHOWN = (0.1, 99.9)


def pixel_scale_ratios(file: Path, ratios: np.ndarray, title: str = "", overwrite: bool = False) -> Figure:
    """Draw the distribution of PS_g / PS_l over pairs of a global and a local view, with its mean.

    # Arguments
        file: Where to write.
        ratios: As `data.pixel_scale.ratios` gives them.
        title: Above.
        overwrite: Replace the file.
    # Returns
        The figure.
    # Raises
        ValueError: If there are no ratios, or some are not positive.
    """
    if not ratios.size or not np.all(ratios > 0):
        raise ValueError(f"`ratios` must be positive numbers, got {ratios.size} of them, not all positive.")
    octaves = np.log2(np.asarray(ratios, np.float64)).ravel()
    low, high = np.percentile(octaves, _SHOWN)
    first, last = (round(end) / _BINS_PER_OCTAVE for end in (low * _BINS_PER_OCTAVE - 1, high * _BINS_PER_OCTAVE + 1))
    edges = np.linspace(first, last, round((last - first) * _BINS_PER_OCTAVE) + 1)
    figure = new_figure(6.0, 2.6)
    axes = figure.add_subplot()
    counts, _ = np.histogram(octaves, edges)
    axes.axvspan(0.5, 2.0, color=FAINT, alpha=0.12, linewidth=0)
    axes.stairs(100 * counts / len(octaves), 2.0**edges, fill=True, color=COLOURS[0], alpha=0.75)
    _mark(axes, pixel_scale.statistics(ratios))
    _finish(axes, title)
    return save(figure, file, overwrite, dpi=130)


def _mark(axes: Axes, found: dict[str, float]) -> None:
    axes.margins(y=0.15)
    axes.axvline(1.0, color=INK, linewidth=1.0, linestyle=":")
    axes.axvline(found["mean"], color=COLOURS[1], linewidth=2.0)
    axes.annotate(
        f"mean {found['mean']:.2f}",
        (found["mean"], 0.985),
        # On the side that the line of equal scales does not cross.
        (5 if found["mean"] >= 1.0 else -5, 0),
        xycoords=axes.get_xaxis_transform(),
        textcoords="offset points",
        ha="left" if found["mean"] >= 1.0 else "right",
        va="top",
        fontsize=9,
        fontweight="bold",
        color=COLOURS[1],
    )
    text = f"median {found['q50']:.2f}; {found['within_2']:.0%} within a factor of 2"
    axes.set_title(text, loc="right", fontsize=9, color="#555555")


def _finish(axes: Axes, title: str) -> None:
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}" if value >= 1 else f"1/{1 / value:g}")
    axes.set_xlabel("pixel scale, global over local view (PS$_g$ / PS$_l$)", fontsize=9, color="#555555")
    axes.set_ylabel("pairs in %", fontsize=9, color="#555555")
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#bbbbbb")
    axes.tick_params(labelsize=8.5, colors="#555555", length=2)

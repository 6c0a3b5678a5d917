"""The pictures of corruption: what it leaves of an accuracy, and what it does to images."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from larq_ssl.evaluation._figures import FAINT, INK, Path, colours, new_figure, save
from larq_ssl.evaluation.corruptions import SEVERITIES, CorruptionPreset, corrupt

_MARKERS = "osD^vP*X"
# Small images stay made of pixels.
_SMALL = 96


def robustness_curves(
    file: Path,
    accuracies: Mapping[str, float],
    kinds: Sequence[str],
    classifiers: Sequence[str],
    overwrite: bool = False,
) -> Figure:
    """Draw accuracy against severity: a panel for each classifier, a line for each corruption.

    # Arguments
        file: Where to write.
        accuracies: As `robustness.robustness` returns them.
        kinds, classifiers: What to draw.
        overwrite: Replace the file.
    # Returns
        The figure.
    """
    figure = new_figure(4.6 * len(classifiers) + 0.4, 3.6)
    panels = figure.subplots(1, len(classifiers), squeeze=False, sharey=True)[0]
    for axes, classifier in zip(panels, classifiers, strict=True):
        draw_severities(axes, accuracies, kinds, classifier)
        axes.set_title(f"{classifier}, top 1", loc="left", fontsize=10, fontweight="bold", color=INK)
    panels[-1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, fontsize=9)
    return save(figure, file, overwrite, dpi=130)


def draw_severities(axes: Axes, accuracies: Mapping[str, float], kinds: Sequence[str], classifier: str) -> None:
    """A line for each corruption, told apart by colour and by marker, from the clean accuracy at severity 0."""
    clean = accuracies[f"clean/0/{classifier}_top1"]
    for number, (kind, colour) in enumerate(zip(kinds, colours(len(kinds)), strict=True)):
        values = [clean, *(accuracies[f"{kind}/{severity}/{classifier}_top1"] for severity in SEVERITIES)]
        marker = _MARKERS[number % len(_MARKERS)]
        label = kind.replace("_", " ")
        axes.plot([0, *SEVERITIES], values, color=colour, marker=marker, markersize=5, linewidth=1.6, label=label)
    axes.axhline(clean, color=FAINT, linewidth=0.8, linestyle=":")
    axes.set_xticks([0, *SEVERITIES], ["clean", *map(str, SEVERITIES)])
    axes.set_xlabel("severity", fontsize=9, color=INK)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)


def corruption_sheet(
    file: Path,
    image: np.ndarray,
    kinds: Sequence[str],
    preset: CorruptionPreset,
    seed: int = 0,
    example: int = 0,
    overwrite: bool = False,
) -> Figure:
    """Draw one image in every corruption (a row each) and severity (a column each).

    # Arguments
        file: Where to write.
        image: uint8 `[height, width, 3]`.
        kinds, preset, seed, example: See `corruptions.corrupt`.
        overwrite: Replace the file.
    # Returns
        The figure.
    """
    columns = ["clean", *(f"severity {severity}" for severity in SEVERITIES)]
    figure = new_figure(1.35 * len(columns) + 0.3, 1.35 * len(kinds) + 0.4)
    panels = figure.subplots(len(kinds), len(columns), squeeze=False)
    smoothing = "nearest" if max(image.shape[:2]) <= _SMALL else "antialiased"
    for row, kind in zip(panels, kinds, strict=True):
        shown = [image, *(corrupt(image, kind, severity, preset, seed, example) for severity in SEVERITIES)]
        for axes, pixels in zip(row, shown, strict=True):
            axes.imshow(pixels, interpolation=smoothing)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
        row[0].set_ylabel(kind.replace("_", " "), fontsize=9, color=INK)
    for axes, title in zip(panels[0], columns, strict=True):
        axes.set_title(title, fontsize=9, color=INK)
    return save(figure, file, overwrite, dpi=110)

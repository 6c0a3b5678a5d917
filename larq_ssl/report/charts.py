"""The charts of the report."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from larq_ssl.evaluation._figures import colours
from larq_ssl.evaluation.corruptions import SEVERITIES
from larq_ssl.report.figures import FAINT, HALO, INK, MARKERS, panel, svg, write_beside
from larq_ssl.report.lines import Column, Line

# Colour and marker of a kind of encoder: told apart without either.
_KIND_STYLE = {"float": ("#0072B2", "o"), "binary activations": ("#E69F00", "D"), "binary": ("#D55E00", "s")}
_UNKNOWN_STYLE = ("#555555", "^")
# Classes whose names have room on a map.
_MAX_NAMED = 20
_COSTS = {"ops": "operations (binary MACs / 64 + other MACs)", "size": "size in KiB"}


def _percent(axes: Axes) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")


def pareto(lines: Sequence[Line], column: Column, of: str) -> str:
    """Accuracy against what an encoder costs; the line joins those that none beats in both.

    The scale is that of encoders that have learned something: what lies far below stands at its lower end, with its
    accuracy.

    # Arguments
        lines: Those with the accuracy and a cost.
        column: The accuracy.
        of: "ops" or "size".
    """
    figure, axes = panel()
    points = [(_cost(line, of), line.numbers[column.name], line) for line in lines]
    axes.plot(*_front(points).T, color=FAINT, linewidth=1.2, linestyle="--", drawstyle="steps-post", zorder=1)
    low, high = _range(
        [accuracy for _, accuracy, line in points if not line.baseline] or [point[1] for point in points]
    )
    labels, titles = [], {}
    for cost, accuracy, line in points:
        colour, marker = _KIND_STYLE.get(line.kind, _UNKNOWN_STYLE)
        gid, below = f"point-{line.number}", accuracy < low
        fill = "none" if line.baseline else colour
        (point,) = axes.plot([cost], [max(accuracy, low)], marker, color=colour, markerfacecolor=fill, markersize=7)
        point.set(gid=gid, zorder=3, clip_on=False)
        label = f"{line.number} ↓ {100 * accuracy:.1f}" if below else str(line.number)
        labels.append((cost, max(round(accuracy, 3), low), label))
        unit = "operations" if of == "ops" else "KiB"
        titles[gid] = f"{line.number}: {line.name}, {accuracy:.1%}, {cost:,.0f} {unit}"
    axes.set_ylim(low, high)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0), numticks=20))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(lambda value, _: _short(value))
    axes.margins(x=0.16)
    _percent(axes)
    axes.set_xlabel(_COSTS[of], fontsize=9.5, color=INK)
    write_beside(figure, axes, labels, 4)
    name = f"pareto-{of}-{column.name.replace('/', '-')}"
    said = "; ".join(titles.values())
    return svg(figure, name, f"{column.title} ({column.detail}) against {_COSTS[of]}. {said}", titles)


def _front(points: Sequence[tuple[float, float, Line]]) -> np.ndarray:
    """Costs and accuracies of those that are better than all that cost less, `[points, 2]`."""
    front: list[tuple[float, float]] = []
    for cost, accuracy, _ in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or accuracy > front[-1][1]:
            front.append((cost, accuracy))
    return np.array(front)


def _range(accuracies: Sequence[float]) -> tuple[float, float]:
    """With room for at least two points in a hundred."""
    low, high = min(accuracies), max(accuracies)
    room = max(0.2 * (high - low), 0.01)
    return max(0.0, low - room), min(1.0, high + room)


def _cost(line: Line, of: str) -> float:
    if line.cost is None:
        raise ValueError(f"`lines` must have costs, {line.name!r} has none.")
    return line.cost.ops if of == "ops" else line.cost.size_bytes / 1024


def _short(value: float) -> str:
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"


def curves(lines: Sequence[Line], metric: str, name: str, percent: bool, log: bool) -> str:
    """What runs logged of one metric, a line each, with the run's number at its end."""
    figure, axes = panel()
    ends = []
    for place, (line, colour) in enumerate(zip(lines, colours(len(lines)), strict=True)):
        if line.run is None or metric not in line.run.curves:
            continue
        epochs, values = line.run.curves[metric]
        marker = MARKERS[place % len(MARKERS)] if len(epochs) <= 15 else None
        axes.plot(epochs, values, color=colour, linewidth=1.6, marker=marker, markersize=3.5)
        ends.append((float(epochs[-1]), float(values[-1]), str(line.number)))
    if log and min(value for _, value, _ in ends) > 0:
        axes.set_yscale("log")
    elif percent:
        _percent(axes)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    axes.set_xlabel("epoch", fontsize=9.5, color=INK)
    write_beside(figure, axes, ends, -3)
    said = "; ".join(f"run {number} ends at {value:.4g}" for _, value, number in ends)
    return svg(figure, f"curve-{name}", f"{metric} of {len(ends)} runs: {said}")


def severities(accuracies: Mapping[str, float], kinds: Sequence[str], classifier: str, name: str) -> str:
    """Accuracy against severity, a line for each corruption, named at its end."""
    figure, axes = panel()
    clean = accuracies[f"clean/0/{classifier}_top1"]
    axes.axhline(clean, color=FAINT, linewidth=1, linestyle=":")
    for number, (kind, colour) in enumerate(zip(kinds, colours(len(kinds)), strict=True)):
        values = [clean, *(accuracies[f"{kind}/{severity}/{classifier}_top1"] for severity in SEVERITIES)]
        label = kind.replace("_", " ")
        axes.plot([0, *SEVERITIES], values, color=colour, marker=MARKERS[number], markersize=4, label=label)
    axes.set_xticks([0, *SEVERITIES], ["clean", *map(str, SEVERITIES)])
    _percent(axes)
    axes.set_xlabel("severity", fontsize=9.5, color=INK)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK, loc="best")
    return svg(figure, name, f"Accuracy of {classifier} on images clean and corrupted, {clean:.1%} on clean ones")


def embedding_map(points: np.ndarray, labels: np.ndarray, class_names: Sequence[str], name: str) -> str:
    """Points on a plane in the colours of their classes, whose names stand at their medians."""
    figure, axes = panel(4.0, 3.6)
    axes.grid(visible=False)
    axes.set_axis_off()
    # Without scales there is nothing to make room for.
    figure.set_layout_engine("none")
    axes.set_position((0.02, 0.02, 0.96, 0.96))
    present = [label for label in np.unique(labels) if label >= 0]
    shades = dict(zip(present, colours(len(present)), strict=True))
    for place, label in enumerate(np.unique(labels)):
        part = points[labels == label]
        marker = MARKERS[place % len(MARKERS)]
        axes.plot(*part.T, marker, color=shades.get(label, FAINT), markersize=2.6, linestyle="none", alpha=0.85)
    for label in present if len(present) <= _MAX_NAMED else []:
        x, y = np.median(points[labels == label], axis=0)
        axes.text(
            x, y, class_names[label], ha="center", va="center", fontsize=12, fontweight="bold", color=INK,
            gid=f"{HALO}-{label}",
        )  # fmt: skip
    return svg(figure, name, f"{len(points)} images of {len(present)} classes on a plane, like ones near each other")

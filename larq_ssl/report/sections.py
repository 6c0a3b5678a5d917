"""The parts of the page but what encoders make of images."""

import html
import math
from collections.abc import Sequence

from larq_ssl.evaluation._figures import COLOURS
from larq_ssl.evaluation.corruptions import CORRUPTIONS, SEVERITIES
from larq_ssl.report import charts, tables, words
from larq_ssl.report.content import Report
from larq_ssl.report.lines import Column, Line

# Runs in one panel: more than there are colours would not be told apart.
_MAX_CURVES = len(COLOURS)
# What is drawn of what runs log: title, whether a share of images, whether the scale is logarithmic.
_CURVES = {
    "knn": ("kNN accuracy", True, False),
    "val_top1": ("accuracy on images held out", True, False),
    "val_map": ("mean average precision on images held out", True, False),
    "embedding_rank": ("rank of the features (RankMe)", False, False),
    "embedding_std": ("spread of the embedding (0: collapsed)", False, False),
    "loss": ("loss, different for each method", False, True),
}


def lead(report: Report) -> str:
    """What is on the page, in a sentence or two."""
    learned = [line for line in report.lines if not line.baseline]
    states = [line.state for line in learned]
    unfinished = states.count("unfinished")
    data = ", ".join(dict.fromkeys(line.data for line in learned if line.data)) or "no data set"
    text = f"{len(learned) - unfinished} of {len(learned)} finished, on {data}"
    baselines = len(report.lines) - len(learned)
    return f"{text}, beside {baselines} baseline{'s' if baselines != 1 else ''}." if baselines else f"{text}."


def facts(report: Report) -> str:
    """The best of each kind on each data set."""
    parts = []
    for data, lines in report.groups().items():
        column = report.main_column([line for line in lines if not line.baseline])
        if column is None:
            continue
        shown = [_fact(kind, lines, column) for kind in ("binary", "binary activations", "float")]
        shown.append(_fact("untrained or pixels", [line for line in lines if line.baseline], column, baseline=True))
        said = f"{html.escape(column.title)} ({html.escape(column.detail)}){_of(lines, column)}"
        parts.append(f'<p class="note">{html.escape(data)}: {said}</p><dl class="facts">{"".join(shown)}</dl>')
    return "\n".join(parts)


def _of(lines: Sequence[Line], column: Column) -> str:
    """That not all encoders have the number, if so."""
    learned = [line for line in lines if not line.baseline]
    having = sum(column.name in line.numbers for line in learned)
    return "" if having == len(learned) else f"; {having} of {len(learned)} encoders have been measured so"


def _fact(kind: str, lines: Sequence[Line], column: Column, baseline: bool = False) -> str:
    of = [
        line
        for line in lines
        if (baseline or (line.kind == kind and not line.baseline)) and column.name in line.numbers
    ]
    if not of:
        return ""
    line = max(of, key=lambda line: line.numbers[column.name])
    size = "" if line.cost is None else f", {line.cost.size_bytes / 1024:,.0f} KiB"
    title = "Best baseline, nothing learned" if baseline else f"Best {kind} encoder"
    title = title.replace("binary activations encoder", "encoder with binary activations")
    value = f'{words.percent(line.numbers[column.name])}<span class="quiet"> %</span>'
    return (
        f'<div class="fact"><dt>{title}</dt><dd><span class="big">{value}</span>'
        f"<small>{line.number}: {html.escape(line.name)}{size}</small></dd></div>"
    )


def runs(report: Report) -> str:
    """A table for each data set, with the columns that it has numbers for."""
    parts = []
    for data, lines in report.groups().items():
        columns = [column for column in report.columns if any(column.name in line.numbers for line in lines)]
        parts.append(f"<h3>{html.escape(data)}</h3>" + tables.runs(lines, columns, f"Encoders of {data}"))
    return "\n".join(parts)


def cost(report: Report) -> str:
    """Accuracy against operations and size, for each data set."""
    parts = []
    for data, lines in report.groups().items():
        costed = [line for line in lines if line.cost is not None]
        column = report.main_column([line for line in costed if not line.baseline] or costed)
        if column is None:
            continue
        shown = [line for line in costed if column.name in line.numbers]
        said, detail = f"{html.escape(column.title)}, {html.escape(data)}", html.escape(column.detail)
        left = _of(lines, column)
        for of, against in (("ops", "operations for one image"), ("size", "size of the weights, binary ones packed")):
            drawn = charts.pareto(shown, column, of)
            parts.append(
                f"<figure><h3>{said}</h3>{drawn}<figcaption>{detail}; against {against}{left}</figcaption></figure>"
            )
    if not parts:
        return ""
    legend = (
        '<ul class="legend"><li><i style="color:var(--c0)">●</i> float</li>'
        '<li><i style="color:var(--c4)">◆</i> binary activations</li><li><i style="color:var(--c1)">■</i> binary</li>'
        "<li><i>□</i> hollow: untrained</li><li><i>┄</i> nothing is better at this cost</li></ul>"
    )
    said = "Numbers are those of the table. 64 binary multiply-accumulates (BOPs) count as one operation."
    note = f'<p class="note">{said}</p>'
    return f'{note}<div class="charts">{"".join(parts)}</div>{legend}'


def curves(report: Report) -> str:
    """What runs logged while they trained, those of one data set in one panel."""
    parts: list[str] = []
    for data, lines in report.groups().items():
        logged = [line for line in lines if line.run is not None and line.run.curves and not line.baseline]
        logged = list({line.run.path: line for line in reversed(logged) if line.run is not None}.values())[::-1]
        for first in range(0, len(logged), _MAX_CURVES):
            parts.append(_curves(data, logged[first : first + _MAX_CURVES], f"{len(parts)}"))
    return "\n".join(parts)


def _curves(data: str, lines: Sequence[Line], name: str) -> str:
    panels = []
    for metric, (title, percent, log) in _CURVES.items():
        having = [line for line in lines if line.run is not None and _finite(line, metric)]
        if having:
            drawn = charts.curves(lines, metric, f"{name}-{metric}", percent, log)
            panels.append(f"<figure><h3>{html.escape(title)}</h3>{drawn}</figure>")
    named = "".join(
        f'<li><i style="color:var(--c{place})">■</i> {line.number}: {html.escape(line.name)}</li>'
        for place, line in enumerate(lines)
    )
    return f'<h3>{html.escape(data)}</h3><div class="charts">{"".join(panels)}</div><ul class="legend">{named}</ul>'


def _finite(line: Line, metric: str) -> bool:
    return line.run is not None and metric in line.run.curves and math.isfinite(line.run.curves[metric][1][-1])


def robustness(report: Report) -> str:
    """Accuracy against severity, for each encoder that was measured."""
    parts: list[str] = []
    for line in report.lines:
        for prefix in dict.fromkeys(name.rsplit("/", 3)[0] for name in line.numbers if name.startswith("robustness/")):
            found = {
                name.removeprefix(f"{prefix}/"): value
                for name, value in line.numbers.items()
                if name.startswith(prefix)
            }
            for classifier in ("knn", "linear"):
                kinds = [kind for kind in CORRUPTIONS if f"{kind}/{SEVERITIES[-1]}/{classifier}_top1" in found]
                if kinds:
                    name = f"robust-{line.number}-{classifier}-{len(parts)}"
                    drawn = charts.severities(found, kinds, classifier, name)
                    said = f"{line.number}: {html.escape(line.name)}, {classifier}"
                    note = html.escape(prefix.replace("/", ", ").replace("_", " "))
                    parts.append(f"<figure><h3>{said}</h3>{drawn}<figcaption>{note}</figcaption></figure>")
    return f'<div class="charts">{"".join(parts)}</div>' if parts else ""


def published(report: Report) -> str:
    """Published numbers beside measured ones."""
    if not report.comparisons:
        return '<p class="note">None of these runs follows a recipe with a published number.</p>'
    head = ["run", "recipe", "protocol", "published, %", "source", "measured, %", "remark"]
    rows = [words.comparison_cells(found) for found in report.comparisons]
    caption = (
        "Same recipe and same protocol. A run that departs from its recipe is another training, and is said to be."
    )
    return tables.plain(head, rows, caption, numbers=(3, 5))

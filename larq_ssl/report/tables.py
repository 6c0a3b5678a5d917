"""Tables as HTML."""

import html
from collections.abc import Sequence

from larq_ssl.report import words
from larq_ssl.report.lines import Column, Line


def region(table: str, label: str) -> str:
    """A table that scrolls by itself where the window is narrow, also by the keyboard."""
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{html.escape(label, quote=True)}">{table}</div>'


def plain(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str, numbers: Sequence[int] = ()) -> str:
    """A table of text; the columns of `numbers` are flush right."""

    def row(cells: Sequence[str], tag: str) -> str:
        parts = []
        for place, cell in enumerate(cells):
            scope = ' scope="col"' if tag == "th" else ""
            kind = ' class="number"' if place in numbers else ""
            parts.append(f"<{tag}{scope}{kind}>{html.escape(cell)}</{tag}>")
        return f"<tr>{''.join(parts)}</tr>"

    body = "".join(row(cells, "td") for cells in rows)
    text = (
        f"<table><caption>{html.escape(caption)}</caption><thead>{row(head, 'th')}</thead><tbody>{body}</tbody></table>"
    )
    return region(text, caption)


def runs(lines: Sequence[Line], columns: Sequence[Column], label: str) -> str:
    """The table of some encoders, to be sorted by any column."""
    heads = [_head("#", number=True, small=True), _head("run"), _head("binarization"), _head("state")]
    heads += [_head(column.title, column.detail, number=True) for column in columns]
    heads += [_head(name, number=True, small=True) for name in words.COSTS]
    best = {column.name: _best(lines, column) for column in columns}
    rows = "".join(_row(line, columns, best) for line in lines)
    caption = (
        f"Accuracies in percent, the best of each column in bold; {words.MISSING} not measured. Press a head to sort."
    )
    return region(
        f'<table class="sortable"><caption>{caption}</caption><thead><tr>{"".join(heads)}</tr></thead>'
        f"<tbody>{rows}</tbody></table>",
        label,
    )


def _head(title: str, detail: str = "", number: bool = False, small: bool = False) -> str:
    kind = (' class="number"' if number else "") + (" data-small" if small else "")
    note = f"<small>{html.escape(detail)}</small>" if detail else ""
    return f'<th scope="col"{kind}><button type="button">{html.escape(title)}</button>{note}</th>'


def _best(lines: Sequence[Line], column: Column) -> float | None:
    """Of those that have learned something, if there is something to compare."""
    values = [line.numbers[column.name] for line in lines if column.name in line.numbers and not line.baseline]
    return max(values) if len(values) > 1 else None


def _row(line: Line, columns: Sequence[Column], best: dict[str, float | None]) -> str:
    described = " · ".join(filter(None, (line.method, line.encoder)))
    state = words.state(line)
    chip = "chip" if line.state in ("finished", "imported", "baseline") else "chip warn"
    cells = [
        f'<td class="number" data-value="{line.number}">{line.number}</td>',
        f'<th scope="row" data-value="{html.escape(line.name, quote=True)}">{_path(line.name)}'
        f"<small>{html.escape(described)}</small>{_notes(line)}</th>",
        f'<td data-value="{html.escape(line.kind, quote=True)}">{html.escape(line.kind)}</td>',
        f'<td data-value="{html.escape(state, quote=True)}"><span class="{chip}">{html.escape(state)}</span></td>',
    ]
    for column in columns:
        value = line.numbers.get(column.name)
        cells.append(_accuracy(value, value is not None and value == best[column.name] and not line.baseline))
    for value in words.costs(line):
        cells.append(f'<td class="number" data-value="{"" if value is None else value}">{words.count(value)}</td>')
    return f"<tr>{''.join(cells)}</tr>"


def _path(name: str) -> str:
    """A path that may be broken behind its slashes."""
    return "/<wbr>".join(map(html.escape, name.split("/")))


def _notes(line: Line) -> str:
    """What could not be read, and that a finished run has no probe."""
    notes = list(line.run.notes) if line.run is not None and not line.baseline else []
    if line.state in ("finished", "imported") and not any(
        not name.startswith("while_training") for name in line.numbers
    ):
        notes.append("No probe has measured it yet.")
    return "".join(f"<small>{html.escape(note)}</small>" for note in notes)


def _accuracy(value: float | None, best: bool) -> str:
    if value is None:
        return f'<td class="number" data-value="">{words.MISSING}</td>'
    share = min(1.0, max(0.0, value))
    kind = "number accuracy best" if best else "number accuracy"
    return f'<td class="{kind}" data-value="{value}" style="--share:{share:.3f}">{words.percent(value)}</td>'

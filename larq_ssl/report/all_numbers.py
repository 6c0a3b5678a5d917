"""All that was measured, and where it comes from."""

import html

from larq_ssl.report import tables
from larq_ssl.report.content import Report
from larq_ssl.report.lines import Line
from larq_ssl.report.protocols import departures


def numbers(report: Report) -> str:
    """All that was measured, folded up."""
    parts: list[str] = []
    for line in report.lines:
        rows = [[name, f"{value:.6g}"] for name, value in sorted(line.numbers.items())]
        if rows:
            count = f"{len(rows)} number{'s' if len(rows) > 1 else ''}"
            table = tables.plain(["number", "value"], rows, f"Numbers of {line.name}", numbers=(1,))
            parts.append(
                f"<details><summary>{line.number}: {html.escape(line.name)}<small>{count}</small></summary>"
                f"{_origin(line)}{table}</details>"
            )
    return "\n".join(parts)


def _origin(line: Line) -> str:
    """Where the numbers come from: the run's folder and flags, and of each probe its commit and seed."""
    if line.run is None:
        return ""
    said = [f"Folder: <code>{html.escape(str(line.run.path))}</code>."]
    for probe in line.run.trained_probes():
        known = ", ".join(f"{name} {probe.settings.get(name)}" for name in ("image_size", "seed", "commit"))
        folder, which = (html.escape(text) for text in (probe.folder.rpartition("/")[2], probe.which))
        otherwise = "; ".join(departures(next(iter(probe.metrics)), probe, line.run)) if probe.metrics else ""
        departing = f" Not by the protocol: {html.escape(otherwise)}." if otherwise else ""
        said.append(f"<code>{folder}</code> ({which}): {html.escape(known)}.{departing}")
    return "".join(f'<p class="note">{text}</p>' for text in said)

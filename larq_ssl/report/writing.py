"""The files of the report: Markdown, CSV, and the page."""

import csv
import dataclasses
import io
import os
import pathlib
from collections.abc import Sequence

from larq_ssl.files import write_whole
from larq_ssl.report import words
from larq_ssl.report.content import Report
from larq_ssl.report.page import page

PAGE, MARKDOWN, TABLE, NUMBERS = "report.html", "report.md", "report.csv", "numbers.csv"
FEATURES = "features"


def check_folder(folder: pathlib.Path) -> None:
    """Refuse a folder that holds anything but an earlier report.

    # Raises
        ValueError: Names what is there.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out={folder} is a file; it must be a folder.")
    own = {PAGE, MARKDOWN, TABLE, NUMBERS, FEATURES}
    foreign = sorted(set(os.listdir(folder)) - own) if folder.is_dir() else []
    foreign = [name for name in foreign if not (name.startswith(".") and name.endswith(".tmp"))]
    if foreign:
        raise ValueError(f"--out={folder} holds {foreign[0]!r}, which is not of a report; choose another folder.")


def write(report: Report, folder: str | os.PathLike[str]) -> list[pathlib.Path]:
    """Write the report's files, in the place of those of an earlier one; returns their paths."""
    folder = pathlib.Path(folder)
    check_folder(folder)
    texts = {MARKDOWN: markdown(report), TABLE: table(report), NUMBERS: numbers(report), PAGE: page(report)}
    return [write_whole(folder / name, text, overwrite=True) for name, text in texts.items()]


def markdown(report: Report) -> str:
    """The tables, for a README or an issue."""
    columns = list(report.columns)
    # A block of code: nothing in it is markup.
    command = f"\n    {' '.join(report.command.split())}\n"
    text = f"# Report of {len(report.lines)} encoders\n\nAccuracies in percent. {report.made}\n\n"
    text += _markdown_table([words.head(columns), *(words.cells(line, columns) for line in report.lines)])
    text += "\n## Published numbers\n\n"
    if not report.comparisons:
        return text + f"None of these runs follows a recipe with a published number.\n{command}"
    rows = [["run", "recipe", "protocol", "published", "source", "measured", "remark"]]
    for found in report.comparisons:
        rows.append(words.comparison_cells(found))
    return text + _markdown_table(rows) + command


def _markdown_table(rows: Sequence[Sequence[str]]) -> str:
    # A bar would end a cell, and a name may hold HTML.
    escaped = [[_markdown_text(cell) for cell in row] for row in rows]
    head, *lines = escaped
    return "".join("| " + " | ".join(row) + " |\n" for row in [head, ["---"] * len(head), *lines])


def _markdown_text(text: str) -> str:
    for character, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("\n", " ")):
        text = text.replace(character, safe)
    return text


def table(report: Report) -> str:
    """The main table as CSV: accuracies as fractions, by their full names."""
    head = ["number", "run", "folder", "method", "encoder", "binarization", "data", "state", "epochs"]
    rows: list[Sequence[object]] = [
        [*head, *(column.name for column in report.columns), "binary_macs", "float_macs", "size_bytes"]
    ]
    for line in report.lines:
        cost = [""] * 3 if line.cost is None else list(dataclasses.astuple(line.cost))
        folder = "" if line.run is None else line.run.path
        rows.append(
            [
                *(line.number, line.name, folder, line.method, line.encoder, line.kind, line.data, line.state),
                line.epochs,
                *(line.numbers.get(column.name, "") for column in report.columns),
                *cost,
            ]
        )
    return _csv(rows)


def numbers(report: Report) -> str:
    """Every number of every encoder as CSV, a line each."""
    rows: list[Sequence[object]] = [["number", "run", "metric", "value"]]
    for line in report.lines:
        rows.extend([line.number, line.name, name, value] for name, value in sorted(line.numbers.items()))
    return _csv(rows)


def _csv(rows: Sequence[Sequence[object]]) -> str:
    with io.StringIO() as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)
        return stream.getvalue()

"""The page: one file with all in it, that opens without a server and without a network."""

import html
import importlib.resources
import string
from collections.abc import Iterator

from larq_ssl.report import all_numbers, looks, sections
from larq_ssl.report.content import Report


def page(report: Report) -> str:
    """The report as one HTML file."""
    parts = [part for part in _parts(report) if part[2]]
    navigation = " ".join(f'<a href="#{anchor}">{html.escape(title)}</a>' for anchor, title, _ in parts)
    count = len([line for line in report.lines if not line.baseline])
    return string.Template(_text("template.html")).substitute(
        title=f"Report of {count} encoder{'s' if count != 1 else ''}",
        lead=html.escape(sections.lead(report)),
        style=_text("style.css"),
        script=_text("script.js"),
        navigation=navigation,
        sections="\n".join(
            f'<section id="{anchor}">\n<h2>{title}</h2>\n{text}\n</section>' for anchor, title, text in parts
        ),
        made=html.escape(report.made),
        command=html.escape(report.command),
    )


def _parts(report: Report) -> Iterator[tuple[str, str, str]]:
    """Anchor, title and contents; what has none is left out."""
    yield "short", "In short", sections.facts(report)
    yield "runs", "Runs", sections.runs(report)
    yield "cost", "Accuracy against cost", sections.cost(report)
    yield "curves", "Learning curves", sections.curves(report)
    yield "looks", "What they make of images", looks.looks(report)
    yield "robustness", "Under corruption", sections.robustness(report)
    yield "published", "Beside published numbers", sections.published(report)
    yield "numbers", "All numbers", all_numbers.numbers(report)


def _text(name: str) -> str:
    return importlib.resources.files("larq_ssl.report").joinpath(name).read_text(encoding="utf-8").strip()

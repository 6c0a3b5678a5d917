"""The part of the page that shows what encoders make of images."""

import base64
import html
import io
import itertools

import numpy as np
from PIL import Image

from larq_ssl.report import charts, words
from larq_ssl.report.content import Report
from larq_ssl.report.examples import Example, Look, Picture
from larq_ssl.report.lines import Line

# Beyond, a table of counts is unreadable, and the most frequent confusions are listed instead.
_MAX_TABLE = 20
_LISTED = 12
# Those that are unfolded at first.
_OPEN = 1
# Small images stay made of pixels.
_SMALL = 64


def looks(report: Report) -> str:
    """Neighbours, confusions and a map of each encoder that was looked at, and why others were not."""
    parts = []
    for place, line in enumerate(line for line in report.lines if line.number in report.looks):
        parts.append(_look(line, report.looks[line.number], place < _OPEN))
    missed = [(line, report.missed[line.number]) for line in report.lines if line.number in report.missed]
    if missed:
        listed = "".join(f"<li>{_name(line)}: {html.escape(why)}</li>" for line, why in missed)
        parts.append(f'<div class="note"><p>Not looked at:</p><ul>{listed}</ul></div>')
    return "\n".join(parts)


def _name(line: Line) -> str:
    return f"{line.number}: {html.escape(line.name)}"


def _look(line: Line, look: Look, unfolded: bool) -> str:
    accuracy = ""
    if look.counts is not None:
        share = np.trace(look.counts) / look.counts.sum()
        accuracy = f"<small>{share:.1%} of {look.queries:,} images by their 20 nearest of {look.gallery:,}</small>"
    return (
        f"<details{' open' if unfolded else ''}><summary>{_name(line)}{accuracy}</summary>"
        f'<div class="look">{_examples(look)}<div class="column">{_map(line, look)}{_confusion(look)}</div></div>'
        "</details>"
    )


def _examples(look: Look) -> str:
    shown = "".join(map(_example, look.examples))
    return (
        f"<figure><h3>Images and their nearest neighbours</h3>{shown}"
        f"<figcaption>Left an image held out, right the {len(look.examples[0].neighbours)} training images whose "
        "features are most like its own, with their cosine. The first images are drawn at random, the last ones from "
        "those that the neighbours get wrong. ✓ and a solid frame: the same class; ✗ and a dashed one: another."
        "</figcaption>"
        "</figure>"
    )


def _example(example: Example) -> str:
    own = example.query.name
    said = ""
    if own:
        right = example.predicted == own
        mark = f'<span class="mark">{"✓" if right else "✗"}</span>'
        said = f'<span class="{"same" if right else "other"}">{mark} {html.escape(example.predicted)}</span>'
    neighbours = "".join(f"<li>{_neighbour(picture, own)}</li>" for picture in example.neighbours)
    query = _picture(example.query, "", f"image of class {own}" if own else "image", html.escape(own))
    return (
        f'<div class="example"><div>{query}<div class="picture">{said}</div></div>'
        f'<ul class="neighbours">{neighbours}</ul></div>'
    )


def _neighbour(picture: Picture, own: str) -> str:
    same = picture.name == own
    mark = f'<span class="mark">{"✓" if same else "✗"}</span> ' if own else ""
    text = f"{mark}{html.escape(picture.name)}<br>{picture.similarity:.2f}"
    described = f"neighbour of class {picture.name}, cosine {picture.similarity:.2f}"
    return _picture(picture, ("same" if same else "other") if own else "", described, text)


def _picture(picture: Picture, kind: str, described: str, text: str) -> str:
    with Image.open(io.BytesIO(picture.png)) as image:
        small = " small" if max(image.size) <= _SMALL else ""
    return (
        f'<div class="picture {kind}{small}"><img alt="{html.escape(described, quote=True)}" '
        f'src="data:image/png;base64,{base64.b64encode(picture.png).decode()}">{text}</div>'
    )


def _map(line: Line, look: Look) -> str:
    drawing = charts.embedding_map(look.points, look.labels, look.class_names, f"map-{line.number}")
    return (
        f"<figure><h3>Map of the features</h3>{drawing}<figcaption>{look.queries:,} images held out, put on a plane by "
        f"{look.drawn_by} of their features of unit length. Names stand at the medians of the classes.</figcaption>"
        "</figure>"
    )


def _confusion(look: Look) -> str:
    if look.counts is None:
        return ""
    names = look.class_names
    if len(names) > _MAX_TABLE:
        return _confusions(look.counts, names)
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in names)
    rows = []
    for name, row in zip(names, look.counts, strict=True):
        shares = row / max(1, row.sum())
        cells = "".join(
            f'<td style="--share:{share:.3f}">{count if count else ""}</td>'
            for count, share in zip(row, shares, strict=True)
        )
        rows.append(f'<tr><th scope="row">{html.escape(name)}</th>{cells}</tr>')
    return (
        '<figure><h3>Which classes are taken for which</h3><div class="confusion" role="region" tabindex="0" '
        f'aria-label="Confusion matrix"><table><thead><tr><td></td>{head}</tr></thead><tbody>{"".join(rows)}</tbody>'
        "</table></div><figcaption>A row per class, a column per class that the 20 nearest neighbours vote for; counts "
        "of images held out.</figcaption></figure>"
    )


def _confusions(counts: np.ndarray, names: tuple[str, ...]) -> str:
    wrong = counts * (1 - np.eye(len(counts), dtype=counts.dtype))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_LISTED]
    pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
    rows = "".join(
        f"<tr><td>{html.escape(names[row])}</td><td>{html.escape(names[column])}</td>"
        f'<td class="number">{words.count(wrong[row, column])} of {words.count(counts[row].sum())}</td></tr>'
        for row, column in itertools.takewhile(lambda pair: wrong[pair] > 0, pairs)
    )
    return (
        '<figure><h3>Most frequent confusions</h3><table class="plain"><thead><tr><th scope="col">class</th>'
        f'<th scope="col">taken for</th><th scope="col" class="number">images</th></tr></thead><tbody>{rows}</tbody>'
        "</table></figure>"
    )

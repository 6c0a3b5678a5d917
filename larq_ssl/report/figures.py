"""Pictures as SVG within a page: text stays text, and colours follow the page's light or dark scheme."""

import html
import io
import re
from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from larq_ssl.evaluation._figures import COLOURS, new_figure

# Stand-ins, replaced in the SVG by variables of the page's style sheet.
INK, FAINT, GRID = "#010203", "#040506", "#070809"
# Begins the `gid` of texts that the style sheet keeps readable over lines: with a halo of matplotlib's, text becomes
# paths.
HALO = "halo"
_VARIABLES = {INK: "var(--ink)", FAINT: "var(--faint)", GRID: "var(--line)"}
_VARIABLES |= {colour.lower(): f"var(--c{number})" for number, colour in enumerate(COLOURS)}
MARKERS = "osD^vP*Xhpd<"
# Height of a line of text, and how near in x texts must be to be in each other's way; in printer's points.
_LINE, _NEAR = 10.0, 40.0


def panel(width: float = 4.0, height: float = 2.8) -> tuple[Figure, Axes]:
    """A figure with one panel, in the style of the page."""
    figure = new_figure(width, height)
    figure.set_facecolor("none")
    axes = figure.add_subplot()
    axes.set_facecolor("none")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(which="both", labelsize=9.5, colors=FAINT, labelcolor=INK, length=3)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def write_beside(figure: Figure, axes: Axes, labels: Sequence[tuple[float, float, str]], above: float) -> None:
    """Writes texts to the right of points: one for those at the same point, and none over another.

    # Arguments
        figure, axes: Where, with their final scales and limits.
        labels: Points in data coordinates, and their texts.
        above: How far above its point a text begins, in printer's points.
    """
    joined: dict[tuple[float, float], list[str]] = {}
    for x, y, text in labels:
        joined.setdefault((x, y), []).append(text)
    figure.draw_without_rendering()
    scale = 72 / figure.dpi
    placed: list[tuple[float, float]] = []
    for number, place in enumerate(sorted(joined, key=lambda point: axes.transData.transform(point)[1])):
        left, bottom = axes.transData.transform(place) * scale
        taken = [y for x, y in placed if abs(x - left) < _NEAR]
        y = max([bottom + above, *(other + _LINE for other in taken)])
        placed.append((left, y))
        axes.annotate(
            ", ".join(joined[place]), place, (6, y - bottom), textcoords="offset points", fontsize=9.5, color=INK,
            gid=f"{HALO}-{number}", annotation_clip=False, zorder=4,
        )  # fmt: skip


def svg(figure: Figure, name: str, described: str, titles: dict[str, str] | None = None) -> str:
    """A figure as an `<svg>` element.

    # Arguments
        figure: Drawn in the colours of this module and `COLOURS`.
        name: Different for each figure of a page: it begins the ids of its parts.
        described: What a screen reader says.
        titles: What is shown beside the pointer, by the `gid` of an artist.
    """
    settings = {"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}
    with matplotlib.rc_context(settings), io.BytesIO() as stream:
        figure.savefig(stream, format="svg", metadata={"Date": None})
        text = stream.getvalue().decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.DOTALL)
    # Its style sheet would be one of the whole page.
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    # Within a page an SVG needs no namespaces.
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    text = re.sub(r"#[0-9a-f]{6}\b", lambda match: _VARIABLES.get(match[0], match[0]), text)
    text = re.sub(r'font: [^;"]*?([\d.]+)px [^;"]*', r"font-size: \1px", text)
    for gid, title in (titles or {}).items():
        text = text.replace(f'<g id="{name}-{gid}">', f'<g id="{name}-{gid}"><title>{html.escape(title)}</title>')
    box = re.search(r'viewBox="([^"]*)"', text)
    label = html.escape(described, quote=True)
    head = f'<svg role="img" aria-label="{label}" viewBox="{box[1] if box else ""}">'
    return head + text[text.index(">") + 1 :].strip()

"""The picture of input: what a training asks for and what machines can give, by the number of replicas."""

import dataclasses
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from larq_ssl.evaluation._figures import FAINT, INK, Path, new_figure, save

_COLUMNS = 4
# What is asked for is drawn solid, what can be given is not; told apart without colours, too.
_ASKED, _GIVEN = "#0072B2", ("#D55E00", "#009E73", "#CC79A7")
_DASHES = ("--", "-.", ":")


@dataclasses.dataclass(frozen=True)
class InputSpeed:
    """Images per second over the number of replicas.

    # Arguments
        title: Of the panel.
        replicas: Numbers of replicas, ascending.
        asked: What replicas would consume if nothing held them up.
        given: What each resource can give, by its name; the same names in all panels.
        needed: What the training needs to be finished in time.
    """

    title: str
    replicas: Sequence[int]
    asked: Sequence[float]
    given: Mapping[str, Sequence[float]]
    needed: float


def input_speeds(file: Path, panels: Sequence[InputSpeed], deadline: str, overwrite: bool = False) -> Figure:
    """Draw a panel per training, both axes logarithmic, all panels with one scale.

    # Arguments
        file: Where to write.
        panels: What is drawn.
        deadline: What `needed` is needed for, as in "10 days".
        overwrite: Replace the file.
    # Returns
        The figure.
    # Raises
        ValueError: If there are no panels, or more resources than can be told apart.
    """
    if not panels:
        raise ValueError("There is nothing to draw: `panels` must not be empty.")
    if len(panels[0].given) > len(_GIVEN):
        raise ValueError(f"`given` may have up to {len(_GIVEN)} resources, got {len(panels[0].given)}.")
    rows = -(-(len(panels) + 1) // _COLUMNS)
    columns = min(_COLUMNS, len(panels) + 1)
    figure = new_figure(2.9 * columns, 2.6 * rows)
    places = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for place, axes in enumerate(places):
        if place < len(panels):
            _draw(axes, panels[place])
        else:
            axes.set_axis_off()
        # Below the last panel of a column are the numbers of its axis, and what they are.
        last = place + columns >= len(panels)
        axes.tick_params(labelbottom=last)
        axes.set_xlabel("replicas" if last else "")
    for row in range(rows):
        places[row * columns].set_ylabel("images/s")
    places[len(panels)].legend(handles=_key(panels[0], deadline), loc="center", frameon=False, fontsize=9)
    return save(figure, file, overwrite, dpi=130)


def _draw(axes: Axes, panel: InputSpeed) -> None:
    axes.plot(panel.replicas, panel.asked, color=_ASKED, linewidth=2, marker="o", markersize=4)
    for colour, dashes, values in zip(_GIVEN, _DASHES, panel.given.values(), strict=False):
        axes.plot(panel.replicas, values, color=colour, linewidth=1.6, linestyle=dashes)
    axes.axhline(panel.needed, color=FAINT, linewidth=1.2)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(panel.replicas, [str(count) for count in panel.replicas])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_locator(LogLocator(10, numticks=12))
    axes.set_title(panel.title, fontsize=9, color=INK, loc="left")
    axes.grid(color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _key(panel: InputSpeed, deadline: str) -> list[Line2D]:
    asked = Line2D([], [], color=_ASKED, linewidth=2, marker="o", markersize=4, label="accelerators ask for")
    given = [
        Line2D([], [], color=colour, linewidth=1.6, linestyle=dashes, label=f"{name} can give")
        for name, colour, dashes in zip(panel.given, _GIVEN, _DASHES, strict=False)
    ]
    return [asked, *given, Line2D([], [], color=FAINT, linewidth=1.2, label=f"needed for {deadline}")]

"""What all pictures share: figures without a display and without pyplot's global state, and their files."""

import os
import pathlib

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from larq_ssl import files

Path = str | os.PathLike[str]

# Okabe and Ito's colours, told apart by the colour-blind too, then those of Tol's that differ most from them.
COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555"),
    *("#882255", "#999933", "#332288", "#44AA99", "#AA4499"),
)
INK, FAINT = "#222222", "#8a8a8a"
_FORMATS = (".png", ".pdf", ".svg")


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, file: Path, overwrite: bool, dpi: int) -> Figure:
    """Write a figure whole or not at all, in the format that the file's ending says."""
    ending = pathlib.Path(file).suffix.lower()
    if ending not in _FORMATS:
        raise ValueError(f"`file` must end in one of {', '.join(_FORMATS)}, got {str(file)!r}.")
    files.write_whole(file, lambda stream: figure.savefig(stream, format=ending[1:], dpi=dpi), overwrite)
    return figure


def colours(count: int) -> list[str]:
    """The first colours of `COLOURS`, over and over if need be."""
    return [COLOURS[i % len(COLOURS)] for i in range(count)]

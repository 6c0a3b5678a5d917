"""The picture of the views that a network is trained on."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from larq_ssl.evaluation._figures import INK, Path, colours, new_figure, save
from larq_ssl.evaluation._sheet_grid import Cell, SheetGrid

# Fewer views are told apart by their colours.
_NUMBERED = 3


def view_sheet(
    file: Path,
    views: np.ndarray,
    local_views: np.ndarray | None = None,
    originals: Sequence[np.ndarray] | None = None,
    boxes: np.ndarray | None = None,
    overwrite: bool = False,
) -> Figure:
    """Draw the views that a network is trained on: a row per image, a column per view, all views at one scale.

    Small local views are stacked, two of them in the height of a global one. A view and its box in the original have
    the same colour and, if there are three or more, the same number.

    # Arguments
        file: Where to write.
        views: Uint8 array `[images, views, height, width, 3]`.
        local_views: More views, of another size.
        originals: The images, uint8 arrays `[height, width, 3]`: they make the first column.
        boxes: Where the views were cut out of the originals, in their pixels: `[images, views, 4]` (top,
            left, height, width), local views last.
        overwrite: Replace the file.
    # Returns
        The figure. Its axes are, row by row, the original and the views.
    # Raises
        ValueError: If the arrays do not fit each other.
    """
    columns = _view_columns(views, local_views)
    _check_sheet(columns, originals, boxes)
    grid = SheetGrid.of(views, local_views, originals)
    figure = new_figure(grid.width, grid.height)
    figure.set_layout_engine("none")
    for row in range(len(views)):
        if originals is not None:
            _draw_original(figure, grid, row, originals[row], [] if boxes is None else boxes[row])
        for number, (images, colour) in enumerate(zip(columns, colours(len(columns)), strict=True)):
            axes = _show(figure, grid, grid.view(row, number), images[row], colour if boxes is not None else None)
            if boxes is not None and len(columns) >= _NUMBERED:
                _tag(axes, axes.get_xlim()[0], axes.get_ylim()[1], str(number + 1), colour)
    for x, y, text in grid.headings():
        figure.text(x, y, text, ha="center", va="center", fontsize=10, color=INK)
    return save(figure, file, overwrite, dpi=110)


def _view_columns(views: np.ndarray, local_views: np.ndarray | None) -> list[np.ndarray]:
    columns: list[np.ndarray] = []
    for name, part in (("views", views), ("local_views", local_views)):
        if part is None:
            continue
        if part.ndim != 5 or part.shape[-1] != 3 or part.dtype != np.uint8 or len(part) != len(views):
            raise ValueError(
                f"`{name}` must be uint8 [images, views, height, width, 3] of {len(views)} images, "
                f"got {part.dtype} {part.shape}."
            )
        columns.extend(np.moveaxis(part, 1, 0))
    return columns


def _check_sheet(
    columns: list[np.ndarray],
    originals: Sequence[np.ndarray] | None,
    boxes: np.ndarray | None,
) -> None:
    images = len(columns[0])
    if originals is not None and len(originals) != images:
        raise ValueError(f"`originals` must be {images}, one per row of `views`, got {len(originals)}.")
    if boxes is not None and (originals is None or boxes.shape != (images, len(columns), 4)):
        raise ValueError(
            f"`boxes` must be [{images}, {len(columns)}, 4] and come with `originals`, got shape {boxes.shape}."
        )


def _show(figure: Figure, grid: SheetGrid, cell: Cell, image: np.ndarray, frame: str | None) -> Axes:
    """An image in the middle of a cell, as large as it fits."""
    axes = figure.add_axes(grid.fractions(cell))
    # Small images stay made of pixels: smoothed, they would look better than what the network sees.
    axes.imshow(image, interpolation="nearest" if max(image.shape[:2]) <= 96 else "antialiased", aspect="auto")
    height, width = image.shape[:2]
    _, _, cell_width, cell_height = cell
    pixels = max(width / cell_width, height / cell_height)
    x, y = pixels * cell_width / 2, pixels * cell_height / 2
    # Pixel 0 is drawn from -0.5 to 0.5.
    axes.set_xlim((width - 1) / 2 - x, (width - 1) / 2 + x)
    axes.set_ylim((height - 1) / 2 + y, (height - 1) / 2 - y)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(visible=frame is not None, color=frame or "none", linewidth=2.0)
    return axes


def _draw_original(
    figure: Figure, grid: SheetGrid, row: int, image: np.ndarray, boxes: Sequence[np.ndarray] | np.ndarray
) -> None:
    axes = _show(figure, grid, grid.original(row), image, None)
    for number, (box, colour) in enumerate(zip(boxes, colours(len(boxes)), strict=True)):
        top, left, height, width = (float(value) for value in box)
        for line, line_width in (("white", 2.6), (colour, 1.4)):
            frame = Rectangle((left - 0.5, top - 0.5), width, height, clip_on=False)
            frame.set(fill=False, edgecolor=line, linewidth=line_width)
            axes.add_patch(frame)
        if len(boxes) >= _NUMBERED:
            # Those of global and of local views in different corners: they would often cover each other.
            is_global = number < grid.views
            _tag(
                axes,
                left - 0.5,
                top - 0.5 + (height if is_global else 0.0),
                str(number + 1),
                colour,
                below=not is_global,
            )


def _tag(axes: Axes, x: float, y: float, text: str, colour: str, below: bool = True) -> None:
    """A number in the upper left corner of a view or its box, or (not `below` the point) in the lower left one."""
    axes.annotate(
        text,
        (x, y),
        (3, -3 if below else 3),
        textcoords="offset points",
        ha="left",
        va="top" if below else "bottom",
        fontsize=7,
        fontweight="bold",
        color="white",
        bbox={"boxstyle": "square,pad=0.25", "facecolor": colour, "edgecolor": "none"},
        annotation_clip=False,
    )

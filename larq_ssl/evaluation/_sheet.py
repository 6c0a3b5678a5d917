"""The picture of the views that a network is trained on."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from larq_ssl.evaluation._figures import INK, Path, colours, new_figure, save


def view_sheet(
    file: Path,
    views: np.ndarray,
    local_views: np.ndarray | None = None,
    originals: Sequence[np.ndarray] | None = None,
    boxes: np.ndarray | None = None,
    titles: Sequence[str] | None = None,
    overwrite: bool = False,
) -> Figure:
    """Draw the views that a network is trained on: a row per image, a column per view.

    # Arguments
        file: Where to write.
        views: Uint8 array `[images, views, height, width, 3]`.
        local_views: More views, of another size.
        originals: The images, uint8 arrays `[height, width, 3]`: they make the first column.
        boxes: Where the views were cut out of the originals, in their pixels: `[images, views, 4]` (top,
            left, height, width), local views last.
        titles: Of the view columns.
        overwrite: Replace the file.
    # Returns
        The figure.
    # Raises
        ValueError: If the arrays do not fit each other.
    """
    columns = _view_columns(views, local_views)
    titles = titles or [f"view {i + 1}" for i in range(len(columns))]
    _check_sheet(columns, originals, boxes, titles)
    first = 0 if originals is None else 1
    rows, width = len(views), first + len(columns)
    cell = 2.0 if views.shape[2] > 64 else 1.3
    figure = new_figure(cell * width + 0.2, cell * rows + 0.4)
    figure.set_layout_engine("constrained", w_pad=0.03, h_pad=0.03, wspace=0.0, hspace=0.0)
    grid = figure.subplots(rows, width, squeeze=False)
    frames = colours(len(columns))
    for row in range(rows):
        if originals is not None:
            _show(grid[row, 0], originals[row], None)
            for box, colour in zip([] if boxes is None else boxes[row], frames, strict=False):
                _draw_box(grid[row, 0], box, colour)
        for view, (images, colour) in enumerate(zip(columns, frames, strict=True)):
            _show(grid[row, first + view], images[row], colour if boxes is not None else None)
    for axes, text in zip(grid[0], [*["original"] * first, *titles], strict=True):
        axes.set_title(text, fontsize=10, color=INK)
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
    titles: Sequence[str],
) -> None:
    images = len(columns[0])
    if originals is not None and len(originals) != images:
        raise ValueError(f"`originals` must be {images}, one per row of `views`, got {len(originals)}.")
    if boxes is not None and (originals is None or boxes.shape != (images, len(columns), 4)):
        raise ValueError(
            f"`boxes` must be [{images}, {len(columns)}, 4] and come with `originals`, " f"got shape {boxes.shape}."
        )
    if len(titles) != len(columns):
        raise ValueError(f"`titles` must be {len(columns)}, one per view, got {len(titles)}.")


def _show(axes: Axes, image: np.ndarray, frame: str | None) -> None:
    # Small images stay made of pixels: smoothed, they would look better than what the network sees.
    axes.imshow(image, interpolation="nearest" if max(image.shape[:2]) <= 96 else "antialiased")
    # A square around every image, so that the rows and titles of a sheet line up.
    height, width = image.shape[:2]
    half = max(height, width) / 2
    axes.set_xlim((width - 1) / 2 - half, (width - 1) / 2 + half)
    axes.set_ylim((height - 1) / 2 + half, (height - 1) / 2 - half)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(visible=frame is not None, color=frame or "none", linewidth=2.0)


def _draw_box(axes: Axes, box: np.ndarray, colour: str) -> None:
    top, left, height, width = (float(value) for value in box)
    # Pixel 0 is drawn from -0.5 to 0.5.
    corner = (left - 0.5, top - 0.5)
    for line, line_width in (("white", 3.0), (colour, 1.6)):
        axes.add_patch(
            Rectangle(corner, width, height, fill=False, edgecolor=line, linewidth=line_width, clip_on=False)
        )

"""Where the images of a sheet of views lie."""

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np

# Left, top, width and height in inches.
Cell = tuple[float, float, float, float]

_GAP, _MARGIN, _HEADER = 0.06, 0.06, 0.3
# A sheet of small images need not be as large as one of photographs.
_SIDE, _SMALL_SIDE, _SMALL = 2.0, 1.3, 64
# Local views up to this share of a global one's side are stacked.
_STACKED = 0.6
_WIDEST = 1.6


@dataclasses.dataclass(frozen=True)
class SheetGrid:
    """A row per image: the original, the global views and the local ones.

    # Arguments
        rows: Number of images.
        views, local_views: Their numbers in a row.
        side, local_side: Theirs in inches.
        stack: Local views one below the other.
        aspect: Width over height of the cells of originals; 0: no originals.
    """

    rows: int
    views: int
    local_views: int
    side: float
    local_side: float
    stack: int
    aspect: float

    @classmethod
    def of(
        cls, views: np.ndarray, local_views: np.ndarray | None, originals: Sequence[np.ndarray] | None
    ) -> "SheetGrid":
        """The grid for some arrays, see `view_sheet`."""
        side = _SIDE if views.shape[2] > _SMALL else _SMALL_SIDE
        count, ratio = (
            (0, 1.0) if local_views is None else (local_views.shape[1], local_views.shape[2] / views.shape[2])
        )
        aspects = [image.shape[1] / image.shape[0] for image in originals or []]
        return cls(
            rows=len(views),
            views=views.shape[1],
            local_views=count,
            side=side,
            local_side=ratio * side,
            stack=2 if count > 1 and ratio <= _STACKED else 1,
            aspect=min(max(1.0, *aspects), _WIDEST) if aspects else 0.0,
        )

    @property
    def row_height(self) -> float:
        return max(self.side, self.stack * self.local_side + (self.stack - 1) * _GAP)

    @property
    def _left(self) -> float:
        """Of the first view."""
        return _MARGIN + (self.row_height * self.aspect + 2 * _GAP if self.aspect else 0.0)

    @property
    def _left_local(self) -> float:
        return self._left + self.views * (self.side + _GAP)

    @property
    def width(self) -> float:
        columns = math.ceil(self.local_views / self.stack)
        return self._left_local + columns * (self.local_side + _GAP) - _GAP + _MARGIN

    @property
    def height(self) -> float:
        return _HEADER + self.rows * (self.row_height + _GAP) - _GAP + _MARGIN

    def _top(self, row: int) -> float:
        return _HEADER + row * (self.row_height + _GAP)

    def original(self, row: int) -> Cell:
        """Where an original lies."""
        return _MARGIN, self._top(row), self.row_height * self.aspect, self.row_height

    def view(self, row: int, number: int) -> Cell:
        """Where a view lies, global ones numbered first; local ones fill one column after the other."""
        middle = self._top(row) + self.row_height / 2
        if number < self.views:
            return self._left + number * (self.side + _GAP), middle - self.side / 2, self.side, self.side
        column, line = divmod(number - self.views, self.stack)
        step = self.local_side + _GAP
        top = middle - (self.stack * step - _GAP) / 2 + line * step
        return self._left_local + column * step, top, self.local_side, self.local_side

    def fractions(self, cell: Cell) -> Cell:
        """Left, bottom, width and height as shares of the figure."""
        left, top, width, height = cell
        return (
            left / self.width,
            1 - (top + height) / self.height,
            width / self.width,
            height / self.height,
        )

    def headings(self) -> Iterator[tuple[float, float, str]]:
        """Text over the columns, with its middle as shares of the figure."""
        y = 1 - 0.5 * _HEADER / self.height
        if self.aspect:
            yield (_MARGIN + self.row_height * self.aspect / 2) / self.width, y, "original"
        kind = "global" if self.local_views else "view"
        for number in range(self.views):
            left, _, width, _ = self.view(0, number)
            yield (left + width / 2) / self.width, y, f"{kind} {number + 1}"
        if self.local_views:
            last = self.views + self.local_views
            many = f"local {self.views + 1} to {last}" if self.local_views > 1 else f"local {last}"
            yield (self._left_local + self.width - _MARGIN) / 2 / self.width, y, many

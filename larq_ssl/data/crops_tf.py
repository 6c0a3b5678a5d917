"""Which part of an image a view of the SimCLR and BYOL families shows, on given draws.

SimCLR samples as `tf.image.sample_distorted_bounding_box` does: the aspect ratio is uniform, not its logarithm; the
height is uniform among those that give an area in range and fit into the image; a crop that shows less than a tenth of
the image is drawn anew, which raises the lower end of the area from 0.08 to 0.1. So large crops are rarer than
torchvision's: the mean area of a square image is 0.42, there it is 0.48.

BYOL draws once, as torchvision, and clips what does not fit: the mean area is 0.53, and crops may have any shape.

Differences from the papers: SimCLR draws up to a hundred times. Here it is ten times, and the last draw is from the
areas that are accepted: of crops from 0.08 on, about one in a million gets there.

# References
    - SimCLRv2, Sec. 2 and released code
    - BYOL, Appendix B and released code
"""

from types import ModuleType
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow.experimental.numpy as tnp

from larq_ssl.data.crops import CANDIDATES
from larq_ssl.data.view_policy import SMALLEST_SIMCLR_AREA, View

# The draws are those of `crops.COLUMNS`.
_AREAS = slice(0, 2 * CANDIDATES, 2)
_RATIOS = slice(1, 2 * CANDIDATES, 2)
_TOP, _LEFT = 2 * CANDIDATES, 2 * CANDIDATES + 1


def simclr_boxes(uniforms: Any, height: Any, width: Any, views: tuple[View, ...]) -> Any:
    """Boxes `(top, left, height, width)`, whole pixels, for some views of some images.

    # Arguments
        uniforms: Float64 `[n, views, at least len(crops.COLUMNS)]` in `[0, 1)`, NumPy or tensor.
        height, width: int64 `[n]`, likewise.
        views: One per column of `uniforms`.
    # Returns
        int64 `[n, views, 4]`, of the same kind as `uniforms`.
    """
    xp, rint = _functions(uniforms)
    rows, columns, low, high, ratio_low, ratio_high = _ranges(xp, height, width, views)
    ratio = ratio_low + (ratio_high - ratio_low) * uniforms[:, :, _RATIOS]
    accepted = np.maximum(low, SMALLEST_SIMCLR_AREA)
    low = np.where(np.arange(CANDIDATES) < CANDIDATES - 1, low, accepted)
    smallest, largest = rows * columns * low, rows * columns * high

    # The largest height whose width, rounded, fits.
    highest = xp.minimum(rint(xp.sqrt(largest / ratio)), xp.floor((columns + 0.5 - 1e-7) / ratio))
    highest = xp.minimum(highest, rows)
    lowest = xp.minimum(rint(xp.sqrt(smallest / ratio)), highest)
    h = lowest + xp.floor(uniforms[:, :, _AREAS] * (highest - lowest + 1.0))
    # Rounded sides may have an area a little out of range: then one row more or less.
    h = xp.where(h * rint(h * ratio) < smallest, h + 1.0, h)
    h = xp.where(h * rint(h * ratio) > largest, h - 1.0, h)
    w = rint(h * ratio)
    fits = (w > 0) & (w <= columns) & (h > 0) & (h <= rows) & (w * h <= largest)
    fits = fits & (w * h >= xp.maximum(smallest, accepted * rows * columns))

    first = xp.argmax(xp.asarray(fits, np.int32), axis=2)[..., None]
    found, rows, columns = xp.any(fits, axis=2), rows[..., 0], columns[..., 0]
    h = xp.where(found, xp.take_along_axis(h, first, axis=2)[..., 0], rows)
    w = xp.where(found, xp.take_along_axis(w, first, axis=2)[..., 0], columns)
    # TensorFlow never takes the last place.
    top = xp.floor(uniforms[:, :, _TOP] * (rows - h))
    left = xp.floor(uniforms[:, :, _LEFT] * (columns - w))
    return _boxes(xp, (top, left, h, w), (rows, columns), views)


def byol_boxes(uniforms: Any, height: Any, width: Any, views: tuple[View, ...]) -> Any:
    """As `simclr_boxes`, of BYOL."""
    xp, rint = _functions(uniforms)
    rows, columns, low, high, ratio_low, ratio_high = (x[..., 0] for x in _ranges(xp, height, width, views))
    area = rows * columns * (low + (high - low) * uniforms[:, :, 0])
    root = xp.exp(0.5 * (np.log(ratio_low) + np.log(ratio_high / ratio_low) * uniforms[:, :, 1]))
    # (A crop of less than a pixel, of a tiny image, gets one.)
    h = xp.maximum(xp.minimum(rint(xp.sqrt(area) / root), rows), 1.0)
    w = xp.maximum(xp.minimum(rint(xp.sqrt(area) * root), columns), 1.0)
    top = xp.floor(uniforms[:, :, _TOP] * (rows - h + 1.0))
    left = xp.floor(uniforms[:, :, _LEFT] * (columns - w + 1.0))
    return _boxes(xp, (top, left, h, w), (rows, columns), views)


def _functions(uniforms: Any) -> tuple[ModuleType, Any]:
    """NumPy, or TensorFlow's own, and its rounding to the nearest."""
    return (np, np.rint) if isinstance(uniforms, np.ndarray) else (tnp, tf.math.rint)


def _ranges(xp: ModuleType, height: Any, width: Any, views: tuple[View, ...]) -> tuple[Any, ...]:
    """Sides of the images, and ranges of area and aspect ratio; they broadcast to `[n, views, candidates]`."""
    areas = np.array([view.crop_scale or (1.0, 1.0) for view in views]).T[:, None, :, None]
    ratios = np.array([view.ratio for view in views]).T[:, None, :, None]
    sides = (xp.asarray(xp.reshape(side, (-1, 1, 1)), np.float64) for side in (height, width))
    return (*sides, *areas, *ratios)


def _boxes(xp: ModuleType, box: tuple[Any, ...], sides: tuple[Any, ...], views: tuple[View, ...]) -> Any:
    """The parts of boxes together; the whole image where a view is not cropped."""
    whole = np.array([view.crop_scale is None for view in views])
    if whole.any():
        box = tuple(xp.where(whole, full, part) for full, part in zip((0.0, 0.0, *sides), box, strict=True))
    return xp.asarray(xp.stack(box, axis=-1), np.int64)

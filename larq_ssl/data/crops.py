"""Which part of an image a view shows: torchvision's `RandomResizedCrop.get_params` on given draws."""

from types import ModuleType
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow.experimental.numpy as tnp

from larq_ssl.data.rng import Op
from larq_ssl.data.views import View

CANDIDATES = 10
# Area and log ratio of each candidate, then the position of the one that is taken.
COLUMNS = tuple((Op.CROP, draw) for draw in range(2 * CANDIDATES + 2))
_TOP, _LEFT = 2 * CANDIDATES, 2 * CANDIDATES + 1


def crop_boxes(uniforms: Any, height: Any, width: Any, views: tuple[View, ...]) -> Any:
    """Boxes `(top, left, height, width)`, whole pixels, for some views of some images.

    Ten candidates (area uniform, aspect ratio log-uniform) are drawn at once and the first that fits is taken;
    if none does, the largest centred box with an allowed ratio.

    # Arguments
        uniforms: Float64 `[n, views, at least len(COLUMNS)]` in `[0, 1)`, NumPy or tensor.
        height, width: int64 `[n]`, likewise.
        views: One per column of `uniforms`.
    # Returns
        int64 `[n, views, 4]`, of the same kind as `uniforms`.
    """
    xp: ModuleType = np if isinstance(uniforms, np.ndarray) else tnp
    rint = np.rint if isinstance(uniforms, np.ndarray) else tf.math.rint
    low, high = np.array([view.crop_scale or (1.0, 1.0) for view in views]).T[:, None, :, None]
    ratio_low, ratio_high = np.array([view.ratio for view in views]).T[:, None, :, None]
    rows = xp.asarray(xp.reshape(height, (-1, 1, 1)), np.float64)
    columns = xp.asarray(xp.reshape(width, (-1, 1, 1)), np.float64)

    area = rows * columns * (low + (high - low) * uniforms[:, :, 0 : 2 * CANDIDATES : 2])
    log_ratio = np.log(ratio_low) + np.log(ratio_high / ratio_low) * uniforms[:, :, 1 : 2 * CANDIDATES : 2]
    root = xp.exp(0.5 * log_ratio)
    w = rint(xp.sqrt(area) * root)
    h = rint(xp.sqrt(area) / root)
    fits = (w > 0) & (w <= columns) & (h > 0) & (h <= rows)

    first = xp.argmax(xp.asarray(fits, np.int32), axis=2)[..., None]
    fallback = xp.logical_not(xp.any(fits, axis=2))
    w = xp.take_along_axis(w, first, axis=2)[..., 0]
    h = xp.take_along_axis(h, first, axis=2)[..., 0]

    rows, columns = rows[..., 0], columns[..., 0]
    shape = columns / rows
    widest = xp.maximum(1.0, rint(rows * ratio_high[..., 0]))
    highest = xp.maximum(1.0, rint(columns / ratio_low[..., 0]))
    w = xp.where(fallback, xp.where(shape > ratio_high[..., 0], widest, columns), w)
    h = xp.where(fallback, xp.where(shape < ratio_low[..., 0], highest, rows), h)
    free_y, free_x = rows - h, columns - w
    top = xp.where(fallback, xp.floor(free_y / 2), xp.floor(uniforms[:, :, _TOP] * (free_y + 1)))
    left = xp.where(fallback, xp.floor(free_x / 2), xp.floor(uniforms[:, :, _LEFT] * (free_x + 1)))
    whole = np.array([view.crop_scale is None for view in views])
    if whole.any():
        top, left = xp.where(whole, 0.0, top), xp.where(whole, 0.0, left)
        h = xp.where(whole, rows, h)
        w = xp.where(whole, columns, w)
    return xp.asarray(xp.stack([top, left, h, w], axis=-1), np.int64)

"""Anti-aliased crop and resize of a batch of small images by two matrix products.

Pillow's resampling (its filters, their support widened by the scale, pixels outside the box not seen, bytes between the
two passes), written as one matrix per example and axis. Weights are multiples of 2^-15, so that every product and sum
is exact in float32: the pixels do not depend on the batch size, the number of threads or the order of summation.
"""

import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

Resampler = Callable[[tf.Tensor, tf.Tensor, int, int], tf.Tensor]
"""From start, length, size of the axis and size of the result to matrices: see `resize_weights`."""

_WEIGHT_UNIT = 2.0**-15
_FILTER_UNIT = 2.0**-16


def keys_cubic(x: tf.Tensor) -> tf.Tensor:
    """Keys's cubic with a = -0.5, of distances in pixels that are not negative."""
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return tf.where(x < 1.0, near, tf.where(x < 2.0, far, 0.0))


def _filter(x: tf.Tensor, interpolation: str) -> tf.Tensor:
    x = tf.abs(x)
    return tf.maximum(1.0 - x, 0.0) if interpolation == "bilinear" else keys_cubic(x)


def round_to(x: tf.Tensor, unit: float) -> tf.Tensor:
    """The nearest multiples of a unit."""
    return tf.floor(x * (1.0 / unit) + 0.5) * unit


def resize_weights(start: tf.Tensor, length: tf.Tensor, in_size: int, out_size: int, interpolation: str) -> tf.Tensor:
    """Matrices that resize `[start, start + length)` of an axis of `in_size` pixels to `out_size` pixels.

    # Arguments
        start, length: Float32 `[n]`, whole numbers.
    # Returns
        Float32 `[n, out_size, in_size]`; rows add up to 1 within `in_size * 2^-16`.
    """
    scale = (length / out_size)[:, None, None]
    stretch = tf.maximum(scale, 1.0)
    support = stretch * (1.0 if interpolation == "bilinear" else 2.0)
    center = (tf.range(out_size, dtype=tf.float32)[None, :, None] + 0.5) * scale
    pixel = tf.range(in_size, dtype=tf.float32)[None, None, :] - start[:, None, None]
    first = tf.maximum(tf.floor(center - support + 0.5), 0.0)
    last = tf.minimum(tf.floor(center + support + 0.5), length[:, None, None])
    weights = _filter((pixel - center + 0.5) / stretch, interpolation)
    weights = tf.where((pixel >= first) & (pixel < last), round_to(weights, _FILTER_UNIT), 0.0)
    return round_to(weights / tf.reduce_sum(weights, axis=2, keepdims=True), _WEIGHT_UNIT)


def to_bytes(x: tf.Tensor) -> tf.Tensor:
    """Rounded and clipped, of the same type."""
    return tf.floor(tf.raw_ops.ClipByValue(t=x + 0.5, clip_value_min=0.5, clip_value_max=255.5))


# All matrices of an axis are made once if they take no more memory than this: to look them up is many times faster.
_TABLE_BYTES = 2**25


def _table(in_size: int, out_size: int, resampler: Resampler) -> np.ndarray | None:
    """The matrices of all boxes of an axis: that of a box at `(length - 1) * in_size + start`.

    Float32 `[in_size * in_size, out_size, in_size]`, zero for boxes that leave the axis; `None` if that is too large.
    """
    if 4 * in_size**3 * out_size > _TABLE_BYTES:
        return None
    length, start = np.divmod(np.arange(in_size**2), in_size)
    inside = start + length < in_size
    table = np.zeros((in_size**2, out_size, in_size), np.float32)
    with tf.init_scope():
        table[inside] = resampler(
            tf.constant(start[inside], tf.float32),
            tf.constant(length[inside] + 1, tf.float32),
            in_size,
            out_size,
        ).numpy()
    return table


def _weights(start: tf.Tensor, length: tf.Tensor, in_size: int, out_size: int, resampler: Resampler) -> tf.Tensor:
    table = _table(in_size, out_size, resampler)
    if table is None:
        return resampler(tf.cast(start, tf.float32), tf.cast(length, tf.float32), in_size, out_size)
    return tf.gather(tf.constant(table), (length - 1) * in_size + start)


def box_matrices(
    images: tf.Tensor, boxes: tf.Tensor, flips: tf.Tensor, size: int, resampler: Resampler
) -> tuple[tf.Tensor, tf.Tensor]:
    """Matrices that resize the rows and the columns of boxes; see `crop_resize`.

    # Returns
        Float32 `[n * views, size, height]` and `[n * views, size, width]`.
    """
    top, left, rows, columns = tf.unstack(tf.reshape(boxes, [-1, 4]), axis=1)
    vertical = _weights(top, rows, images.shape[1], size, resampler)
    horizontal = _weights(left, columns, images.shape[2], size, resampler)
    # Mirrored by the order of the rows that are looked up.
    order = tf.constant(np.stack([np.arange(size), np.arange(size)[::-1]]), tf.int32)
    order = tf.gather(order, tf.cast(tf.reshape(flips, [-1]), tf.int32))
    return vertical, tf.gather(horizontal, order, batch_dims=1)


def crop_resize(images: tf.Tensor, boxes: tf.Tensor, flips: tf.Tensor, size: int, interpolation: str) -> tf.Tensor:
    """Several crops of each image, each resized to a square, some mirrored.

    # Arguments
        images: uint8 `[n, height, width, 3]`.
        boxes: int64 `[n, views, 4]`: top, left, height, width.
        flips: Bool `[n, views]`.
        size: Side of the results.
        interpolation: "bilinear" or "bicubic".
    # Returns
        Planes (see `augment`): float32 `[3, n * views, size, size]`.
    """
    resampler = functools.partial(resize_weights, interpolation=interpolation)
    vertical, horizontal = box_matrices(images, boxes, flips, size, resampler)
    return multiply(images, vertical, horizontal, to_bytes)


def multiply(
    images: tf.Tensor, vertical: tf.Tensor, horizontal: tf.Tensor, between: Callable[[tf.Tensor], tf.Tensor]
) -> tf.Tensor:
    """Images times the matrices of their boxes, as bytes.

    # Arguments
        vertical, horizontal: See `box_matrices`; of the type to be multiplied in.
        between: What is done to the image between the two products.
    # Returns
        Planes (see `augment`) of that type.
    """
    height, width, size = images.shape[1], images.shape[2], vertical.shape[1]
    # Columns first, as Pillow does. Channels beside the rows: so no product needs its operands transposed.
    planes = tf.cast(tf.transpose(images, [0, 1, 3, 2]), vertical.dtype)
    planes = tf.reshape(planes, [-1, 1, height * 3, width])
    horizontal = tf.reshape(horizontal, [tf.shape(images)[0], -1, size, width])
    x = between(tf.matmul(planes, horizontal, transpose_b=True))
    x = to_bytes(tf.matmul(vertical, tf.reshape(x, [-1, height, 3 * size])))
    return tf.transpose(tf.reshape(x, [-1, size, 3, size]), [2, 0, 1, 3])

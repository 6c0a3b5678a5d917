"""Anti-aliased crop and resize of a batch of small images by two matrix products.

Pillow's resampling (its filters, their support widened by the scale, pixels outside the box not seen, bytes between the
two passes), written as one matrix per example and axis. Weights are multiples of 2^-15, so that every product and sum
is exact in float32: the pixels do not depend on the batch size, the number of threads or the order of summation.
"""

import numpy as np
import tensorflow as tf

_WEIGHT_UNIT = 2.0**-15
_FILTER_UNIT = 2.0**-16


def _filter(x: tf.Tensor, interpolation: str) -> tf.Tensor:
    x = tf.abs(x)
    if interpolation == "bilinear":
        return tf.maximum(1.0 - x, 0.0)
    # Keys's cubic with a = -0.5.
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return tf.where(x < 1.0, near, tf.where(x < 2.0, far, 0.0))


def _round_to(x: tf.Tensor, unit: float) -> tf.Tensor:
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
    weights = tf.where((pixel >= first) & (pixel < last), _round_to(weights, _FILTER_UNIT), 0.0)
    return _round_to(weights / tf.reduce_sum(weights, axis=2, keepdims=True), _WEIGHT_UNIT)


def _to_bytes(x: tf.Tensor) -> tf.Tensor:
    """Rounded and clipped, still float32."""
    return tf.floor(tf.raw_ops.ClipByValue(t=x + 0.5, clip_value_min=0.5, clip_value_max=255.5))


# All matrices of an axis are made once if they take no more memory than this: to look them up is many times faster.
_TABLE_BYTES = 2**25


def _table(in_size: int, out_size: int, interpolation: str) -> np.ndarray | None:
    """The matrices of all boxes of an axis: that of a box at `(length - 1) * in_size + start`.

    Float32 `[in_size * in_size, out_size, in_size]`, zero for boxes that leave the axis; `None` if that is too large.
    """
    if 4 * in_size**3 * out_size > _TABLE_BYTES:
        return None
    length, start = np.divmod(np.arange(in_size**2), in_size)
    inside = start + length < in_size
    table = np.zeros((in_size**2, out_size, in_size), np.float32)
    with tf.init_scope():
        table[inside] = resize_weights(
            tf.constant(start[inside], tf.float32),
            tf.constant(length[inside] + 1, tf.float32),
            in_size,
            out_size,
            interpolation,
        ).numpy()
    return table


def _weights(start: tf.Tensor, length: tf.Tensor, in_size: int, out_size: int, interpolation: str) -> tf.Tensor:
    table = _table(in_size, out_size, interpolation)
    if table is None:
        start, length = tf.cast(start, tf.float32), tf.cast(length, tf.float32)
        return resize_weights(start, length, in_size, out_size, interpolation)
    return tf.gather(tf.constant(table), (length - 1) * in_size + start)


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
    height, width = images.shape[1], images.shape[2]
    n, views = tf.shape(boxes)[0], boxes.shape[1]
    top, left, rows, columns = tf.unstack(tf.reshape(boxes, [-1, 4]), axis=1)
    vertical = _weights(top, rows, height, size, interpolation)
    horizontal = _weights(left, columns, width, size, interpolation)
    # Mirrored by the order of the rows that are looked up.
    order = tf.constant(np.stack([np.arange(size), np.arange(size)[::-1]]), tf.int32)
    horizontal = tf.gather(horizontal, tf.gather(order, tf.cast(tf.reshape(flips, [-1]), tf.int32)), batch_dims=1)
    # Columns first, as Pillow does. Channels beside the rows: so no product needs its operands transposed.
    planes = tf.cast(tf.transpose(images, [0, 1, 3, 2]), tf.float32)
    planes = tf.reshape(planes, [n, 1, height * 3, width])
    horizontal = tf.reshape(horizontal, [n, views, size, width])
    x = _to_bytes(tf.matmul(planes, horizontal, transpose_b=True))
    x = _to_bytes(tf.matmul(vertical, tf.reshape(x, [n * views, height, 3 * size])))
    return tf.transpose(tf.reshape(x, [n * views, size, 3, size]), [2, 0, 1, 3])

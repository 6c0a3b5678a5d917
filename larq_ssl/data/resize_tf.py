"""Bicubic crop and resize without anti-aliasing, as SimCLR and BYOL do it: `tf.image.resize`.

A pixel of the result is made of 4 x 4 pixels of the crop, however large the crop is: fine patterns of large crops turn
into noise, which anti-aliasing (`resize`, Pillow) would average away.

An image that has just been decoded is resized by TensorFlow itself. For a batch of small images, of which each is
cropped elsewhere, the same is written as matrix products. Their weights are multiples of 2^-20, multiplied in float64:
every product and sum is exact, so that the pixels do not depend on the batch size or the order of summation.

Differences from the papers: results are rounded to bytes, from which the colour ops then start. Whether BYOL's resize
is anti-aliased is not stated; here it is not, as SimCLR's.
"""

import numpy as np
import tensorflow as tf

from larq_ssl.data import resize

_WEIGHT_UNIT = 2.0**-20
# TensorFlow looks the weights up in a table, at places of this unit between two pixels.
_PLACE_UNIT = 2.0**-10


def resize_weights(start: tf.Tensor, length: tf.Tensor, in_size: int, out_size: int) -> tf.Tensor:
    """Matrices that resize `[start, start + length)` of an axis of `in_size` pixels to `out_size` pixels.

    # Arguments
        start, length: Float32 `[n]`, whole numbers.
    # Returns
        Float32 `[n, out_size, in_size]`, multiples of 2^-20.
    """
    # In float32 and in this order, as TensorFlow computes it: the places are rounded.
    place = (tf.range(out_size, dtype=tf.float32) + 0.5) * (length / out_size)[:, None] - 0.5
    whole = tf.floor(place)
    place = whole + tf.math.rint((place - whole) / _PLACE_UNIT) * _PLACE_UNIT
    pixel = tf.range(in_size, dtype=tf.float32) - start[:, None]
    inside = (pixel >= 0.0) & (pixel < length[:, None])
    weights = resize.keys_cubic(tf.cast(tf.abs(pixel[:, None, :] - place[:, :, None]), tf.float64))
    weights = tf.where(inside[:, None, :], weights, 0.0)
    weights = resize.round_to(weights / tf.reduce_sum(weights, axis=2, keepdims=True), _WEIGHT_UNIT)
    return tf.cast(weights, tf.float32)


def crop_resize(images: tf.Tensor, boxes: tf.Tensor, flips: tf.Tensor, size: int) -> tf.Tensor:
    """Several crops of each image, each resized to a square, some mirrored; as `resize.crop_resize`.

    # Arguments
        images: uint8 `[n, height, width, 3]`.
        boxes: int64 `[n, views, 4]`: top, left, height, width.
        flips: Bool `[n, views]`.
        size: Side of the results.
    # Returns
        Planes (see `augment`): float32 `[3, n * views, size, size]`, whole numbers.
    """
    vertical, horizontal = resize.box_matrices(images, boxes, flips, size, resize_weights)
    planes = resize.multiply(images, tf.cast(vertical, tf.float64), tf.cast(horizontal, tf.float64), tf.identity)
    return tf.cast(planes, tf.float32)


def resize_image(pixels: np.ndarray, size: int) -> np.ndarray:
    """An image uint8 `[height, width, 3]` of any sides as uint8 `[size, size, 3]`."""
    with tf.device("/CPU:0"):
        resized = tf.image.resize(pixels, (size, size), tf.image.ResizeMethod.BICUBIC, antialias=False).numpy()
    # Of an image that has the size already, TensorFlow gives back the bytes.
    return np.clip(np.floor(resized.astype(np.float32) + 0.5), 0.0, 255.0).astype(np.uint8)

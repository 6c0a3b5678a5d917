"""Rows of length one."""

import tensorflow as tf

from larq_ssl.losses.checks import float32_rows


def unit_rows(rows: tf.Tensor) -> tf.Tensor:
    """Each row divided by its Euclidean length.

    \\[ \\hat v = \\frac{v}{\\|v\\|_2}, \\qquad \\hat 0 = 0 \\]

    The result does not depend on the scale of a row: it is computed in float32 after division by the
    largest entry, so that neither tiny nor huge rows under- or overflow. A row of zeros stays zero and gets
    no gradient.

    # Arguments
        rows: Float tensor `[batch, dim]`.
    # Returns
        Float32 tensor `[batch, dim]`.
    # Raises
        TypeError: If `rows` is not of a float type.
        ValueError: If `rows` has not two dimensions.
    # References
        - Differences from `torch.nn.functional.normalize`: there a row shorter than 1e-12 is divided by
          1e-12, which leaves it shorter than one and its gradient up to 1e12 times as large.
    """
    rows = float32_rows("rows", rows)
    largest = tf.stop_gradient(tf.reduce_max(tf.abs(rows), axis=-1, keepdims=True))
    scaled = tf.math.divide_no_nan(rows, largest)
    squares = tf.reduce_sum(tf.square(scaled), axis=-1, keepdims=True)
    # The square of a scaled row is at least one, or exactly zero: rsqrt(0) has no finite gradient.
    return scaled * tf.math.rsqrt(tf.where(squares > 0, squares, tf.ones_like(squares)))

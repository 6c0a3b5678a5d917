"""Gaussian blur of a batch, another sigma for each example, by banded matrix products.

Pillow approximates a Gaussian by three box blurs; the kernel here is those three boxes convolved, so it differs from
Pillow only by the bytes that Pillow keeps between its passes and, by a little, at the border (mirrored here).
Weights are multiples of 2^-15: sums are exact in float32 and do not depend on their order (see `resize`).
"""

import math

import numpy as np
import tensorflow as tf

_WEIGHT_UNIT = 2.0**-15
_PASSES = 3
# Rows computed by one product: enough to keep a vector unit busy, few enough that little of the matrix is zero.
_BLOCK = 32


def _box_radius(sigma: float) -> int:
    return math.floor((math.sqrt(12.0 * sigma**2 / _PASSES + 1.0) - 1.0) / 2.0)


def kernel_reach(max_sigma: float) -> int:
    """Pixels that the kernel reaches to each side."""
    return _PASSES * (_box_radius(max_sigma) + 1)


def blur_kernels(sigma: tf.Tensor, max_sigma: float) -> tf.Tensor:
    """Half kernels, from the middle outwards.

    # Arguments
        sigma: Float64 `[n]`, at most `max_sigma`.
    # Returns
        Float32 `[n, kernel_reach(max_sigma) + 1]`; middle plus twice the rest is exactly 1.
    """
    variance = tf.cast(sigma, tf.float64)[:, None] ** 2 / _PASSES
    whole = tf.floor((tf.sqrt(12.0 * variance + 1.0) - 1.0) / 2.0)
    edge = (2.0 * whole + 1.0) * (whole * (whole + 1.0) - 3.0 * variance)
    edge = edge / (6.0 * (variance - (whole + 1.0) ** 2))
    reach = _box_radius(max_sigma) + 1
    offset = tf.abs(tf.range(-reach, reach + 1, dtype=tf.float64))[None]
    # 1 within the whole pixels, `edge` on the next one, 0 beyond.
    box = tf.cast(offset <= whole, tf.float64) + edge * tf.cast(tf.equal(offset, whole + 1.0), tf.float64)
    box = box / (2.0 * (whole + edge) + 1.0)
    kernel = box
    for _ in range(_PASSES - 1):
        wide = tf.pad(kernel, [[0, 0], [2 * reach, 2 * reach]])
        taps = kernel.shape[1] + 2 * reach
        kernel = tf.add_n([box[:, i : i + 1] * wide[:, i : i + taps] for i in range(2 * reach + 1)])
    outer = tf.floor(kernel[:, _PASSES * reach + 1 :] / _WEIGHT_UNIT + 0.5) * _WEIGHT_UNIT
    middle = 1.0 - 2.0 * tf.reduce_sum(outer, axis=1, keepdims=True)
    return tf.cast(tf.concat([middle, outer], axis=1), tf.float32)


def _bands(size: int, reach: int, mirrored: bool) -> list[tuple[slice, np.ndarray]]:
    """For each block of rows the rows that it reads, and how often it reads each at which distance."""
    bands = []
    for start in range(0, size, _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, size))
        low, high = max(0, start - reach), min(size, rows[-1] + 1 + reach)
        counts = np.zeros((reach + 1, len(rows), high - low), np.float32)
        for offset in range(-reach, reach + 1):
            # A mirror with period 2 * size: right for kernels longer than the image, too.
            source = (rows + offset) % (2 * size)
            source = np.where(source < size, source, 2 * size - 1 - source)
            read = np.arange(len(rows)) if mirrored else np.flatnonzero(source == rows + offset)
            counts[abs(offset), read, source[read] - low] += 1.0
        bands.append((slice(low, high), counts))
    return bands


def _band_matrices(kernels: tf.Tensor, counts: np.ndarray) -> tf.Tensor:
    """`[n, rows, rows read]`, of the type of the kernels."""
    flat = tf.matmul(kernels, counts.reshape(len(counts), -1).astype(kernels.dtype.as_numpy_dtype))
    return tf.reshape(flat, [-1, *counts.shape[1:]])


def filter_rows(planes: tf.Tensor, kernels: tf.Tensor, mirrored: bool = True) -> tf.Tensor:
    """Convolves planes over their height with one kernel per example.

    # Arguments
        planes: `[3, n, height, width]`, of known height and width.
        kernels: Half kernels, from the middle outwards: `[n, reach + 1]`, of the same type.
        mirrored: Whether a mirror is beyond the border, or black.
    """
    bands = _bands(planes.shape[2], kernels.shape[1] - 1, mirrored)
    parts = [tf.matmul(_band_matrices(kernels, counts), planes[:, :, rows]) for rows, counts in bands]
    return tf.concat(parts, axis=2)


def filter_columns(planes: tf.Tensor, kernels: tf.Tensor, mirrored: bool = True) -> tf.Tensor:
    """As `filter_rows`, over the width."""
    bands = _bands(planes.shape[3], kernels.shape[1] - 1, mirrored)
    parts = [
        tf.matmul(planes[:, :, :, columns], _band_matrices(kernels, counts), transpose_b=True)
        for columns, counts in bands
    ]
    return tf.concat(parts, axis=3)


def gaussian_blur(planes: tf.Tensor, sigma: tf.Tensor, max_sigma: float) -> tf.Tensor:
    """Blurs planes (see `augment`) of known height and width.

    # Arguments
        planes: Float32 `[3, n, height, width]`.
        sigma: `[n]`, in pixels, at most `max_sigma`.
        max_sigma: Python float; it decides how long the kernels are.
    """
    kernels = blur_kernels(sigma, max_sigma)
    x = tf.floor(filter_rows(planes, kernels) + 0.5)
    return tf.floor(filter_columns(x, kernels) + 0.5)

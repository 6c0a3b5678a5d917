"""Alignment and uniformity of embeddings on the sphere: what contrastive learning strives for, as two numbers."""

import math
from typing import Any

import tensorflow as tf

from larq_ssl.losses.checks import check_same_shape, float32_rows


def alignment(x: tf.Tensor, y: tf.Tensor, alpha: float = 2.0) -> tf.Tensor:
    """How far the two views of an image are from each other.

    \\[ \\ell_{align} = \\| x - y \\|_2^{\\alpha} \\]

    # Arguments
        x: Float tensor `[batch, dim]` of unit rows (`unit_rows`), any float type; computed in float32.
        y: Float tensor of the same shape: the other view of each image.
        alpha: \\( \\alpha \\), positive.
    # Returns
        Float32 tensor `[batch]` in `[0, 2^alpha]`. Equal rows are at 0 and get no gradient.
    # Raises
        TypeError: If an argument is not of a float type.
        ValueError: If the shapes differ or are not `[batch, dim]`, or alpha is not positive.
    # References
        - Understanding Contrastive Representation Learning through Alignment and Uniformity on the Hypersphere
          (Wang and Isola, 2020), Sec. 4.1
    # Differences from the paper
        None.
    """
    check_positive("alpha", alpha)
    x, y = float32_rows("x", x), float32_rows("y", y)
    check_same_shape(x=x, y=y)
    squared = tf.reduce_sum(tf.math.squared_difference(x, y), axis=-1)
    # Below 2, the power of zero has no finite gradient.
    apart = squared > 0
    return tf.where(apart, tf.pow(tf.where(apart, squared, 1.0), alpha / 2), 0.0)


def uniformity(x: tf.Tensor, t: float = 2.0) -> tf.Tensor:
    """How evenly embeddings are spread over the sphere; the lower, the more evenly.

    \\[ \\ell_{uniform} = \\log \\, \\underset{i < j}{\\mathrm{mean}} \\; e^{-t \\| x_i - x_j \\|_2^2} \\]

    # Arguments
        x: Float tensor `[batch, dim]` of unit rows (`unit_rows`), those of all replicas; any float type, computed in
            float32.
        t: \\( t \\), positive.
    # Returns
        Float32 scalar, 0 where all rows are equal; -3.94 for many random rows of 128 dimensions at `t = 2`.
    # Raises
        TypeError: If the rows are not of a float type.
        ValueError: If there are fewer than two rows, or t is not positive.
    # References
        - Wang and Isola (2020), Sec. 4.1
    # Differences from the paper
        As in its released code, pairs are of two different rows.
    """
    check_positive("t", t)
    x = float32_rows("x", x)
    if x.shape[0] is not None and x.shape[0] < 2:
        raise ValueError(f"x must have at least two rows, whose distance counts, got {x.shape[0]}.")
    squares = tf.reduce_sum(tf.square(x), axis=-1)
    exponents = -t * (squares[:, None] + squares[None, :] - 2.0 * tf.matmul(x, x, transpose_b=True))
    exponents = tf.linalg.set_diag(exponents, tf.fill(tf.shape(x)[:1], -math.inf))
    count = tf.cast(tf.shape(x)[0], tf.float32)
    return tf.reduce_logsumexp(exponents) - tf.math.log(count * (count - 1.0))


def mean_uniformity(x: tf.Tensor, y: tf.Tensor, t: float = 2.0) -> tf.Tensor:
    """`uniformity` of each of two views of the same images, averaged.

    # Arguments
        x, y: Float tensors `[batch, dim]` of unit rows, one for each view.
        t: See `uniformity`.
    # Returns
        Float32 scalar.
    """
    return (uniformity(x, t) + uniformity(y, t)) / 2.0


def check_positive(name: str, value: float) -> None:
    """Raises a `ValueError` unless the number is positive and finite."""
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value}.")


@tf.keras.utils.register_keras_serializable(package="larq_ssl")
class Alignment(tf.keras.losses.Loss):
    """`alignment` as a Keras loss: `y_true` and `y_pred` are the unit rows of two views.

    # Arguments
        alpha: See `alignment`.
        reduction: As of any Keras loss.
        name: Name of the loss.
    # Raises
        ValueError: If alpha is not positive.
    """

    def __init__(
        self, alpha: float = 2.0, reduction: str = tf.keras.losses.Reduction.AUTO, name: str = "alignment"
    ) -> None:
        super().__init__(reduction=reduction, name=name)
        check_positive("alpha", alpha)
        self.alpha = alpha

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        return alignment(y_true, y_pred, self.alpha)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "alpha": self.alpha}


@tf.keras.utils.register_keras_serializable(package="larq_ssl")
class Uniformity(tf.keras.losses.Loss):
    """`mean_uniformity` as a Keras loss: `y_true` and `y_pred` are the unit rows of two views.

    # Arguments
        t: See `uniformity`.
        reduction: As of any Keras loss.
        name: Name of the loss.
    # Raises
        ValueError: If t is not positive.
    """

    def __init__(
        self, t: float = 2.0, reduction: str = tf.keras.losses.Reduction.AUTO, name: str = "uniformity"
    ) -> None:
        super().__init__(reduction=reduction, name=name)
        check_positive("t", t)
        self.t = t

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        return mean_uniformity(y_true, y_pred, self.t)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "t": self.t}

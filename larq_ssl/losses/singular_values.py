"""MSBReg's singular value loss: embeddings are spread evenly over the dimensions.

Reconstruction: neither the equations of the paper nor code of its authors could be consulted. It is known that the loss
acts on the singular values of the embeddings, decorrelates the dimensions and makes the density homogeneous; how it
weighs a singular value is not, hence three ways.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import tensorflow as tf

from larq_ssl.losses.checks import float32_rows, rows_of_views
from larq_ssl.losses.unit_rows import unit_rows

SPECTRA = ("sv", "cov", "nuclear")
ROWS = ("image", "view")

OfSigma: TypeAlias = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
"""Of singular values, number of rows and dimension: the loss, and its slope by each singular value."""


def embedding_rows(online: tf.Tensor, views: int, rows: str = "image") -> tf.Tensor:
    """The matrix whose singular values are meant: unit rows, one per image or per view (a reconstruction).

    # Arguments
        online: Float tensor `[views * batch, dim]`, view-major: outputs of the predictor.
        views: Number of views.
        rows: `image`: the mean of the unit rows of the views of an image, of length one again. `view`: all of them.
    # Returns
        Float32 tensor `[batch, dim]` or `[views * batch, dim]`.
    # Raises
        TypeError: If the predictions are not of a float type.
        ValueError: If they are not those of so many views, or `rows` is neither.
    """
    _check("rows", rows, ROWS)
    unit = unit_rows(online)
    if rows == "view":
        return unit
    return unit_rows(tf.reduce_mean(rows_of_views("online", unit, views), axis=0))


def singular_value_loss(rows: tf.Tensor, spectrum: str = "sv") -> tf.Tensor:
    """How far the singular values of unit rows are from those of rows that are uniform on the sphere.

    \\[ \\mathcal{L}_s = \\sum_{j=1}^{d} \\Big( \\sigma_j \\sqrt{d / N} - 1 \\Big)^2 \\]

    \\( \\sigma_j \\) are the singular values of the \\( N \\times d \\) matrix of the rows. The gradient is
    \\( U \\, \\mathrm{diag}(f'(\\sigma)) \\, V^\\top \\) for a loss \\( \\sum_j f(\\sigma_j) \\): also exact where
    singular values are equal, and finite where they are zero. There it is one of many, towards directions that the rows
    do not have yet; that of `cov` is zero there.

    # Arguments
        rows: Float tensor `[N, dim]` of unit rows, those of all replicas, see `embedding_rows`; any float type,
            computed in float32.
        spectrum: `sv`: as above. `cov`: \\( \\sum_j (\\sigma_j^2 d / N - 1)^2 \\), the distance of the second moments
            from the unit matrix. `nuclear`: \\( 1 - \\sum_j \\sigma_j / \\sqrt{N d} \\).
    # Returns
        Float32 scalar: 0 where all singular values are \\( \\sqrt{N / d} \\).
    # Raises
        TypeError: If the rows are not of a float type.
        ValueError: If there are fewer rows than dimensions, which cannot be spread evenly, or the spectrum is unknown.
    # References
        - An Embedding-Dynamic Approach to Self-supervised Learning (Moon et al., 2023): abstract and Figure 1
    # Differences from the paper
        Unknown: a reconstruction, with alternatives.
    """
    _check("spectrum", spectrum, SPECTRA)
    rows = float32_rows("rows", rows)
    too_few = "rows must be at least as many as their dimensions, or they cannot be spread evenly"
    if None not in (rows.shape[0], rows.shape[1]) and rows.shape[0] < rows.shape[1]:
        raise ValueError(f"{too_few}, got {rows.shape[0]} of {rows.shape[1]}.")
    check = tf.debugging.assert_greater_equal(tf.shape(rows)[0], tf.shape(rows)[1], message=f"{too_few}.")
    with tf.control_dependencies([] if check is None else [check]):
        return _with_exact_gradient(_OF_SIGMA[spectrum])(rows)


def _with_exact_gradient(of_sigma: OfSigma) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function of the singular values of a matrix; TensorFlow's own gradient divides by differences of theirs."""

    @tf.custom_gradient
    def value(rows: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        count, dim = (tf.cast(tf.shape(rows)[axis], tf.float32) for axis in range(2))
        sigma, u, v = tf.linalg.svd(rows)
        loss, slope = of_sigma(sigma, count, dim)
        return loss, lambda upstream: upstream * tf.matmul(u * slope, v, transpose_b=True)

    return value


def _sv(sigma: tf.Tensor, count: tf.Tensor, dim: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    scale = tf.sqrt(dim / count)
    excess = scale * sigma - 1.0
    return tf.reduce_sum(tf.square(excess)), 2.0 * scale * excess


def _cov(sigma: tf.Tensor, count: tf.Tensor, dim: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    scale = dim / count
    excess = scale * tf.square(sigma) - 1.0
    return tf.reduce_sum(tf.square(excess)), 4.0 * scale * sigma * excess


def _nuclear(sigma: tf.Tensor, count: tf.Tensor, dim: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    scale = tf.math.rsqrt(count * dim)
    return 1.0 - scale * tf.reduce_sum(sigma), -scale * tf.ones_like(sigma)


_OF_SIGMA: dict[str, OfSigma] = {"sv": _sv, "cov": _cov, "nuclear": _nuclear}


def _check(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}.")


@tf.keras.utils.register_keras_serializable(package="larq_ssl")
class SingularValueLoss(tf.keras.losses.Loss):
    """`singular_value_loss` as a Keras loss: `y_pred` are the predictions, `y_true` is not looked at.

    # Arguments
        views: Number of views in the predictions, which are view-major.
        spectrum: See `singular_value_loss`.
        rows: See `embedding_rows`.
        reduction: As of any Keras loss.
        name: Name of the loss.
    # Raises
        ValueError: If an option is unknown.
    """

    def __init__(
        self,
        views: int = 4,
        spectrum: str = "sv",
        rows: str = "image",
        reduction: str = tf.keras.losses.Reduction.AUTO,
        name: str = "singular_value_loss",
    ) -> None:
        super().__init__(reduction=reduction, name=name)
        check_singular_values(spectrum, rows)
        self.views, self.spectrum, self.rows = views, spectrum, rows

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        return singular_value_loss(embedding_rows(y_pred, self.views, self.rows), self.spectrum)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "views": self.views, "spectrum": self.spectrum, "rows": self.rows}


def check_singular_values(spectrum: str, rows: str) -> None:
    """Raises a `ValueError` unless there are such options."""
    _check("spectrum", spectrum, SPECTRA)
    _check("rows", rows, ROWS)

"""Two of MSBReg's three losses: views are drawn to a centroid and pushed at random. See also `singular_values`.

Reconstruction: neither the equations of the paper nor code of its authors could be consulted. What is here follows from
its abstract, the caption of its Figure 1 and its supplement, and has what these say that it must have: with two views
the centroid loss is BYOL's.
"""

from typing import Any

import tensorflow as tf

from larq_ssl.losses.byol import squared_distance
from larq_ssl.losses.checks import check_same_shape, float32_rows, rows_of_views

CENTROIDS = ("leave_one_out", "all", "centroid_to_centroid")


def centroid_loss(target: tf.Tensor, online: tf.Tensor, views: int, centroid: str = "leave_one_out") -> tf.Tensor:
    """How far the predictions of the views of an image are from the centroid of its targets (a reconstruction).

    \\[ \\mathcal{L}_c = \\frac{1}{K} \\sum_k \\big( 2 - 2 \\langle \\hat q^k, c^{-k} \\rangle \\big), \\quad
       c^{-k} \\propto \\sum_{j \\ne k} \\hat z^j, \\; \\|c^{-k}\\| = 1 \\]

    With two views it is half of `byol_loss`, whichever `centroid` but `all`.

    # Arguments
        target: \\( z \\), float tensor `[views * batch, dim]`, view-major: projections by the momentum network. No
            gradient flows into it.
        online: \\( q \\), float tensor of the same shape: outputs of the predictor.
        views: \\( K \\), at least 2.
        centroid: `leave_one_out`: each view predicts the centroid of the other ones, as above. `all`: of all views, its
            own included. `centroid_to_centroid`: the centroid of the predictions of one half of the views is compared
            with that of the targets of the other half, both ways, and averaged; `views` must be even.
    # Returns
        Float32 tensor `[batch]` in `[0, 4]`.
    # Raises
        TypeError: If an argument is not of a float type.
        ValueError: If the shapes differ or are not those of so many views, or an option is out of its range.
    # References
        - An Embedding-Dynamic Approach to Self-supervised Learning (Moon et al., 2023): abstract, Figure 1, supplement
    # Differences from the paper
        Unknown: a reconstruction. That two views make BYOL is the supplement's Sec. 5; `centroid_to_centroid` is the
        caption of Figure 1 taken literally.
    """
    check_centroid(views, centroid)
    target, online = (rows_of_views(name, rows, views) for name, rows in (("target", target), ("online", online)))
    check_same_shape(target=target, online=online)
    target = tf.stop_gradient(_unit(target))
    if centroid == "centroid_to_centroid":
        target, online = (_means_of_halves(rows, views) for rows in (tf.reverse(target, axis=[0]), _unit(online)))
    else:
        # The sum is as good as the mean: only its direction counts.
        own = target if centroid == "leave_one_out" else tf.zeros_like(target)
        target = tf.reduce_sum(target, axis=0) - own
    return tf.reduce_mean(squared_distance(target, online), axis=0)


def brownian_loss(directions: tf.Tensor, online: tf.Tensor, views: int) -> tf.Tensor:
    """A push of each prediction in a random direction (a reconstruction).

    \\[ \\mathcal{L}_b = \\frac{1}{K} \\sum_k \\langle \\hat q^k, u \\rangle, \\quad u \\sim \\mathrm{U}(S^{d-1}) \\]

    Its mean over the directions is zero; its gradient is a random tangent of the sphere.

    # Arguments
        directions: \\( u \\), float tensor of unit rows: `[batch, dim]`, one for all views of an image, or
            `[views * batch, dim]`, view-major. No gradient flows into it.
        online: \\( q \\), float tensor `[views * batch, dim]`, view-major.
        views: \\( K \\), at least 1.
    # Returns
        Float32 tensor `[batch]` in `[-1, 1]`.
    # Raises
        TypeError: If an argument is not of a float type.
        ValueError: If the shapes do not fit.
    # References
        - An Embedding-Dynamic Approach to Self-supervised Learning (Moon et al., 2023): abstract and Figure 1
    # Differences from the paper
        Unknown: a reconstruction. Whether the views of an image share a direction is not known; by default they do.
    """
    unit = _unit(rows_of_views("online", online, views))
    directions = float32_rows("directions", directions)
    counts = (directions.shape[0], unit.shape[1])
    if None not in counts and counts[0] not in (counts[1], views * counts[1]):
        raise ValueError(
            f"directions must have a row for each of {counts[1]} images or {views * counts[1]} views of them, "
            f"got {counts[0]}."
        )
    directions = tf.reshape(tf.stop_gradient(directions), [-1, tf.shape(unit)[1], tf.shape(unit)[2]])
    return tf.reduce_mean(tf.reduce_sum(unit * directions, axis=-1), axis=0)


def check_centroid(views: int, centroid: str) -> None:
    """Raises a `ValueError` unless there is such a centroid, of so many views."""
    if centroid not in CENTROIDS:
        raise ValueError(f"centroid must be one of {', '.join(CENTROIDS)}, got {centroid!r}.")
    if views < 2:
        raise ValueError(f"views must be at least 2, got {views}.")
    if centroid == "centroid_to_centroid" and views % 2:
        raise ValueError(f"views must be even for centroid_to_centroid, which makes two halves of them, got {views}.")


def _unit(rows: tf.Tensor) -> tf.Tensor:
    return tf.math.l2_normalize(rows, axis=-1, epsilon=1e-12)


def _means_of_halves(rows: tf.Tensor, views: int) -> tf.Tensor:
    """`[views, batch, dim]` as `[2, batch, dim]`."""
    shape = tf.concat([[2, views // 2], tf.shape(rows)[1:]], axis=0)
    return tf.reduce_mean(tf.reshape(rows, shape), axis=1)


@tf.keras.utils.register_keras_serializable(package="larq_ssl")
class CentroidLoss(tf.keras.losses.Loss):
    """`centroid_loss` as a Keras loss: `y_true` are the projections of the momentum network, `y_pred` the predictions.

    # Arguments
        views, centroid: See `centroid_loss`.
        reduction: As of any Keras loss.
        name: Name of the loss.
    # Raises
        ValueError: If an option is out of its range.
    """

    def __init__(
        self,
        views: int = 4,
        centroid: str = "leave_one_out",
        reduction: str = tf.keras.losses.Reduction.AUTO,
        name: str = "centroid_loss",
    ) -> None:
        super().__init__(reduction=reduction, name=name)
        check_centroid(views, centroid)
        self.views, self.centroid = views, centroid

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        return centroid_loss(y_true, y_pred, self.views, self.centroid)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "views": self.views, "centroid": self.centroid}


@tf.keras.utils.register_keras_serializable(package="larq_ssl")
class BrownianLoss(tf.keras.losses.Loss):
    """`brownian_loss` as a Keras loss: `y_true` are the directions, `y_pred` the predictions.

    # Arguments
        views: See `brownian_loss`.
        reduction: As of any Keras loss.
        name: Name of the loss.
    """

    def __init__(
        self, views: int = 4, reduction: str = tf.keras.losses.Reduction.AUTO, name: str = "brownian_loss"
    ) -> None:
        super().__init__(reduction=reduction, name=name)
        self.views = views

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        return brownian_loss(y_true, y_pred, self.views)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "views": self.views}

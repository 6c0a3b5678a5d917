"""The loss of SwAV: a view predicts to which prototypes another view of the same image was assigned."""

import math
from typing import Any

import numpy as np
import tensorflow as tf

from larq_ssl.losses.checks import check_temperature, float32_rows
from larq_ssl.losses.view_pairs import pair_weights, view_pair_cross_entropy


def sinkhorn(scores: tf.Tensor, epsilon: float = 0.05, iterations: int = 3) -> tf.Tensor:
    """Soft assignments of rows to prototypes that use all prototypes about alike.

    \\[ Q = \\mathrm{diag}(u) \\, \\exp(S / \\varepsilon) \\, \\mathrm{diag}(v) \\]

    In each iteration the columns are scaled to a sum of `rows / prototypes`, then the rows to a sum of 1.

    # Arguments
        scores: \\( S \\), float tensor `[rows, prototypes]`, those of all replicas. No gradient flows into it.
        epsilon: \\( \\varepsilon \\), positive; the smaller, the nearer to one prototype per row.
        iterations: Number of iterations, at least 1.
    # Returns
        Float32 tensor `[rows, prototypes]`; rows sum to 1, columns nearly to `rows / prototypes`.
    # Raises
        TypeError: If the scores are not of a float type.
        ValueError: If the scores are no matrix, or a number is out of its range.
    # References
        - Unsupervised Learning of Visual Features by Contrasting Cluster Assignments (Caron et al., 2020), App. A
    # Differences from the paper
        None in value. It is computed in logarithms, so that no score and no epsilon over- or underflows; the released
        code does in float32 beyond `score / epsilon = 88`.
    """
    check_sinkhorn(epsilon, iterations)
    log_q = tf.stop_gradient(float32_rows("scores", scores)) / epsilon
    # A factor that all entries share, like the published division by their sum or by their number, has no effect: the
    # next scaling takes it away.
    for _ in range(iterations):
        log_q -= tf.reduce_logsumexp(log_q, axis=0, keepdims=True)
        log_q -= tf.reduce_logsumexp(log_q, axis=1, keepdims=True)
    return tf.exp(log_q)


def swav_targets(
    target_scores: tf.Tensor,
    views: int = 2,
    epsilon: float = 0.05,
    iterations: int = 3,
    queue_scores: tf.Tensor | None = None,
) -> tf.Tensor:
    """What the other views have to predict: the assignments of each view, made apart from those of the others.

    # Arguments
        target_scores: Float tensor `[views * batch, prototypes]`, view-major. No gradient flows into it.
        views: Number of views that are assigned.
        epsilon, iterations: See `sinkhorn`.
        queue_scores: Float tensor `[views, queue, prototypes]`: scores of earlier images, which are assigned together
            with those of the batch, so that a small batch can use the prototypes alike. `None`: no queue.
    # Returns
        Float32 tensor `[views * batch, prototypes]`; rows sum to 1.
    # References
        - SwAV (Caron et al., 2020), Sec. 3.1 and 3.2
    # Differences from the paper
        None.
    """
    scores = float32_rows("target_scores", target_scores)
    if scores.shape[0] is not None and scores.shape[0] % views:
        raise ValueError(
            f"target_scores must have the same number of rows for each of {views} views, got {scores.shape[0]}."
        )
    batch, targets = tf.shape(scores)[0] // views, []
    for view in range(views):
        rows = scores[view * batch : (view + 1) * batch]
        if queue_scores is not None:
            rows = tf.concat([tf.cast(queue_scores[view], tf.float32), rows], axis=0)
        targets.append(sinkhorn(rows, epsilon, iterations)[-batch:])
    return tf.concat(targets, axis=0)


def swav_cross_entropy(
    target_scores: tf.Tensor,
    scores: tf.Tensor,
    weights: np.ndarray,
    epsilon: float = 0.05,
    iterations: int = 3,
    temperature: float = 0.1,
    queue_scores: tf.Tensor | None = None,
) -> tf.Tensor:
    """Swapped prediction: cross-entropy between the assignment of one view and the softmax of the scores of another.

    # Arguments
        target_scores: Float tensor `[global_views * batch, prototypes]`, view-major: `scores` of the global views. No
            gradient flows into it.
        scores: Float tensor `[views * batch, prototypes]`, view-major, global views first: cosines between embeddings
            and prototypes.
        weights: How much each pair of views counts, see `larq_ssl.losses.view_pairs.pair_weights`.
        epsilon, iterations, queue_scores: See `swav_targets`.
        temperature: Of the softmax, positive.
    # Returns
        Float32 tensor `[batch]`, in nats; `log(prototypes)` if all prototypes are equally near.
    # Raises
        TypeError: If an argument is not of a float type.
        ValueError: If the shapes do not fit, or a number is out of its range.
    # References
        - SwAV (Caron et al., 2020), Eq. 2 and 6
        - SSLight (2022), Eq. 3, for the weights
    # Differences from the paper
        None.
    """
    targets = swav_targets(target_scores, weights.shape[0], epsilon, iterations, queue_scores)
    return view_pair_cross_entropy(targets, scores, temperature, weights)


@tf.keras.utils.register_keras_serializable(package="larq_ssl")
class SwAVCrossEntropy(tf.keras.losses.Loss):
    """`swav_cross_entropy` as a Keras loss: `y_true` are the scores of the global views, `y_pred` those of all views.

    # Arguments
        global_views, local_views, alpha: See `larq_ssl.losses.view_pairs.pair_weights`.
        epsilon, iterations, temperature: See `swav_cross_entropy`.
        reduction: As of any Keras loss.
        name: Name of the loss.
    # Raises
        ValueError: If a number is out of its range.
    """

    def __init__(
        self,
        global_views: int = 2,
        local_views: int = 6,
        alpha: float | None = None,
        epsilon: float = 0.05,
        iterations: int = 3,
        temperature: float = 0.1,
        reduction: str = tf.keras.losses.Reduction.AUTO,
        name: str = "swav_cross_entropy",
    ) -> None:
        super().__init__(reduction=reduction, name=name)
        self.weights = pair_weights(global_views, local_views, alpha)
        check_sinkhorn(epsilon, iterations)
        check_temperature(temperature)
        self.global_views, self.local_views, self.alpha = global_views, local_views, alpha
        self.epsilon, self.iterations, self.temperature = epsilon, iterations, temperature

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        return swav_cross_entropy(y_true, y_pred, self.weights, self.epsilon, self.iterations, self.temperature)

    def get_config(self) -> dict[str, Any]:
        names = ("global_views", "local_views", "alpha", "epsilon", "iterations", "temperature")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def check_sinkhorn(epsilon: float, iterations: int) -> None:
    """Raises a `ValueError` unless epsilon is positive and finite and there is an iteration."""
    if not 0 < epsilon < math.inf:
        raise ValueError(f"epsilon must be positive and finite, got {epsilon}.")
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, got {iterations}.")

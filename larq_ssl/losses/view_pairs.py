"""The cross-entropy between two views of an image, over all the pairs that multi-crop makes."""

import numpy as np
import tensorflow as tf

from larq_ssl.losses.checks import check_temperature, float32_rows


def pair_weights(global_views: int, local_views: int, alpha: float | None = None) -> np.ndarray:
    """How much each pair of a target view and a predicted view counts; all together count 1.

    A target is one of the global views, a prediction is made from any other view: there are
    \\( P_{gg} = N_g (N_g - 1) \\) pairs of two global views and \\( P_{gl} = N_g N_l \\) with a local one.

    # Arguments
        global_views: \\( N_g \\), at least 2.
        local_views: \\( N_l \\); without any, `alpha` has no effect.
        alpha: Share of the global pairs, in `[0, 1]`; the local ones have the rest. `None`: all pairs count alike:
            \\( \\alpha = P_{gg} / (P_{gg} + P_{gl}) \\).
    # Returns
        Float32 array `[global_views, global_views + local_views]`, zero where a view meets itself.
    # Raises
        ValueError: If a number is out of its range.
    # References
        - SSLight (2022), Eq. 3: \\( \\alpha = 0.4 \\)
    # Differences from the paper
        None.
    """
    if global_views < 2 or local_views < 0:
        raise ValueError(f"There must be two global views and no negative number, got {global_views}, {local_views}.")
    if alpha is not None and not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie in [0, 1] or be None, got {alpha}.")
    global_pairs, local_pairs = global_views * (global_views - 1), global_views * local_views
    if alpha is None or not local_views:
        alpha = global_pairs / (global_pairs + local_pairs)
    weights = np.full([global_views, global_views + local_views], (1 - alpha) / max(1, local_pairs))
    weights[:, :global_views] = alpha / global_pairs
    np.fill_diagonal(weights, 0.0)
    return weights.astype(np.float32)


def query_weights(global_views: int, local_views: int, alpha: float | None = None) -> np.ndarray:
    """How much each view but the first counts where the first one is the target of all; together they count 1.

    # Arguments
        global_views, local_views, alpha: See `pair_weights`.
    # Returns
        Float32 array `[global_views + local_views - 1]`, those of the global views first.
    # Raises
        ValueError: If a number is out of its range.
    # References
        - SSLight (2022), Eq. 3, as its code has it for MoCo: \\( P_{gg} = 1, P_{gl} = N_l \\)
    # Differences from the paper
        None: every target has the same share of the pairs of each kind.
    """
    return pair_weights(global_views, local_views, alpha)[0, 1:] * global_views


def view_pair_cross_entropy(
    targets: tf.Tensor, logits: tf.Tensor, temperature: float, weights: np.ndarray
) -> tf.Tensor:
    """Cross-entropy of predicting the distribution of one view of an image from another view of it.

    \\[ \\mathcal{L}_i = -\\sum_{g, v} w_{gv} \\sum_k t_{gik} \\log \\mathrm{softmax}_k(s_{vi} / \\tau) \\]

    # Arguments
        targets: Float tensor `[global_views * batch, classes]`, view-major; rows sum to 1. No gradient flows into it.
        logits: Float tensor `[views * batch, classes]`, view-major, global views first.
        temperature: \\( \\tau \\), positive.
        weights: \\( w \\), see `pair_weights`.
    # Returns
        Float32 tensor `[batch]`, in nats.
    # Raises
        TypeError: If an argument is not of a float type.
        ValueError: If the shapes do not fit, or the temperature is not positive.
    # References
        - SwAV (Caron et al., 2020), Eq. 2; DINO (Caron et al., 2021), Eq. 3; SSLight (2022), Eq. 3
    # Differences from the paper
        None.
    """
    check_temperature(temperature)
    targets = tf.stop_gradient(float32_rows("targets", targets))
    logits = float32_rows("logits", logits)
    global_views, views = weights.shape
    _check_rows(targets, logits, global_views, views)
    # Not -1: the targets of one image would be those of all.
    batch, classes = tf.shape(logits)[0] // views, tf.shape(logits)[-1]
    targets = tf.reshape(targets, [global_views, batch, classes])
    log_predictions = tf.reshape(tf.nn.log_softmax(logits / temperature), [views, batch, classes])
    # One product per view instead of one per pair: the targets of a view are added up first.
    wanted = tf.tensordot(tf.constant(weights.T), targets, axes=1)
    return -tf.reduce_sum(wanted * log_predictions, axis=[0, 2])


def _check_rows(targets: tf.Tensor, logits: tf.Tensor, global_views: int, views: int) -> None:
    images = []
    for name, rows, count in (("targets", targets, global_views), ("logits", logits, views)):
        if rows.shape[0] is not None and rows.shape[0] % count:
            raise ValueError(
                f"{name} must have the same number of rows for each of {count} views, got {rows.shape[0]}."
            )
        images.append(None if rows.shape[0] is None else rows.shape[0] // count)
    if None not in images and images[0] != images[1]:
        raise ValueError(f"targets and logits must be of as many images, got {images[0]} and {images[1]}.")
    if not targets.shape[-1:].is_compatible_with(logits.shape[-1:]):
        raise ValueError(f"targets and logits must have as many classes, got {targets.shape} and {logits.shape}.")

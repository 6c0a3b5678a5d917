"""The loss of BYOL: each of two views predicts what the momentum network makes of the other one."""

import tensorflow as tf

from larq_ssl.losses.checks import check_same_shape, rows_of_views


def byol_loss(target: tf.Tensor, online: tf.Tensor) -> tf.Tensor:
    """How far the predictions of two views are from the target of the other view, both directions added up.

    \\[ \\mathcal{L} = \\| \\hat q_1 - \\hat z_2 \\|^2 + \\| \\hat q_2 - \\hat z_1 \\|^2
       = 4 - 2 \\cos(q_1, z_2) - 2 \\cos(q_2, z_1) \\]

    # Arguments
        target: \\( z \\), float tensor `[2 * batch, dim]`, view-major: projections by the momentum network. No gradient
            flows into it.
        online: \\( q \\), float tensor of the same shape: outputs of the predictor.
    # Returns
        Float32 tensor `[batch]` in `[0, 8]`. A row of zeros is at distance 1 from any other.
    # Raises
        TypeError: If an argument is not of a float type.
        ValueError: If the shapes differ or are not those of two views.
    # References
        - Bootstrap Your Own Latent (Grill et al., 2020), Eq. 2 and Sec. 3.1
    # Differences from the paper
        None.
    """
    target, online = (rows_of_views(name, rows, 2) for name, rows in (("target", target), ("online", online)))
    check_same_shape(target=target, online=online)
    others = tf.stop_gradient(tf.reverse(target, axis=[0]))
    return tf.reduce_sum(squared_distance(others, online), axis=0)


def squared_distance(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Squared distance of unit rows, \\( 2 - 2 \\cos \\).

    # Arguments
        first, second: Float32 tensors `[..., dim]`.
    # Returns
        Float32 tensor `[...]`.
    # References
        - BYOL (released code): lengths are at least 1e-6, so that rows of zeros stay zeros
    """
    units = [tf.math.l2_normalize(rows, axis=-1, epsilon=1e-12) for rows in (first, second)]
    return tf.reduce_sum(tf.math.squared_difference(*units), axis=-1)


@tf.keras.utils.register_keras_serializable(package="larq_ssl")
class BYOLLoss(tf.keras.losses.Loss):
    """`byol_loss` as a Keras loss: `y_true` are the projections of the momentum network, `y_pred` the predictions.

    # Arguments
        reduction: As of any Keras loss.
        name: Name of the loss.
    """

    def __init__(self, reduction: str = tf.keras.losses.Reduction.AUTO, name: str = "byol_loss") -> None:
        super().__init__(reduction=reduction, name=name)

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        return byol_loss(y_true, y_pred)

"""The momentum (EMA) encoder: a copy of a network that follows it slowly."""

import tensorflow as tf

from larq_ssl import distribute


def follow(source: tf.keras.Model, target: tf.keras.Model, momentum: tf.Tensor | float) -> None:
    """Moves a momentum encoder: \\( \\theta_k \\leftarrow m \\theta_k + (1 - m) \\theta_q \\).

    Latent real-valued kernels are averaged, also of binary layers. Only parameters follow; each network keeps
    its own BatchNormalization statistics.

    # Arguments
        source: The network that is trained.
        target: Its momentum encoder, of the same architecture.
        momentum: \\(m\\) in `[0, 1]`.
    # References
        - MoCo v2; larq_ssl follows the published code in leaving BatchNormalization statistics out
    """
    momentum = tf.cast(momentum, tf.float32)
    distribute.update_variables(
        target.trainable_variables,
        source.trainable_variables,
        lambda variable, value: variable.assign_add((1.0 - momentum) * (tf.convert_to_tensor(value) - variable)),
    )

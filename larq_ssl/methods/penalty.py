"""Weight decay as a part of the loss, for what an optimizer does not decay itself."""

import tensorflow as tf

from larq_ssl.roles import Role, variable_roles


def kernel_penalty(network: tf.keras.Model, weight_decay: float) -> tf.Tensor:
    """Half the weight decay times the squared kernels of a network: \\( \\frac{\\lambda}{2} \\|W\\|^2 \\).

    # Arguments
        network: Such as a linear classifier, which SimCLR's optimizer leaves out. Biases do not count.
        weight_decay: \\( \\lambda \\).
    # Returns
        Float32 scalar; zero, and without gradient, if nothing is decayed.
    """
    if not weight_decay:
        return tf.zeros([])
    squares = [tf.nn.l2_loss(variable) for variable, role in variable_roles(network) if role is not Role.BIAS]
    return weight_decay * tf.add_n(squares)

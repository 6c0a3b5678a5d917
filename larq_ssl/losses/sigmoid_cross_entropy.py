"""Cross-entropy of a sigmoid per class: for images that may show several things at once."""

import tensorflow as tf

from larq_ssl.losses.checks import check_same_shape, float32_rows


def sigmoid_cross_entropy(presence: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Mean over the classes of the cross-entropy between a sigmoid of each logit and whether its class is there.

    \\[ \\mathcal{L}(y, z) = -\\frac{1}{|K|} \\sum_{c \\in K} y_c \\log \\sigma(z_c)
       + (1 - y_c) \\log (1 - \\sigma(z_c)), \\quad K = \\{c : y_c \\ge 0\\}, \\qquad
       \\mathcal{L}(y, z) = 0 \\; \\text{if} \\; K = \\emptyset \\]

    A class that is marked as difficult (-1) takes no part: its logit gets no gradient.

    # Arguments
        presence: \\( y \\), integers or floats `[batch, classes]`: 1 where the class is in the image, 0 where it is
            not, -1 where neither is known.
        logits: \\( z \\), float tensor of the same shape, any float type; computed in float32.
    # Returns
        Float32 tensor `[batch]`, in nats.
    # Raises
        TypeError: If the logits are not of a float type.
        ValueError: If they are not `[batch, classes]`, or the shapes differ.
    # References
        - S2-BNN (Shen et al., 2021), Sec. 4, transfer to VOC2007
    # Differences from the paper
        It does not say whether losses of classes are added or averaged, nor what becomes of difficult objects.
    """
    logits = float32_rows("logits", logits)
    presence = tf.cast(presence, tf.float32)
    check_same_shape(presence=presence, logits=logits)
    known = presence >= 0
    each = tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.maximum(presence, 0.0), logits=logits)
    count = tf.math.count_nonzero(known, axis=-1, dtype=tf.float32)
    return tf.math.divide_no_nan(tf.reduce_sum(tf.where(known, each, 0.0), axis=-1), count)


@tf.keras.utils.register_keras_serializable(package="larq_ssl")
class SigmoidCrossEntropy(tf.keras.losses.Loss):
    """`sigmoid_cross_entropy` as a Keras loss: `y_true` is the presence, `y_pred` the logits.

    # Arguments
        reduction: As of any Keras loss.
        name: Name of the loss.
    """

    def __init__(self, reduction: str = tf.keras.losses.Reduction.AUTO, name: str = "sigmoid_cross_entropy") -> None:
        super().__init__(reduction=reduction, name=name)

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        return sigmoid_cross_entropy(y_true, y_pred)

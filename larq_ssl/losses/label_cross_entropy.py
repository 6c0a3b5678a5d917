"""Cross-entropy with the labels of a batch in which not every image has one."""

from typing import Any

import tensorflow as tf

from larq_ssl.losses.checks import float32_rows


def label_cross_entropy(labels: tf.Tensor, logits: tf.Tensor, smoothing: float = 0.0) -> tf.Tensor:
    """Cross-entropy of the softmax of logits with labels; zero, and without gradient, where there is no label.

    \\[ \\mathcal{L}(y, z) = -(1 - \\epsilon) \\log q_y - \\frac{\\epsilon}{C} \\sum_c \\log q_c, \\quad
       q = \\mathrm{softmax}(z), \\qquad \\mathcal{L}(-1, z) = 0 \\]

    # Arguments
        labels: Integer tensor `[batch]` in `0..classes - 1`, or -1: no label.
        logits: Float tensor `[batch, classes]`, any float type; computed in float32.
        smoothing: \\( \\epsilon \\), the share of the target that all classes have alike.
    # Returns
        Float32 tensor `[batch]`, in nats.
    # Raises
        TypeError: If the logits are not of a float type.
        ValueError: If the logits are not `[batch, classes]`, or the smoothing is not in `[0, 1)`.
    # References
        - Rethinking the Inception Architecture for Computer Vision (Szegedy et al., 2016), Sec. 7
    """
    check_smoothing(smoothing)
    logits = float32_rows("logits", logits)
    labels = tf.convert_to_tensor(labels)
    # Not a row of zeros as target: its gradient would not be zero.
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=tf.maximum(labels, 0), logits=logits)
    if smoothing:
        loss = (1 - smoothing) * loss - smoothing * tf.reduce_mean(tf.nn.log_softmax(logits), axis=-1)
    return tf.where(labels >= 0, loss, 0.0)


def check_smoothing(smoothing: float) -> None:
    """Raises a `ValueError` unless the smoothing is in `[0, 1)`."""
    if not 0 <= smoothing < 1:
        raise ValueError(f"smoothing of labels must be at least 0 and less than 1, got {smoothing}.")


@tf.keras.utils.register_keras_serializable(package="larq_ssl")
class LabelCrossEntropy(tf.keras.losses.Loss):
    """`label_cross_entropy` as a Keras loss: `y_true` are the labels, `y_pred` the logits.

    # Arguments
        smoothing: Share of the target that all classes have alike.
        reduction: As of any Keras loss.
        name: Name of the loss.
    # Raises
        ValueError: If the smoothing is not in `[0, 1)`.
    """

    def __init__(
        self,
        smoothing: float = 0.0,
        reduction: str = tf.keras.losses.Reduction.AUTO,
        name: str = "label_cross_entropy",
    ) -> None:
        super().__init__(reduction=reduction, name=name)
        check_smoothing(smoothing)
        self.smoothing = smoothing

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        return label_cross_entropy(y_true, y_pred, self.smoothing)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "smoothing": self.smoothing}

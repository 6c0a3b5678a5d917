"""The loss of DINO: the student's softmax follows the centred and sharpened one of the momentum network."""

from typing import Any

import numpy as np
import tensorflow as tf

from larq_ssl.losses.checks import float32_rows
from larq_ssl.losses.view_pairs import pair_weights, view_pair_cross_entropy


def dino_targets(teacher_logits: tf.Tensor, center: tf.Tensor, temperature: tf.Tensor | float) -> tf.Tensor:
    """What the student has to predict.

    \\[ t = \\mathrm{softmax}\\big((z - c) / \\tau_t\\big) \\]

    # Arguments
        teacher_logits: \\( z \\), float tensor `[rows, classes]`, of the momentum network. No gradient flows into it.
        center: \\( c \\), float tensor `[classes]`: the moving average of the logits, which keeps one class from taking
            all.
        temperature: \\( \\tau_t \\), positive; below the student's, which keeps the classes from becoming equally
            likely.
    # Returns
        Float32 tensor `[rows, classes]`; rows sum to 1.
    # References
        - Emerging Properties in Self-Supervised Vision Transformers (Caron et al., 2021), Sec. 3.1
    # Differences from the paper
        None.
    """
    logits = float32_rows("teacher_logits", teacher_logits)
    return tf.stop_gradient(tf.nn.softmax((logits - tf.cast(center, tf.float32)) / temperature))


def dino_cross_entropy(
    teacher_logits: tf.Tensor,
    student_logits: tf.Tensor,
    center: tf.Tensor,
    weights: np.ndarray,
    teacher_temperature: tf.Tensor | float = 0.04,
    student_temperature: float = 0.1,
) -> tf.Tensor:
    """Cross-entropy between the momentum network on a global view and the student on another view.

    # Arguments
        teacher_logits: Float tensor `[global_views * batch, classes]`, view-major. No gradient flows into it.
        student_logits: Float tensor `[views * batch, classes]`, view-major, global views first.
        center: Float tensor `[classes]`, see `dino_targets`.
        weights: How much each pair of views counts, see `larq_ssl.losses.view_pairs.pair_weights`.
        teacher_temperature, student_temperature: Of the two softmaxes, positive.
    # Returns
        Float32 tensor `[batch]`, in nats; `log(classes)` if both networks are undecided.
    # Raises
        TypeError: If an argument is not of a float type.
        ValueError: If the shapes do not fit, or the student's temperature is not positive.
    # References
        - Emerging Properties in Self-Supervised Vision Transformers (Caron et al., 2021), Eq. 3
        - SSLight (2022), Eq. 3, for the weights
    # Differences from the paper
        None.
    """
    targets = dino_targets(teacher_logits, center, teacher_temperature)
    return view_pair_cross_entropy(targets, student_logits, student_temperature, weights)


@tf.keras.utils.register_keras_serializable(package="larq_ssl")
class DINOCrossEntropy(tf.keras.losses.Loss):
    """`dino_cross_entropy` as a Keras loss: `y_true` is `(teacher_logits, center)`, `y_pred` the student's logits.

    # Arguments
        global_views, local_views, alpha: See `larq_ssl.losses.view_pairs.pair_weights`.
        teacher_temperature, student_temperature: See `dino_cross_entropy`.
        reduction: As of any Keras loss.
        name: Name of the loss.
    # Raises
        ValueError: If a number is out of its range.
    """

    def __init__(
        self,
        global_views: int = 2,
        local_views: int = 8,
        alpha: float | None = None,
        teacher_temperature: float = 0.04,
        student_temperature: float = 0.1,
        reduction: str = tf.keras.losses.Reduction.AUTO,
        name: str = "dino_cross_entropy",
    ) -> None:
        super().__init__(reduction=reduction, name=name)
        self.weights = pair_weights(global_views, local_views, alpha)
        self.global_views, self.local_views, self.alpha = global_views, local_views, alpha
        self.teacher_temperature, self.student_temperature = teacher_temperature, student_temperature

    def call(self, y_true: tuple[tf.Tensor, tf.Tensor], y_pred: tf.Tensor) -> tf.Tensor:
        teacher_logits, center = y_true
        return dino_cross_entropy(
            teacher_logits, y_pred, center, self.weights, self.teacher_temperature, self.student_temperature
        )

    def get_config(self) -> dict[str, Any]:
        names = ("global_views", "local_views", "alpha", "teacher_temperature", "student_temperature")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

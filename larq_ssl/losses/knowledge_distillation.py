"""Knowledge distillation: a student learns the probabilities of a fixed teacher, and labels where there are some."""

from typing import Any

import tensorflow as tf

from larq_ssl.losses.checks import check_same_shape, check_temperature, float32_rows
from larq_ssl.losses.distillation import distillation_cross_entropy
from larq_ssl.losses.label_cross_entropy import label_cross_entropy


def knowledge_distillation(
    teacher_logits: tf.Tensor,
    student_logits: tf.Tensor,
    labels: tf.Tensor | None = None,
    temperature: float = 1.0,
    alpha: float = 1.0,
) -> tf.Tensor:
    """Cross-entropy with the teacher's probabilities, on all images, and with the labels of those that have one.

    \\[ \\mathcal{L}(t, s, y) = -(1 - \\alpha) \\, [y \\ge 0] \\, \\log \\mathrm{softmax}(s)_y
       - \\alpha \\sum_c \\mathrm{softmax}(t / \\tau)_c \\log \\mathrm{softmax}(s / \\tau)_c \\]

    The first term is not tempered, and an image without a label (-1) lacks it: the mean over a batch is the sum of
    Eq. 3 over the number of all images, so few labels weigh little. With \\( \\alpha = 1 \\), the default, there is the
    second term alone (Eq. 2): no label is used.

    Among the losses of this package, the second term is `distillation_cross_entropy`, here of logits of classes, in
    S2-BNN of embeddings. Less the entropy of its target it is `joint_classifier_kl` with the teacher's side fixed: the
    gradients of the student are the same. With \\( \\tau = 1, \\alpha = 1 \\) this is ReActNet's distributional loss.

    # Arguments
        teacher_logits: Float tensor `[batch, classes]`, any float type; computed in float32. No gradient flows into it.
        student_logits: Float tensor of the same shape.
        labels: Integer tensor `[batch]` in `0..classes - 1`, -1 for none; not looked at with `alpha=1`.
        temperature: \\( \\tau \\), positive.
        alpha: \\( \\alpha \\), the weight of the teacher.
    # Returns
        Float32 tensor `[batch]`, in nats.
    # Raises
        TypeError: If logits are not of a float type.
        ValueError: If the shapes differ or are not `[batch, classes]`, a number is out of its range, or labels are
            missing that are needed.
    # References
        - Big Self-Supervised Models are Strong Semi-Supervised Learners (Chen et al., 2020), Eq. 2 and 3
        - ReActNet (Liu et al., 2020), Sec. 4.3
        - Distilling the Knowledge in a Neural Network (Hinton et al., 2015)
    # Differences from the paper
        None. SimCLRv2's released notebook multiplies Eq. 2 by \\( \\tau^2 \\), the paper does not.
    """
    check_temperature(temperature)
    check_alpha(alpha)
    teacher_logits = float32_rows("teacher_logits", teacher_logits)
    student_logits = float32_rows("student_logits", student_logits)
    check_same_shape(teacher_logits=teacher_logits, student_logits=student_logits)
    soft = distillation_cross_entropy(teacher_logits, student_logits, temperature)
    if alpha == 1:
        return soft
    if labels is None:
        raise ValueError(f"labels must be given with alpha below 1, got None and {alpha}.")
    return (1 - alpha) * label_cross_entropy(labels, student_logits) + alpha * soft


def check_alpha(alpha: float) -> None:
    """Raises a `ValueError` unless the weight of the teacher is in `[0, 1]`."""
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be at least 0 and at most 1, got {alpha}.")


@tf.keras.utils.register_keras_serializable(package="larq_ssl")
class KnowledgeDistillation(tf.keras.losses.Loss):
    """`knowledge_distillation` as a Keras loss: `y_true` is the pair `(teacher's logits, labels)`, `y_pred` the logits.

    # Arguments
        temperature: Divides the logits of teacher and student, positive.
        alpha: Weight of the teacher.
        reduction: As of any Keras loss.
        name: Name of the loss.
    # Raises
        ValueError: If a number is out of its range.
    """

    def __init__(
        self,
        temperature: float = 1.0,
        alpha: float = 1.0,
        reduction: str = tf.keras.losses.Reduction.AUTO,
        name: str = "knowledge_distillation",
    ) -> None:
        super().__init__(reduction=reduction, name=name)
        check_temperature(temperature)
        check_alpha(alpha)
        self.temperature, self.alpha = temperature, alpha

    def call(self, y_true: tuple[tf.Tensor, tf.Tensor], y_pred: tf.Tensor) -> tf.Tensor:
        teacher_logits, labels = y_true
        return knowledge_distillation(teacher_logits, y_pred, labels, self.temperature, self.alpha)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature, "alpha": self.alpha}

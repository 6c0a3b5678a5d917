"""Distillation without classes: the student's softmax over the embedding follows the teacher's."""

from typing import Any

import tensorflow as tf

from larq_ssl.losses.checks import check_same_shape, check_temperature, float32_rows


def distillation_cross_entropy(
    teacher_embedding: tf.Tensor, student_embedding: tf.Tensor, temperature: float = 0.2
) -> tf.Tensor:
    """Cross-entropy between the softmaxes of teacher and student over the dimensions of their embeddings.

    \\[ \\mathcal{L}(t, s) = -\\sum_d p_d \\log q_d, \\quad
       p = \\mathrm{softmax}(t / \\tau), \\; q = \\mathrm{softmax}(s / \\tau) \\]

    It is smallest where both are equal, and then not zero but the entropy of the target. Unit rows of 128
    dimensions at temperature 0.2 make nearly uniform targets, of an entropy of about 4.75 \\( (\\ln 128 = 4.85) \\),
    so the loss hardly moves in a whole training. What tells progress is the rest, the divergence
    \\( D_{KL}(p \\,\\|\\, q) = \\mathcal{L} - H(p) \\).

    # Arguments
        teacher_embedding: Float tensor `[batch, dim]` of unit rows (`unit_rows`), any float type; computed
            in float32. No gradient flows into it.
        student_embedding: Float tensor of the same shape, likewise of unit rows.
        temperature: \\( \\tau \\), positive.
    # Returns
        Float32 tensor `[batch]`, in nats.
    # Raises
        TypeError: If an argument is not of a float type.
        ValueError: If the shapes differ or are not `[batch, dim]`, or the temperature is not positive.
    # References
        - S2-BNN (Shen et al., 2021), Sec. 5.2, Eq. 3
    # Differences from the paper
        Eq. 2 and 3 divide the probabilities by the temperature; the released code divides the logits, as
        here.
    """
    check_temperature(temperature)
    teacher_embedding = float32_rows("teacher_embedding", teacher_embedding)
    student_embedding = float32_rows("student_embedding", student_embedding)
    check_same_shape(teacher_embedding=teacher_embedding, student_embedding=student_embedding)
    target = tf.stop_gradient(tf.nn.softmax(teacher_embedding / temperature))
    return tf.nn.softmax_cross_entropy_with_logits(labels=target, logits=student_embedding / temperature)


@tf.keras.utils.register_keras_serializable(package="larq_ssl")
class DistillationCrossEntropy(tf.keras.losses.Loss):
    """`distillation_cross_entropy` as a Keras loss: `y_true` is the teacher's embedding, `y_pred` the student's.

    # Arguments
        temperature: What both embeddings are divided by, positive.
        reduction: As of any Keras loss.
        name: Name of the loss.
    # Raises
        ValueError: If the temperature is not positive.
    """

    def __init__(
        self,
        temperature: float = 0.2,
        reduction: str = tf.keras.losses.Reduction.AUTO,
        name: str = "distillation_cross_entropy",
    ) -> None:
        super().__init__(reduction=reduction, name=name)
        check_temperature(temperature)
        self.temperature = temperature

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        return distillation_cross_entropy(y_true, y_pred, self.temperature)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature}

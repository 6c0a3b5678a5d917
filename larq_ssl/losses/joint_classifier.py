"""The joint classifier's divergence: how far the student's class probabilities are from the teacher's."""

from typing import Any

import tensorflow as tf

from larq_ssl.losses.checks import check_same_shape, check_temperature, float32_rows


def joint_classifier_kl(teacher_logits: tf.Tensor, student_logits: tf.Tensor, temperature: float = 0.2) -> tf.Tensor:
    """Kullback-Leibler divergence of the student's class probabilities from the teacher's.

    \\[ \\mathcal{L}_{KL}(t, s) = \\sum_c p_c \\, (\\log p_c - \\log q_c), \\quad
       p = \\mathrm{softmax}(t / T), \\; q = \\mathrm{softmax}(s / T) \\]

    There is no factor \\( T^2 \\). **The gradient flows into both arguments**: in BSSL the teacher's
    classifier is trained jointly with the student. A caller that wants a fixed target stops it there.

    With both sides trainable, two constant classifiers are an optimum: watch the target's entropy.

    # Arguments
        teacher_logits: Float tensor `[batch, classes]`, any float type; computed in float32.
        student_logits: Float tensor of the same shape.
        temperature: What both logits are divided by, positive.
    # Returns
        Float32 tensor `[batch]`, in nats, not negative (up to rounding).
    # Raises
        TypeError: If an argument is not of a float type.
        ValueError: If the shapes differ or are not `[batch, classes]`, or the temperature is not positive.
    # References
        - BSSL, Sec. 3.1, Eq. 1; the temperature is that of the released code.
    # Differences from the paper
        Algorithm 1 (line 22) writes the divergence with the roles exchanged; this is Eq. 1, as in the
        released code. The paper names no temperature.
    """
    check_temperature(temperature)
    teacher_logits = float32_rows("teacher_logits", teacher_logits)
    student_logits = float32_rows("student_logits", student_logits)
    check_same_shape(teacher_logits=teacher_logits, student_logits=student_logits)
    teacher_log = tf.nn.log_softmax(teacher_logits / temperature)
    student_log = tf.nn.log_softmax(student_logits / temperature)
    return tf.reduce_sum(tf.exp(teacher_log) * (teacher_log - student_log), axis=-1)


@tf.keras.utils.register_keras_serializable(package="larq_ssl")
class JointClassifierKL(tf.keras.losses.Loss):
    """`joint_classifier_kl` as a Keras loss: `y_true` are the teacher's logits, `y_pred` the student's.

    # Arguments
        temperature: What both logits are divided by, positive.
        reduction: As of any Keras loss.
        name: Name of the loss.
    # Raises
        ValueError: If the temperature is not positive.
    """

    def __init__(
        self,
        temperature: float = 0.2,
        reduction: str = tf.keras.losses.Reduction.AUTO,
        name: str = "joint_classifier_kl",
    ) -> None:
        super().__init__(reduction=reduction, name=name)
        check_temperature(temperature)
        self.temperature = temperature

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        return joint_classifier_kl(y_true, y_pred, self.temperature)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature}

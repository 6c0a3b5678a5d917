"""How far the student's features are from the teacher's."""

from typing import Any

import tensorflow as tf

from larq_ssl.losses.checks import check_same_shape, float32_rows
from larq_ssl.losses.unit_rows import unit_rows

DISTANCES = ("cosine", "l1", "l2")


def feature_similarity(teacher_features: tf.Tensor, student_features: tf.Tensor, distance: str = "cosine") -> tf.Tensor:
    """Distance between teacher and student features.

    \\[ \\mathcal{L}_{FS}(t, s) = 1 - \\frac{\\langle t, s \\rangle}{\\|t\\|_2 \\|s\\|_2} \\]

    or, for the ablations, \\( \\sum_i |t_i - s_i| \\) (`l1`) and \\( \\sum_i (t_i - s_i)^2 \\) (`l2`),
    which depend on the length of the features and are not averaged over their dimension.

    # Arguments
        teacher_features: Float tensor `[batch, dim]`, any float type; computed in float32. No gradient
            flows into it.
        student_features: Float tensor of the same shape.
        distance: `cosine`, `l1` or `l2`.
    # Returns
        Float32 tensor `[batch]`; `cosine` is in `[0, 2]`. A row of zeros has cosine distance 1 and no
        gradient.
    # Raises
        TypeError: If an argument is not of a float type.
        ValueError: If the shapes differ or are not `[batch, dim]`, or the distance is unknown.
    # References
        - BSSL, Sec. 3.2, Eq. 2; the ablation of the distance is its Table 6.
    # Differences from the paper
        None for the paper. The released code squares the difference of the unit vectors, which is twice
        this distance.
    """
    _check_distance(distance)
    teacher_features = tf.stop_gradient(float32_rows("teacher_features", teacher_features))
    student_features = float32_rows("student_features", student_features)
    check_same_shape(teacher_features=teacher_features, student_features=student_features)
    if distance == "cosine":
        return 1.0 - tf.reduce_sum(unit_rows(teacher_features) * unit_rows(student_features), axis=-1)
    difference = student_features - teacher_features
    return tf.reduce_sum(tf.abs(difference) if distance == "l1" else tf.square(difference), axis=-1)


@tf.keras.utils.register_keras_serializable(package="larq_ssl")
class FeatureSimilarity(tf.keras.losses.Loss):
    """`feature_similarity` as a Keras loss: `y_true` are the teacher's features, `y_pred` the student's.

    # Arguments
        distance: `cosine`, `l1` or `l2`.
        reduction: As of any Keras loss.
        name: Name of the loss.
    # Raises
        ValueError: If the distance is unknown.
    """

    def __init__(
        self,
        distance: str = "cosine",
        reduction: str = tf.keras.losses.Reduction.AUTO,
        name: str = "feature_similarity",
    ) -> None:
        super().__init__(reduction=reduction, name=name)
        _check_distance(distance)
        self.distance = distance

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        return feature_similarity(y_true, y_pred, self.distance)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "distance": self.distance}


def _check_distance(distance: str) -> None:
    if distance not in DISTANCES:
        raise ValueError(f"distance must be one of {', '.join(DISTANCES)}, got {distance!r}.")

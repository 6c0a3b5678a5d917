"""The flag of the linear classifier that is trained beside a method, for the commands that have one."""

import tensorflow as tf
from absl import flags

from larq_ssl.data.datasets import ImageDataset
from larq_ssl.heads import mlp_head
from larq_ssl.roles import Role

FLAGS = flags.FLAGS

flags.DEFINE_bool(
    "joint_probe",
    False,
    "Train a linear classifier beside the method, on features that it leaves alone, and show its accuracy.",
)


def linear_probe(dim: int, data: ImageDataset, role: Role = Role.KERNEL) -> tf.keras.Sequential | None:
    """The classifier for the classes of the images, if it is wanted.

    # Arguments
        dim: Length of the features.
        data: Images with labels.
        role: What its kernel is for the optimizer.
    # Raises
        ValueError: If it is wanted and the images have no labels.
    """
    if not FLAGS.joint_probe:
        return None
    if not data.classes:
        raise ValueError("--joint_probe needs labels, which these images do not have.")
    return mlp_head(
        "linear_probe",
        dim,
        (),
        data.class_count(),
        norm="none",
        kernel_initializer="normal_0.01",
        output_role=role.value,
    )

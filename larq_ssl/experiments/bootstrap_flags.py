"""The flags that BYOL and MSBReg share, and the networks that they describe."""

import tensorflow as tf
from absl import flags

from larq_ssl import schedules
from larq_ssl.experiments import stages, training_data
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.heads import byol_head
from larq_ssl.heads.spec import NORMS

FLAGS = flags.FLAGS

flags.DEFINE_integer("hidden_dim", 4096, "Hidden units of projector and predictor.", 1)
flags.DEFINE_integer("embedding_dim", 256, "Length of an embedding.", 2)
flags.DEFINE_enum(
    "head_norm",
    "batch",
    NORMS,
    "Of the hidden layers of projector and predictor; weight: their kernels are standardised instead.",
)
flags.DEFINE_float(
    "momentum",
    0.99,
    "Of the momentum network at the start; a cosine takes it to 1. BYOL's: 0.97 for 40 epochs, 0.99 for 100 and 300, "
    "0.996 for 1,000.",
    0,
    1,
)


def momentum(data: training_data.Data) -> schedules.WarmupCosine:
    """The momentum by the step."""
    return schedules.WarmupCosine(FLAGS.momentum, 1.0, data.total_steps)


def networks(before: RunFolder | None) -> dict[str, tf.keras.Model]:
    """The networks of a `Bootstrap` by their names, as the flags (and stage 1) describe them."""
    student, momentum_encoder = (stages.student(before) for _ in range(2))
    inputs = {
        "student_head": student.feature_dim,
        "predictor": FLAGS.embedding_dim,
        "momentum_head": student.feature_dim,
    }
    heads = {
        name: byol_head(name, dim, FLAGS.hidden_dim, FLAGS.embedding_dim, FLAGS.head_norm, stages.synchronized())
        for name, dim in inputs.items()
    }
    return {"student": student, "momentum_encoder": momentum_encoder, **heads}

"""The flags of momentum contrast and its projection heads, for the commands that train with it."""

from typing import Any

import tensorflow as tf
from absl import flags

from larq_ssl import models
from larq_ssl.experiments import stages
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.heads import mlp_head
from larq_ssl.queue import KeyQueue

FLAGS = flags.FLAGS

DEFAULTS = {"queue_size": 65536, "momentum": 0.999, "batch_norm_groups": 1}
"""Of the flags that only a contrastive loss has a use for; a command sets them where it has one."""

flags.DEFINE_integer("queue_size", None, "Number of keys; well below the number of images.", 1)
flags.DEFINE_float("momentum", None, "Of the momentum encoder.", 0, 1)
flags.DEFINE_integer("batch_norm_groups", None, "BatchNorm groups per replica, with shuffled keys if several.", 1)
flags.DEFINE_float("temperature", 0.2, "Of the softmax.", 1e-6)
flags.DEFINE_integer("embedding_dim", 128, "Outputs of the projection head.", 1)
flags.DEFINE_integer("hidden_dim", None, "Hidden units of the projection head; by default as many as features.", 1)


def arguments() -> dict[str, Any]:
    """Arguments of `MomentumContrast`, as the flags say."""
    return {**{name: FLAGS[name].value for name in DEFAULTS}, "seed": FLAGS.seed}


def networks(
    before: RunFolder | None, *heads: str, kernel_initializer: str = "pytorch"
) -> list[tuple[models.Encoder, tf.keras.Sequential]]:
    """An encoder and a projection head for each name of a head, as the flags (and stage 1) describe them."""
    encoders = [stages.student(before) for _ in heads]
    dim = encoders[0].feature_dim
    made = [
        mlp_head(
            name,
            dim,
            [FLAGS.hidden_dim or dim],
            FLAGS.embedding_dim,
            norm="none",
            kernel_initializer=kernel_initializer,
        )
        for name in heads
    ]
    return list(zip(encoders, made, strict=True))


def check_batches() -> None:
    """Raises a `ValueError` unless batches fill the queue evenly and can be cut into groups."""
    if FLAGS.queue_size % FLAGS.batch_size:
        raise ValueError(f"--queue_size must be a multiple of --batch_size={FLAGS.batch_size}, got {FLAGS.queue_size}.")
    if FLAGS.batch_size % FLAGS.batch_norm_groups:
        raise ValueError(
            f"--batch_norm_groups must divide --batch_size={FLAGS.batch_size}, got {FLAGS.batch_norm_groups}."
        )


def check_images(count: int) -> None:
    """Raises a `ValueError` if the queue is as long as the data."""
    if FLAGS.queue_size >= count:
        raise ValueError(
            f"--queue_size must be well below the number of images ({count}), or the queue is full of the query's own "
            f"image; got {FLAGS.queue_size}."
        )


def check_queue(queue: KeyQueue) -> None:
    """Raises a `ValueError` if a queue of another run goes on where no batch of this one can."""
    place = int(queue.pointer.numpy())
    if place % FLAGS.batch_size:
        raise ValueError(
            f"--batch_size must divide the place at which the queue of stage 1 stopped ({place}), "
            f"got {FLAGS.batch_size}."
        )

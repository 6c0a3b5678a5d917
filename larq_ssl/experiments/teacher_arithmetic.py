"""What a frozen float teacher is computed in: tried on a run's first batch, once."""

import dataclasses
import pathlib
from collections.abc import Callable

import tensorflow as tf
from absl import flags

from larq_ssl.experiments import common
from larq_ssl.experiments.arithmetic import PLAIN, SMALL, TEACHER
from larq_ssl.experiments.workers import Workers
from larq_ssl.methods.base import Batch, SelfSupervisedModel
from larq_ssl.models import Encoder
from larq_ssl.models.binary_compute import WORTH, times_as_fast
from larq_ssl.models.folder import load_encoder, read_spec

FLAGS = flags.FLAGS

_IMAGES, _TURNS = 8, 5
"""How many images each arithmetic is timed with, and how often."""
_WITHIN = 1e-3
"""By how much of its size the loss may change."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """What the trial found.

    # Attributes
        ratio: How many times as fast as in float32 the teacher is in bfloat16.
        change: By how much of its size that changes the loss; `None` if it is not faster.
    """

    ratio: float
    change: float | None

    @property
    def compute(self) -> str:
        return SMALL if self.change is not None and self.change <= _WITHIN else PLAIN

    def __str__(self) -> str:
        moved = "" if self.change is None else f", and changes the loss of the first batch by {self.change:.1e} of it"
        return (
            f"The teacher computes in {self.compute}: in bfloat16 it takes {1 / self.ratio:.2f} times as long as in "
            f"float32 on this hardware{moved} (--teacher_compute=float32|bfloat16 spares the trial)."
        )


def load(encoder_folder: pathlib.Path) -> Encoder:
    """The teacher in the arithmetic of `--teacher_compute`, where `auto` stands for float32 until it is settled.

    Weights, and what it gives, are float32 in any case.

    # Raises
        ValueError: If bfloat16 is asked for and the teacher is binary, or everything else is not in float32.
    """
    if FLAGS.teacher_compute != "bfloat16":
        return load_encoder(encoder_folder)
    if not can_be_bfloat16(encoder_folder):
        raise ValueError(
            "--teacher_compute=bfloat16 is for float teachers and --precision=float32: the signs of a binary one would "
            f"be others. Leave it out for {encoder_folder} and --precision={FLAGS.precision}."
        )
    before = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        return load_encoder(encoder_folder)
    finally:
        tf.keras.mixed_precision.set_global_policy(before)


def can_be_bfloat16(encoder_folder: pathlib.Path) -> bool:
    """Whether `load` can give a teacher in bfloat16."""
    return FLAGS.precision == "float32" and read_spec(encoder_folder).binarization == "none"


def settle(crew: Workers, folder: pathlib.Path | None, method: SelfSupervisedModel, batch: Batch) -> dict[str, str]:
    """Gives `--teacher_compute=auto` of a new run its final value, and the method its teacher in that arithmetic.

    # Arguments
        folder: Of the teacher, `None` if there is none.
        method: Which has the teacher in float32; nothing else about it changes.
        batch: The first one of the run, global.
    # Returns
        What the run has to remember among its inputs.
    # Raises
        ValueError: If bfloat16 is asked for, and there is no teacher.
    """
    if folder is None:
        if "teacher_compute" in FLAGS and FLAGS.teacher_compute == SMALL:
            raise ValueError("--teacher_compute=bfloat16 has no meaning without a teacher: leave it out.")
        return {}
    if FLAGS.teacher_compute != "auto" or "teacher" not in method.networks:
        return {}
    if not can_be_bfloat16(folder):
        FLAGS.teacher_compute = PLAIN
        return {}
    FLAGS.teacher_compute = SMALL
    with crew.strategy.scope():
        twin = load(folder)
    choice = _choice(crew, method, twin, batch)
    common.say(str(choice))
    FLAGS.teacher_compute = SMALL if crew.numbers(int(choice.compute == SMALL))[0] else PLAIN
    if FLAGS.teacher_compute == SMALL:
        _give(method, twin)
    return {TEACHER: FLAGS.teacher_compute}


def _choice(crew: Workers, method: SelfSupervisedModel, twin: tf.keras.Model, batch: Batch) -> Choice:
    ratio = crew.numbers(round(1000 * _measured_ratio(method.networks["teacher"], twin, batch)))[0] / 1000
    if ratio < WORTH:
        return Choice(ratio, None)
    teacher, losses = method.networks["teacher"], []
    # The loss of a batch moves statistics of BatchNorm; what is tried must leave no trace.
    variables = [*method.variables, *twin.variables]
    before = [variable.numpy() for variable in variables]
    for network in (teacher, twin):
        _give(method, network)
        losses.append(_loss(crew.strategy, method, batch))
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)
    _give(method, teacher)
    return Choice(ratio, abs(losses[1] - losses[0]) / max(abs(losses[0]), 1e-12))


def _give(method: SelfSupervisedModel, teacher: tf.keras.Model) -> None:
    method.networks = {**method.networks, "teacher": teacher}


def _loss(strategy: tf.distribute.Strategy, method: SelfSupervisedModel, batch: Batch) -> float:
    """The mean loss of a replica's part of a batch; the same part on all replicas."""
    size = len(batch["id"]) // strategy.num_replicas_in_sync
    part = {name: value[:size] for name, value in batch.items()}

    @tf.function(autograph=False)
    def run() -> tf.Tensor:
        means = strategy.run(lambda: tf.reduce_mean(method.loss_terms(part)["loss"]))
        return strategy.reduce(tf.distribute.ReduceOp.MEAN, means, axis=None)

    return float(run())


def _measured_ratio(plain: tf.keras.Model, small: tf.keras.Model, batch: Batch) -> float:
    """How many times as fast as the first network the second one is, in inference mode."""
    images = batch["global"][:_IMAGES, 0]
    first, second = (_forward(network, images) for network in (plain, small))
    return times_as_fast(first, second, _TURNS)


def _forward(network: tf.keras.Model, images: tf.Tensor) -> Callable[[], tf.Tensor]:
    return tf.function(lambda: network(images, training=False), autograph=False)

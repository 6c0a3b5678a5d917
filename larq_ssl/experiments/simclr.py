"""SimCLRv2's pre-training: `python -m larq_ssl.experiments.simclr`; `--stage=1|2` for a binary network.

By default as published but for batch and length: --lr is the peak, which the paper sets to 0.1 * sqrt(batch size), 1.6
for the 256 images that are the default here and 6.4 for its 4,096. The first 5 % of the epochs are warm-up.
"""

import functools
from typing import Any

import tensorflow as tf
from absl import flags

from larq_ssl.experiments import common, probe_flags, stages, training, training_data, training_flags
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.heads import simclr_head
from larq_ssl.methods.simclr import VIEWS, SimCLR
from larq_ssl.queue import KeyQueue
from larq_ssl.roles import Role

FLAGS = flags.FLAGS
for module in (training_flags, probe_flags):
    flags.adopt_module_key_flags(module)

_TEMPERATURE = flags.DEFINE_float("temperature", 0.1, "Of the softmax; published for CIFAR-10: 0.5.", 1e-6)
_PROJ_LAYERS = flags.DEFINE_integer(
    "proj_layers", 3, "Layers of the projection head: 2 in SimCLR, 3 in SimCLRv2, which also tries 4.", 2, 4
)
_EMBEDDING_DIM = flags.DEFINE_integer("embedding_dim", 128, "Outputs of the projection head.", 1)
_MEMORY = flags.DEFINE_bool(
    "memory",
    False,
    "Compare with the embeddings of a momentum encoder, those of earlier batches too. A reconstruction of the memory "
    "of SimCLRv2, which is not published in detail: see larq_ssl.methods.SimCLR.",
)
flags.DEFINE_integer(
    "queue_size", None, "With --memory, keys of earlier views, two for each image; by default 65,536.", 1
)
flags.DEFINE_float("momentum", None, "With --memory, of the momentum encoder; by default 0.999.", 0, 1)

_OF_MEMORY = {"queue_size": 65536, "momentum": 0.999}
_LOSS_FLAGS = ("memory", "temperature", "views")
# Decays the probe in the loss, because the optimizer leaves it alone.
_LARS = "lars_simclr"

FLAGS.set_default("encoder", "simclr_resnet_50")
FLAGS.set_default("preprocessing", "unit")
FLAGS.set_default("views", "simclr")
FLAGS.set_default("optimizer", _LARS)
FLAGS.set_default("lr", 1.6)
FLAGS.set_default("weight_decay", 1e-4)
FLAGS.set_default("schedule", "simclr")
FLAGS.set_default("warmup_epochs", None)
FLAGS.set_default("sync_batch_norm", True)


def complete_flags() -> None:
    """Fills in what depends on other flags.

    # Raises
        ValueError: If a flag is given that only the memory has a use for.
    """
    if FLAGS.warmup_epochs is None:
        FLAGS.warmup_epochs = FLAGS.epochs / 20 if FLAGS.schedule == "simclr" else 0.0
    for name, value in _OF_MEMORY.items():
        if FLAGS.memory and FLAGS[name].value is None:
            setattr(FLAGS, name, value)
        if not FLAGS.memory and FLAGS[name].value is not None:
            raise ValueError(f"--{name}={FLAGS[name].value} has no meaning without --memory; leave it out.")


def check_flags() -> None:
    """Raises a `ValueError` unless batches stay whole and fill the queue evenly."""
    if FLAGS.accumulate > 1:
        raise ValueError(f"--accumulate must be 1 for SimCLR, which compares a whole batch, got {FLAGS.accumulate}.")
    keys = VIEWS * FLAGS.batch_size
    if FLAGS.memory and FLAGS.queue_size % keys:
        raise ValueError(
            f"--queue_size must be a multiple of {keys}, the views of --batch_size={FLAGS.batch_size} images, "
            f"got {FLAGS.queue_size}."
        )
    if FLAGS.joint_probe and FLAGS.optimizer == _LARS and FLAGS.final_weight_decay is not None:
        raise ValueError(
            f"--final_weight_decay={FLAGS.final_weight_decay} does not reach the classifier of --joint_probe, whose "
            f"decay is constant with --optimizer={_LARS}: leave one of them out."
        )


def check_images(count: int) -> None:
    """Raises a `ValueError` if the queue is as long as the data."""
    if FLAGS.memory and FLAGS.queue_size >= VIEWS * count:
        raise ValueError(
            f"--queue_size must be well below {VIEWS * count}, the views of {count} images, or the queue is full of "
            f"the image that is looked for; got {FLAGS.queue_size}."
        )


def check_queue(queue: KeyQueue) -> None:
    """Raises a `ValueError` if the queue of stage 1 goes on where no batch can."""
    place, keys = int(queue.pointer.numpy()), VIEWS * FLAGS.batch_size
    if place % keys:
        raise ValueError(
            f"{VIEWS} * --batch_size must divide the place at which the queue of stage 1 stopped ({place}), got {keys}."
        )


def build(data: training_data.Data, before: RunFolder | None) -> SimCLR:
    """The method as the flags describe it."""
    student = stages.student(before)

    def head(name: str) -> tf.keras.Sequential:
        dims = student.feature_dim, _EMBEDDING_DIM.value
        return simclr_head(name, *dims, depth=_PROJ_LAYERS.value, synchronized=stages.synchronized())

    memory: dict[str, Any] = {}
    if _MEMORY.value:
        memory = {name: FLAGS[name].value for name in _OF_MEMORY}
        memory |= {"momentum_encoder": stages.student(before), "momentum_head": head("momentum_head")}
    return SimCLR(
        student,
        head("student_head"),
        _TEMPERATURE.value,
        **memory,
        seed=FLAGS.seed,
        linear_probe=probe_flags.linear_probe(student.feature_dim, data.train, Role.LAST_LAYER),
        probe_weight_decay=FLAGS.weight_decay if FLAGS.optimizer == _LARS else 0.0,
        gradient_clip=FLAGS.gradient_clip,
    )


def prepare(run: RunFolder) -> training.Job:
    """Checks the flags and loads the images."""
    check_flags()
    before = stages.stage1_run(run)
    data = training_data.load_data(FLAGS.views, num_views=VIEWS)
    check_images(data.train.size)
    if before is not None:
        stages.warn_of_other(before, _LOSS_FLAGS)

    def make() -> SimCLR:
        method = build(data, before)
        if before is not None:
            stages.inherit(method, before)
        if before is not None and method.queue is not None:
            check_queue(method.queue)
        return method

    return training.Job(
        data,
        make,
        ("loss", "accuracy", "embedding_std", *(("probe_accuracy",) if FLAGS.joint_probe else ())),
        inputs={} if before is None else {"stage 1": before.results()["encoders"]["student"]},
    )


def main() -> int:
    with common.user_errors():
        complete_flags()
    return training.run_training("simclr", prepare)


if __name__ == "__main__":
    common.run(main, functools.partial(common.digits_recipe, "simclr"))

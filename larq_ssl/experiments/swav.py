"""SwAV with multi-crop: `python -m larq_ssl.experiments.swav --views=sslight_swav`; `--stage=1|2` for a binary network.

By default as its authors train it with batches of 256 images.
"""

import functools

from absl import flags

from larq_ssl import callbacks
from larq_ssl.experiments import common, multi_crop_flags, probe_flags, stages, training, training_data, training_flags
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.heads import mlp_head, prototypes
from larq_ssl.methods.swav import SwAV
from larq_ssl.roles import Role

FLAGS = flags.FLAGS
for module in (training_flags, multi_crop_flags, probe_flags):
    flags.adopt_module_key_flags(module)

_PRESETS = {"official": (2048, "pytorch"), "sslight": (4096, "normal_0.01")}
_PRESET = flags.DEFINE_enum(
    "preset",
    "official",
    list(_PRESETS),
    "Of head and prototypes: official has 2048 hidden units and PyTorch's first weights, sslight 4096 hidden units and "
    "first weights with a deviation of 0.01.",
)
_HIDDEN_DIM = flags.DEFINE_integer("hidden_dim", None, "Hidden units of the head, instead of the preset's.", 1)
_EMBEDDING_DIM = flags.DEFINE_integer("embedding_dim", 128, "Length of an embedding.", 2)
_PROTOTYPES = flags.DEFINE_integer("prototypes", 3000, "Number of prototypes.", 2)
_TEMPERATURE = flags.DEFINE_float("temperature", 0.1, "Of the softmax of the scores.", 1e-6)
_EPSILON = flags.DEFINE_float("epsilon", 0.05, "Of the assignments; the smaller, the sharper they are.", 1e-6)
_ITERATIONS = flags.DEFINE_integer("sinkhorn_iterations", 3, "Iterations that make the assignments.", 1)
_QUEUE_LENGTH = flags.DEFINE_integer(
    "queue_length", 3840, "Earlier images that are assigned with a batch, reduced to whole batches; 0 for none.", 0
)
_QUEUE_START_EPOCH = flags.DEFINE_integer("queue_start_epoch", 15, "Epochs before the queue is filled.", 0)
_FREEZE_EPOCHS = flags.DEFINE_float("freeze_prototypes_epochs", 1.0, "Epochs without updates of the prototypes.", 0)

_LOSS_FLAGS = ("alpha", "prototypes", "temperature", "epsilon", "sinkhorn_iterations", "views")

FLAGS.set_default("encoder", "resnet_50")
FLAGS.set_default("views", "swav")
FLAGS.set_default("optimizer", "lars_swav")
FLAGS.set_default("lr", 0.6)
FLAGS.set_default("min_lr", 6e-4)
FLAGS.set_default("weight_decay", 1e-6)
FLAGS.set_default("schedule", "cosine")
FLAGS.set_default("sync_batch_norm", True)


def queue_size() -> int:
    """`--queue_length` in whole batches.

    # Raises
        ValueError: If it is shorter than a batch, but not 0.
    """
    length, batch = _QUEUE_LENGTH.value, FLAGS.batch_size
    if 0 < length < batch:
        raise ValueError(f"--queue_length must be 0 or at least --batch_size={batch}, got {length}.")
    return length - length % batch


def build(data: training_data.Data, before: RunFolder | None) -> SwAV:
    """The method as the flags describe it."""
    student = stages.student(before)
    hidden_dim, initializer = _PRESETS[_PRESET.value]
    head = mlp_head(
        "student_head",
        student.feature_dim,
        [_HIDDEN_DIM.value or hidden_dim],
        _EMBEDDING_DIM.value,
        norm="batch",
        kernel_initializer=initializer,
        synchronized=stages.synchronized(),
    )
    return SwAV(
        student,
        head,
        prototypes("prototypes", _EMBEDDING_DIM.value, _PROTOTYPES.value, initializer),
        alpha=multi_crop_flags.alpha(data.policy),
        epsilon=_EPSILON.value,
        iterations=_ITERATIONS.value,
        temperature=_TEMPERATURE.value,
        queue_size=queue_size(),
        queue_start_step=_QUEUE_START_EPOCH.value * data.steps_per_epoch,
        linear_probe=probe_flags.linear_probe(student.feature_dim, data.train),
        gradient_clip=FLAGS.gradient_clip,
    )


def prepare(run: RunFolder) -> training.Job:
    """Checks the flags and loads the images."""
    if FLAGS.accumulate > 1:
        raise ValueError(f"--accumulate must be 1 for SwAV, which assigns a batch as a whole, got {FLAGS.accumulate}.")
    if queue_size() != _QUEUE_LENGTH.value:
        common.say(f"The queue has {queue_size():,} images, --queue_length={_QUEUE_LENGTH.value} in whole batches.")
    before = stages.stage1_run(run)
    data = training_data.load_data(FLAGS.views)
    if before is not None:
        stages.warn_of_other(before, _LOSS_FLAGS)

    def make() -> SwAV:
        method = build(data, before)
        if before is not None:
            stages.inherit(method, before)
        return method

    return training.Job(
        data,
        make,
        ("loss", "target_entropy", "embedding_std", *(("probe_accuracy",) if FLAGS.joint_probe else ())),
        callbacks=(callbacks.FreezeRoles([Role.PROTOTYPES], round(_FREEZE_EPOCHS.value * data.steps_per_epoch)),),
        inputs={} if before is None else {"stage 1": before.results()["encoders"]["student"]},
    )


def main() -> int:
    return training.run_training("swav", prepare)


if __name__ == "__main__":
    common.run(main, functools.partial(common.digits_recipe, "swav"))

"""DINO with multi-crop: `python -m larq_ssl.experiments.dino --views=sslight`; `--stage=1|2` for a binary network."""

import functools

import tensorflow as tf
from absl import flags

from larq_ssl import callbacks, schedules
from larq_ssl.experiments import common, multi_crop_flags, probe_flags, stages, training, training_data, training_flags
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.heads import dino_head
from larq_ssl.methods.clipping import CLIP_NORMS
from larq_ssl.methods.dino import DINO
from larq_ssl.roles import Role

FLAGS = flags.FLAGS
for module in (training_flags, multi_crop_flags, probe_flags):
    flags.adopt_module_key_flags(module)

flags.DEFINE_integer("output_dim", 65536, "Outputs of the head (4096 for convolutional networks of SSLight).", 2)
flags.DEFINE_integer("hidden_dim", 2048, "Units of the two hidden layers of the head.", 1)
flags.DEFINE_integer("bottleneck_dim", 256, "Width of the row that is normalised before the last layer.", 1)
flags.DEFINE_bool("head_batch_norm", False, "BatchNorm in the head, as SSLight for convolutional networks.")
flags.DEFINE_bool("free_gain", False, "Train the gains of the last layer, as SSLight for ViTs.")
flags.DEFINE_float("student_temperature", 0.1, "Of the student's softmax.", 1e-6)
flags.DEFINE_float("teacher_temperature", 0.04, "Of the momentum network's softmax, after its warm-up.", 1e-6)
flags.DEFINE_float("warmup_teacher_temperature", 0.04, "The same in the first epoch, if there is a warm-up.", 1e-6)
flags.DEFINE_integer("warmup_teacher_temperature_epochs", 0, "Epochs in which it changes, in equal steps.", 0)
flags.DEFINE_float("momentum", 0.996, "Of the momentum network at the start.", 0, 1)
flags.DEFINE_float("final_momentum", 1.0, "Of the momentum network at the end, reached by a cosine.", 0, 1)
flags.DEFINE_float("center_momentum", 0.9, "Of the centre of the logits.", 0, 1)
flags.DEFINE_float("freeze_last_layer_epochs", 1.0, "Epochs without updates of the last layer.", 0)
flags.DEFINE_float("drop_path", 0.0, "Stochastic depth of the student, at its last block; for ViTs.", 0, 0.9)
flags.DEFINE_enum(
    "clip_norm",
    "variable",
    CLIP_NORMS,
    "Which norm --gradient_clip limits: of each variable alone (3 in the released code), or the global one.",
)

_LOSS_FLAGS = ("alpha", "output_dim", "student_temperature", "teacher_temperature", "views")

FLAGS.set_default("encoder", "resnet_50")
FLAGS.set_default("views", "dino")
FLAGS.set_default("optimizer", "sgd")
FLAGS.set_default("lr", 0.03)
FLAGS.set_default("weight_decay", 1e-4)
FLAGS.set_default("schedule", "cosine")
FLAGS.set_default("sync_batch_norm", True)


def teacher_temperature(data: training_data.Data) -> schedules.EpochRamp:
    """The temperature of the momentum network by the step."""
    return schedules.EpochRamp(
        FLAGS.warmup_teacher_temperature,
        FLAGS.teacher_temperature,
        FLAGS.warmup_teacher_temperature_epochs,
        data.steps_per_epoch,
    )


def momentum(data: training_data.Data) -> schedules.WarmupCosine:
    """The momentum by the step."""
    return schedules.WarmupCosine(FLAGS.momentum, FLAGS.final_momentum, data.total_steps)


def build(data: training_data.Data, before: RunFolder | None) -> DINO:
    """The method as the flags describe it."""
    student = stages.student(before, **({"drop_path": FLAGS.drop_path} if FLAGS.drop_path else {}))
    momentum_encoder = stages.student(before)
    heads = [
        dino_head(
            name,
            student.feature_dim,
            FLAGS.output_dim,
            FLAGS.head_batch_norm,
            FLAGS.free_gain,
            [FLAGS.hidden_dim] * 2,
            FLAGS.bottleneck_dim,
            synchronized=stages.synchronized(),
        )
        for name in ("student_head", "momentum_head")
    ]
    return DINO(
        student,
        heads[0],
        momentum_encoder,
        heads[1],
        alpha=multi_crop_flags.alpha(data.policy),
        student_temperature=FLAGS.student_temperature,
        teacher_temperature=teacher_temperature(data),
        momentum=momentum(data),
        center_momentum=FLAGS.center_momentum,
        linear_probe=probe_flags.linear_probe(student.feature_dim, data.train),
        gradient_clip=FLAGS.gradient_clip,
        clip_norm=FLAGS.clip_norm,
    )


def prepare(run: RunFolder) -> training.Job:
    """Checks the flags and loads the images."""
    if FLAGS.accumulate > 1:
        raise ValueError(f"--accumulate must be 1 for DINO, whose batch moves one centre, got {FLAGS.accumulate}.")
    before = stages.stage1_run(run)
    data = training_data.load_data(FLAGS.views)
    if before is not None:
        stages.warn_of_other(before, _LOSS_FLAGS)

    def make() -> DINO:
        method = build(data, before)
        if before is not None:
            stages.inherit(method, before)
        return method

    frozen: tuple[tf.keras.callbacks.Callback, ...] = (
        callbacks.FreezeRoles([Role.LAST_LAYER], round(FLAGS.freeze_last_layer_epochs * data.steps_per_epoch)),
    )
    return training.Job(
        data,
        make,
        ("loss", "target_entropy", "embedding_std", *(("probe_accuracy",) if FLAGS.joint_probe else ())),
        schedules={"momentum": momentum(data), "teacher_temperature": teacher_temperature(data)},
        callbacks=frozen,
        inputs={} if before is None else {"stage 1": before.results()["encoders"]["student"]},
    )


def main() -> int:
    return training.run_training("dino", prepare)


if __name__ == "__main__":
    common.run(main, functools.partial(common.digits_recipe, "dino"))

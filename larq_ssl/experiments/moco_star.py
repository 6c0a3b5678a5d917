"""MoCo-v2*, MoCo with multi-crop: `python -m larq_ssl.experiments.moco_star --views=sslight`; `--stage=1|2`."""

import functools

from absl import flags

from larq_ssl.experiments import (
    common,
    contrast_flags,
    multi_crop_flags,
    probe_flags,
    stages,
    training,
    training_data,
    training_flags,
)
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.methods.moco_star import MoCoStar

FLAGS = flags.FLAGS
for module in (training_flags, contrast_flags, multi_crop_flags, probe_flags):
    flags.adopt_module_key_flags(module)

_LOSS_FLAGS = ("alpha", "temperature", "views")

FLAGS.set_default("encoder", "mobilenet_v2")
FLAGS.set_default("views", "dino_convnet")
FLAGS.set_default("optimizer", "lars_sslight")
FLAGS.set_default("lr", 0.48)
FLAGS.set_default("schedule", "cosine")
FLAGS.set_default("hidden_dim", 2048)
FLAGS.set_default("sync_batch_norm", True)
for name, value in contrast_flags.DEFAULTS.items():
    FLAGS.set_default(name, value)


def check_flags() -> None:
    """Raises a `ValueError` unless batches stay whole and fill the queue evenly."""
    for name in ("accumulate", "batch_norm_groups"):
        if FLAGS[name].value > 1:
            raise ValueError(
                f"--{name} must be 1 for MoCo-v2*, which sees a batch as a whole, got {FLAGS[name].value}."
            )
    contrast_flags.check_batches()


def build(data: training_data.Data, before: RunFolder | None) -> MoCoStar:
    """The method as the flags describe it."""
    (student, student_head), (momentum_encoder, momentum_head) = contrast_flags.networks(
        before, "student_head", "momentum_head", kernel_initializer="normal_0.02"
    )
    return MoCoStar(
        student,
        student_head,
        momentum_encoder,
        momentum_head,
        alpha=multi_crop_flags.alpha(data.policy),
        queue_size=FLAGS.queue_size,
        temperature=FLAGS.temperature,
        momentum=FLAGS.momentum,
        seed=FLAGS.seed,
        linear_probe=probe_flags.linear_probe(student.feature_dim, data.train),
        gradient_clip=FLAGS.gradient_clip,
    )


def prepare(run: RunFolder) -> training.Job:
    """Checks the flags and loads the images."""
    check_flags()
    before = stages.stage1_run(run)
    data = training_data.load_data(FLAGS.views)
    contrast_flags.check_images(data.train.size)
    if before is not None:
        stages.warn_of_other(before, _LOSS_FLAGS)

    def make() -> MoCoStar:
        method = build(data, before)
        if before is not None:
            stages.inherit(method, before)
            contrast_flags.check_queue(method.queue)
        return method

    return training.Job(
        data,
        make,
        ("loss", "accuracy", "embedding_std", *(("probe_accuracy",) if FLAGS.joint_probe else ())),
        inputs={} if before is None else {"stage 1": before.results()["encoders"]["student"]},
    )


def main() -> int:
    return training.run_training("moco_star", prepare)


if __name__ == "__main__":
    common.run(main, functools.partial(common.digits_recipe, "moco_star"))

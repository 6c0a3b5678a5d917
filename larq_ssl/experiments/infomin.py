"""InfoMin: `python -m larq_ssl.experiments.infomin --jigsaw`. A float network unless `--stage=1|2` is given."""

import functools

import tensorflow as tf
from absl import flags

from larq_ssl.data.jigsaw import PATCHES
from larq_ssl.data.views import ViewPolicy
from larq_ssl.experiments import common, contrast_flags, jigsaw_flags, stages, training, training_data, training_flags
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.heads import mlp_head
from larq_ssl.methods.infomin import InfoMin

FLAGS = flags.FLAGS
for module in (training_flags, contrast_flags, jigsaw_flags):
    flags.adopt_module_key_flags(module)

_LOSS_FLAGS = ("jigsaw", "temperature", "views")
_INITIALIZER = "pytorch"

FLAGS.set_default("encoder", "resnet_50")
FLAGS.set_default("views", "infomin")
FLAGS.set_default("temperature", 0.15)
FLAGS.set_default("optimizer", "sgd")
FLAGS.set_default("lr", 0.03)
FLAGS.set_default("min_lr", 3e-5)
FLAGS.set_default("weight_decay", 1e-4)
FLAGS.set_default("schedule", "epoch_cosine_from_1")
for name, value in contrast_flags.DEFAULTS.items():
    FLAGS.set_default(name, value)


def jigsaw_heads(policy: ViewPolicy, dim: int) -> dict[str, tf.keras.Sequential]:
    """The heads of the jigsaw branch: one of single patches, as wide as that of views, one of all; none without."""
    if policy.jigsaw is None:
        return {}
    hidden, part = FLAGS.hidden_dim or dim, FLAGS.embedding_dim
    make = functools.partial(mlp_head, output_dim=part, norm="none", kernel_initializer=_INITIALIZER)
    return {
        "patch_head": make("patch_head", dim, [hidden]),
        "jigsaw_head": make("jigsaw_head", PATCHES * part, []),
    }


def build(data: training_data.Data, before: RunFolder | None) -> InfoMin:
    """The method as the flags describe it."""
    (student, student_head), (momentum_encoder, momentum_head) = contrast_flags.networks(
        before, "student_head", "momentum_head", kernel_initializer=_INITIALIZER
    )
    return InfoMin(
        student,
        student_head,
        momentum_encoder,
        momentum_head,
        **jigsaw_heads(data.policy, student.feature_dim),
        temperature=FLAGS.temperature,
        gradient_clip=FLAGS.gradient_clip,
        **contrast_flags.arguments(),
    )


def prepare(run: RunFolder) -> training.Job:
    """Checks the flags and loads the images."""
    if FLAGS.accumulate > 1:
        raise ValueError(f"--accumulate must be 1 for InfoMin, which sees a batch as a whole, got {FLAGS.accumulate}.")
    contrast_flags.check_batches()
    before = stages.stage1_run(run)
    data = training_data.load_data(FLAGS.views)
    contrast_flags.check_images(data.train.size)
    if before is not None:
        stages.warn_of_other(before, _LOSS_FLAGS)

    def make() -> InfoMin:
        method = build(data, before)
        if before is not None:
            stages.inherit(method, before)
            contrast_flags.check_queue(method.queue)
        return method

    return training.Job(
        data,
        make,
        ("loss", "accuracy", "embedding_std", *(("jigsaw_accuracy",) if data.policy.jigsaw else ())),
        inputs={} if before is None else {"stage 1": before.results()["encoders"]["student"]},
    )


def main() -> int:
    return training.run_training("infomin", prepare)


if __name__ == "__main__":
    common.run(main, functools.partial(common.digits_recipe, "infomin"))

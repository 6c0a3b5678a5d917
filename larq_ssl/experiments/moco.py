"""MoCo v2: `python -m larq_ssl.experiments.moco`. A float network by default; `--stage=1|2` for a binary one."""

import functools

from absl import flags

from larq_ssl.experiments import common, contrast_flags, stages, training, training_data, training_flags
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.methods.moco import MoCo

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(training_flags)
flags.adopt_module_key_flags(contrast_flags)

_PRESET = flags.DEFINE_enum("preset", "v2", ["v2"], "Version of the method.")

FLAGS.set_default("encoder", "resnet_50")
FLAGS.set_default("views", "moco_v2")
FLAGS.set_default("optimizer", "sgd")
FLAGS.set_default("lr", 0.03)
FLAGS.set_default("weight_decay", 1e-4)
FLAGS.set_default("schedule", "epoch_cosine")
for name, value in contrast_flags.DEFAULTS.items():
    FLAGS.set_default(name, value)


def build(before: RunFolder | None) -> MoCo:
    """The method as the flags describe it."""
    (student, student_head), (momentum_encoder, momentum_head) = contrast_flags.networks(
        before, "student_head", "momentum_head"
    )
    return MoCo(
        student,
        student_head,
        momentum_encoder,
        momentum_head,
        temperature=FLAGS.temperature,
        gradient_clip=FLAGS.gradient_clip,
        accumulate=FLAGS.accumulate,
        **contrast_flags.arguments(),
    )


def prepare(run: RunFolder) -> training.Job:
    """Checks the flags and loads the images."""
    before = stages.stage1_run(run)
    contrast_flags.check_batches()
    data = training_data.load_data(FLAGS.views)
    contrast_flags.check_images(data.train.size)

    def make() -> MoCo:
        method = build(before)
        if before is not None:
            stages.inherit(method, before)
            contrast_flags.check_queue(method.queue)
        return method

    inputs = {} if before is None else {"stage 1": before.results()["encoders"]["student"]}
    return training.Job(data, make, ("loss", "accuracy", "embedding_std"), inputs=inputs)


def main() -> int:
    return training.run_training("moco", prepare)


if __name__ == "__main__":
    common.run(main, functools.partial(common.digits_recipe, "moco"))

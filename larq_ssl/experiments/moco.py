"""MoCo v2: `python -m larq_ssl.experiments.moco`. A float network by default; `--stage=1|2` for a binary one."""

from collections.abc import Sequence

from absl import flags

from larq_ssl import models
from larq_ssl.experiments import common, stages, training, training_flags
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.heads import mlp_head
from larq_ssl.methods.moco import MoCo

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(training_flags)

_PRESET = flags.DEFINE_enum("preset", "v2", ["v2"], "Version of the method.")
_QUEUE = flags.DEFINE_integer("queue_size", 65536, "Number of keys; well below the number of images.", 1)
_TEMPERATURE = flags.DEFINE_float("temperature", 0.2, "Of the contrastive softmax.", 1e-6)
_MOMENTUM = flags.DEFINE_float("momentum", 0.999, "Of the momentum encoder.", 0, 1)
_EMBEDDING = flags.DEFINE_integer("embedding_dim", 128, "Outputs of the projection head.", 1)
_HIDDEN = flags.DEFINE_integer(
    "hidden_dim", None, "Hidden units of the projection head; by default as many as features.", 1
)
_GROUPS = flags.DEFINE_integer(
    "batch_norm_groups", 1, "BatchNorm groups per replica, with shuffled keys if several.", 1
)

FLAGS.set_default("encoder", "resnet_50")
FLAGS.set_default("views", "moco_v2")
FLAGS.set_default("optimizer", "sgd")
FLAGS.set_default("lr", 0.03)
FLAGS.set_default("weight_decay", 1e-4)
FLAGS.set_default("schedule", "epoch_cosine")


def default_recipe(argv: Sequence[str]) -> str | None:
    """On the digits, the recipe that fits them."""
    return "digits/moco" if (common.argument("dataset", argv) or "digits") == "digits" else None


def build() -> MoCo:
    """The method as the flags describe it."""
    encoders = [
        models.build(FLAGS.encoder, None, stages.binarization(), FLAGS.stem, FLAGS.width, FLAGS.preprocessing)
        for _ in range(2)
    ]
    dim = encoders[0].feature_dim
    heads = [
        mlp_head(
            name,
            dim,
            [_HIDDEN.value or dim],
            _EMBEDDING.value,
            batch_norm=False,
            kernel_initializer="pytorch",
        )
        for name in ("student_head", "momentum_head")
    ]
    return MoCo(
        student=encoders[0],
        student_head=heads[0],
        momentum_encoder=encoders[1],
        momentum_head=heads[1],
        queue_size=_QUEUE.value,
        temperature=_TEMPERATURE.value,
        momentum=_MOMENTUM.value,
        batch_norm_groups=_GROUPS.value,
        seed=FLAGS.seed,
        gradient_clip=FLAGS.gradient_clip,
        accumulate=FLAGS.accumulate,
    )


def prepare(run: RunFolder) -> training.Job:
    """Checks the flags and loads the images."""
    before = stages.stage1_run(run)
    if _QUEUE.value % FLAGS.batch_size:
        raise ValueError(f"--queue_size must be a multiple of --batch_size={FLAGS.batch_size}, got {_QUEUE.value}.")
    if FLAGS.batch_size % _GROUPS.value:
        raise ValueError(f"--batch_norm_groups must divide --batch_size={FLAGS.batch_size}, got {_GROUPS.value}.")
    data = training.load_data(FLAGS.views)
    if _QUEUE.value >= data.train.size:
        raise ValueError(
            f"--queue_size must be well below the number of images ({data.train.size}), or the queue is full of the "
            f"query's own image; got {_QUEUE.value}."
        )

    def make() -> MoCo:
        method = build()
        if before is not None:
            stages.inherit(method, before)
        return method

    inputs = {} if before is None else {"stage 1": before.results()["encoders"]["student"]}
    return training.Job(data, make, ("loss", "accuracy", "embedding_std"), inputs=inputs)


def main() -> int:
    return training.run_training("moco", prepare)


if __name__ == "__main__":
    common.run(main, default_recipe)

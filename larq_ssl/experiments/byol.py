"""BYOL: `python -m larq_ssl.experiments.byol`. A float network by default; `--stage=1|2` for a binary one."""

import functools

from absl import flags

from larq_ssl.experiments import (
    bootstrap_flags,
    common,
    probe_flags,
    stages,
    training,
    training_data,
    training_flags,
)
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.methods.byol import BYOL

FLAGS = flags.FLAGS
for module in (training_flags, bootstrap_flags, probe_flags):
    flags.adopt_module_key_flags(module)

_UNIFORMITY_WEIGHT = flags.DEFINE_float(
    "uniformity_weight",
    0.0,
    "Weight of the uniformity of the predictions, which keeps embeddings apart; 0 is BYOL. A comparison of MSBReg's "
    "supplement, reconstructed: weight and layer are not published.",
    0,
)

_LOSS_FLAGS = ("head_norm", "uniformity_weight", "views")

FLAGS.set_default("encoder", "resnet_50")
FLAGS.set_default("views", "byol")
FLAGS.set_default("optimizer", "lars_byol")
FLAGS.set_default("lr", 0.3)
FLAGS.set_default("weight_decay", 1e-6)
FLAGS.set_default("schedule", "cosine")
FLAGS.set_default("sync_batch_norm", True)


def check_flags() -> None:
    """Raises a `ValueError` unless batches stay whole where their images see each other."""
    if FLAGS.accumulate > 1 and _UNIFORMITY_WEIGHT.value:
        raise ValueError(
            f"--accumulate must be 1 with --uniformity_weight={_UNIFORMITY_WEIGHT.value}, which sees a batch as a "
            f"whole, got {FLAGS.accumulate}."
        )


def build(data: training_data.Data, before: RunFolder | None) -> BYOL:
    """The method as the flags describe it."""
    networks = bootstrap_flags.networks(before)
    return BYOL(
        **networks,
        momentum=bootstrap_flags.momentum(data),
        uniformity_weight=_UNIFORMITY_WEIGHT.value,
        linear_probe=probe_flags.linear_probe(networks["student"].feature_dim, data.train),
        gradient_clip=FLAGS.gradient_clip,
        accumulate=FLAGS.accumulate,
    )


def prepare(run: RunFolder) -> training.Job:
    """Checks the flags and loads the images."""
    check_flags()
    before = stages.stage1_run(run)
    data = training_data.load_data(FLAGS.views, num_views=2)
    if before is not None:
        stages.warn_of_other(before, _LOSS_FLAGS)

    def make() -> BYOL:
        method = build(data, before)
        if before is not None:
            stages.inherit(method, before)
        return method

    return training.Job(
        data,
        make,
        ("loss", "embedding_std", *(("probe_accuracy",) if FLAGS.joint_probe else ())),
        schedules={"momentum": bootstrap_flags.momentum(data)},
        inputs={} if before is None else {"stage 1": before.results()["encoders"]["student"]},
    )


def main() -> int:
    return training.run_training("byol", prepare)


if __name__ == "__main__":
    common.run(main, functools.partial(common.digits_recipe, "byol"))

"""MSBReg, BYOL of many views: `python -m larq_ssl.experiments.msbreg --num_views=4`; `--stage=1|2` for a binary one.

A reconstruction, since the equations of its losses could not be consulted: see `larq_ssl.losses.msbreg`.
"""

import dataclasses
import functools

from absl import flags

from larq_ssl.data.views import ViewPolicy
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
from larq_ssl.losses.msbreg import CENTROIDS
from larq_ssl.losses.singular_values import ROWS, SPECTRA
from larq_ssl.methods.msbreg import MSBReg

FLAGS = flags.FLAGS
for module in (training_flags, bootstrap_flags, probe_flags):
    flags.adopt_module_key_flags(module)

_NUM_VIEWS = flags.DEFINE_integer(
    "num_views",
    4,
    "Views per image (K); 2 without both other losses is BYOL. The published learning rate grows with it, --lr not.",
    2,
)
_LAMBDA_S = flags.DEFINE_float("lambda_s", 0.004, "Weight of the singular value loss.", 0)
_LAMBDA_B = flags.DEFINE_float("lambda_b", 0.5, "Weight of the Brownian loss.", 0)
_CENTROID = flags.DEFINE_enum(
    "centroid",
    "leave_one_out",
    CENTROIDS,
    "What a view predicts: the centroid of the targets of the other views, or of all views; or the centroids of halves "
    "of the views are compared. A reconstruction: which one is meant is not known to us.",
)
_SINGULAR_VALUES = flags.DEFINE_enum(
    "singular_values",
    "sv",
    SPECTRA,
    "What is to be even: the singular values of the embeddings, their squares (cov), or their sum is to be large "
    "(nuclear). A reconstruction, too.",
)
_ROWS = flags.DEFINE_enum(
    "rows", "image", ROWS, "Rows of the matrix of embeddings: means of the views of an image, or one per view."
)
_BROWNIAN_PER_VIEW = flags.DEFINE_bool(
    "brownian_per_view", False, "Push each view in a direction of its own, not all views of an image in one."
)

_LOSS_FLAGS = (
    *("brownian_per_view", "centroid", "head_norm", "lambda_b", "lambda_s", "num_views", "rows", "singular_values"),
    "views",
)

FLAGS.set_default("encoder", "resnet_18")
FLAGS.set_default("views", "msbreg")
FLAGS.set_default("hidden_dim", 512)
FLAGS.set_default("embedding_dim", 128)
FLAGS.set_default("optimizer", "lars_byol")
FLAGS.set_default("lr", 1.6)
FLAGS.set_default("weight_decay", 1e-5)
FLAGS.set_default("schedule", "cosine")
FLAGS.set_default("sync_batch_norm", True)


def check_flags() -> None:
    """Raises a `ValueError` unless views make centroids and a batch can be spread over all dimensions."""
    if _CENTROID.value == "centroid_to_centroid" and _NUM_VIEWS.value % 2:
        raise ValueError(f"--num_views must be even with --centroid={_CENTROID.value}, got {_NUM_VIEWS.value}.")
    if not _LAMBDA_S.value:
        return
    if FLAGS.accumulate > 1:
        raise ValueError(
            f"--accumulate must be 1 with --lambda_s={_LAMBDA_S.value}, which sees a batch as a whole, "
            f"got {FLAGS.accumulate}."
        )
    rows = FLAGS.batch_size * (_NUM_VIEWS.value if _ROWS.value == "view" else 1)
    if rows < FLAGS.embedding_dim:
        raise ValueError(
            f"--embedding_dim must be at most {rows}, the rows that --batch_size={FLAGS.batch_size} makes with "
            f"--rows={_ROWS.value}, or they cannot be spread over all dimensions; got {FLAGS.embedding_dim}."
        )


def many_views(policy: ViewPolicy) -> ViewPolicy:
    """The policy with as many of its global views, which are all alike, as the flags say.

    # Raises
        ValueError: If they are not, or there are local views.
    """
    if policy.local_views or len(set(policy.global_views)) > 1:
        raise ValueError(f"--views must be a policy of views that are all alike for MSBReg, got {policy.name!r}.")
    return policy.with_views(_NUM_VIEWS.value)


def build(data: training_data.Data, before: RunFolder | None) -> MSBReg:
    """The method as the flags describe it."""
    networks = bootstrap_flags.networks(before)
    return MSBReg(
        **networks,
        momentum=bootstrap_flags.momentum(data),
        lambda_s=_LAMBDA_S.value,
        lambda_b=_LAMBDA_B.value,
        centroid=_CENTROID.value,
        spectrum=_SINGULAR_VALUES.value,
        rows=_ROWS.value,
        brownian_per_view=_BROWNIAN_PER_VIEW.value,
        seed=FLAGS.seed,
        linear_probe=probe_flags.linear_probe(networks["student"].feature_dim, data.train),
        gradient_clip=FLAGS.gradient_clip,
        accumulate=FLAGS.accumulate,
    )


def prepare(run: RunFolder) -> training.Job:
    """Checks the flags and loads the images."""
    check_flags()
    before = stages.stage1_run(run)
    data = training_data.load_data(FLAGS.views)
    data = dataclasses.replace(data, policy=many_views(data.policy))
    if before is not None:
        stages.warn_of_other(before, _LOSS_FLAGS)

    def make() -> MSBReg:
        method = build(data, before)
        if before is not None:
            stages.inherit(method, before)
        return method

    return training.Job(
        data,
        make,
        ("loss", "centroid", "brownian", "singular_values", "embedding_std", "probe_accuracy"),
        schedules={"momentum": bootstrap_flags.momentum(data)},
        inputs={} if before is None else {"stage 1": before.results()["encoders"]["student"]},
    )


def main() -> int:
    return training.run_training("msbreg", prepare)


if __name__ == "__main__":
    common.run(main, functools.partial(common.digits_recipe, "msbreg"))

"""The commands of BYOL and MSBReg: what a run holds, what stage 2 starts from, mistakes, and (slow) exact resume."""

import signal

import numpy as np
import pytest

from larq_ssl.experiments.run_folder import RunFolder
from tests.experiments import saved
from tests.experiments.commands import SHORT, SHORT_FLOAT

TINY = (
    *("--deterministic", "--epochs=2", "--steps_per_epoch=2", "--batch_size=16", *SHORT, "--image_size=16"),
    *("--hidden_dim=32", "--embedding_dim=6", "--momentum=0.5", "--knn_every=0", "--checkpoint_every=2"),
)
OURS = {
    "byol": ("--uniformity_weight=0.1", "--joint_probe"),
    "msbreg": ("--num_views=3", "--lambda_s=0.1", "--head_norm=layer", "--joint_probe"),
}
TERMS = {
    "byol": {"byol", "uniformity_loss"},
    "msbreg": {"centroid", "brownian", "singular_values"},
}
STEPS = 4


def _run(commands, command: str, name: str, *arguments: str) -> RunFolder:
    run = RunFolder(commands.folder / command / name)
    done = commands.run(command, *TINY, *arguments, f"--workdir={run.path}")
    assert done.code == 0, done.err
    return run


# Every view goes through both networks by itself, which takes a while to be traced.
@pytest.fixture(scope="module", params=["byol", pytest.param("msbreg", marks=pytest.mark.slow)])
def command(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def stages(commands, command) -> list[RunFolder]:
    """Both stages of a tiny run on digits; the networks of the second stand still."""
    still = ("--lr=0", "--momentum=1")
    return [
        _run(commands, command, f"stage{stage}", f"--stage={stage}", *OURS[command], *(still * (stage - 1)))
        for stage in (1, 2)
    ]


def test_a_run_holds_networks_and_heads(command, stages):
    for run in stages:
        found = {path.relative_to(run.path).as_posix() for path in run.path.glob("[ehm]*s/*")}
        assert found == {
            *("encoders/student", "encoders/ema", "heads/student_head", "heads/predictor", "heads/momentum_head")
        }
        metrics = run.results()["metrics"]
        assert TERMS[command] | {"embedding_std", "probe_accuracy", "momentum"} <= metrics.keys()
    momentum = stages[0].results()["metrics"]["momentum"]
    assert momentum == pytest.approx(1 - 0.5 * (1 + np.cos(np.pi * (STEPS - 1) / STEPS)) / 2)


def test_stage_2_goes_on_with_everything(stages):
    for name in ("student_head", "predictor", "momentum_head"):
        saved.assert_equal_parameters(*(run.head(name) for run in stages))
    for name in ("student", "ema"):
        saved.assert_equal_parameters(*(run.encoder(name) / "weights.npz" for run in stages))


def test_stage_1_trains_and_its_average_follows(stages):
    student, ema = (saved.arrays(stages[0].encoder(name) / "weights.npz") for name in ("student", "ema"))
    kernels = [key for key in student if key.endswith("kernel")]
    assert kernels
    assert all(not np.array_equal(student[key], ema[key]) for key in kernels)


def test_a_float_network_of_msbreg(commands):
    once = ("--binarization=none", *SHORT_FLOAT, "--epochs=1", "--num_views=2", "--brownian_per_view")
    run = _run(commands, "msbreg", "float", *once, "--singular_values=cov", "--rows=view")
    metrics = run.results()["metrics"]
    assert TERMS["msbreg"] <= metrics.keys()
    assert np.isfinite([value for value in metrics.values() if isinstance(value, float)]).all()
    assert run.flags()["recipe"] == "digits/msbreg"


MISTAKES = {
    "byol": [
        (["--accumulate=2", "--uniformity_weight=0.1"], "--accumulate must be 1 with --uniformity_weight=0.1"),
        (["--views=evaluation"], "evaluation has 1 global views"),
        (["--stage=2", "--stage1=byol/nothing"], "does not exist"),
        (["--head_norm=group"], "--head_norm=group"),
    ],
    "msbreg": [
        (["--accumulate=2"], "--accumulate must be 1 with --lambda_s=0.004"),
        (["--centroid=centroid_to_centroid", "--num_views=3"], "--num_views must be even with --centroid="),
        (["--embedding_dim=17"], "--embedding_dim must be at most 16, the rows that --batch_size=16 makes with"),
        (["--embedding_dim=65", "--rows=view", "--num_views=4"], "--embedding_dim must be at most 64"),
        (["--views=sslight"], "--views must be a policy of views that are all alike for MSBReg, got 'sslight'"),
        (["--views=byol"], "--views must be a policy of views that are all alike for MSBReg, got 'byol'"),
        (["--num_views=1"], "--num_views=1"),
    ],
}


@pytest.mark.parametrize("command", MISTAKES)
def test_mistakes_are_one_sentence(commands, command):
    for arguments, message in MISTAKES[command]:
        done = commands.run(command, *TINY, f"--workdir={command}/mistake", *arguments)
        assert done.code in (1, 2), message
        # A flag of absl shows its help besides.
        told = done.err if done.code == 1 else done.err.splitlines()[-1]
        assert message in told
        assert "Traceback" not in done.err


@pytest.mark.slow
@pytest.mark.parametrize(("command", "head_norm"), [("byol", "weight"), ("msbreg", "none")])
def test_a_float_network_in_parts(commands, command, head_norm):
    plain = ("--lambda_s=0", "--num_views=2") if command == "msbreg" else ()
    arguments = ("--binarization=none", "--encoder=resnet_18", f"--head_norm={head_norm}", "--accumulate=2", *plain)
    run = _run(commands, command, f"float_{head_norm}", *arguments)
    assert np.isfinite(run.results()["metrics"]["loss"])


@pytest.mark.slow
@pytest.mark.parametrize("stop", [(signal.SIGTERM, 1), (signal.SIGKILL, 3)])
def test_a_stopped_run_ends_as_one_that_was_not(commands, command, stages, stop):
    saved.assert_goes_on(commands, (command, *TINY, "--stage=1", *OURS[command]), stop, stages[0], STEPS)

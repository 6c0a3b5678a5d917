"""The command of MoCo-v2*: what a run holds, what stage 2 starts from, and (slow) exact resume."""

import signal

import numpy as np
import pytest

from larq_ssl.experiments.run_folder import RunFolder
from tests.experiments import saved
from tests.experiments.commands import SHORT

TINY = (
    *("moco_star", "--deterministic", "--epochs=2", "--steps_per_epoch=2", "--batch_size=16", *SHORT),
    *("--image_size=16", "--queue_size=96", "--hidden_dim=8", "--embedding_dim=6", "--knn_every=0"),
    *("--checkpoint_every=2", "--local_views=2"),
)
OURS = ("--joint_probe", "--alpha=0.4")
STEPS = 4


def _run(commands, name: str, *arguments: str) -> RunFolder:
    run = RunFolder(commands.folder / "moco_star" / name)
    done = commands.run(*TINY, *arguments, f"--workdir={run.path}")
    assert done.code == 0, done.err
    return run


@pytest.fixture(scope="module")
def stages(commands) -> list[RunFolder]:
    """Both stages of a tiny run on digits; the networks of the second stand still."""
    still = ("--lr=0", "--momentum=1")
    return [_run(commands, f"stage{stage}", f"--stage={stage}", *OURS, *(still * (stage - 1))) for stage in (1, 2)]


def test_a_run_holds_networks_heads_and_the_queue(stages):
    for stage, run in enumerate(stages, start=1):
        found = {path.relative_to(run.path).as_posix() for path in run.path.glob("[ehm]*s/*")}
        assert found == {
            *("encoders/student", "encoders/ema", "heads/student_head", "heads/momentum_head", "memories/queue.npz")
        }
        queue = saved.arrays(run.memory("queue"))
        assert queue["keys"].shape == (96, 6)
        assert queue["pointer"] == stage * STEPS * 16 % 96
        np.testing.assert_allclose(np.linalg.norm(queue["keys"], axis=1), np.ones(96), rtol=1e-4)
        assert {"contrastive", "accuracy", "embedding_std", "probe_accuracy"} <= run.results()["metrics"].keys()


def test_stage_2_goes_on_with_everything(stages):
    first, second = stages
    for name in ("student_head", "momentum_head"):
        saved.assert_equal_parameters(first.head(name), second.head(name))
    for name in ("student", "ema"):
        saved.assert_equal_parameters(*(run.encoder(name) / "weights.npz" for run in stages))
    # The keys of stage 1 that were not overwritten, beside those that were, from where it stopped.
    before, after = (saved.arrays(run.memory("queue"))["keys"] for run in stages)
    np.testing.assert_array_equal(after[32:64], before[32:64])
    assert not np.any(np.all(after == before, axis=1)[[*range(32), *range(64, 96)]])


@pytest.mark.slow
def test_global_views_alone(commands):
    run = _run(commands, "global_only", "--binarization=none", "--encoder=resnet_18", "--local_views=0", "--alpha=0.4")
    assert np.isfinite(run.results()["metrics"]["loss"])


def test_mistakes_are_one_sentence(commands):
    for arguments, message in (
        (["--accumulate=2"], "--accumulate must be 1 for MoCo-v2*"),
        (["--batch_norm_groups=2"], "--batch_norm_groups must be 1 for MoCo-v2*"),
        (["--queue_size=100"], "--queue_size must be a multiple of --batch_size=16, got 100"),
        (["--queue_size=1600"], "well below the number of images"),
        (["--stage=2", "--stage1=moco_star/nothing"], "does not exist"),
    ):
        done = commands.run(*TINY, "--workdir=moco_star/mistake", *arguments)
        assert done.code in (1, 2), message
        assert message in done.err.splitlines()[-1]
        assert "Traceback" not in done.err


@pytest.mark.slow
@pytest.mark.parametrize("stop", [(signal.SIGTERM, 1), (signal.SIGKILL, 3)])
def test_a_stopped_run_ends_as_one_that_was_not(commands, stages, stop):
    saved.assert_goes_on(commands, (*TINY, "--stage=1", *OURS), stop, stages[0], STEPS)

"""The DINO command: what a run holds, what stage 2 starts from, and (slow) exact resume."""

import signal

import numpy as np
import pytest

from larq_ssl.experiments.run_folder import RunFolder
from tests.experiments import saved
from tests.experiments.commands import SHORT

TINY = (
    *("dino", "--deterministic", "--epochs=2", "--steps_per_epoch=2", "--batch_size=16", *SHORT),
    *("--image_size=16", "--output_dim=12", "--hidden_dim=8", "--bottleneck_dim=4", "--knn_every=0"),
    *("--checkpoint_every=2", "--local_views=2"),
)
STEPS = 4


@pytest.fixture(scope="module")
def stages(commands) -> list[RunFolder]:
    """Both stages of a tiny run on digits."""
    folders = [RunFolder(commands.folder / "dino" / f"stage{stage}") for stage in (1, 2)]
    for stage, folder in enumerate(folders, start=1):
        done = commands.run(*TINY, f"--stage={stage}", "--joint_probe", f"--workdir={folder.path}")
        assert done.code == 0, done.err
    return folders


def _last_layer(run: RunFolder, step: int, head: str) -> np.ndarray:
    state = saved.state(run, step)
    named = [key.partition("/v/.ATTRIBUTES")[0] for key in state if key.endswith("/v/.ATTRIBUTES/VARIABLE_VALUE")]
    (name,) = (key for key in named if key.startswith(f"method/networks/{head}/") and "OPTIMIZER" not in key)
    return state[f"{name}/v/.ATTRIBUTES/VARIABLE_VALUE"]


def test_a_run_holds_networks_heads_and_the_centre(stages):
    for run in stages:
        found = {path.relative_to(run.path).as_posix() for path in run.path.glob("[ehm]*s/*")}
        assert found == {
            *("encoders/student", "encoders/ema", "heads/student_head", "heads/momentum_head", "memories/center.npz")
        }
        assert np.any(saved.arrays(run.memory("center"))["mean"])
        assert {"dino", "probe_accuracy", "momentum", "teacher_temperature"} <= run.results()["metrics"].keys()


@pytest.mark.slow
def test_stage_2_goes_on_with_everything(commands, stages):
    """With no learning rate, momentum 1 and a centre that stays, stage 2 ends with what stage 1 ended with."""
    still = RunFolder(commands.folder / "dino" / "still")
    rest = ("--lr=0", "--momentum=1", "--center_momentum=1", f"--stage1={stages[0].path}", f"--workdir={still.path}")
    done = commands.run(*TINY, "--stage=2", *rest)
    assert done.code == 0, done.err
    for name in ("student_head", "momentum_head"):
        saved.assert_equal_parameters(stages[0].head(name), still.head(name))
    np.testing.assert_array_equal(
        saved.arrays(still.memory("center"))["mean"], saved.arrays(stages[0].memory("center"))["mean"]
    )
    for name in ("student", "ema"):
        saved.assert_equal_parameters(*(run.encoder(name) / "weights.npz" for run in (stages[0], still)))


def test_the_last_layer_is_frozen_in_the_first_epoch(stages):
    first, second = (_last_layer(stages[0], step, "student_head") for step in (2, 4))
    # Both heads begin alike, and the momentum head has followed nothing that moved.
    np.testing.assert_array_equal(_last_layer(stages[0], 2, "momentum_head"), first)
    assert not np.array_equal(first, second)


def test_mistakes_are_one_sentence(commands):
    for arguments, message in (
        (["--accumulate=2"], "--accumulate must be 1 for DINO"),
        (["--schedule=step", "--min_lr=0.1"], "--min_lr=0.1 needs --schedule=cosine"),
        (["--drop_path=0.1"], "drop_path"),
    ):
        done = commands.run(*TINY, "--workdir=dino/mistake", *arguments)
        assert done.code in (1, 2), message
        assert message in done.err.splitlines()[-1]
        assert "Traceback" not in done.err


@pytest.mark.slow
@pytest.mark.parametrize("stop", [(signal.SIGTERM, 1), (signal.SIGKILL, 3)])
def test_a_stopped_run_ends_as_one_that_was_not(commands, stages, stop):
    saved.assert_goes_on(commands, (*TINY, "--stage=1", "--joint_probe"), stop, stages[0], STEPS)

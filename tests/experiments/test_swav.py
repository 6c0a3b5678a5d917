"""The command of SwAV: what a run holds, what stage 2 starts from, and (slow) exact resume."""

import signal

import numpy as np
import pytest

from larq_ssl.experiments.run_folder import RunFolder
from tests.experiments import saved
from tests.experiments.commands import SHORT

TINY = (
    *("swav", "--deterministic", "--epochs=2", "--steps_per_epoch=2", "--batch_size=16", *SHORT),
    *("--image_size=16", "--prototypes=12", "--hidden_dim=8", "--embedding_dim=6", "--knn_every=0"),
    *("--checkpoint_every=2", "--local_views=2", "--queue_length=50", "--queue_start_epoch=0"),
)
OURS = ("--joint_probe", "--alpha=0.4")
STEPS, QUEUE = 4, 48


def _run(commands, name: str, *arguments: str) -> tuple[RunFolder, str]:
    run = RunFolder(commands.folder / "swav" / name)
    done = commands.run(*TINY, *arguments, f"--workdir={run.path}")
    assert done.code == 0, done.err
    return run, done.out


@pytest.fixture(scope="module")
def first(commands) -> tuple[RunFolder, str]:
    """Stage 1 of a tiny run on digits, and what it said."""
    return _run(commands, "stage1", "--stage=1", *OURS)


@pytest.fixture(scope="module")
def second(commands, first) -> RunFolder:
    """Stage 2, in which nothing learns."""
    return _run(commands, "stage2", "--stage=2", "--lr=0", "--min_lr=0", *OURS)[0]


def test_a_run_holds_network_head_prototypes_and_the_queue(first, second):
    for run in (first[0], second):
        found = {path.relative_to(run.path).as_posix() for path in run.path.glob("[ehm]*s/*")}
        assert found == {"encoders/student", "heads/student_head", "heads/prototypes", "memories/queue.npz"}
        queue = saved.arrays(run.memory("queue"))["embeddings"]
        assert queue.shape == (2, QUEUE, 6)
        np.testing.assert_allclose(np.linalg.norm(queue, axis=-1), np.ones((2, QUEUE)), rtol=1e-4)
        assert {"swav", "target_entropy", "class_usage", "probe_accuracy"} <= run.results()["metrics"].keys()


def test_the_queue_holds_whole_batches(first):
    assert "The queue has 48 images, --queue_length=50 in whole batches." in first[1]


def test_stage_2_goes_on_with_everything(first, second):
    before = first[0]
    saved.assert_equal_parameters(before.head("student_head"), second.head("student_head"))
    saved.assert_equal_parameters(*(run.encoder("student") / "weights.npz" for run in (before, second)))
    # Prototypes are brought to length one again in each step.
    (old,), (new,) = (saved.arrays(run.head("prototypes")).values() for run in (before, second))
    np.testing.assert_allclose(new, old / np.linalg.norm(old, axis=0), rtol=1e-5, atol=1e-6)
    # A queue that is full at once was full before; newest first, the 64 images of this run have replaced all.
    assert not np.array_equal(*(saved.arrays(run.memory("queue"))["embeddings"] for run in (before, second)))


def test_stage_2_keeps_the_queue_of_stage_1(commands, first):
    """With one step, the images of stage 1 stand behind the batch that has just been enqueued."""
    after, _ = _run(commands, "one_step", "--stage=2", f"--stage1={first[0].path}", "--epochs=1", "--steps_per_epoch=1")
    before, now = (saved.arrays(run.memory("queue"))["embeddings"] for run in (first[0], after))
    np.testing.assert_array_equal(now[:, 16:], before[:, :-16])
    assert not np.any(now[:, :16] == before[:, :16])


def test_the_prototypes_are_frozen_in_the_first_epoch(commands, first):
    run, _ = first

    def checkpoint(step: int) -> np.ndarray:
        named = saved.state(run, step).items()
        (found,) = (array for key, array in named if array.shape == last.shape and "OPTIMIZER_SLOT" not in key)
        return found

    (last,) = saved.arrays(run.head("prototypes")).values()
    np.testing.assert_array_equal(checkpoint(STEPS), last)
    frozen, _ = _run(commands, "frozen", "--stage=1", *OURS, "--freeze_prototypes_epochs=2")
    (start,) = saved.arrays(frozen.head("prototypes")).values()
    np.testing.assert_allclose(checkpoint(2), start, rtol=1e-6)
    assert not np.allclose(start, last, rtol=1e-3)


def test_mistakes_are_one_sentence(commands):
    for arguments, message in (
        (["--accumulate=2"], "--accumulate must be 1 for SwAV"),
        (["--queue_length=10"], "--queue_length must be 0 or at least --batch_size=16, got 10"),
        (["--stage=2", "--stage1=swav/nothing"], "does not exist"),
    ):
        done = commands.run(*TINY, "--workdir=swav/mistake", *arguments)
        assert done.code in (1, 2), message
        assert message in done.err.splitlines()[-1]
        assert "Traceback" not in done.err


@pytest.mark.slow
def test_without_queue_and_with_the_other_preset(commands):
    run, _ = _run(
        commands, "plain", "--binarization=none", "--encoder=resnet_18", "--preset=sslight", "--queue_length=0"
    )
    assert np.isfinite(run.results()["metrics"]["loss"])
    assert not run.memory("queue").exists()


@pytest.mark.slow
@pytest.mark.parametrize("stop", [(signal.SIGTERM, 1), (signal.SIGKILL, 3)])
def test_a_stopped_run_ends_as_one_that_was_not(commands, first, stop):
    saved.assert_goes_on(commands, (*TINY, "--stage=1", *OURS), stop, first[0], STEPS)

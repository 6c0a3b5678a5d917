"""Processes that are killed or told to stop, wherever they are: the run ends to the bit as if nothing had been."""

import os
import random
import signal
import time

import pytest

from larq_ssl.experiments.common import SIGTERM_EXIT, TIME_EXIT
from tests.faults import harness
from tests.faults.harness import STEPS_PER_EPOCH, Trial

pytestmark = pytest.mark.faults

KILLS, EPOCHS = 20, 25


@pytest.mark.parametrize("trial", harness.METHODS, indirect=True)
def test_kill_9_at_random_steps_twenty_times_in_a_row(trial: Trial):
    """Half of the kills fall right behind a step, the others at a random moment after it."""
    chance = random.Random(f"kills of {trial.method}")
    longer, steps = (f"--epochs={EPOCHS}", *harness.WATCHED), EPOCHS * STEPS_PER_EPOCH
    whole = trial.run("whole and long")
    assert trial.start(whole, *longer).code == 0
    run, lost, before = trial.run("killed"), [], 0
    for number, step in enumerate(sorted(chance.sample(range(1, steps - 5), KILLS))):
        seconds = 0.0 if number % 2 else chance.uniform(0.0, 0.05)
        # The run before may have got further than this step.
        done = trial.start(run, *longer, faults=[("signal_after", {"step": step, "number": 9, "seconds": seconds})])
        assert done.code == -signal.SIGKILL, done.err
        assert "a new run;" in done.out if number == 0 else harness.went_on(done) <= before
        lost.append(before - harness.went_on(done))
        before = trial.reached()
    trial.finish(run, *longer, lost=lost)
    trial.assert_undisturbed(run, whole, steps)
    # The first start had nothing behind it that could be lost.
    assert len(lost[1:]) == KILLS
    assert all(0 <= number < 2 * harness.EVERY for number in lost)
    trial.record("kill -9 at a random step", lost[1:])


def test_sigterm(trial: Trial):
    run, lost = trial.run("terminated"), []
    for step in (2, 17):
        done = trial.start(run, faults=[("signal_after", {"step": step, "number": signal.SIGTERM})])
        assert done.code == SIGTERM_EXIT
        assert "stopped by SIGTERM after saving; the same command goes on" in done.out
        assert run.saved_step() == trial.reached()
        lost.append(trial.reached() - run.saved_step())
    step = run.saved_step()
    assert harness.went_on(trial.finish(run)) == step
    trial.assert_undisturbed(run)
    assert lost == [0, 0]
    trial.record("SIGTERM", lost, exit_code=SIGTERM_EXIT)


def test_time_that_is_up(trial: Trial):
    """`--max_hours=0` is over at once: every start trains one step."""
    run, lost = trial.run("timed"), []
    for step in (1, 2, 3):
        done = trial.start(run, "--max_hours=0")
        assert done.code == TIME_EXIT
        assert "stopped by --max_hours after saving; the same command goes on" in done.out
        assert run.saved_step() == trial.reached() == step
        lost.append(trial.reached() - run.saved_step())
    trial.finish(run)
    trial.assert_undisturbed(run)
    trial.record("--max_hours", lost, exit_code=TIME_EXIT)


@pytest.mark.parametrize("point", ["half", "written", "synced", "deleting", "in place"])
def test_sigkill_while_a_checkpoint_is_written(trial: Trial, point: str):
    run, lost = trial.run(f"saving {point}"), []
    done = trial.start(run, faults=[("kill_while_saving", {"step": 9, "point": point})])
    assert done.code == -signal.SIGKILL, done.err
    names = sorted(path.name for path in run.checkpoints.glob("step-*"))
    there = point in ("deleting", "in place")
    assert names == [f"step-{step:09d}" for step in ((6, 9) if there else (3, 6))]
    assert len(list(run.checkpoints.glob(".step-*.tmp"))) == (0 if point == "in place" else 1)
    trial.finish(run, lost=lost)
    trial.assert_undisturbed(run)
    assert not list(run.path.rglob("*.tmp"))
    assert lost == [0 if there else harness.EVERY]
    trial.record(f"SIGKILL while a checkpoint is written ({point})", lost)


@pytest.mark.parametrize("product", ["encoder", "head", "result"])
def test_a_kill_between_stage_1_and_stage_2(trial: Trial, product: str):
    """All steps of stage 1 are done, but not all of its products are there."""
    run = trial.copy(trial.whole, f"between {product}")
    for file in ("results.json", "curves.png"):
        (run.path / file).unlink()
    for file in sorted(path for pattern in harness.PRODUCTS[:3] for path in run.path.glob(pattern)):
        file.unlink()
    for folder in (*run.path.glob("encoders/*"), *run.path.glob("heads/*")):
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    done = trial.start(run, faults=[("kill_while_finishing", {"product": product})])
    assert done.code == -signal.SIGKILL, done.err
    second = harness.RunFolder(run.path.parent / "stage2")
    refused = trial.start(second, "--stage=2")
    assert refused.code == 2
    assert "is not finished: run --stage=1 first" in harness.only_sentence(refused)
    assert not second.path.exists()
    done = trial.start(run)
    assert done.code == 0
    trial.assert_undisturbed(run)
    lost = harness.STEPS - harness.went_on(done)
    assert lost == 0
    trial.record(f"kill between stage 1 and stage 2 (before the first {product})", [lost])


def test_a_kill_at_the_start_of_stage_2(trial: Trial):
    whole = harness.RunFolder(trial.whole.path.parent / "stage2")
    assert trial.start(whole, "--stage=2").code == 0
    run = harness.RunFolder(trial.whole.path.parent / "stage2 killed")
    lost: list[int] = []
    before = 0
    for step in (1, 5):
        done = trial.start(run, "--stage=2", faults=[("signal_after", {"step": step, "number": 9})])
        assert done.code == -signal.SIGKILL, done.err
        lost.append(before - harness.went_on(done))
        before = trial.reached()
    trial.finish(run, "--stage=2", lost=lost)
    trial.assert_undisturbed(run, whole)
    assert lost == [0, 1, 2]
    trial.record("kill at the start of stage 2", lost[1:])


def test_a_clock_that_goes_backwards(trial: Trial):
    """Of the process and of the files: an older checkpoint may look like the newer one."""
    run, lost = trial.run("clock"), []
    trial.start(run, faults=[("clock_backwards", {}), ("signal_after", {"step": 8, "number": 9})])
    newest = max(run.checkpoints.glob("step-*"))
    for path in run.path.rglob("*"):
        ahead = -86400 if newest in (path, path.parent) else 86400
        os.utime(path, (time.time() + ahead, time.time() + ahead))
    trial.start(run, faults=[("clock_backwards", {}), ("signal_after", {"step": 14, "number": signal.SIGTERM})])
    assert run.saved_step() == 14
    lost.append(trial.reached() - run.saved_step())
    trial.finish(run)
    trial.assert_undisturbed(run)
    trial.record("clock going backwards", lost)

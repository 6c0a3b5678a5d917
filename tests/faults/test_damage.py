"""Checkpoint files that are spoilt: the one before is taken, which is said, and without one nothing is trained."""

import os
import pathlib
import random
import shutil
import signal

import pytest

from tests.faults import harness
from tests.faults.harness import Trial

pytestmark = pytest.mark.faults

DATA, INDEX = "state.data-00000-of-00001", "state.index"


def truncate(file: pathlib.Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def flip_a_bit(file: pathlib.Path) -> None:
    content = bytearray(file.read_bytes())
    content[random.Random(len(content)).randrange(len(content))] ^= 16
    file.write_bytes(content)


def empty(file: pathlib.Path) -> None:
    file.write_bytes(b"")


DAMAGES = {"truncated": truncate, "bit-flipped": flip_a_bit, "zero-byte": empty, "missing": pathlib.Path.unlink}


def newest(run: harness.RunFolder) -> pathlib.Path:
    return max(run.checkpoints.glob("step-*"))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_checkpoint_is_passed_over(trial: Trial, damage: str):
    run, lost = trial.run(damage), []
    for step, name in ((8, DATA), (13, INDEX)):
        done = trial.start(run, faults=[("signal_after", {"step": step, "number": signal.SIGKILL})])
        assert done.code == -signal.SIGKILL, done.err
        before = trial.reached()
        damaged = newest(run)
        DAMAGES[damage](damaged / name)
        # Stops at the next checkpoint, so that the second damage meets a run that went on from the first.
        done = trial.start(run, faults=[("kill_while_saving", {"step": (step // 3) * 3, "point": "in place"})])
        number = int(damaged.name.removeprefix("step-"))
        assert f"The checkpoint of step {number}: " in done.err
        assert f"the checkpoint of step {number} is lost; the one of step {number - 3} is there" in done.out
        lost.append(before - harness.went_on(done))
    trial.finish(run)
    trial.assert_undisturbed(run)
    assert all(harness.EVERY <= steps < 3 * harness.EVERY for steps in lost)
    trial.record(f"{damage} file of the newest checkpoint", lost, ["the newest checkpoint"])


def test_a_newest_checkpoint_that_is_gone_is_missed(trial: Trial):
    run, lost = trial.run("gone"), []
    trial.start(run, faults=[("signal_after", {"step": 8, "number": signal.SIGKILL})])
    shutil.rmtree(newest(run))
    done = trial.finish(run, lost=lost)
    assert "the checkpoint of step 6 is lost; the one of step 3 is there" in done.out
    trial.assert_undisturbed(run)
    trial.record("missing folder of the newest checkpoint", lost, ["the newest checkpoint"])


@pytest.mark.parametrize("damage", [*DAMAGES, "all folders missing"])
def test_nothing_is_trained_from_nothing(trial: Trial, damage: str):
    run = trial.run(f"all {damage}")
    trial.start(run, faults=[("signal_after", {"step": 8, "number": signal.SIGKILL})])
    kept = shutil.copytree(run.path, run.path.with_name("kept"))
    for folder in list(run.checkpoints.glob("step-*")):
        if damage in DAMAGES:
            DAMAGES[damage](folder / (DATA if "6" in folder.name else INDEX))
        else:
            shutil.rmtree(folder)
    before = harness.files(run)
    done = trial.start(run)
    assert done.code == 2
    sentence = harness.only_sentence(done)
    assert ("has saved step 6, but no checkpoint" if damage not in DAMAGES else "can be restored: step 6: ") in sentence
    assert harness.files(run) == before
    # With the files brought back, the same command goes on.
    shutil.rmtree(run.checkpoints)
    shutil.copytree(kept / "checkpoints", run.checkpoints)
    trial.finish(run)
    trial.assert_undisturbed(run)
    trial.record(f"all checkpoints: {damage}", [], ["all checkpoints"], refused=True, exit_code=2)

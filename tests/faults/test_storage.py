"""Disks that are full, folders that may not be written to, and two processes in one folder."""

import json
import pathlib
import signal

import pytest

from larq_ssl.experiments.common import STORAGE_EXIT
from tests.faults import harness
from tests.faults.harness import Trial

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("spare", [0.0, 0.1, 0.6])
def test_a_disk_that_is_full(trial: Trial, disk: pathlib.Path | None, spare: int):
    """With room for a part of a checkpoint, one is begun and cannot be ended."""
    place = (disk or trial.folder) / f"{trial.method} full {spare}"
    link = trial.folder / trial.method / f"full {spare}"
    place.mkdir()
    link.symlink_to(place)
    run, lost = harness.RunFolder(link / "stage1"), []
    filler = place / "filler"
    settings = {"step": 9, "file": str(filler), "checkpoints": str(run.checkpoints), "spare": spare}
    fault = ("no_space", {"step": 9}) if disk is None else ("fill_disk", settings)
    done = trial.start(run, faults=[fault])
    assert done.code == STORAGE_EXIT, done.err
    sentence = harness.only_sentence(done)
    assert "No space left on device" in sentence
    assert f"The last checkpoint in {run.checkpoints.relative_to(trial.folder)} is kept." in sentence
    assert sorted(path.name for path in run.checkpoints.glob("step-*")) == ["step-000000003", "step-000000006"]
    assert not list(run.checkpoints.glob(".*"))
    filler.unlink(missing_ok=True)
    trial.finish(run, lost=lost)
    trial.assert_undisturbed(run)
    how = "injected ENOSPC" if disk is None else f"a tmpfs with room for {spare:.0%} of a checkpoint"
    trial.record(f"disk full ({how})", lost, exit_code=STORAGE_EXIT)


def test_a_folder_that_becomes_read_only(trial: Trial):
    trial.folder.chmod(0o755)  # so that what refuses is the folder of the run
    run = trial.run("read-only")
    folder = str(run.path.relative_to(trial.folder))
    done = trial.start(run, faults=[("forbid", {"step": 9, "folder": folder})])
    assert done.code == STORAGE_EXIT, done.err
    assert "Permission denied" in harness.only_sentence(done)
    before, step = harness.files(run), trial.reached()
    refused = trial.start(run, faults=[("forbid", {"step": 0, "folder": folder})])
    assert refused.code == 2
    assert "Permission denied" in harness.only_sentence(refused)
    assert harness.files(run) == before
    for path in (run.path, *run.path.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    lost = [step - harness.went_on(trial.finish(run))]
    assert lost == [3]  # the step after the damage was to be saved
    trial.assert_undisturbed(run)
    trial.record("read-only folder", lost, exit_code=STORAGE_EXIT)


def test_a_second_process_is_refused_and_the_first_is_not_disturbed(trial: Trial):
    run = trial.run("two")
    command, *arguments = trial.command(run)
    out = trial.folder / f"{trial.method}-second.json"
    second = {"step": 8, "command": command, "arguments": arguments, "out": str(out)}
    done = trial.start(run, faults=[("second_process", second)])
    assert done.code == 0, done.err
    said = json.loads(out.read_text())
    assert said["code"] == 2
    assert (
        said["err"].splitlines()[-1]
        == f"error: --workdir={run.path.relative_to(trial.folder)} is in use by another process."
    )
    trial.assert_undisturbed(run)
    trial.record("two processes on one run folder", [0], exit_code=2)


def test_a_killed_process_does_not_hold_the_folder(trial: Trial):
    run, lost = trial.run("held"), []
    trial.start(run, faults=[("signal_after", {"step": 5, "number": signal.SIGKILL})])
    assert not run.in_use()
    trial.finish(run, lost=lost)
    trial.assert_undisturbed(run)

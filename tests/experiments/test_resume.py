"""A run that is stopped or killed ends, by the same command, to the bit as one that never was."""

import json
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.experiments.common import DIVERGED_EXIT, SIGTERM_EXIT
from larq_ssl.experiments.run_folder import RunFolder
from tests.experiments.commands import SHORT_FLOAT

# 12 steps; checkpoints fall at 3, 6, 9 and 12, the first three of them in the middle of an epoch.
WHOLE = (
    *("moco", "--deterministic", "--epochs=3", "--steps_per_epoch=4", "--batch_size=32", "--queue_size=96"),
    *("--width=0.125", "--image_size=8", "--embedding_dim=8", "--knn_every=0", "--checkpoint_every=3"),
)
MOCO = (*WHOLE, *SHORT_FLOAT)
STEPS = 12


class Runs:
    """An undisturbed run and one that was stopped by SIGTERM, then killed while it saved."""

    def __init__(self, commands):
        self.commands = commands
        self.whole = RunFolder(commands.folder / "whole")
        self.disturbed = RunFolder(commands.folder / "disturbed")
        done = commands.run(*MOCO, "--workdir=whole")
        assert done.code == 0, done.err
        command = (*MOCO, "--workdir=disturbed")
        self.stopped = commands.run(*command, kill=(signal.SIGTERM, "step", 2))
        self.after_stop = self.checkpoints()
        self.rows_after_stop = rows(self.disturbed)
        self.killed = commands.run(*command, kill=(signal.SIGKILL, "save", 9))
        self.after_kill = self.checkpoints()
        self.leftovers = list(self.disturbed.checkpoints.glob(".*"))
        self.ended = commands.run(*command)

    def checkpoints(self) -> list[str]:
        return sorted(path.name for path in self.disturbed.checkpoints.glob("step-*"))


@pytest.fixture(scope="module")
def runs(commands) -> Runs:
    return Runs(commands)


def rows(run: RunFolder) -> list[dict]:
    return [json.loads(line) for line in run.metrics_file.read_text().splitlines()] if run.metrics_file.exists() else []


def state(run: RunFolder) -> dict[str, np.ndarray]:
    reader = tf.train.load_checkpoint(str(run.checkpoints / f"step-{STEPS:09d}" / "state"))
    names = [name for name in reader.get_variable_to_shape_map() if name != "_CHECKPOINTABLE_OBJECT_GRAPH"]
    return {name: np.asarray(reader.get_tensor(name)) for name in names}


def test_sigterm_saves_and_ends_with_its_exit_code(runs):
    assert runs.stopped.code == SIGTERM_EXIT == 143
    assert "stopped by SIGTERM after saving; the same command goes on" in runs.stopped.out
    assert "Traceback" not in runs.stopped.err
    assert runs.after_stop == ["step-000000002"]
    assert runs.rows_after_stop == []


def test_a_kill_while_a_checkpoint_is_written_leaves_the_two_before(runs):
    assert runs.killed.code == -signal.SIGKILL
    assert "going on after step 2;" in runs.killed.out
    assert runs.after_kill == ["step-000000003", "step-000000006"]
    assert len(runs.leftovers) == 1


def test_the_run_goes_on_from_the_last_checkpoint_and_ends(runs):
    assert runs.ended.code == 0, runs.ended.err
    assert "going on after step 6;" in runs.ended.out
    assert runs.disturbed.finished
    assert sorted(path.name for path in runs.disturbed.checkpoints.iterdir()) == ["step-000000009", "step-000000012"]


@pytest.mark.parametrize(
    "file",
    [
        *("encoders/student/weights.npz", "encoders/ema/weights.npz"),
        *("heads/student_head/weights.npz", "heads/momentum_head/weights.npz", "memories/queue.npz"),
        *("encoders/student/encoder.json", "views.png", "summary.txt", "LICENSES.md", "inputs.json"),
    ],
)
def test_what_the_run_made_is_equal_byte_for_byte(runs, file):
    assert (runs.disturbed.path / file).read_bytes() == (runs.whole.path / file).read_bytes()


def test_momentum_encoder_queue_and_optimizer_are_equal_to_the_bit(runs):
    disturbed, whole = state(runs.disturbed), state(runs.whole)
    assert set(disturbed) == set(whole)
    for part in ("queue/keys", "queue/pointer", "momentum_encoder", "momentum_head", "/m/", "/v/", "iter"):
        assert any(part in name for name in whole), sorted(whole)
    different = [name for name in whole if disturbed[name].tobytes() != whole[name].tobytes()]
    assert different == []
    assert np.any([whole[name] == STEPS for name in whole if "/iter/" in name])


def test_the_metrics_are_those_of_whole_epochs(runs):
    def without_speed(run):
        return [{name: value for name, value in row.items() if name != "images_per_second"} for row in rows(run)]

    assert without_speed(runs.disturbed) == without_speed(runs.whole)
    assert [(row["epoch"], row["step"]) for row in rows(runs.whole)] == [(1, 4), (2, 8), (3, 12)]


def test_each_start_is_on_record(runs):
    starts = [json.loads((run.path / "environment.json").read_text())["starts"] for run in (runs.whole, runs.disturbed)]
    assert [len(of_run) for of_run in starts] == [1, 3]
    assert all("--workdir=disturbed" in start["command"] for start in starts[1])


def test_the_comparisons_are_of_something_that_moves(runs):
    student, momentum = (runs.whole.encoder(name).joinpath("weights.npz").read_bytes() for name in ("student", "ema"))
    assert student != momentum
    assert len({row["loss"] for row in rows(runs.whole)}) == 3


def test_a_run_that_is_killed_before_its_result_is_written_is_finished_by_the_same_command(runs):
    """All steps are done: nothing is trained, what is missing is written."""
    run = runs.disturbed
    before = run.encoder("student").joinpath("weights.npz").read_bytes()
    results = run.results()
    for file in ("results.json", "curves.png", "memories/queue.npz"):
        (run.path / file).unlink()
    shutil.rmtree(run.head("momentum_head").parent)
    done = runs.commands.run(*MOCO, "--workdir=disturbed")
    assert done.code == 0, done.err
    assert "going on after step 12;" in done.out
    assert run.results()["metrics"] == results["metrics"]
    assert run.results()["encoders"] == results["encoders"]
    assert run.encoder("student").joinpath("weights.npz").read_bytes() == before
    assert run.head("momentum_head").is_file()
    assert run.memory("queue").is_file()


def test_a_trained_run_that_has_lost_its_metrics_ends_without_them(runs, tmp_path):
    folder = tmp_path / "lost"
    shutil.copytree(runs.whole.path, folder)
    for file in ("results.json", "curves.png"):
        (folder / file).unlink()
    (folder / "metrics.jsonl").write_text("")
    done = runs.commands.run(*MOCO, f"--workdir={folder}")
    assert done.code == 0, done.err
    assert "metrics.jsonl is lost, and the metrics of all epochs with it." in done.out
    results = RunFolder(folder).results()
    assert (results["metrics"], results["epochs"], results["steps"]) == ({}, 3, 12)
    assert results["encoders"] == runs.whole.results()["encoders"]
    assert not (folder / "curves.png").exists()


def test_damaged_checkpoints_stop_the_command_with_the_reasons(runs, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(runs.whole.path, folder)
    (folder / "results.json").unlink()
    for file in folder.glob("checkpoints/*/state.index"):
        file.write_bytes(b"")
    done = runs.commands.run(*MOCO, f"--workdir={folder}")
    assert done.code == 2
    assert "No checkpoint in" in done.err
    assert "step 12: " in done.err
    assert "Traceback" not in done.err


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(commands):
    done = commands.run(
        *(flag for flag in MOCO if "checkpoint_every" not in flag),
        *("--workdir=diverging", "--optimizer=sgd", "--lr=1e38", "--schedule=constant", "--checkpoint_every=1"),
    )
    assert done.code == DIVERGED_EXIT
    assert "Traceback" not in done.err
    error = done.err.splitlines()[-1]
    assert error.startswith("error: ")
    assert "not finite" in error
    assert not RunFolder(commands.folder / "diverging").finished


def wait_for(condition, process: subprocess.Popen, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the run ended by itself"
        assert time.monotonic() < end, "the run did not begin"
        time.sleep(0.02)


@pytest.mark.slow
def test_sigterm_from_outside_to_a_process_of_its_own(tmp_path):
    command = [sys.executable, "-m", "larq_ssl.experiments.moco", *WHOLE[1:], "--workdir=run"]
    # Long enough for the signal to come in time.
    command += ["--epochs=2000", "--checkpoint_every=1"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        wait_for(lambda: any(pathlib.Path(tmp_path).glob("run/checkpoints/step-*")), process)
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == SIGTERM_EXIT, said
    assert "the same command goes on" in said

"""All runs at a glance."""

import fcntl
import json
import pathlib
import shutil

import pytest

from larq_ssl.experiments import status
from larq_ssl.experiments.run_folder import RunFolder


def make(folder: pathlib.Path, rows=(), progress=None, finished=False) -> RunFolder:
    folder.mkdir(parents=True)
    run = RunFolder(folder)
    run.flags_file.write_text("# python -m larq_ssl.experiments.moco\n--epochs=10\n--batch_size=32\n")
    (folder / ".lock").touch()
    run.metrics_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    if progress:
        run.record_progress(*progress)
    if finished:
        run.results_file.write_text("{}")
    return run


@pytest.fixture
def runs(tmp_path) -> pathlib.Path:
    rows = [
        {"epoch": 1, "step": 50, "loss": 2.5, "images_per_second": 100.0, "knn": 0.5},
        {"epoch": 4, "step": 200, "loss": 1.23456, "images_per_second": 160.0, "queue": 1.0},
    ]
    make(tmp_path / "moco" / "stopped", rows, (150, 500, 0.5))
    make(tmp_path / "moco" / "running", rows, (200, 500, 0.5))
    make(tmp_path / "begun")
    make(tmp_path / "finished", rows, (500, 500, 0.5), finished=True)
    return tmp_path


def test_each_run_has_a_line_with_its_state(runs, capsys):
    with open(runs / "moco" / "running" / ".lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert status.main([str(runs)]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split("  ")[0] == "run"
    states = {line.split()[0].removeprefix(f"{runs}/"): line.split()[1] for line in lines}
    assert states == {"begun": "begun", "finished": "finished", "moco/running": "running", "moco/stopped": "stopped"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metrics.jsonl", '{"epoch": 1, "step"'),
        ("metrics.jsonl", '{"epoch": 1, "step": 50, "loss": "low"}'),
        ("metrics.jsonl", "\0"),
        ("progress.json", ""),
        ("progress.json", "[1]"),
        ("progress.json", '{"step": 3}'),
        ("progress.json", '{"step": null, "total_steps": 9}'),
        ("metrics.jsonl", "[" * 100_000),
    ],
)
def test_a_damaged_run_hides_no_other(runs, capsys, name, text):
    (runs / "moco" / "stopped" / name).write_text(text)
    assert status.main([str(runs)]) == 0
    _, *lines = capsys.readouterr().out.splitlines()
    states = {line.split()[0].removeprefix(f"{runs}/"): line.split()[1] for line in lines}
    assert states["moco/stopped"] == "unreadable:"
    assert states["finished"] == "finished"


def test_what_is_said_of_a_run(runs):
    with open(runs / "moco" / "running" / ".lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        told = dict(zip(status._TITLES, status.line(RunFolder(runs / "moco" / "running")), strict=True))
    assert told["epoch"] == "4/10"
    assert told["step"] == "200/500"
    assert told["images/s"] == "160"
    # 6 epochs of 50 steps of 32 images.
    assert told["to go"] == "60 s"
    assert told["last metrics"] == "loss 1.235"
    assert told["disk"] == "0.0 MiB"
    assert len(told["saved"]) == len("2030-01-01 10:00")


def test_a_run_that_nobody_trains_has_no_time_to_go(runs):
    assert dict(zip(status._TITLES, status.line(RunFolder(runs / "finished")), strict=True))["to go"] == ""


def test_disk_is_that_of_all_files(runs):
    (runs / "begun" / "checkpoints").mkdir()
    (runs / "begun" / "checkpoints" / "state").write_bytes(bytes(3 * 2**20))
    assert dict(zip(status._TITLES, status.line(RunFolder(runs / "begun")), strict=True))["disk"] == "3.0 MiB"


def test_nothing_is_written_and_no_lock_is_kept(runs):
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*")}
    status.main([str(runs)])
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("*")} == before
    with RunFolder(runs / "begun").open({"epochs": "10"}, ["epochs"]):
        assert status.line(RunFolder(runs / "begun"))[1] == "running"


def test_a_pattern_may_find_files_but_not_nothing(runs, tmp_path):
    (tmp_path / "notes.txt").touch()
    assert len(status.find([str(path) for path in tmp_path.iterdir()])) == 4
    shutil.rmtree(runs / "moco")
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder, words in ((empty, "There is no run in"), (tmp_path / "missing", "does not exist")):
        with pytest.raises(ValueError, match=words):
            status.find([str(folder)])


def test_a_command_of_its_own_tells_mistakes_in_a_sentence(commands):
    done = commands.run("status", "nowhere")
    assert (done.code, done.err) == (2, "error: nowhere does not exist; give run folders, or folders of runs.\n")

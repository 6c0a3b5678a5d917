"""Whether a command may go on in a folder, what it writes there, and that nothing is lost."""

import contextlib
import fcntl
import json
import os
import pathlib
import subprocess
import sys

import pytest
from absl import flags as absl_flags

from larq_ssl.experiments import run_folder
from larq_ssl.experiments.run_folder import RunFolder

FLAGS = {"dataset": "digits", "lr": "0.1", "one_stage": "False", "workdir": "somewhere"}
IDENTITY = {"dataset", "lr", "one_stage", "steps_per_epoch"}
INPUTS = {"data": "0123", "teacher": "4567"}


@pytest.fixture
def run(tmp_path) -> RunFolder:
    """A run that has begun."""
    run = RunFolder(tmp_path / "runs" / "stage1")
    start(run)
    return run


def start(run: RunFolder, flags=FLAGS, inputs=INPUTS, fresh=False) -> None:
    with run.open(flags, IDENTITY, fresh):
        run.begin(flags, inputs, "python -m some.command", fresh)


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_that_begins_writes_down_what_it_is_made_of(run):
    assert {path.name for path in run.path.iterdir()} == {".lock", "flags.txt", "inputs.json", "environment.json"}
    assert run.flags() == FLAGS
    assert run.inputs() == INPUTS
    assert not run.finished


def test_flags_txt_is_a_flagfile_that_replays_the_run(run):
    values = absl_flags.FlagValues()
    absl_flags.DEFINE_string("dataset", "x", "", flag_values=values)
    absl_flags.DEFINE_float("lr", 3.0, "", flag_values=values)
    absl_flags.DEFINE_bool("one_stage", True, "", flag_values=values)
    absl_flags.DEFINE_string("workdir", "x", "", flag_values=values)
    assert values(["command", f"--flagfile={run.flags_file}"]) == ["command"]
    assert (values.dataset, values.lr, values.one_stage, values.workdir) == ("digits", 0.1, False, "somewhere")
    assert run.flags_file.read_text().splitlines()[0] == f"# python -m some.command --flagfile={run.flags_file}"


def test_values_with_spaces_and_equals_signs_survive(tmp_path):
    run = RunFolder(tmp_path / "run")
    start(run, {"data_dir": "/my data/a=b", "views": ""})
    assert run.flags() == {"data_dir": "/my data/a=b", "views": ""}


def test_the_same_command_goes_on_and_leaves_what_was_written(run):
    before = contents(run.path)
    start(run)
    after = contents(run.path)
    before.pop("environment.json")
    after.pop("environment.json")
    assert after == before


def test_each_start_is_added_to_the_environment(run, monkeypatch):
    start(run)
    first, second = json.loads((run.path / "environment.json").read_text())["starts"]
    assert first["packages"]["tensorflow"] == "2.15.1"
    assert first["command"] == sys.argv
    assert {"time", "commit", "python", "platform", "processor", "cores", "threads"} <= second.keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": "0.2"}, r"--lr=0.2 differs from --lr=0.1, with which the run in .*stage1 began; use that value"),
        ({"steps_per_epoch": "5"}, "--steps_per_epoch=5 differs from a command without --steps_per_epoch, with which"),
        ({"one_stage": None}, "a command without --one_stage differs from --one_stage=False, with which"),
    ],
)
def test_another_value_of_an_identity_flag_is_refused_by_name(run, change, message):
    flags = {name: value for name, value in {**FLAGS, **change}.items() if value is not None}
    before = contents(run.path)
    with pytest.raises(ValueError, match=message), run.open(flags, IDENTITY):
        raise AssertionError("opened")
    assert contents(run.path) == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"--lr=0.1\n--val_fraction=abc\n", r"flags\.txt is damaged: --val_fraction=abc is no number\."),
        (b"--lr=0.1\n--image_size=16.5\n", r"flags\.txt is damaged: --image_size=16\.5 is no number\."),
        (b"--image_size=0\n", r"flags\.txt is damaged: --image_size=0 must be at least 1\."),
        (b"--val_fraction=nan\n", r"flags\.txt is damaged: --val_fraction=nan must be at least 0\.0\."),
        (b"--lr=0.1\n\xff\xfe", r"flags\.txt is damaged, or no text: its byte 9 is not UTF-8\."),
    ],
)
def test_damaged_flags_are_told(run, content, message):
    run.flags_file.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        run.flags()


def test_damaged_starts_are_told_and_kept(run):
    file = run.path / "environment.json"
    file.write_text('{"starts": 5}')
    with pytest.raises(ValueError, match=r"environment\.json is damaged: its starts are 5, no list\."):
        start(run, FLAGS)
    assert file.read_text() == '{"starts": 5}'


@pytest.mark.parametrize("name", ["checkpoints", "tensorboard", "encoders", "heads", "memories"])
def test_a_file_where_a_folder_belongs_is_told(run, name):
    (run.path / name).write_text("")
    with pytest.raises(ValueError, match=rf"{name} is a file, where a run has a folder: move it away\."):
        start(run, FLAGS)


@pytest.mark.parametrize("name", ["progress.json", "metrics.jsonl", "diagnostics.jsonl", "results.json"])
def test_a_folder_where_a_file_belongs_is_told(run, name):
    (run.path / name).mkdir()
    with pytest.raises(ValueError, match=rf"{name} is a folder, where a run has a file: move it away\."):
        start(run, FLAGS)


@pytest.mark.parametrize("name", ["a" * 300, "/proc/self/x"])
def test_a_folder_that_cannot_be_made_is_told(tmp_path, name):
    with pytest.raises(ValueError, match=r"^--workdir=.* cannot be made or read: "):
        start(RunFolder(tmp_path / name), FLAGS)


@pytest.mark.parametrize("step", [None, "x", -1, 1.5])
def test_damaged_progress_is_told(run, step):
    run.progress_file.write_text(json.dumps({"step": step, "total_steps": 9}))
    with pytest.raises(ValueError, match=r"progress\.json is damaged: its step is "):
        run.saved_step()


def test_an_operational_flag_may_change(run):
    start(run, {**FLAGS, "workdir": "elsewhere", "knn_every": "3"})
    assert run.flags() == FLAGS


@pytest.mark.parametrize(
    "inputs", [{"data": "0123", "teacher": "other"}, {"data": "0123"}, {**INPUTS, "stage 1": "89ab"}]
)
def test_another_input_is_refused_by_name(run, inputs):
    name = "stage 1" if "stage 1" in inputs else "teacher"
    with pytest.raises(ValueError, match=f"The {name} is not the one with which the run in .* began"):
        start(run, inputs=inputs)
    assert run.inputs() == INPUTS


HOLD = """
import fcntl, sys
lock = open(sys.argv[1], "a")
fcntl.flock(lock, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other_process(run):
    """Another process that is in the folder."""
    command = [sys.executable, "-c", HOLD, str(run.path / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        yield process
        process.kill()


@pytest.mark.parametrize("fresh", [False, True])
def test_a_folder_in_use_is_refused_and_not_moved(run, other_process, fresh):
    before = contents(run.path)
    with pytest.raises(ValueError, match=r"--workdir=.*stage1 is in use by another process"):
        start(run, fresh=fresh)
    assert contents(run.path) == before
    assert [path.name for path in run.path.parent.iterdir()] == ["stage1"]


def test_a_killed_process_holds_no_folder(run, other_process):
    other_process.kill()
    other_process.wait()
    start(run)


def test_a_folder_is_free_again_after_a_mistake(run):
    with pytest.raises(ValueError, match="lr"):
        start(run, {**FLAGS, "lr": "7"})
    start(run)


@pytest.mark.parametrize("made_before", [False, True])
def test_a_command_that_is_refused_leaves_nothing_behind(tmp_path, made_before):
    run = RunFolder(tmp_path / "run")
    if made_before:
        run.path.mkdir()
    with pytest.raises(ValueError, match="a mistake"), run.open(FLAGS, IDENTITY):
        raise ValueError("a mistake")
    assert [path.name for path in tmp_path.rglob("*")] == (["run"] if made_before else [])


@pytest.mark.parametrize("fresh", [False, True])
def test_a_folder_of_something_else_is_refused_and_not_touched(tmp_path, fresh):
    (tmp_path / "thesis.tex").write_text("important")
    with pytest.raises(ValueError, match=r"--workdir=.* holds other files and is not the folder of a run"):
        start(RunFolder(tmp_path), fresh=fresh)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    assert tmp_path.exists()


@pytest.mark.parametrize("fresh", [False, True])
def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path, fresh):
    (tmp_path / "run").write_text("important")
    with pytest.raises(ValueError, match=r"--workdir=.*run is a file"):
        start(RunFolder(tmp_path / "run"), fresh=fresh)
    assert (tmp_path / "run").read_text() == "important"


def test_an_empty_folder_is_fine(tmp_path):
    start(RunFolder(tmp_path))


@pytest.mark.parametrize(
    "written", [[".lock"], [".lock", "inputs.json"], [".lock", "inputs.json", ".flags.txt.1a.tmp"]]
)
def test_a_run_that_was_killed_while_it_began_can_begin(tmp_path, written):
    for name in written:
        (tmp_path / name).write_text("half")
    run = RunFolder(tmp_path)
    start(run)
    assert (run.flags(), run.inputs()) == (FLAGS, INPUTS)


def test_fresh_moves_the_old_run_aside_and_begins_anew(run):
    (run.path / "results.json").write_text("{}")
    (run.path / "checkpoints").mkdir()
    (run.path / "checkpoints" / "weights").write_text("precious")
    before = contents(run.path)
    start(run, {**FLAGS, "lr": "0.5"}, {"data": "new"}, fresh=True)
    (aside,) = (path for path in run.path.parent.iterdir() if path != run.path)
    assert aside.name.startswith("stage1.20")
    assert contents(aside) == before
    assert run.flags()["lr"] == "0.5"
    assert not run.finished
    assert not run.checkpoints.exists()


def test_fresh_again_at_once_keeps_every_run(run, monkeypatch):
    monkeypatch.setattr(run_folder.time, "strftime", lambda *_: "20300101-000000")
    for rate in ("1", "2", "3"):
        start(run, {**FLAGS, "lr": rate}, fresh=True)
    rates = sorted(RunFolder(path).flags()["lr"] for path in run.path.parent.iterdir())
    assert rates == ["0.1", "1", "2", "3"]


def test_fresh_moves_nothing_before_the_run_begins(run):
    before = contents(run.path)
    with pytest.raises(ValueError, match="a mistake"), run.open({**FLAGS, "lr": "9"}, IDENTITY, fresh=True):
        raise ValueError("a mistake that shows late")
    assert contents(run.path) == before


def test_the_new_folder_of_a_fresh_run_is_locked(run):
    with run.open(FLAGS, IDENTITY, fresh=True):
        run.begin(FLAGS, INPUTS, fresh=True)
        with pytest.raises(ValueError, match="in use by another process"):
            start(RunFolder(run.path))


def test_fresh_without_an_old_run_just_begins(tmp_path):
    start(RunFolder(tmp_path / "run"), fresh=True)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_the_folder_of_no_run_has_no_flags(tmp_path):
    with pytest.raises(ValueError, match="is not the folder of a run: it has no flags.txt"):
        RunFolder(tmp_path).flags()


def test_what_was_saved_last_is_on_record(run):
    assert run.saved_step() == 0
    run.record_progress(5, 12, 0.25)
    run.record_progress(10, 12, 0.5)
    assert run.saved_step() == 10
    assert {name: run.progress()[name] for name in ("total_steps", "seconds")} == {"total_steps": 12, "seconds": 0.5}


def test_a_folder_in_use_can_be_told_from_one_that_is_not(run, other_process):
    assert run.in_use()
    other_process.kill()
    other_process.wait()
    assert not run.in_use()
    assert not RunFolder(run.path / "missing").in_use()


def test_a_look_at_a_folder_does_not_keep_a_run_from_beginning(run, monkeypatch):
    """Who asks holds the lock for a moment."""
    pauses = []
    monkeypatch.setattr(run_folder.time, "sleep", lambda seconds: (pauses.append(seconds), look.close()))
    look = open(run.path / ".lock")  # noqa: SIM115  closed in the pause
    fcntl.flock(look, fcntl.LOCK_SH)
    start(run)
    assert len(pauses) == 1


def test_a_lock_that_somebody_deletes_meanwhile_does_not_count(run, monkeypatch):
    """A process that is refused deletes the lock of a folder in which nothing is; another may wait for it."""
    taken = []

    def delete_first(file, how):
        if not taken:
            (run.path / ".lock").unlink()
        taken.append(file)

    run.path.mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(run_folder.fcntl, "flock", delete_first)
    monkeypatch.setattr(run_folder.time, "sleep", lambda seconds: None)
    with contextlib.ExitStack() as run._locks:
        run._lock()
        assert len(taken) == 2
        assert os.path.samestat(os.fstat(taken[-1]), os.stat(run.path / ".lock"))

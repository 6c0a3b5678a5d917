"""The command line before it is parsed, and how mistakes are told."""

import logging
import sys

import pytest
import tensorflow as tf
from absl import flags

from larq_ssl.experiments import common


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (["--stage=1"], "1"),
        (["--stage", "2"], "2"),
        (["-stage=1"], "1"),
        (["--stage=1", "--lr=3", "--stage=2"], "2"),
        (["--stage="], ""),
        (["--stage"], None),
        (["--stages=1"], None),
        ([], None),
    ],
)
def test_the_last_value_of_a_flag_is_found(arguments, value):
    assert common.argument("stage", ["command", *arguments]) == value


@pytest.mark.parametrize(
    ("arguments", "on"),
    [
        (["--one_stage"], True),
        (["-one_stage"], True),
        (["--one_stage=true"], True),
        (["--one_stage=1"], True),
        (["--one_stage=T"], True),
        (["--one_stage=False"], False),
        (["--noone_stage"], False),
        (["--one_stage", "--noone_stage"], False),
        (["--noone_stage", "--one_stage"], True),
        (["--stage1=one_stage"], False),
        ([], False),
    ],
)
def test_a_switch_is_found(arguments, on):
    assert common.switched_on("one_stage", ["command", *arguments]) == on


def test_the_recipe_comes_before_what_is_typed():
    arguments = common.with_recipe(["command", "--epochs=3", "--recipe=digits/moco"], None)
    file = common.recipe_file("digits/moco")
    assert arguments == ["command", f"--flagfile={file}", "--recipe=digits/moco", "--epochs=3", "--recipe=digits/moco"]


@pytest.mark.parametrize(
    ("method", "typed", "recipe"),
    [
        ("bssl", ["--stage=1"], "digits/bssl_stage1"),
        ("bssl", ["--stage", "2", "--dataset=digits"], "digits/bssl_stage2"),
        ("bssl", ["--one_stage"], "digits/bssl_one_stage"),
        ("bssl", [], None),
        ("bssl", ["--stage=3"], None),
        ("s2bnn_guided", ["--one_stage"], "digits/s2bnn_guided_one_stage"),
        ("s2bnn_misguided", ["--stage=1"], None),
        ("moco", ["--stage=1"], "digits/moco"),
        ("dino", [], "digits/dino"),
        ("moco_star", ["--stage=2"], "digits/moco_star_stage2"),
        ("infomin", ["--stage=1"], "digits/infomin_stage1"),
        # There is none of one stage.
        ("swav", ["--one_stage"], "digits/swav"),
        ("swav", ["--dataset=folder"], None),
        ("simclr", ["--stage=1"], "digits/simclr_stage1"),
        ("byol", [], "digits/byol"),
        ("msbreg", ["--stage=2"], "digits/msbreg_stage2"),
        ("supervised", ["--stage=1"], "digits/supervised_stage1"),
    ],
)
def test_the_recipe_for_the_digits_is_that_of_the_stage(method, typed, recipe):
    assert common.digits_recipe(method, ["command", *typed]) == recipe


def test_a_default_recipe_serves_where_none_is_typed():
    def default(argv):
        return "digits/moco" if "--epochs=3" in argv else None

    assert common.with_recipe(["command", "--epochs=4"], default) == ["command", "--epochs=4"]
    assert "--recipe=digits/moco" in common.with_recipe(["command", "--epochs=3"], default)
    arguments = common.with_recipe(["command", "--epochs=3", "--recipe=digits/bssl_stage1"], default)
    assert arguments[1].endswith("bssl_stage1.flags")


def test_a_flagfile_that_is_no_text_is_named(tmp_path):
    (tmp_path / "flags").write_bytes(b"\x80\x81")
    with pytest.raises(ValueError, match=r"--flagfile=.*flags must name a file of text"):
        common.with_recipe(["command", f"--flagfile={tmp_path / 'flags'}"], None)


def test_a_recipe_named_in_a_flagfile_of_the_user_counts(tmp_path):
    file = tmp_path / "mine.flags"
    file.write_text("# mine\n--recipe=digits/moco\n--epochs=3\n")
    arguments = common.with_recipe(["command", f"--flagfile={file}", "--epochs=5"], None)
    assert arguments[1].endswith("moco.flags")
    assert arguments[-2:] == ["--epochs=3", "--epochs=5"]


def test_an_unknown_recipe_is_an_error_that_names_the_known_ones():
    with pytest.raises(ValueError, match=r"--recipe must be one of .*digits/moco.*, got 'digits/mocco'"):
        common.with_recipe(["command", "--recipe=digits/mocco"], None)


@pytest.mark.parametrize(
    "error", [ValueError("a mistake"), PermissionError(13, "no", "/x"), flags.IllegalFlagValueError("x")]
)
def test_a_mistake_is_one_sentence_and_exit_code_2(error, capsys):
    with pytest.raises(SystemExit) as stop, common.user_errors():
        raise error
    assert stop.value.code == 2
    said = capsys.readouterr()
    assert said.err == f"error: {error}\n"
    assert said.out == ""


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError(), "malloc"),
        (MemoryError("Unable to allocate 4.00 EiB for an array"), "Unable to allocate 4.00 EiB for an array"),
        (
            tf.errors.ResourceExhaustedError(None, None, "{{node x}}\nOOM allocating tensor[9]"),
            "OOM allocating tensor[9]",
        ),
        (
            tf.errors.UnknownError(None, None, "_ArrayMemoryError: Unable to allocate 1 TiB\nTraceback ..."),
            "Unable to allocate 1 TiB",
        ),
    ],
)
def test_what_needs_more_memory_than_there_is_is_told(error, told, capsys):
    with pytest.raises(SystemExit) as stop, common.user_errors():
        raise error
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: There is not enough memory ({told}): smaller values of such")


def test_a_full_disk_is_no_lack_of_memory():
    assert not common.needs_memory(tf.errors.ResourceExhaustedError(None, None, "x; No space left on device"))


@pytest.mark.parametrize("name", ["{}/evil", "../../../../../../..{}/evil"])
def test_a_recipe_from_elsewhere_is_none(tmp_path, name):
    (tmp_path / "evil.flags").write_text("--epochs=3\n")
    with pytest.raises(ValueError, match=r"--recipe must be in a folder that is one of .*digits.*evil'"):
        common.with_recipe(["command", f"--recipe={name.format(tmp_path)}"], None)


def test_text_that_is_no_utf_8_is_told(commands, tmp_path):
    done = commands.run("moco", "--workdir=x\udcff")
    assert (done.code, done.err) == (1, "error: --workdir=x\\udcff: the value must be text in UTF-8.\n")


def test_another_error_is_not_hidden():
    with pytest.raises(KeyError), common.user_errors():
        raise KeyError("a bug")


def test_a_progress_function_without_a_terminal_is_silent(capsys):
    update = common.bar("features")
    update(3, 10)
    update(10, 10)
    update(10, 10)
    assert capsys.readouterr().err == ""


@pytest.fixture
def fake_command(tmp_path, monkeypatch):
    """`run_command` starts this instead of a command of larq_ssl."""

    def prepare(code: str) -> None:
        file = tmp_path / "fake.py"
        file.write_text(code)
        popen = common.subprocess.Popen
        monkeypatch.setattr(common.subprocess, "Popen", lambda command: popen([sys.executable, str(file)]))

    return prepare


def test_a_command_in_a_command_is_shown_and_gives_its_exit_code(fake_command, capsys):
    fake_command("raise SystemExit(3)")
    assert common.run_command("moco", ["--lr=1"]) == 3
    assert "$ python -m larq_ssl.experiments.moco --lr=1" in capsys.readouterr().out


@pytest.mark.parametrize("handled", [True, False])
def test_sigterm_stops_the_command_in_a_command_first(fake_command, tmp_path, handled):
    handler = "signal.signal(15, lambda *_: (open('stopped', 'w'), sys.exit(143)))" if handled else ""
    code = f"""
import os, signal, sys, time
os.chdir({str(tmp_path)!r})
{handler}
os.kill(os.getppid(), 15)
time.sleep(60)
"""
    fake_command(code)
    before = common.signal.getsignal(common.signal.SIGTERM)
    with pytest.raises(SystemExit) as stop:
        common.run_command("moco", [])
    assert stop.value.code == common.SIGTERM_EXIT
    assert (tmp_path / "stopped").exists() == handled
    assert common.signal.getsignal(common.signal.SIGTERM) is before


def test_where_a_mistake_was_found_can_be_logged(caplog):
    with caplog.at_level(logging.DEBUG), pytest.raises(SystemExit), common.user_errors():
        raise ValueError("a mistake")
    assert any(record.exc_info for record in caplog.records)


@pytest.mark.parametrize("word", ["--stderrthreshold=foo", "--logger_levels=a:b", "--logger_levels=foo"])
def test_values_that_absl_itself_refuses_are_told_in_a_sentence(commands, word):
    done = commands.run("status", word)
    assert done.code == 1
    assert done.err.startswith("error: ")
    assert len(done.err.splitlines()) == 1
    assert word.partition("=")[0] in done.err

import json
import multiprocessing
import os
import signal
import stat
import time

import numpy as np
import pytest

from larq_ssl import files


def leftovers(folder):
    return [path.name for path in folder.rglob(".*")]


@pytest.mark.parametrize("content", [b"caf\xc3\xa9", "café", lambda file: file.write(b"caf\xc3\xa9")])
def test_content_and_missing_parents(tmp_path, content):
    path = files.write_whole(tmp_path / "a" / "b" / "file.txt", content)
    assert path.read_bytes() == b"caf\xc3\xa9"
    assert leftovers(tmp_path) == []


def test_an_array_file_is_written_through_the_open_file(tmp_path):
    path = files.write_whole(tmp_path / "arrays.npz", lambda file: np.savez(file, x=np.arange(3)))
    np.testing.assert_array_equal(np.load(path)["x"], [0, 1, 2])


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = files.write_whole(tmp_path / "file", b"old")

    def fail(file):
        file.write(b"half")
        raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError, match="disk on fire"):
        files.write_whole(path, fail, overwrite=True)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_overwriting_has_to_be_asked_for(tmp_path):
    path = files.write_whole(tmp_path / "file", b"old")
    for error in (ValueError, FileExistsError):
        with pytest.raises(error, match="exists already"):
            files.write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    files.write_whole(path, b"new", overwrite=True)
    assert path.read_bytes() == b"new"


def test_a_file_that_appears_meanwhile_is_kept(tmp_path):
    path = tmp_path / "file"
    with pytest.raises(FileExistsError, match="exists already"):
        files.write_whole(path, lambda file: path.write_bytes(b"other"))
    assert path.read_bytes() == b"other"
    assert leftovers(tmp_path) == []


def test_permissions_are_those_of_an_ordinary_file(tmp_path):
    (tmp_path / "ordinary").write_text("")
    path = files.write_whole(tmp_path / "file", "")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "ordinary").stat().st_mode)


def test_json(tmp_path):
    path = files.write_json(tmp_path / "x.json", {"a": [1, 2.5], "b": None})
    assert json.loads(path.read_text()) == {"a": [1, 2.5], "b": None}
    with pytest.raises(ValueError):
        files.write_json(tmp_path / "nan.json", {"a": float("nan")})
    assert not (tmp_path / "nan.json").exists()


def test_json_that_is_damaged_is_named(tmp_path):
    file = tmp_path / "results.json"
    file.write_text('{"metrics": {"knn": 0.9')
    with pytest.raises(ValueError, match=r"results\.json is damaged, it holds no JSON: "):
        files.read_json(file)
    file.write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"results\.json is damaged, it holds no JSON: "):
        files.read_json(file)


@pytest.mark.parametrize("text", ["[]", "{}", '"metrics"'])
def test_json_of_another_form_is_named(tmp_path, text):
    file = tmp_path / "results.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"results\.json is damaged, it holds no JSON object with 'metrics'"):
        files.read_object(file, "metrics")


def test_a_folder_appears_at_the_end(tmp_path):
    path = tmp_path / "parent" / "folder"
    with files.whole_folder(path) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_text("x")
        assert not path.exists()
    assert (path / "sub" / "file").read_text() == "x"
    assert leftovers(tmp_path) == []


def test_a_failed_folder_never_appears(tmp_path):
    def fill():
        with files.whole_folder(tmp_path / "folder") as folder:
            (folder / "file").write_text("x")
            raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError, match="disk on fire"):
        fill()
    assert os.listdir(tmp_path) == []


def test_an_old_folder_is_kept_unless_told(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").write_text("x")
    with pytest.raises(ValueError, match="exists already"), files.whole_folder(path):
        pytest.fail("refused before any work is done")
    with files.whole_folder(path, overwrite=True) as folder:
        (folder / "new").write_text("x")
    assert os.listdir(path) == ["new"]
    assert os.listdir(tmp_path) == ["folder"]


def _write_slowly(path, started):
    def content(file):
        file.write(b"half")
        file.flush()
        started.set()
        time.sleep(60)

    files.write_whole(path, content, overwrite=True)


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    path = files.write_whole(tmp_path / "file", b"old")
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    process = context.Process(target=_write_slowly, args=(path, started))
    process.start()
    assert started.wait(60)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert path.read_bytes() == b"old"

"""Files, folders, arrays and checkpoints: old, new or refused, whatever is in them and wherever writing fails."""

import errno
import os
import pathlib
import shutil
import tempfile
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from larq_ssl.checkpoints import Checkpoints
from larq_ssl.files import AlreadyExistsError, whole_folder, write_whole
from larq_ssl.models.folder import read_arrays, write_arrays

COMMON = dict(deadline=None, derandomize=True, database=None)
CONTENTS = st.binary(max_size=200)
NAMES = st.text("abcXYZ012._-", min_size=1, max_size=8).filter(lambda name: name.strip("."))
TREES = st.dictionaries(st.lists(NAMES, min_size=1, max_size=2).map("/".join), CONTENTS, min_size=1, max_size=4)
CALLS = ("fsync", "replace", "rename", "open")


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


class FailingAt:
    """The disk is full at the so-many-th call of the file system; `None`: never."""

    def __init__(self, number: int | None):
        self.left = number

    def __enter__(self) -> None:
        self._patches = [mock.patch.object(os, name, self._counted(getattr(os, name))) for name in CALLS]
        for patch in self._patches:
            patch.start()

    def __exit__(self, *_) -> None:
        for patch in self._patches:
            patch.stop()

    def _counted(self, real):
        def call(*arguments, **keywords):
            if self.left is not None:
                self.left -= 1
                if self.left == 0:
                    raise OSError(errno.ENOSPC, "No space left on device")
            return real(*arguments, **keywords)

        return call


@settings(max_examples=150, **COMMON)
@given(st.none() | CONTENTS, CONTENTS, st.booleans(), st.none() | st.integers(1, 5))
def test_a_file_is_old_or_new(old, new, overwrite, failing):
    with tempfile.TemporaryDirectory() as name:
        file = pathlib.Path(name) / "deep" / "file"
        if old is not None:
            file.parent.mkdir()
            file.write_bytes(old)
        failed = None
        try:
            with FailingAt(failing):
                write_whole(file, new, overwrite)
        except OSError as error:
            failed = error
        found = contents(pathlib.Path(name))
        allowed = [{} if old is None else {"deep/file": old}]
        if old is not None and not overwrite:
            assert isinstance(failed, AlreadyExistsError)
        else:
            allowed.append({"deep/file": new})
            assert failed is not None or found == allowed[-1]
        assert found in allowed


def clashes(tree: dict[str, bytes]) -> bool:
    return any(other.startswith(f"{name}/") for name in tree for other in tree)


@settings(max_examples=150, **COMMON)
@given(
    st.none() | TREES.filter(lambda tree: not clashes(tree)),
    TREES.filter(lambda tree: not clashes(tree)),
    st.booleans(),
    st.none() | st.integers(1, 12),
    st.booleans(),
)
def test_a_folder_is_old_or_new(old, new, overwrite, failing, interrupted):
    with tempfile.TemporaryDirectory() as name:
        place = pathlib.Path(name) / "folder"
        for file, content in (old or {}).items():
            (place / file).parent.mkdir(parents=True, exist_ok=True)
            (place / file).write_bytes(content)
        failed: BaseException | None = None
        try:
            with FailingAt(failing), whole_folder(place, overwrite) as unfinished:
                for file, content in new.items():
                    (unfinished / file).parent.mkdir(parents=True, exist_ok=True)
                    (unfinished / file).write_bytes(content)
                if interrupted:
                    raise KeyboardInterrupt
        except (OSError, KeyboardInterrupt) as error:
            failed = error
        found = contents(place) if place.exists() else None
        if failed is None:
            assert found == new
        elif interrupted or (old is not None and not overwrite):
            assert found == old
        else:
            assert found in (old, new)
        assert [path.name for path in pathlib.Path(name).iterdir() if not path.name.startswith(".")] in ([], ["folder"])


KEYS = st.text("abcXYZ012._-/:", min_size=1, max_size=12)
ARRAYS = arrays_of.arrays(
    st.sampled_from([np.float32, np.float16, np.int64, np.uint8, np.bool_]),
    arrays_of.array_shapes(min_dims=0, max_side=4),
)


@settings(max_examples=100, **COMMON)
@given(st.dictionaries(KEYS, ARRAYS, max_size=5))
def test_arrays_survive_their_file_and_touch_no_other(held):
    """Also by names such as `../../x`."""
    with tempfile.TemporaryDirectory() as name:
        file = pathlib.Path(name) / "a" / "b" / "weights.npz"
        write_arrays(held, file)
        read = read_arrays(file)
        assert read.keys() == held.keys()
        for key, array in held.items():
            assert read[key].dtype == array.dtype
            np.testing.assert_array_equal(read[key], array)
        assert list(contents(pathlib.Path(name))) == ["a/b/weights.npz"]


@settings(max_examples=200, **COMMON)
@given(st.data())
def test_altered_arrays_are_refused_or_whole(data):
    held = {"kernel": np.arange(12, dtype=np.float32).reshape(3, 4), "bias": np.ones(3, np.float32)}
    with tempfile.TemporaryDirectory() as name:
        file = pathlib.Path(name) / "weights.npz"
        write_arrays(held, file)
        altered = bytearray(file.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            altered[data.draw(st.integers(0, len(altered) - 1))] = data.draw(st.integers(0, 255))
        cut = data.draw(st.integers(0, len(altered)) | st.none())
        file.write_bytes(bytes(altered[:cut]))
        try:
            read = read_arrays(file)
        except ValueError as error:
            told = str(error)
            assert "is not a readable file of weights" in told
            return
        assert all(isinstance(array, np.ndarray) and array.dtype != object for array in read.values())


def test_a_flipped_bit_in_the_header_of_a_large_array_is_refused(tmp_path):
    """It is parsed before the checksum is known, by Python's own parser of literals."""
    file = tmp_path / "weights.npz"
    write_arrays({"kernel": np.arange(4096, dtype=np.float32)}, file)
    whole = file.read_bytes()
    start, told = whole.index(b"NUMPY") - 1, []
    for bit in range(8 * 80):
        altered = bytearray(whole)
        altered[start + bit // 8] ^= 1 << bit % 8
        file.write_bytes(bytes(altered))
        try:
            read_arrays(file)
        except ValueError as error:
            told.append(str(error))
    assert len(told) > 500
    assert all("is not a readable file of weights" in sentence for sentence in told)


DAMAGES = ("none", "none", "cut", "empty", "no index", "no folder")


def damage(folder: pathlib.Path, kind: str) -> None:
    data = folder / "state.data-00000-of-00001"
    if kind == "cut":
        data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    elif kind == "empty":
        data.write_bytes(b"")
    elif kind == "no index":
        (folder / "state.index").unlink()
    elif kind == "no folder":
        shutil.rmtree(folder)


class Counter(tf.Module):
    """Large enough for a truncated file to lack some of it."""

    def __init__(self) -> None:
        super().__init__()
        self.value = tf.Variable(tf.zeros([256], tf.int64))


@settings(max_examples=30, **COMMON)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=4),
    st.integers(2, 3),
    st.lists(st.sampled_from(DAMAGES), min_size=3, max_size=3),
)
def test_the_newest_whole_checkpoint_is_restored(gaps, keep, damages):
    steps = np.cumsum(gaps).tolist()
    with tempfile.TemporaryDirectory() as name:
        counter = Counter()
        checkpoints = Checkpoints(name, keep, counter=counter)
        for step in steps:
            counter.value.assign(tf.fill([256], tf.constant(step, tf.int64)))
            checkpoints.save(step)
        assert checkpoints.steps() == steps[-keep:]
        state = dict(zip(steps[-keep:], damages, strict=False))
        for step, kind in state.items():
            damage(checkpoints.folder / f"step-{step:09d}", kind)
        whole = [step for step, kind in state.items() if kind == "none"]
        there = [step for step, kind in state.items() if kind != "no folder"]
        counter.value.assign(tf.fill([256], tf.constant(-1, tf.int64)))
        if there and not whole:
            with pytest.raises(ValueError, match="No checkpoint in .* can be restored"):
                checkpoints.restore()
            return
        assert checkpoints.restore() == (max(whole) if whole else None)
        if whole:
            assert counter.value.numpy().tolist() == [max(whole)] * 256

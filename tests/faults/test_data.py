"""Batches and images that are no good."""

import pathlib
import shutil
import signal
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from larq_ssl.experiments.common import DIVERGED_EXIT
from tests.faults import harness
from tests.faults.harness import Trial

pytestmark = pytest.mark.faults

CLASSES, PER_CLASS = ("cat", "dog"), 40


def test_nan_in_a_batch(trial: Trial):
    run, lost = trial.run("poisoned"), []
    done = trial.start(run, faults=[("poison", {"step": 7})])
    assert done.code == DIVERGED_EXIT, done.err
    assert "not finite" in harness.only_sentence(done)
    assert sorted(path.name for path in run.checkpoints.glob("step-*")) == ["step-000000003", "step-000000006"]
    trial.finish(run, lost=lost)
    trial.assert_undisturbed(run)
    trial.record("NaN in a batch", lost, exit_code=DIVERGED_EXIT)


def bomb() -> bytes:
    """A PNG of a few hundred bytes that says it has 10 billion pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(2**16))) + chunk(b"IEND", b"")


BAD = {"image bomb": bomb(), "zero-byte file": b"", "file that is no image": b"not an image", "truncated image": None}


@pytest.fixture
def images(tmp_path: pathlib.Path) -> pathlib.Path:
    """Images large enough to be read from their files in every epoch."""
    chance = np.random.default_rng(0)
    for name in CLASSES:
        (tmp_path / "train" / name).mkdir(parents=True)
        for number in range(PER_CLASS):
            pixels = chance.integers(0, 256, (72, 80, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "train" / name / f"{number:02d}.png")
    return tmp_path


def flags_of(trial: Trial, images: pathlib.Path, *more: str) -> tuple[str, ...]:
    """The recipe is that of the digits, which other images do not get by default."""
    recipe = f"--recipe=digits/{trial.method}_stage1"
    return (recipe, "--dataset=folder", f"--data_dir={images}", "--epochs=4", *more)


def spoil(file: pathlib.Path, bad: str) -> None:
    content = BAD[bad]
    file.write_bytes(file.read_bytes()[:3000] if content is None else content)


@pytest.mark.parametrize("bad", BAD)
def test_a_folder_of_nothing_but(trial: Trial, images: pathlib.Path, bad: str):
    for file in (images / "train").rglob("*.png"):
        spoil(file, bad)
    run = trial.run(f"only {bad}")
    done = trial.start(run, *flags_of(trial, images))
    assert done.code in (1, 2), done.err
    assert "cannot be decoded, more than max_bad_images" in harness.only_sentence(done)
    assert run.saved_step() == 0
    trial.record(f"data folder of nothing but: {bad}", [], refused=True, exit_code=done.code)


def test_a_partly_corrupt_folder(trial: Trial, images: pathlib.Path):
    """One file of each kind: named, replaced, and the same after a kill."""
    spoilt = {bad: images / "train" / "cat" / f"{number:02d}.png" for number, bad in enumerate(BAD)}
    for bad, file in spoilt.items():
        spoil(file, bad)
    flags, lost = flags_of(trial, images, "--max_bad_images=0.1"), []
    whole, run = trial.run("partly corrupt"), trial.run("partly corrupt, killed")
    done = trial.start(whole, *flags)
    assert done.code == 0, done.err
    assert all(str(file) in done.err for file in spoilt.values())
    trial.start(run, *flags, faults=[("signal_after", {"step": 8, "number": signal.SIGKILL})])
    trial.finish(run, *flags, lost=lost)
    steps = 4 * harness.STEPS_PER_EPOCH
    harness.saved.assert_equal_states(whole, run, steps)
    assert harness.metrics(whole) == harness.metrics(run)
    trial.record("partly corrupt data folder", lost)
    limited = trial.start(trial.run("too corrupt"), *flags_of(trial, images, "--max_bad_images=0.01"))
    assert limited.code in (1, 2)
    assert "cannot be decoded, more than max_bad_images = 0.01 allows" in harness.only_sentence(limited)


def test_labels_that_disagree(trial: Trial, images: pathlib.Path):
    """Held-out images of a class that is not trained on, an image beside the classes, classes that change in a run."""
    val = shutil.copytree(images / "train" / "cat", images / "val" / "horse").parent
    run = trial.run("labels")
    with_knn = flags_of(trial, images, "--knn_every=1")
    done = trial.start(run, *with_knn)
    assert done.code == 2
    assert "is a class that train/ has not" in harness.only_sentence(done)
    shutil.rmtree(val)
    stray = shutil.copy(images / "train" / "cat" / "00.png", images / "train" / "stray.png")
    done = trial.start(run, *flags_of(trial, images))
    assert done.code == 2
    assert "lies beside class folders: move it into one of them" in harness.only_sentence(done)
    pathlib.Path(stray).unlink()
    trial.start(run, *flags_of(trial, images), faults=[("signal_after", {"step": 5, "number": signal.SIGKILL})])
    moved = images / "train" / "cat" / "07.png"
    moved.rename(images / "train" / "dog" / "77.png")
    done = trial.start(run, *flags_of(trial, images))
    assert done.code == 2
    assert "The data is not the one with which the run in" in harness.only_sentence(done)
    (images / "train" / "dog" / "77.png").rename(moved)
    assert trial.start(run, *flags_of(trial, images)).code == 0
    trial.record("labels that disagree", [], refused=True, exit_code=2)

"""Tiny runs of the commands that train a classifier, and what the tests of them share."""

import json

import numpy as np

from larq_ssl.data.label_subsets import LabelSubset, read_labels
from larq_ssl.experiments.run_folder import RunFolder
from tests.experiments.commands import SHORT_FLOAT

TINY = (
    *("--deterministic", "--epochs=2", "--steps_per_epoch=2", "--batch_size=35", "--image_size=8", "--knn_every=0"),
    *("--checkpoint_every=2", "--diagnostics_every=0", "--embeddings_every=0", "--validate_every=1"),
)
STEPS = 4
FILES = {
    *("flags.txt", "environment.json", "inputs.json", "metrics.jsonl", "results.json", "LICENSES.md", "classes.json"),
    "progress.json",
    *("summary.txt", "views.png", "curves.png", ".lock", "checkpoints", "tensorboard", "encoders", "heads"),
}


def run(commands, command: str, name: str, *arguments: str) -> RunFolder:
    """A tiny run of a command, finished, in a folder of that name."""
    folder = RunFolder(commands.folder / command / name)
    done = commands.run(command, *TINY, *arguments, f"--workdir={folder.path}")
    assert done.code == 0, done.err
    return folder


def pretrain(commands, *arguments: str) -> RunFolder:
    """A tiny network pre-trained by MoCo, with a head of two layers."""
    folder = RunFolder(commands.folder / "pretrained")
    if not folder.finished:
        done = commands.run("moco", *TINY[:-1], *SHORT_FLOAT, "--queue_size=70", f"--workdir={folder.path}", *arguments)
        assert done.code == 0, done.err
    return folder


def refused(commands, command: str, *arguments: str) -> str:
    """The sentence with which a command refuses its arguments, before it leaves anything behind."""
    folder = commands.folder / "refused"
    done = commands.run(command, *TINY, *arguments, f"--workdir={folder}")
    assert done.code == 2, done
    assert "Traceback" not in done.err
    assert not folder.exists() or [path.name for path in folder.iterdir()] == [".lock"]
    return done.err.splitlines()[-1]


def kept(folder: RunFolder) -> LabelSubset:
    """Which images kept their label."""
    return read_labels(folder.labels_file)


def rows(folder: RunFolder) -> list[dict]:
    return [json.loads(line) for line in folder.metrics_file.read_text().splitlines()]


def assert_results(folder: RunFolder, prefix: str) -> None:
    """`results.json` has the accuracies after the last and the best epoch beside all that the last epoch logged."""
    metrics, history = folder.results()["metrics"], rows(folder)
    assert all({"val_top1", "val_top5", "accuracy", "loss"} <= row.keys() for row in history)
    best = max(history, key=lambda row: row["val_top1"])
    expected = {
        f"{prefix}/last/top1": history[-1]["val_top1"],
        f"{prefix}/last/top5": history[-1]["val_top5"],
        f"{prefix}/best/top1": best["val_top1"],
        f"{prefix}/best/top5": best["val_top5"],
        f"{prefix}/best/epoch": best["epoch"],
    }
    last = {name: value for name, value in history[-1].items() if name not in ("epoch", "step")}
    assert metrics == {**last, **expected}
    assert 0 <= metrics[f"{prefix}/last/top1"] <= metrics[f"{prefix}/last/top5"] <= 1


def assert_equal_arrays(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    assert first.keys() == second.keys()
    for key, array in first.items():
        np.testing.assert_array_equal(array, second[key], err_msg=key)

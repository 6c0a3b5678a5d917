"""The main job on the bundled digits: `python -m larq_ssl.experiments.demo` (or `make demo`).

Trains a float teacher, BSSL stage 1 and stage 2 with the commands that a user would type, probes them beside raw pixels
and an untrained binary network, and ends with a table and pictures. A killed demo goes on where it was.
"""

import pathlib
import subprocess
import sys
import time
from collections.abc import Sequence

from absl import flags

from larq_ssl.data import datasets
from larq_ssl.data.datasets import ImageDataset
from larq_ssl.evaluation import pictures
from larq_ssl.evaluation.features import Features, extract, raw_pixels
from larq_ssl.evaluation.knn import knn
from larq_ssl.evaluation.linear import LinearResult, linear
from larq_ssl.evaluation.results import provenance
from larq_ssl.experiments import common, probes
from larq_ssl.experiments.run_folder import RunFolder, environment
from larq_ssl.files import write_json, write_whole
from larq_ssl.models import Encoder, profile
from larq_ssl.models.folder import encoder_hash, load_encoder

FLAGS = flags.FLAGS

_OUT = flags.DEFINE_string("out", "runs/demo", "Folder of the demo; each seed has a folder of its own in it.")
_SEED = flags.DEFINE_integer("seed", 0, "Of weights, views and order.", 0)

_K = 20
_COLUMNS = ("encoder", "kNN (k = 20)", "linear", "binary MACs (BOPs)", "other MACs", "size in KiB")


def commands(folder: pathlib.Path, seed: int) -> dict[str, list[str]]:
    """The three commands of the main job by the name of their run folder."""
    common_flags = [f"--seed={seed}"]
    return {
        "teacher": ["moco", f"--workdir={folder / 'teacher'}", *common_flags],
        "stage1": ["bssl", "--stage=1", f"--teacher={folder / 'teacher'}", f"--workdir={folder / 'stage1'}", *common_flags],
        "stage2": ["bssl", "--stage=2", f"--workdir={folder / 'stage2'}", *common_flags],
    }


def train(folder: pathlib.Path, seed: int) -> None:
    """Runs the commands, each in a process of its own; those that are finished do nothing."""
    for name, (experiment, *arguments) in commands(folder, seed).items():
        common.say(f"\n$ python -m larq_ssl.experiments.{experiment} {' '.join(arguments)}")
        run = subprocess.run([sys.executable, "-m", f"larq_ssl.experiments.{experiment}", *arguments], check=False)
        if run.returncode:
            raise ValueError(f"The demo stops because the training of {name} ended with exit code {run.returncode}.")


def measure(
    name: str, train_features: Features, test_features: Features, classes: int, encoder: Encoder | None, size: int
) -> tuple[dict[str, object], LinearResult]:
    """One row of the table."""
    votes = knn(train_features, test_features, classes, ks=(_K,))
    classifier = linear(train_features, test_features, classes, progress=probes.bar(f"linear probe, {name}"))
    row: dict[str, object] = {
        "encoder": name,
        "knn": votes[f"{_K}/top1"],
        "linear": classifier.metrics["last/top1"],
        "linear_best_epoch": classifier.metrics["best/top1"],
        "learning_rate": classifier.learning_rate,
    }
    if encoder is not None:
        cost = profile.cost(encoder, size)
        row |= {
            "hash": encoder_hash(encoder),
            "binary_macs": cost.binary_macs,
            "float_macs": cost.float_macs,
            "size_bytes": cost.size_bytes,
        }
    return row, classifier


def evaluate(folder: pathlib.Path, seed: int) -> list[dict[str, object]]:
    """All rows of the table; draws stage 2's confusion matrix."""
    images = [datasets.load_dataset("digits", split) for split in ("train", "val")]
    size = int(RunFolder(folder / "stage2").flags()["image_size"])
    encoders = {
        "untrained binary network": _untrained(folder, images[0], size, seed),
        "float teacher (MoCo v2)": load_encoder(RunFolder(folder / "teacher").encoder("student")),
        "BSSL stage 1": load_encoder(RunFolder(folder / "stage1").encoder("student")),
        "BSSL stage 2": load_encoder(RunFolder(folder / "stage2").encoder("student")),
    }
    classes = images[0].classes
    rows = [measure("raw pixels", *(raw_pixels(part, size) for part in images), classes, None, size)[0]]
    for name, encoder in encoders.items():
        features = [extract(encoder, part, size) for part in images]
        row, classifier = measure(name, *features, classes, encoder, size)
        rows.append(row)
    pictures.confusion_matrix(
        folder / "confusion.png", features[1].labels, classifier.predictions, images[0].class_names, overwrite=True
    )
    return rows


def _untrained(folder: pathlib.Path, train_images: ImageDataset, size: int, seed: int) -> Encoder:
    like = load_encoder(RunFolder(folder / "stage2").encoder("student"))
    return probes.random_encoder(like, train_images, size, seed)


def table(rows: Sequence[dict[str, object]]) -> str:
    """The rows as Markdown."""
    cells = [list(_COLUMNS), ["---", *["---:"] * (len(_COLUMNS) - 1)]]
    for row in rows:
        costs = [f"{row[name]:,}" if name in row else "" for name in ("binary_macs", "float_macs")]
        size = f"{row['size_bytes'] / 1024:,.0f}" if "size_bytes" in row else ""
        cells.append([str(row["encoder"]), f"{row['knn']:.1%}", f"{row['linear']:.1%}", *costs, size])
    widths = [max(len(line[column]) for line in cells) for column in range(len(_COLUMNS))]
    return "".join(
        "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |\n" for line in cells
    )


def main() -> int:
    started = time.perf_counter()
    folder = pathlib.Path(_OUT.value) / f"seed{_SEED.value}"
    with common.user_errors():
        train(folder, _SEED.value)
        rows = evaluate(folder, _SEED.value)
    text = table(rows)
    seconds = time.perf_counter() - started
    write_whole(folder / "table.md", text, overwrite=True)
    write_json(
        folder / "table.json",
        {"rows": rows, "seed": _SEED.value, "seconds": round(seconds), **provenance(), "environment": environment()},
        overwrite=True,
    )
    curves = {name: folder / name / "metrics.jsonl" for name in ("teacher", "stage1", "stage2")}
    pictures.loss_curves(folder / "curves.png", curves, overwrite=True)
    common.say(f"\n{text}\nDigits held out: 397; {seconds / 60:.1f} minutes. Pictures:")
    for picture in ("curves.png", "confusion.png", "stage2/views.png"):
        common.say(f"  {folder / picture}")
    common.say(f"Curves of every metric: tensorboard --logdir {folder}")
    return 0


if __name__ == "__main__":
    common.run(main)

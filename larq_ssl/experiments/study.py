"""The main job as a study: `python -m larq_ssl.experiments.study --recipes=digits --seeds=3`.

Trains a float teacher, BSSL stage 1 and stage 2 (and a binary network in one stage) with the commands that a user would
type and the recipes of one folder, probes them beside raw pixels and an untrained binary network, and ends with a table
and pictures. A killed study goes on where it was. With one seed it is the demonstration of `make demo`.
"""

import json
import pathlib
import statistics
import sys
import time
from collections.abc import Mapping, Sequence

from absl import flags

from larq_ssl.data import datasets
from larq_ssl.data.datasets import ImageDataset
from larq_ssl.evaluation import pictures
from larq_ssl.evaluation.features import Features, extract, raw_pixels
from larq_ssl.evaluation.knn import knn
from larq_ssl.evaluation.linear import linear
from larq_ssl.evaluation.untrained import untrained
from larq_ssl.experiments import common
from larq_ssl.experiments.run_folder import RunFolder, environment
from larq_ssl.files import write_json, write_whole
from larq_ssl.models import Encoder, profile
from larq_ssl.models.folder import encoder_hash, load_encoder

FLAGS = flags.FLAGS

_RECIPES = flags.DEFINE_string(
    "recipes", "digits", "Folder of recipes: moco, bssl_stage1, bssl_stage2, bssl_one_stage."
)
_OUT = flags.DEFINE_string("out", None, "Folder of the study, by default runs/study/<recipes>.")
_SEEDS = flags.DEFINE_integer("seeds", 1, "Number of seeds: 0, 1, ...", 1)
_ARMS = flags.DEFINE_list("arms", ["stage1", "stage2"], "What to train after the teacher: stage1, stage2, one_stage.")
_SHARED = flags.DEFINE_bool("shared_teacher", False, "All seeds learn from the teacher of seed 0.")
_DATASET = flags.DEFINE_string("dataset", None, "Instead of the recipes' data set, e.g. folder.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where the data set lies.")
_PRESET = flags.DEFINE_string("preset", None, "BSSL's preset, instead of the recipes'.")

Row = dict[str, str | float]

_K = 20
_ROWS = {
    "teacher": "float teacher (MoCo v2)",
    "stage1": "BSSL stage 1",
    "stage2": "BSSL stage 2",
    "one_stage": "BSSL in one stage",
}
_COLUMNS = ("encoder", "kNN (k = 20)", "linear", "binary MACs (BOPs)", "other MACs", "size in KiB")


def commands(folder: pathlib.Path, seed: int) -> dict[str, list[str]]:
    """The commands of one seed by the name of their run folder, in their order."""
    data = [f"--dataset={_DATASET.value}"] if _DATASET.value else []
    data += [f"--data_dir={_DATA_DIR.value}"] if _DATA_DIR.value else []
    teacher = folder.parent / f"seed{0 if _SHARED.value else seed}" / "teacher"
    wanted = {"teacher": ["moco", f"--recipe={_RECIPES.value}/moco", f"--workdir={teacher}"]}
    for arm in _ARMS.value:
        wanted[arm] = [
            "bssl",
            f"--recipe={_RECIPES.value}/bssl_{arm}",
            f"--teacher={teacher}",
            f"--workdir={folder / arm}",
        ]
        if _PRESET.value:
            wanted[arm].append(f"--preset={_PRESET.value}")
    return {
        name: [*arguments, *data, f"--seed={0 if name == 'teacher' and _SHARED.value else seed}"]
        for name, arguments in wanted.items()
    }


def train(folder: pathlib.Path, seed: int) -> dict[str, RunFolder]:
    """Runs the commands, each in a process of its own; those that are finished do nothing."""
    runs = {}
    for name, (experiment, *arguments) in commands(folder, seed).items():
        common.say("")
        code = common.run_command(experiment, arguments)
        if code:
            raise ValueError(f"The study stops: the training of {name} ended with exit code {code}.")
        runs[name] = RunFolder(next(text for text in arguments if text.startswith("--workdir=")).partition("=")[2])
    return runs


def evaluate(folder: pathlib.Path, seed: int, runs: Mapping[str, RunFolder]) -> list[Row]:
    """All rows of the table for one seed, measured once; draws the last arm's confusion matrix."""
    file = folder / "rows.json"
    measured = {name: run.results()["encoders"]["student"] for name, run in runs.items()}
    if file.is_file() and (kept := json.loads(file.read_text()))["of"] == measured:
        return kept["rows"]
    last = runs[_ARMS.value[-1]]
    told = last.flags()
    limit = int(told["max_train_images"]) if "max_train_images" in told else None
    images = [
        datasets.load_dataset(told["dataset"], split, told.get("data_dir"), limit=part)
        for split, part in (("train", limit), ("val", None))
    ]
    size = int(told["image_size"])
    binary = load_encoder(last.encoder("student"))
    encoders = {"untrained binary network": untrained(binary, images[0], size, seed)}
    encoders |= {_ROWS[name]: load_encoder(run.encoder("student")) for name, run in runs.items()}
    rows = [_measure("raw pixels", [raw_pixels(part, size) for part in images], images, None, size, None)]
    for name, encoder in encoders.items():
        features = [extract(encoder, part, size, progress=common.bar(f"features, {name}")) for part in images]
        rows.append(_measure(name, features, images, encoder, size, folder / "confusion.png"))
    write_json(file, {"of": measured, "rows": rows}, overwrite=True)
    return rows


def _measure(
    name: str,
    features: Sequence[Features],
    images: Sequence[ImageDataset],
    encoder: Encoder | None,
    size: int,
    picture: pathlib.Path | None,
) -> Row:
    """One row of the table."""
    train_features, test_features = features
    classes = images[0].class_count()
    votes = knn(train_features, test_features, classes, ks=(_K,))
    probe = linear(train_features, test_features, classes, progress=common.bar(f"linear probe, {name}"))
    if picture is not None:
        pictures.confusion_matrix(
            picture, test_features.labels, probe.predictions, images[0].class_names, overwrite=True
        )
    row: Row = {
        "encoder": name,
        "knn": votes[f"{_K}/top1"],
        "linear": probe.metrics["last/top1"],
        "linear_best_epoch": probe.metrics["best/top1"],
        "linear_learning_rate": probe.learning_rate,
    }
    if encoder is not None:
        cost = profile.cost(encoder, size)
        row |= {"binary_macs": cost.binary_macs, "float_macs": cost.float_macs, "size_bytes": cost.size_bytes}
        row["encoder_hash"] = encoder_hash(encoder)
    return row


def table(seeds: Sequence[Sequence[Row]]) -> str:
    """The rows of all seeds as Markdown, accuracies as mean and standard deviation in percent."""
    cells = [list(_COLUMNS), ["---", *["---:"] * (len(_COLUMNS) - 1)]]
    for rows in zip(*seeds, strict=True):
        first = rows[0]
        costs = [f"{first[name]:,}" if name in first else "" for name in ("binary_macs", "float_macs")]
        size = f"{first['size_bytes'] / 1024:,.0f}" if "size_bytes" in first else ""
        accuracies = [_spread([float(row[name]) for row in rows]) for name in ("knn", "linear")]
        cells.append([str(first["encoder"]), *accuracies, *costs, size])
    widths = [max(len(line[column]) for line in cells) for column in range(len(_COLUMNS))]
    return "".join(
        "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |\n"
        for line in cells
    )


def _spread(values: Sequence[float]) -> str:
    mean = f"{100 * statistics.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {100 * statistics.stdev(values):.1f}"


def main() -> int:
    started = time.perf_counter()
    out = pathlib.Path(_OUT.value or f"runs/study/{_RECIPES.value}")
    with common.user_errors():
        unknown = [arm for arm in _ARMS.value if arm not in _ROWS or arm == "teacher"]
        if unknown or not _ARMS.value:
            raise ValueError(f"--arms must be some of stage1, stage2, one_stage, got {','.join(_ARMS.value)}.")
        seeds, runs = [], {}
        for seed in range(_SEEDS.value):
            folder = out / f"seed{seed}"
            runs = train(folder, seed)
            seeds.append(evaluate(folder, seed, runs))
    text = table(seeds)
    command = " ".join(["python -m larq_ssl.experiments.study", *sys.argv[1:]])
    record = {
        "command": command,
        "seeds": seeds,
        "seconds_of_this_process": round(time.perf_counter() - started),
    }
    write_whole(out / "table.md", text, overwrite=True)
    write_json(out / "table.json", {**record, "environment": environment()}, overwrite=True)
    curves = {_ROWS[name]: run.metrics_file for name, run in runs.items()}
    pictures.loss_curves(out / "curves.png", curves, overwrite=True)
    common.say(f"\nAccuracies in percent, on images held out; {len(seeds)} seed(s).\n\n{text}\nPictures:")
    for picture in (out / "curves.png", folder / "confusion.png", runs[_ARMS.value[-1]].path / "views.png"):
        common.say(f"  {picture}")
    common.say(f"All metrics over time: {sys.executable} -m tensorboard.main --logdir {out}")
    return 0


if __name__ == "__main__":
    common.run(main)

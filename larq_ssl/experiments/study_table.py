"""The table of a study: what is measured of the networks that it trained, beside raw pixels and untrained ones."""

import json
import pathlib
import statistics
from collections.abc import Mapping, Sequence

from larq_ssl.data import datasets
from larq_ssl.data.datasets import ImageDataset
from larq_ssl.evaluation import pictures
from larq_ssl.evaluation.features import Features, extract, raw_pixels
from larq_ssl.evaluation.knn import knn
from larq_ssl.evaluation.linear import linear
from larq_ssl.evaluation.untrained import untrained
from larq_ssl.experiments import common
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.files import write_json
from larq_ssl.models import Encoder, profile
from larq_ssl.models.folder import encoder_hash, load_encoder

Row = dict[str, str | float]

_K = 20
_COLUMNS = ("encoder", "kNN (k = 20)", "linear", "binary MACs (BOPs)", "other MACs", "size in KiB")
_UNTRAINED = {
    "full": "untrained binary network",
    "activations": "untrained network with binary activations",
    "none": "untrained float network",
}


def evaluate(folder: pathlib.Path, seed: int, runs: Mapping[str, RunFolder], teacher: str | None = None) -> list[Row]:
    """All rows of the table for one seed, each measured once; draws the last run's confusion matrix.

    # Arguments
        folder: Of the seed; `rows.json` in it keeps what is measured.
        seed: Of the untrained networks.
        runs: By the names that the table gives them. Of each the student is probed, of DINO too, as SSLight does.
            Data set and size of the images are those of the last.
        teacher: The name of the run that is the teacher of the others: there is no untrained network of its kind.
    # Returns
        Accuracies and costs, in the order of the table.
    """
    file = folder / "rows.json"
    measured = {name: run.results()["encoders"]["student"] for name, run in runs.items()}
    kept = json.loads(file.read_text()) if file.is_file() else {"rows": []}
    if kept.get("of") == measured:
        return kept["rows"]
    known = {(row["encoder"], row.get("encoder_hash")): row for row in kept["rows"]}
    *_, last = runs.values()
    images, size = _images(last.flags())
    trained = {name: load_encoder(run.encoder("student")) for name, run in runs.items()}
    kinds = [encoder for name, encoder in trained.items() if name != teacher] or list(trained.values())
    encoders: dict[str, Encoder | None] = {"raw pixels": None}
    encoders |= {name: untrained(like, images[0], size, seed) for name, like in _baselines(kinds).items()}
    encoders |= trained
    *others, shown = encoders
    rows: list[Row] = []
    for name in others:
        encoder = encoders[name]
        row = known.get((name, None if encoder is None else encoder_hash(encoder)))
        rows.append(row or _measure(name, images, encoder, size, None))
        # A study that is killed here does not measure these again.
        write_json(file, {"rows": rows}, overwrite=True)
    rows.append(_measure(shown, images, encoders[shown], size, folder / "confusion.png"))
    write_json(file, {"of": measured, "rows": rows}, overwrite=True)
    return rows


def _images(told: Mapping[str, str]) -> tuple[list[ImageDataset], int]:
    """Training and test images of a run, and their size."""
    limit = int(told["max_train_images"]) if "max_train_images" in told else None
    held_out = float(told.get("val_fraction", 0))
    parts = [
        datasets.load_dataset(told["dataset"], split, told.get("data_dir"), val_fraction=held_out, limit=part)
        for split, part in (("train", limit), ("val", None))
    ]
    return parts, int(told["image_size"])


def _baselines(kinds: Sequence[Encoder]) -> dict[str, Encoder]:
    """One network of each kind; binary activations, which stage 2 takes further, count where nothing else does."""
    last = {encoder.spec.binarization: encoder for encoder in kinds}
    wanted = [name for name in ("none", "full") if name in last] or ["activations"]
    return {_UNTRAINED[name]: last[name] for name in wanted}


def _measure(
    name: str, images: Sequence[ImageDataset], encoder: Encoder | None, size: int, picture: pathlib.Path | None
) -> Row:
    """One row of the table; without an encoder, of the raw pixels."""

    def features(part: ImageDataset) -> Features:
        if encoder is None:
            return raw_pixels(part, size)
        return extract(encoder, part, size, progress=common.bar(f"features, {name}"))

    train_features, test_features = (features(part) for part in images)
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

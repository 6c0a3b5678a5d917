"""The table of a study: what is measured of the networks that it trained, beside raw pixels and untrained ones."""

import itertools
import pathlib
import statistics
from collections.abc import Collection, Mapping, Sequence

from larq_ssl.data import datasets
from larq_ssl.data.datasets import ImageDataset
from larq_ssl.evaluation import pictures
from larq_ssl.evaluation.features import extract
from larq_ssl.evaluation.knn import knn
from larq_ssl.evaluation.linear import linear
from larq_ssl.evaluation.untrained import raw_pixels, untrained
from larq_ssl.experiments import common
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.files import read_json, write_json
from larq_ssl.models import Encoder, profile
from larq_ssl.models.folder import encoder_hash, load_encoder

Row = dict[str, str | float]

_K = 20
_COLUMNS = ("encoder", "kNN (k = 20)", "linear", "binary MACs (BOPs)", "other MACs", "size in KiB")
BINARIZATIONS = {"float": "none", "stage1": "activations", "stage2": "full", "one_stage": "full"}
"""Of the network that each arm trains."""

UNTRAINED = {
    "none": "untrained float network",
    "activations": "untrained network with binary activations",
    "full": "untrained binary network",
}


def evaluate(
    folder: pathlib.Path, seed: int, runs: Mapping[str, RunFolder], teacher: str, kinds: Collection[str]
) -> list[Row]:
    """The rows of the table for one seed, each measured once; draws the confusion matrix of the last run.

    # Arguments
        folder: Of the seed; `rows.json` in it keeps what is measured, also of other runs than these.
        seed: Of the untrained networks.
        runs: Those that are finished, by the names that the table gives them. Of each the student is probed, of DINO
            too, as SSLight does. Data set and size of the images are those of the last.
        teacher: The name of the run that is the teacher of the others: there is no untrained network like it.
        kinds: Binarizations of which there is an untrained network, as soon as there is a run like it.
    # Returns
        Accuracies and costs, in the order of the table.
    """
    file = folder / "rows.json"
    kept = read_json(file) if file.is_file() else {"rows": []}
    measured = {name: run.results()["encoders"]["student"] for name, run in runs.items()}
    if measured.items() <= kept.get("of", {}).items():
        return kept["rows"]
    known = {(row["encoder"], row.get("encoder_hash")): row for row in kept["rows"]}
    *_, last = runs
    images, size = _images(runs[last].flags())
    trained = {name: load_encoder(run.encoder("student")) for name, run in runs.items()}
    like: dict[str, Encoder] = {}
    for name, network in trained.items():
        if name != teacher:
            # The first one: so the baseline stays the same while methods are added.
            like.setdefault(network.spec.binarization, network)
    encoders: dict[str, Encoder | None] = {"raw pixels": None}
    encoders |= {UNTRAINED[kind]: untrained(like[kind], images[0], size, seed) for kind in kinds if kind in like}
    encoders |= trained
    others = [row for row in kept["rows"] if row["encoder"] not in encoders]
    rows: list[Row] = []
    for name, encoder in encoders.items():
        row = known.get((name, None if encoder is None else encoder_hash(encoder)))
        picture = folder / "confusion.png" if name == last else None
        rows.append(row or _measure(name, images, encoder, size, picture))
        # A study that is killed here does not measure these again.
        write_json(file, {"rows": rows + others}, overwrite=True)
    write_json(file, {"of": {**kept.get("of", {}), **measured}, "rows": rows + others}, overwrite=True)
    return rows + others


def _images(told: Mapping[str, str]) -> tuple[list[ImageDataset], int]:
    """Training and test images of a run, and their size."""
    limit = int(told["max_train_images"]) if "max_train_images" in told else None
    held_out = float(told.get("val_fraction", 0))
    parts = [
        datasets.load_dataset(
            told["dataset"],
            split,
            told.get("data_dir"),
            val_fraction=held_out,
            limit=part,
            classes_list=told.get("classes_list"),
        )
        for split, part in (("train", limit), ("val", None))
    ]
    return parts, int(told["image_size"])


def _measure(
    name: str, images: Sequence[ImageDataset], encoder: Encoder | None, size: int, picture: pathlib.Path | None
) -> Row:
    """One row of the table; without an encoder, of the raw pixels."""

    network, bar = encoder or raw_pixels(size), common.bar(f"features, {name}")
    train_features, test_features = (extract(network, part, size, progress=bar) for part in images)
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


def table(seeds: Sequence[Sequence[Row]], wanted_seeds: int, wanted: Sequence[str]) -> str:
    """The rows of all seeds as Markdown, accuracies as mean and standard deviation in percent.

    # Arguments
        seeds: The rows of each seed, as far as they are measured.
        wanted_seeds: How many seeds there are to be.
        wanted: Names of the runs that there are to be; what is missing of them is marked.
    """
    found: dict[str, list[Row]] = {}
    for row in itertools.chain(*seeds):
        found.setdefault(str(row["encoder"]), []).append(row)
    baselines = [name for name in found if name not in wanted]
    cells = [list(_COLUMNS)]
    for name in [*baselines, *wanted]:
        rows = found.get(name, [])
        first: Row = rows[0] if rows else {}
        costs = [f"{first[cost]:,}" if cost in first else "" for cost in ("binary_macs", "float_macs")]
        size = f"{float(first['size_bytes']) / 1024:,.0f}" if "size_bytes" in first else ""
        accuracies = [spread([float(row[probe]) for row in rows], wanted_seeds) for probe in ("knn", "linear")]
        cells.append([name, *accuracies, *costs, size])
    return markdown(cells)


def markdown(cells: Sequence[Sequence[str]]) -> str:
    """A table of Markdown, its columns of one width; the first line is its head."""
    head, *lines = cells
    ruled = [head, ["---", *["---:"] * (len(head) - 1)], *lines]
    widths = [max(len(line[column]) for line in ruled) for column in range(len(head))]
    return "".join(
        "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |\n"
        for line in ruled
    )


def spread(values: Sequence[float], wanted: int) -> str:
    """Mean and standard deviation in percent; says so where there are not as many values as there are to be."""
    if not values:
        return "unfinished"
    deviation = "" if len(values) == 1 else f" ± {100 * statistics.stdev(values):.1f}"
    missing = "" if len(values) == wanted else f" ({len(values)} of {wanted})"
    return f"{100 * statistics.mean(values):.1f}{deviation}{missing}"

"""The main job as a study: `python -m larq_ssl.experiments.study --recipes=digits --seeds=3`.

Trains a float teacher, BSSL stage 1 and stage 2 (or other methods, and a binary network in one stage) with the commands
that a user would type and the recipes of one folder, probes them beside raw pixels and an untrained binary network, and
ends with a table and pictures. A killed study goes on where it was. With one seed it is what `make demo` shows.
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

_RECIPES = flags.DEFINE_string("recipes", "digits", "Folder of recipes: moco, and <method>_<arm> for each arm.")
_OUT = flags.DEFINE_string("out", None, "Folder of the study, by default runs/study/<recipes>.")
_SEEDS = flags.DEFINE_integer("seeds", 1, "Number of seeds: 0, 1, ...", 1)
_METHODS = flags.DEFINE_list(
    "methods",
    ["bssl"],
    "What to train after the teacher: bssl, s2bnn_contrastive, s2bnn_contrastive_guided, s2bnn_guided.",
)
_ARMS = flags.DEFINE_list("arms", ["stage1", "stage2"], "Arms of each method: stage1, stage2, one_stage.")
_SHARED = flags.DEFINE_bool("shared_teacher", False, "All seeds learn from the teacher of seed 0.")
_DATASET = flags.DEFINE_string("dataset", None, "Instead of the recipes' data set, e.g. folder.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where the data set lies.")
_VAL_FRACTION = flags.DEFINE_float(
    "val_fraction", None, "Share of a folder held out where it has no val folder.", 0, 0.9
)
_PRESET = flags.DEFINE_string("preset", None, "BSSL's preset, instead of the recipes'.")

Row = dict[str, str | float]

_K = 20
_TITLES = {
    "bssl": "BSSL",
    "s2bnn_contrastive": "S2-BNN contrastive",
    "s2bnn_contrastive_guided": "S2-BNN contrastive + guided",
    "s2bnn_guided": "S2-BNN guided",
}
_OF_ARMS = {"stage1": "stage 1", "stage2": "stage 2", "one_stage": "in one stage"}
# What learns without the teacher.
_ALONE = ("s2bnn_contrastive",)
_COLUMNS = ("encoder", "kNN (k = 20)", "linear", "binary MACs (BOPs)", "other MACs", "size in KiB")


def arms() -> dict[str, tuple[str, str]]:
    """Method and arm by the name of their run folder; a stage 2 lies beside its stage 1."""
    pairs = [(method, arm) for method in _METHODS.value for arm in _ARMS.value]
    return {arm if method == "bssl" else f"{method}/{arm}": (method, arm) for method, arm in pairs}


def title(name: str) -> str:
    """What the table calls a run."""
    if name == "teacher":
        return "float teacher (MoCo v2)"
    method, arm = arms()[name]
    return f"{_TITLES[method]} {_OF_ARMS[arm]}"


def commands(folder: pathlib.Path, seed: int) -> dict[str, list[str]]:
    """The commands of one seed by the name of their run folder, in their order."""
    data = [f"--dataset={_DATASET.value}"] if _DATASET.value else []
    data += [f"--data_dir={_DATA_DIR.value}"] if _DATA_DIR.value else []
    data += [f"--val_fraction={_VAL_FRACTION.value}"] if _VAL_FRACTION.value is not None else []
    teacher = folder.parent / f"seed{0 if _SHARED.value else seed}" / "teacher"
    wanted = {"teacher": ["moco", f"--recipe={_RECIPES.value}/moco", f"--workdir={teacher}"]}
    for name, (method, arm) in arms().items():
        wanted[name] = [method.partition("_")[0], f"--recipe={_RECIPES.value}/{method}_{arm}"]
        wanted[name] += [] if method in _ALONE else [f"--teacher={teacher}"]
        wanted[name] += [f"--workdir={folder / name}"]
        if _PRESET.value and method == "bssl":
            wanted[name].append(f"--preset={_PRESET.value}")
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
    """All rows of the table for one seed, each measured once; draws the last arm's confusion matrix."""
    file = folder / "rows.json"
    measured = {name: run.results()["encoders"]["student"] for name, run in runs.items()}
    kept = json.loads(file.read_text()) if file.is_file() else {"rows": []}
    if kept.get("of") == measured:
        return kept["rows"]
    known = {(row["encoder"], row.get("encoder_hash")): row for row in kept["rows"]}
    *_, last = runs.values()
    told = last.flags()
    limit = int(told["max_train_images"]) if "max_train_images" in told else None
    held_out = float(told.get("val_fraction", 0))
    images = [
        datasets.load_dataset(told["dataset"], split, told.get("data_dir"), val_fraction=held_out, limit=part)
        for split, part in (("train", limit), ("val", None))
    ]
    size = int(told["image_size"])
    binary = load_encoder(last.encoder("student"))
    encoders: dict[str, Encoder | None] = {"raw pixels": None}
    encoders |= {"untrained binary network": untrained(binary, images[0], size, seed)}
    encoders |= {title(name): load_encoder(run.encoder("student")) for name, run in runs.items()}
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


def main() -> int:
    started = time.perf_counter()
    out = pathlib.Path(_OUT.value or f"runs/study/{_RECIPES.value}")
    with common.user_errors():
        for flag, allowed in ((_METHODS, _TITLES), (_ARMS, _OF_ARMS)):
            if not flag.value or not set(flag.value) <= set(allowed):
                raise ValueError(f"--{flag.name} must be some of {', '.join(allowed)}, got {','.join(flag.value)}.")
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
    curves = [out / ("curves.png" if len(_METHODS.value) == 1 else f"curves_{name}.png") for name in _METHODS.value]
    for picture, method in zip(curves, _METHODS.value, strict=True):
        names = ["teacher", *(name for name, (other, _) in arms().items() if other == method)]
        pictures.loss_curves(picture, {title(name): runs[name].metrics_file for name in names}, overwrite=True)
    common.say(f"\nAccuracies in percent, on images held out; {len(seeds)} seed(s).\n\n{text}\nPictures:")
    *_, last = runs.values()
    for picture in (*curves, folder / "confusion.png", last.path / "views.png"):
        common.say(f"  {picture}")
    common.say(f"All metrics over time: {sys.executable} -m tensorboard.main --logdir {out}")
    return 0


if __name__ == "__main__":
    common.run(main)

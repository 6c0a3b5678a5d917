"""SimCLRv2's three steps as a study: `python -m larq_ssl.experiments.simclrv2 --recipes=cifar10 --seeds=3`.

Pre-trains with SimCLR, fine-tunes with 1 % and 10 % of the labels from its features and from each of two layers of its
head, and distils what was fine-tuned from layer 1 into a float and a binary network; beside networks that are trained
with the same labels alone. Each step is the command that a user would type, with a recipe. The table, written anew
after each run, marks what is unfinished; a killed study goes on where it was.
"""

import dataclasses
import pathlib
import shlex
import sys
from collections.abc import Mapping, Sequence

from absl import flags

from larq_ssl.experiments import common
from larq_ssl.experiments.run_folder import RunFolder, environment
from larq_ssl.experiments.study_runs import train, training_hours
from larq_ssl.experiments.study_table import markdown, spread
from larq_ssl.files import write_json, write_whole

FLAGS = flags.FLAGS

_FRACTIONS = {"1percent": "1 % of the labels", "10percent": "10 % of the labels"}
_HEAD_LAYERS = (0, 1, 2)
# That from which SimCLRv2 fine-tunes with few labels (section 3.2); taken before any accuracy is seen.
_OF_TEACHER = 1
_BINARY = {"one_stage": "binary, in one stage", "two_stages": "binary, in two stages"}

_RECIPES = flags.DEFINE_string("recipes", "cifar10", "Folder of recipes: simclr, fine_tune_*, supervised_*, distill_*.")
_OUT = flags.DEFINE_string("out", None, "Folder of the study, by default runs/simclrv2/<recipes>.")
_SEEDS = flags.DEFINE_integer("seeds", 1, "Number of seeds: 0, 1, ...", 1)
_STUDENTS = flags.DEFINE_list("binary", ["one_stage"], f"How binary networks are trained: {', '.join(_BINARY)}.")
_NETWORK = flags.DEFINE_string("binary_encoder", "reactnet_18", "Binary network that learns from labels alone.")
_DATASET = flags.DEFINE_string("dataset", None, "Instead of the recipes' data set, e.g. folder.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where the data set lies.")


@dataclasses.dataclass(frozen=True)
class Step:
    """One run of the study.

    Attributes:
        row: Of the table, `None` for what is not in it.
        fraction: Of the labels, a column of the table.
        command: And its flags, but for data, seed and folder.
        measured: Whether its accuracy is that of the row. That of a stage 1 is not; its hours count.
    """

    row: str | None
    fraction: str | None
    command: tuple[str, ...]
    measured: bool = True


def steps(folder: pathlib.Path) -> dict[str, Step]:
    """The runs of one seed by their names, in their order."""

    def recipe(name: str) -> str:
        return f"--recipe={_RECIPES.value}/{name}"

    found = {"simclr": Step(None, None, ("simclr", recipe("simclr")))}
    for part in _FRACTIONS:
        found[f"supervised_{part}"] = Step("labels alone, float", part, ("supervised", recipe(f"supervised_{part}")))
        for layer in _HEAD_LAYERS:
            name = f"fine_tune_{part}_layer{layer}"
            row = f"fine-tuned from {f'layer {layer} of the head' if layer else 'the features'}, float"
            found[name] = Step(row, part, ("fine_tune", recipe(name), f"--run={folder / 'simclr'}"))
        teacher = f"--teacher={folder / f'fine_tune_{part}_layer{_OF_TEACHER}'}"
        found[f"distill_{part}"] = Step("and distilled, float", part, ("distill", recipe("distill_float"), teacher))
        for kind in _STUDENTS.value:
            for stage, flag in _stages(kind):
                alone = ("supervised", recipe(f"supervised_{part}"), f"--encoder={_NETWORK.value}", flag)
                of_teacher = ("distill", recipe(f"distill_{stage}"), teacher)
                for row, name, words in (
                    (f"labels alone, {_BINARY[kind]}", f"supervised_{part}_{kind}/{stage}", alone),
                    (f"and distilled, {_BINARY[kind]}", f"distill_{part}_{kind}/{stage}", of_teacher),
                ):
                    found[name] = Step(row, part, words, measured=stage != "stage1")
    return found


def _stages(kind: str) -> Sequence[tuple[str, str]]:
    """The stages of a binary network, and the flag that each of them is."""
    return (
        (("one_stage", "--one_stage"),) if kind == "one_stage" else (("stage1", "--stage=1"), ("stage2", "--stage=2"))
    )


def command(step: Step, name: str, folder: pathlib.Path, seed: int) -> list[str]:
    """What trains a step."""
    data = [f"--dataset={_DATASET.value}"] if _DATASET.value else []
    data += [f"--data_dir={_DATA_DIR.value}"] if _DATA_DIR.value else []
    # Other labels for each seed: which few there are decides more than how weights start. A teacher's student has its.
    data += [f"--label_seed={seed}"] if step.command[0] in ("supervised", "fine_tune") else []
    return [*step.command, *data, f"--seed={seed}", f"--workdir={folder / name}"]


def check_flags() -> None:
    """Raises a `ValueError` unless there are all recipes and students."""
    if not _STUDENTS.value or not set(_STUDENTS.value) <= set(_BINARY):
        raise ValueError(f"--binary must be some of {', '.join(_BINARY)}, got {','.join(_STUDENTS.value)}.")
    for step in steps(pathlib.Path()).values():
        common.recipe_file(step.command[1].partition("=")[2])


def accuracy(run: RunFolder) -> float:
    """Top-1 on the images held out, after the last epoch."""
    (value,) = (value for name, value in run.results()["metrics"].items() if name.endswith("/last/top1"))
    return float(value)


def refuse_other_labels(runs: Mapping[str, RunFolder]) -> None:
    """Raises a `ValueError` unless all runs of a share of the labels had the same ones."""
    for part in _FRACTIONS:
        had = {name: run.inputs()["labels"] for name, run in runs.items() if part in name and "distill" not in name}
        if len(set(had.values())) > 1:
            raise ValueError(f"Runs that are to be compared had not the same labels: {', '.join(had)}.")


def table(seeds: Sequence[Mapping[str, RunFolder]]) -> str:
    """One line per kind of network, one column per share of the labels, as Markdown; in percent."""
    all_steps = steps(pathlib.Path())
    lines = [["network", *_FRACTIONS.values(), "hours of training"]]
    for row in dict.fromkeys(step.row for step in all_steps.values() if step.row):
        own = {name: step for name, step in all_steps.items() if step.row == row}
        measured = {step.fraction: name for name, step in own.items() if step.measured}
        cells = [
            spread([accuracy(runs[measured[part]]) for runs in seeds if measured[part] in runs], _SEEDS.value)
            for part in _FRACTIONS
        ]
        hours = [training_hours(runs[name]) for runs in seeds for name in own if name in runs]
        lines.append([row, *cells, f"{sum(hours):.2f}" if hours else "unfinished"])
    return markdown(lines)


def main() -> int:
    out = pathlib.Path(_OUT.value or f"runs/simclrv2/{_RECIPES.value}")
    typed = shlex.join(["python", "-m", "larq_ssl.experiments.simclrv2", *sys.argv[1:]])
    with common.user_errors():
        check_flags()
        common.refuse_no_place("out", str(out))
        seeds: list[dict[str, RunFolder]] = []
        for seed in range(_SEEDS.value):
            folder = out / f"seed{seed}"
            seeds.append({})
            for name, step in steps(folder).items():
                seeds[-1][name] = train(name, command(step, name, folder, seed))
                refuse_other_labels(seeds[-1])
                text = table(seeds)
                write_whole(out / "table.md", f"{text}\n`{typed}`\n", overwrite=True)
        accuracies = [{name: accuracy(run) for name, run in runs.items() if name != "simclr"} for runs in seeds]
        write_json(
            out / "table.json", {"command": typed, "top1": accuracies, "environment": environment()}, overwrite=True
        )
    common.say(f"\nTop-1 in percent on images held out, after the last epoch; {_SEEDS.value} seed(s).\n\n{text}")
    return 0


if __name__ == "__main__":
    common.run(main)

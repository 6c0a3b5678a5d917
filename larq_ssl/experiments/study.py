"""The main job as a study: `python -m larq_ssl.experiments.study --recipes=digits --seeds=3`.

Trains a float teacher, BSSL stage 1 and stage 2 (or other methods, each float, in two stages or in one) with the
commands that a user would type and the recipes of one folder, probes each beside raw pixels and an untrained network as
soon as it is trained, and ends with a table and pictures. A killed study goes on where it was; its table marks what is
unfinished. With one seed it is what `make demo` shows; with `--methods=all`, `make table`.
"""

import pathlib
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TypeVar

from absl import flags

from larq_ssl.evaluation import pictures
from larq_ssl.experiments import common
from larq_ssl.experiments.run_folder import RunFolder, environment
from larq_ssl.experiments.study_arms import ARMS, METHODS, Arm
from larq_ssl.experiments.study_comparison import Costs, Spent, comparison
from larq_ssl.experiments.study_runs import run_of, train, training_hours
from larq_ssl.experiments.study_table import BINARIZATIONS, UNTRAINED, Row, evaluate, table
from larq_ssl.files import write_json, write_whole

FLAGS = flags.FLAGS

_RECIPES = flags.DEFINE_string("recipes", "digits", "Folder of recipes: moco, and <method>_<arm> for each arm.")
_OUT = flags.DEFINE_string("out", None, "Folder of the study, by default runs/study/<recipes>.")
_SEEDS = flags.DEFINE_integer("seeds", 1, "Number of seeds: 0, 1, ...", 1)
_ALL = "all"
_METHODS = flags.DEFINE_list(
    "methods",
    ["bssl"],
    f"What to train after the teacher: {', '.join(METHODS)}; or {_ALL} that have recipes there.",
)
_ARMS = flags.DEFINE_list("arms", ["stage1", "stage2"], f"Arms of each method: {', '.join(ARMS)}.")
_SHARED = flags.DEFINE_bool("shared_teacher", False, "All seeds learn from the teacher of seed 0.")
_DATASET = flags.DEFINE_string("dataset", None, "Instead of the recipes' data set, e.g. folder.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where the data set lies.")
_VAL_FRACTION = flags.DEFINE_float(
    "val_fraction", None, "Share of a folder held out where it has no val folder.", 0, 0.9
)
_TRAIN = flags.DEFINE_bool("train", True, "Train what is not finished; if not, the table is that of what is.")
_PRESET = flags.DEFINE_string("preset", None, "BSSL's preset, instead of the recipes'.")

_TEACHER = "float teacher (MoCo v2)"


def arms() -> list[Arm]:
    """What the flags name, in its order; of all methods, what has a recipe."""
    if _METHODS.value == [_ALL]:
        return [arm for method in METHODS for name in _ARMS.value if _has_recipe(arm := Arm(method, name))]
    return [Arm(method, arm) for method in _METHODS.value for arm in _ARMS.value]


def _has_recipe(arm: Arm) -> bool:
    return (common.recipes_folder() / _RECIPES.value / f"{arm.recipe}.flags").is_file()


def methods() -> list[str]:
    """The methods of the arms, in their order."""
    return list(dict.fromkeys(arm.method for arm in arms()))


def untrained_kinds() -> list[str]:
    """Binarizations of which there is an untrained network: of one method's stage 1, which goes on, not."""
    kinds = {BINARIZATIONS[arm.arm] for arm in arms()}
    of_products = [kind for kind in ("none", "full") if kind in kinds]
    return [kind for kind in UNTRAINED if kind in kinds] if len(methods()) > 1 else of_products or list(kinds)


def commands(folder: pathlib.Path, seed: int) -> dict[str, list[str]]:
    """The commands of one seed by the name of their run folder, in their order; a teacher only for who needs one."""
    data = [f"--dataset={_DATASET.value}"] if _DATASET.value else []
    data += [f"--data_dir={_DATA_DIR.value}"] if _DATA_DIR.value else []
    data += [f"--val_fraction={_VAL_FRACTION.value}"] if _VAL_FRACTION.value is not None else []
    of_teacher = 0 if _SHARED.value else seed
    teacher = folder.parent / f"seed{of_teacher}" / "teacher"
    wanted = {}
    if any(arm.needs_teacher for arm in arms()):
        wanted["teacher"] = ["moco", f"--recipe={_RECIPES.value}/moco", f"--workdir={teacher}", *data]
        wanted["teacher"].append(f"--seed={of_teacher}")
    for arm in arms():
        own = [f"--teacher={teacher}"] if arm.needs_teacher else []
        own += [f"--workdir={folder / arm.name}"]
        own += [f"--preset={_PRESET.value}"] if _PRESET.value and arm.method == "bssl" else []
        wanted[arm.name] = [arm.command, f"--recipe={_RECIPES.value}/{arm.recipe}", *own, *data, f"--seed={seed}"]
    return wanted


_Run = TypeVar("_Run")


def titled(runs: Mapping[str, _Run]) -> dict[str, _Run]:
    """The runs by the names that the table gives them."""
    titles = {"teacher": _TEACHER, **{arm.name: arm.title for arm in arms()}}
    return {titles[name]: run for name, run in runs.items()}


def check_flags() -> None:
    """Raises a `ValueError` unless every arm has its recipe."""
    for flag, allowed in ((_METHODS, METHODS), (_ARMS, ARMS)):
        if not (flag is _METHODS and flag.value == [_ALL]) and (not flag.value or not set(flag.value) <= set(allowed)):
            raise ValueError(f"--{flag.name} must be some of {', '.join(allowed)}, got {','.join(flag.value)}.")
    if not arms():
        raise ValueError(f"--recipes={_RECIPES.value} has no recipe for --arms={','.join(_ARMS.value)}.")
    for arm in arms():
        if not _has_recipe(arm):
            raise ValueError(
                f"--methods={arm.method} has no --arms={arm.arm} with --recipes={_RECIPES.value}: there is no recipe "
                f"{_RECIPES.value}/{arm.recipe}."
            )


def write_tables(out: pathlib.Path, seeds: Sequence[Sequence[Row]], costs: Costs, seconds: float) -> str:
    """Writes what is measured so far; returns the table of encoders."""
    command = " ".join(["python -m larq_ssl.experiments.study", *sys.argv[1:]])
    record = {"command": command, "seeds": seeds, "seconds_of_this_process": round(seconds)}
    write_json(out / "table.json", {**record, "environment": environment()}, overwrite=True)
    wanted = list(titled(dict.fromkeys(commands(out, 0))))
    text = table(seeds, _SEEDS.value, wanted)
    write_whole(out / "table.md", text, overwrite=True)
    if len(methods()) > 1:
        compared = comparison(seeds, _SEEDS.value, arms(), _TEACHER, costs)
        told = f"Accuracies in percent, on images held out; {_SEEDS.value} seed(s). Epochs are those of the arms."
        write_whole(out / "comparison.md", f"{compared}\n{told}\n\n`{command}`\n", overwrite=True)
    return text


def main() -> int:
    started = time.perf_counter()
    out = pathlib.Path(_OUT.value or f"runs/study/{_RECIPES.value}")
    with common.user_errors():
        check_flags()
        common.refuse_no_place("out", str(out))
        seeds: list[list[Row]] = []
        costs: Costs = {}
        for seed in range(_SEEDS.value):
            folder, runs = out / f"seed{seed}", {}
            seeds.append([])
            for name, command in commands(folder, seed).items():
                if not _TRAIN.value and not run_of(command).finished:
                    continue
                runs[name] = train(name, command) if _TRAIN.value else run_of(command)
                spent = Spent(training_hours(runs[name]), int(runs[name].flags()["epochs"]))
                costs.setdefault(name, []).append(spent)
                seeds[-1] = evaluate(folder, seed, titled(runs), _TEACHER, untrained_kinds())
                text = write_tables(out, seeds, costs, time.perf_counter() - started)
        if not costs:
            raise ValueError(f"--notrain: no run in {out} is finished, so there is nothing to tell.")
    if runs:
        _show(out, folder, titled(runs), text)
    return 0


def _show(out: pathlib.Path, folder: pathlib.Path, runs: Mapping[str, RunFolder], text: str) -> None:
    """Draws the curves of each method and tells where everything is."""
    begun = [name for name in methods() if any(arm.title in runs for arm in arms() if arm.method == name)]
    curves = [out / ("curves.png" if len(methods()) == 1 else f"curves_{name}.png") for name in begun]
    for picture, method in zip(curves, begun, strict=True):
        names = [_TEACHER, *(arm.title for arm in arms() if arm.method == method)]
        logs = {name: runs[name].metrics_file for name in names if name in runs}
        pictures.loss_curves(picture, logs, overwrite=True)
    common.say(f"\nAccuracies in percent, on images held out; {_SEEDS.value} seed(s).\n\n{text}\nPictures:")
    *_, last = runs.values()
    for picture in (*curves, folder / "confusion.png", last.path / "views.png"):
        common.say(f"  {picture}")
    common.say(f"All metrics over time: {sys.executable} -m tensorboard.main --logdir {out}")


if __name__ == "__main__":
    common.run(main)

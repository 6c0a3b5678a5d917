"""The main job as a study: `python -m larq_ssl.experiments.study --recipes=digits --seeds=3`.

Trains a float teacher, BSSL stage 1 and stage 2 (or other methods, each float, in two stages or in one) with the
commands that a user would type and the recipes of one folder, probes them beside raw pixels and an untrained network,
and ends with a table and pictures. A killed study goes on where it was. With one seed it is what `make demo` shows.
"""

import pathlib
import sys
import time
from collections.abc import Mapping

from absl import flags

from larq_ssl.evaluation import pictures
from larq_ssl.experiments import common
from larq_ssl.experiments.run_folder import RunFolder, environment
from larq_ssl.experiments.study_arms import ARMS, METHODS, Arm
from larq_ssl.experiments.study_table import evaluate, table
from larq_ssl.files import write_json, write_whole

FLAGS = flags.FLAGS

_RECIPES = flags.DEFINE_string("recipes", "digits", "Folder of recipes: moco, and <method>_<arm> for each arm.")
_OUT = flags.DEFINE_string("out", None, "Folder of the study, by default runs/study/<recipes>.")
_SEEDS = flags.DEFINE_integer("seeds", 1, "Number of seeds: 0, 1, ...", 1)
_METHODS = flags.DEFINE_list("methods", ["bssl"], f"What to train after the teacher: {', '.join(METHODS)}.")
_ARMS = flags.DEFINE_list(
    "arms", ["stage1", "stage2"], f"Arms of each method: {', '.join(ARMS)}; float for those with multi-crop alone."
)
_SHARED = flags.DEFINE_bool("shared_teacher", False, "All seeds learn from the teacher of seed 0.")
_DATASET = flags.DEFINE_string("dataset", None, "Instead of the recipes' data set, e.g. folder.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where the data set lies.")
_VAL_FRACTION = flags.DEFINE_float(
    "val_fraction", None, "Share of a folder held out where it has no val folder.", 0, 0.9
)
_PRESET = flags.DEFINE_string("preset", None, "BSSL's preset, instead of the recipes'.")

_TEACHER = "float teacher (MoCo v2)"


def arms() -> list[Arm]:
    """What the flags name, in its order."""
    return [Arm(method, arm) for method in _METHODS.value for arm in _ARMS.value]


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


def titled(runs: Mapping[str, RunFolder]) -> dict[str, RunFolder]:
    """The runs by the names that the table gives them."""
    titles = {"teacher": _TEACHER, **{arm.name: arm.title for arm in arms()}}
    return {titles[name]: run for name, run in runs.items()}


def check_flags() -> None:
    """Raises a `ValueError` unless every arm has its recipe."""
    for flag, allowed in ((_METHODS, METHODS), (_ARMS, ARMS)):
        if not flag.value or not set(flag.value) <= set(allowed):
            raise ValueError(f"--{flag.name} must be some of {', '.join(allowed)}, got {','.join(flag.value)}.")
    for arm in arms():
        if not (common.recipes_folder() / _RECIPES.value / f"{arm.recipe}.flags").is_file():
            raise ValueError(
                f"--methods={arm.method} has no --arms={arm.arm} with --recipes={_RECIPES.value}: there is no recipe "
                f"{_RECIPES.value}/{arm.recipe}."
            )


def main() -> int:
    started = time.perf_counter()
    out = pathlib.Path(_OUT.value or f"runs/study/{_RECIPES.value}")
    with common.user_errors():
        check_flags()
        seeds, runs = [], {}
        for seed in range(_SEEDS.value):
            folder = out / f"seed{seed}"
            runs = titled(train(folder, seed))
            seeds.append(evaluate(folder, seed, runs, _TEACHER))
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
        names = [_TEACHER, *(arm.title for arm in arms() if arm.method == method)]
        logs = {name: runs[name].metrics_file for name in names if name in runs}
        pictures.loss_curves(picture, logs, overwrite=True)
    common.say(f"\nAccuracies in percent, on images held out; {len(seeds)} seed(s).\n\n{text}\nPictures:")
    *_, last = runs.values()
    for picture in (*curves, folder / "confusion.png", last.path / "views.png"):
        common.say(f"  {picture}")
    common.say(f"All metrics over time: {sys.executable} -m tensorboard.main --logdir {out}")
    return 0


if __name__ == "__main__":
    common.run(main)

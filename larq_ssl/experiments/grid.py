"""A command over a grid: `python -m larq_ssl.experiments.grid --train=msbreg --vary=lambda_b=0,0.5 --out=grid`.

Trains every combination of the values of one or two `--vary`, for every seed, each in a process and a run folder of
its own. After each run it writes anew a table of what the runs ended with (`grid.md`, `grid.json`) and a picture of how
they came there (`grid.png`). A killed grid goes on where it was; its table marks what is unfinished.
"""

import dataclasses
import itertools
import json
import pathlib
import shlex
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence

from absl import flags

from larq_ssl.evaluation import pictures
from larq_ssl.experiments import common
from larq_ssl.experiments.run_folder import RunFolder, environment
from larq_ssl.experiments.study_runs import train, training_hours
from larq_ssl.experiments.study_table import markdown
from larq_ssl.files import write_json, write_whole

FLAGS = flags.FLAGS

TRAINING = (
    *("bssl", "byol", "dino", "distill", "fine_tune", "infomin", "moco", "moco_star", "msbreg", "s2bnn", "simclr"),
    *("supervised", "swav"),
)
"""The commands that train."""

_TRAIN = flags.DEFINE_string("train", None, "Command with its flags, without `python -m larq_ssl.experiments.`.")
_VARY = flags.DEFINE_multi_string("vary", [], "A flag and its values, as lambda_b=0,0.05,0.5. One, or two of them.")
_METRICS = flags.DEFINE_list(
    "metrics", ["knn", "embedding_rank"], "What of metrics.jsonl is told: columns of the table, rows of the picture."
)
_SEEDS = flags.DEFINE_integer("seeds", 1, "Number of seeds: 0, 1, ...", 1)
_OUT = flags.DEFINE_string("out", None, "Folder of the grid.")

_OWN = ("seed", "workdir")


@dataclasses.dataclass(frozen=True)
class Axis:
    """A flag that is varied.

    Attributes:
        flag: Its name.
        values: As they are typed.
    """

    flag: str
    values: tuple[str, ...]


Cell = tuple[str, ...]
"""One value of each axis."""


def axes() -> list[Axis]:
    """What `--vary` says.

    # Raises
        ValueError: If it cannot be understood, or these are not one or two flags.
    """
    if not 1 <= len(_VARY.value) <= 2:
        raise ValueError(f"--vary must be given once or twice, got {len(_VARY.value)} of them.")
    found = []
    for text in _VARY.value:
        flag, _, listed = text.partition("=")
        values = tuple(listed.split(","))
        if not flag.isidentifier() or not all(values) or len(set(values)) < len(values) or "/" in listed:
            raise ValueError(f"--vary must be a flag and its values, as lambda_b=0,0.05,0.5; got {text!r}.")
        found.append(Axis(flag, values))
    if len({axis.flag for axis in found}) < len(found):
        raise ValueError(f"--vary={_VARY.value[0]} and --vary={_VARY.value[1]} must be two flags.")
    return found


def command(cell: Cell, seed: int) -> list[str]:
    """The command that trains one network of the grid.

    # Raises
        ValueError: If there is none, or it sets what the grid sets.
    """
    try:
        words = shlex.split(_TRAIN.value or "")
    except ValueError as error:
        raise ValueError(f"--train={_TRAIN.value} must be words as in a shell: {error}.") from error
    if not words or words[0].startswith("-"):
        raise ValueError(f"--train must be a command and its flags, as 'msbreg --lambda_s=0'; got {_TRAIN.value!r}.")
    if words[0] not in TRAINING:
        raise ValueError(f"--train must begin with a command that trains, {', '.join(TRAINING)}; got {words[0]!r}.")
    varied = [axis.flag for axis in axes()]
    for flag in varied:
        if flag in _OWN:
            raise ValueError(f"--vary must not give --{flag}, which the grid sets.")
    for flag in (*varied, *_OWN):
        if common.argument(flag, words) is not None:
            raise ValueError(f"--train must not give --{flag}, which the grid sets.")
    folder = "-".join(f"{flag}_{value}" for flag, value in zip(varied, cell, strict=True))
    settings = [f"--{flag}={value}" for flag, value in zip(varied, cell, strict=True)]
    return [*words, *settings, f"--seed={seed}", f"--workdir={pathlib.Path(_OUT.value) / folder / f'seed{seed}'}"]


def cells() -> Iterator[Cell]:
    """All combinations, in the order of the table."""
    return itertools.product(*(axis.values for axis in axes()))


def ends(runs: Sequence[RunFolder], metric: str) -> list[float]:
    """The last value of a metric in each run.

    # Raises
        ValueError: If a run did not measure it.
    """
    found = []
    for run in runs:
        rows = [json.loads(line) for line in run.metrics_file.read_text().splitlines()]
        values = [row[metric] for row in rows if metric in row]
        if not values:
            logged = ", ".join(sorted({name for row in rows for name in row}))
            raise ValueError(f"--metrics={metric} is not in {run.metrics_file}, which has {logged}.")
        found.append(float(values[-1]))
    return found


def mean_and_deviation(values: Sequence[float], wanted: int) -> str:
    """For a table; says so where there are not as many values as there are to be."""
    if not values:
        return "unfinished"
    deviation = "" if len(values) == 1 else f" ± {statistics.stdev(values):.2g}"
    missing = "" if len(values) == wanted else f" ({len(values)} of {wanted})"
    return f"{statistics.mean(values):.3g}{deviation}{missing}"


def table(runs: Mapping[Cell, Sequence[RunFolder]]) -> str:
    """One line per combination, as Markdown."""
    lines = [[*(axis.flag for axis in axes()), *_METRICS.value]]
    for cell in cells():
        found = runs.get(cell, [])
        lines.append([*cell, *(mean_and_deviation(ends(found, metric), _SEEDS.value) for metric in _METRICS.value)])
    return markdown(lines)


def write(out: pathlib.Path, runs: Mapping[Cell, Sequence[RunFolder]]) -> str:
    """Writes table and picture of the runs that are finished; returns the table."""
    text = table(runs)
    record = {
        "command": shlex.join(["python", "-m", "larq_ssl.experiments.grid", *sys.argv[1:]]),
        "vary": {axis.flag: axis.values for axis in axes()},
        "ends": [
            {"cell": cell, **{metric: ends(found, metric) for metric in _METRICS.value}} for cell, found in runs.items()
        ],
        "hours": sum(training_hours(run) for found in runs.values() for run in found),
        "environment": environment(),
    }
    write_json(out / "grid.json", record, overwrite=True)
    write_whole(out / "grid.md", f"{text}\n`{record['command']}`\n", overwrite=True)
    first, *second = axes()
    panels: dict[str, dict[str, list[pathlib.Path]]] = {}
    for cell, found in runs.items():
        column = f"{second[0].flag} = {cell[1]}" if second else ""
        panels.setdefault(column, {})[f"{first.flag} = {cell[0]}"] = [run.metrics_file for run in found]
    pictures.grid_curves(out / "grid.png", panels, _METRICS.value, overwrite=True)
    return text


def main() -> int:
    with common.user_errors():
        if _OUT.value is None:
            raise ValueError("--out is missing: the folder of the grid.")
        common.refuse_no_place("out", _OUT.value)
        out = pathlib.Path(_OUT.value)
        runs: dict[Cell, list[RunFolder]] = {}
        commands = {(seed, cell): command(cell, seed) for seed in range(_SEEDS.value) for cell in cells()}
        for (seed, cell), words in commands.items():
            run = train(f"{', '.join(cell)} with seed {seed}", words)
            runs.setdefault(cell, []).append(run)
            text = write(out, runs)
    common.say(f"\nWhat the runs ended with; {_SEEDS.value} seed(s).\n\n{text}\nPicture: {out / 'grid.png'}")
    return 0


if __name__ == "__main__":
    common.run(main)

"""Published numbers beside measured ones, where recipe and protocol are the same.

The numbers lie in `targets.csv`: a recipe, what has to be measured of its run (a pattern of full names), the published
number in percent, and its source. A linear evaluation is published for new views in each epoch: what was measured on
cached features is not put beside it. Table 9 of SSLight and the distillations of SimCLRv2 are not there: their recipes
have several numbers each, by what they start from.
"""

import csv
import dataclasses
import functools
import importlib.resources
from collections.abc import Mapping, Sequence
from pathlib import Path

from larq_ssl.experiments.common import recipe_file
from larq_ssl.report.lines import Line
from larq_ssl.report.protocols import CACHED, departures, matches

# Flags that alter where and how a run works, not what is trained. Of these, recipes have the first two.
_OPERATIONAL = frozenset(
    {"workdir", "strategy", "data_dir", "checkpoint_every", "knn_every", "diagnostics_every", "embeddings_every"}
)


@dataclasses.dataclass(frozen=True)
class Target:
    """A published number.

    # Arguments
        recipe: As `--recipe` has it.
        metric: Pattern of the full names of numbers of the same protocol.
        accuracy: A fraction.
        source: Paper and table.
    """

    recipe: str
    metric: str
    accuracy: float
    source: str


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A published number and a run of its recipe.

    # Arguments
        target: The published number.
        line: The run.
        measured: The number that the protocol gave; `None` if it was not run, by these or by other settings.
        name: Full name of that number, or its pattern.
        departures: How it was measured otherwise than by the protocol: then it is not to be compared.
        altered: Flags with which the run departs from the recipe, as text: it is another training then.
    """

    target: Target
    line: Line
    measured: float | None
    name: str
    departures: tuple[str, ...]
    altered: tuple[str, ...]

    @property
    def comparable(self) -> bool:
        """Whether a number was measured as the published one was."""
        return self.measured is not None and not self.departures


@functools.lru_cache(maxsize=1)
def targets() -> tuple[Target, ...]:
    """All published numbers."""
    text = importlib.resources.files("larq_ssl.report").joinpath("targets.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return tuple(Target(row["recipe"], row["metric"], float(row["percent"]) / 100, row["source"]) for row in rows)


def compare(lines: Sequence[Line]) -> list[Comparison]:
    """Each published number of a recipe beside each run of that recipe: the encoder of the run that was measured so."""
    of_run: dict[tuple[Path, Target], Comparison] = {}
    for line in lines:
        if line.run is None or line.baseline:
            continue
        recipe = line.run.flags.get("recipe", "")
        for target in (target for target in targets() if target.recipe == recipe):
            made = _comparison(target, line, altered(recipe, line.run.flags))
            before = of_run.get((line.run.path, target))
            if before is None or _rank(made) > _rank(before):
                of_run[line.run.path, target] = made
    return list(of_run.values())


def _rank(found: Comparison) -> tuple[bool, bool]:
    return found.comparable, found.measured is not None


def _comparison(target: Target, line: Line, altered: tuple[str, ...]) -> Comparison:
    """With the number that was measured by the protocol, or else with one that was measured nearly so."""
    made = [Comparison(target, line, None, target.metric, (), altered)]
    for name, value in sorted(line.numbers.items()):
        cached = not matches(target.metric, name)
        if cached and not matches(target.metric.replace("/augmented/", "/"), name):
            continue
        otherwise: tuple[str, ...] = (CACHED,) if cached else ()
        if line.run is not None and name in line.probes:
            otherwise += departures(name, line.probes[name], line.run)
        made.append(Comparison(target, line, value, name, otherwise, altered))
    return max(made, key=_rank)


def altered(recipe: str, flags: Mapping[str, str]) -> tuple[str, ...]:
    """Flags of a run that are not as its recipe has them, as `--width=0.25 (recipe: 1.0)`."""
    try:
        wanted = _flags(recipe)
    except ValueError:
        return ("the recipe is not there any more",)
    found = [f"--{name}={flags.get(name)} (recipe: {value})" for name, value in wanted.items()
             if name not in _OPERATIONAL and not _equal(value, flags.get(name))]  # fmt: skip
    if "max_train_images" in flags and "max_train_images" not in wanted:
        found.append(f"--max_train_images={flags['max_train_images']}")
    if "steps_per_epoch" in flags and "steps_per_epoch" not in wanted:
        found.append(f"--steps_per_epoch={flags['steps_per_epoch']}")
    if float(flags.get("width", 1)) != float(wanted.get("width", 1)) and "width" not in wanted:
        found.append(f"--width={flags['width']}")
    return tuple(found)


def _flags(recipe: str) -> dict[str, str]:
    """Flags of a recipe as a run folder has them: a boolean one as True or False."""
    found = {}
    for text in recipe_file(recipe).read_text().splitlines():
        name, equals, value = text.strip().removeprefix("--").partition("=")
        if text.startswith("--"):
            negated = name.startswith("no") and not equals
            found[name.removeprefix("no") if negated else name] = value if equals else str(not negated)
    return found


def _equal(wanted: str, given: str | None) -> bool:
    if given is None:
        return False
    try:
        return float(wanted) == float(given)
    except ValueError:
        return wanted.lower() == given.lower()

"""One line per method: what a study compares, float and binary, and what it cost."""

import dataclasses
from collections.abc import Mapping, Sequence

from larq_ssl.experiments.study_arms import ARMS, METHODS, Arm
from larq_ssl.experiments.study_table import BINARIZATIONS, UNTRAINED, Row, markdown, spread


@dataclasses.dataclass(frozen=True)
class Spent:
    """What a finished run cost."""

    hours: float
    epochs: int


Costs = dict[str, list[Spent]]
"""Of each run by its name, one per finished seed."""

_HOURS = "hours of training"
_PROBES = {"knn": "kNN", "linear": "linear"}


def comparison(
    seeds: Sequence[Sequence[Row]],
    wanted_seeds: int,
    arms: Sequence[Arm],
    teacher: str,
    costs: Mapping[str, list[Spent]],
) -> str:
    """Methods by arms and probes, as Markdown.

    # Arguments
        seeds: The rows of each seed, as far as they are measured.
        wanted_seeds: How many seeds there are to be.
        arms: What is compared. An arm that a method does not have is a dash.
        teacher: The row of the float teacher, if there is one.
        costs: Of training, by the names of the runs.
    """
    found: dict[str, list[Row]] = {}
    for rows in seeds:
        for row in rows:
            found.setdefault(str(row["encoder"]), []).append(row)

    def accuracies(titles: Sequence[str | None]) -> list[str]:
        return [
            "-" if title is None else spread([float(row[probe]) for row in found.get(title, [])], wanted_seeds)
            for title in titles
            for probe in _PROBES
        ]

    shown = [arm for arm in ARMS if any(other.arm == arm for other in arms)]
    lines = [["method", *(f"{ARMS[arm]}, {probe}" for arm in shown for probe in _PROBES.values()), "epochs", _HOURS]]
    if "raw pixels" in found:
        lines.append(["raw pixels", *accuracies(["raw pixels"] * len(shown)), "", ""])
    lines.append(["untrained", *accuracies([UNTRAINED[BINARIZATIONS[arm]] for arm in shown]), "", ""])
    if "teacher" in costs or teacher in found:
        titles = [teacher if arm == "float" else None for arm in shown]
        lines.append([teacher, *accuracies(titles), *_spent(["teacher"], costs, wanted_seeds)])
    for method in dict.fromkeys(arm.method for arm in arms):
        own = {arm.arm: arm for arm in arms if arm.method == method}
        titles = [own[arm].title if arm in own else None for arm in shown]
        names = [own[arm].name for arm in shown if arm in own]
        lines.append([METHODS[method], *accuracies(titles), *_spent(names, costs, wanted_seeds)])
    return markdown(lines)


def _spent(names: Sequence[str], costs: Mapping[str, list[Spent]], wanted_seeds: int) -> tuple[str, str]:
    """Epochs of each of these runs, and the hours of all of them and their seeds, as far as they are finished."""
    found = [spent for name in names for spent in costs.get(name, [])]
    if not found:
        return "unfinished", "unfinished"
    epochs = [f"{costs[name][0].epochs}" if costs.get(name) else "unfinished" for name in names]
    runs = len(names) * wanted_seeds
    missing = f" ({len(found)} of {runs} runs)" if len(found) < runs else ""
    return ", ".join(epochs), f"{sum(spent.hours for spent in found):.2f}{missing}"

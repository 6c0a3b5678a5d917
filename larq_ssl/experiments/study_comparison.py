"""One line per method: what a study compares, float and binary, and what it cost."""

from collections.abc import Mapping, Sequence

from larq_ssl.experiments.study_arms import ARMS, METHODS, Arm
from larq_ssl.experiments.study_table import BINARIZATIONS, UNTRAINED, Row, markdown, spread

Hours = dict[str, list[float]]
"""Hours of training of each run by its name, one per finished seed."""

_PROBES = {"knn": "kNN", "linear": "linear"}


def comparison(
    seeds: Sequence[Sequence[Row]],
    wanted_seeds: int,
    arms: Sequence[Arm],
    teacher: str,
    hours: Mapping[str, list[float]],
) -> str:
    """Methods by arms and probes, as Markdown.

    # Arguments
        seeds: The rows of each seed, as far as they are measured.
        wanted_seeds: How many seeds there are to be.
        arms: What is compared. An arm that a method does not have is a dash.
        teacher: The row of the float teacher, if there is one.
        hours: Of training, by the names of the runs.
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
    lines = [["method", *(f"{ARMS[arm]}, {probe}" for arm in shown for probe in _PROBES.values()), "hours of training"]]
    if "raw pixels" in found:
        lines.append(["raw pixels", *accuracies(["raw pixels"] * len(shown)), ""])
    lines.append(["untrained", *accuracies([UNTRAINED[BINARIZATIONS[arm]] for arm in shown]), ""])
    if "teacher" in hours or teacher in found:
        titles = [teacher if arm == "float" else None for arm in shown]
        lines.append([teacher, *accuracies(titles), _hours(["teacher"], hours)])
    for method in dict.fromkeys(arm.method for arm in arms):
        own = {arm.arm: arm for arm in arms if arm.method == method}
        titles = [own[arm].title if arm in own else None for arm in shown]
        lines.append([METHODS[method], *accuracies(titles), _hours([arm.name for arm in own.values()], hours)])
    return markdown(lines)


def _hours(names: Sequence[str], hours: Mapping[str, list[float]]) -> str:
    """Of all these runs and seeds together, as far as they are finished."""
    spent = [value for name in names for value in hours.get(name, [])]
    return f"{sum(spent):.2f}" if spent else "unfinished"

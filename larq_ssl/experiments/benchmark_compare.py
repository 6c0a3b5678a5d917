"""Two results of the benchmark side by side: what became slower, or needs more memory."""

import pathlib
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from larq_ssl.experiments.benchmark_workers import Measurement
from larq_ssl.files import read_object

_SLOWER, _LARGER = 0.95, 1.05
"""Ratios of speed and memory from which on a line is called a regression: turns of one variant differ by as much."""


def compare(before: str, after: str) -> tuple[str, list[str]]:
    """Compares what two `.json` files of the benchmark have in common.

    # Arguments
        before, after: Written by `--out`.
    # Returns
        A table as Markdown, and the names of what became slower or larger.
    # Raises
        ValueError: If one is no such file, or they have nothing in common.
    """
    old, new = _read(before), _read(after)
    common = [key for key in old if key in new]
    if not common:
        raise ValueError(
            f"{before} and {after} have no variant in common: they must be of the same --what and --method."
        )
    text = (
        "\n| variant | speed before, images/s | after | ratio | overlap | peak before, MiB | after | ratio |\n"
        "| --- | ---: | ---: | ---: | --- | ---: | ---: | ---: |\n"
    )
    worse = []
    for key in common:
        row, is_worse = _compared(old[key], new[key])
        text += f"| {' / '.join(key)} | {row} |\n"
        if is_worse:
            worse.append(" / ".join(key))
    hardware = [_hardware(file) for file in (before, after)]
    if hardware[0] != hardware[1]:
        text += f"\nThey were measured on different hardware: {hardware[0]}; {hardware[1]}.\n"
    missing = [" / ".join(key) for key in [*old, *new] if not (key in old and key in new)]
    if missing:
        text += f"\nIn one of the two alone: {'; '.join(missing)}.\n"
    return text, worse


def _compared(old: Measurement, new: Measurement) -> tuple[str, bool]:
    speeds = [statistics.median(result.speeds) for result in (old, new)]
    speed, memory = speeds[1] / speeds[0], new.memory / old.memory
    # Where the slowest turn of the faster one is no faster than the fastest of the other, noise explains it.
    overlap = min(max(old.speeds), max(new.speeds)) >= max(min(old.speeds), min(new.speeds))
    cells = [
        *(f"{value:,.2f}" for value in (*speeds, speed)),
        "yes" if overlap else "no",
        *(f"{result.memory / 2**20:,.0f}" for result in (old, new)),
        f"{memory:.2f}",
    ]
    return " | ".join(cells), (speed < _SLOWER and not overlap) or memory > _LARGER


def _read(file: str) -> dict[tuple[str, str], Measurement]:
    try:
        groups = read_object(pathlib.Path(file), "measured")["measured"]
        return {(group, found.name): found for group, found in _measurements(groups)}
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise ValueError(
            f"--compare: {file} is not a .json file that --out of the benchmark wrote ({error})."
        ) from error


def _hardware(file: str) -> str:
    machine = read_object(file, "machine")["machine"]
    return f"{machine['processor']}, {machine['cores']} cores"


def _measurements(groups: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[tuple[str, Measurement]]:
    for group, results in groups.items():
        for result in results:
            yield group, Measurement(**result)

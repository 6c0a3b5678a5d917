"""What `--method` of the benchmark measures: a command's whole step, or how it grows."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from larq_ssl.evaluation import pictures
from larq_ssl.experiments import benchmark_growth, benchmark_profile, benchmark_steps, common
from larq_ssl.experiments.benchmark_profile import Profile
from larq_ssl.experiments.benchmark_profile_table import tables
from larq_ssl.experiments.benchmark_steps import DEFAULT, PLAIN, Asked
from larq_ssl.experiments.benchmark_workers import Measurement

Measured = Mapping[str, Sequence[Measurement]]


@dataclasses.dataclass(frozen=True)
class Found:
    """What there is to tell besides the table of speeds.

    # Attributes
        text: Markdown.
        numbers: For the file of numbers.
        draw: Writes the picture into a file.
    """

    text: str = ""
    numbers: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    draw: Callable[[str], object] | None = None


def profiled(asked: Asked) -> Found:
    """Where time and memory of a step go, with plain layers and by default."""
    step, profiles = benchmark_steps.step(asked), []
    tell = common.bar("profiles")
    for done, name in enumerate((PLAIN, DEFAULT)):
        tell(done, 2)
        profiles.append(benchmark_profile.profile(name, step, *benchmark_steps.flags_of(name, asked.method)))
    tell(2, 2)
    chosen = ", ".join(f"--{flag}={value}" for flag, value in profiles[1].computes.items())
    return Found(
        "\n### Where a step spends its time and memory\n\n"
        f"In one more process of each, in which {DEFAULT} is {chosen}.\n\n{tables(profiles)}",
        {"profiles": [dataclasses.asdict(found) for found in profiles]},
        lambda file: pictures.step_times(file, _parts(profiles), f"{asked.title}: ms of operations per step"),
    )


def _parts(profiles: Sequence[Profile]) -> dict[str, dict[str, float]]:
    found = {}
    for profile in profiles:
        parts = {**profile.operations, "views (pipeline)": profile.pipeline}
        found[profile.name] = {name: 1000 * seconds for name, seconds in parts.items()}
    return found


def grown(asked: Asked, measured: Measured) -> Found:
    """How a step grows, of what was measured."""
    curves = benchmark_growth.growths(measured, asked.batch_size)
    panels = {
        curve.title: (
            curve.values,
            {
                "ms per step": ([1000 * second for second in curve.seconds], f"time {curve.named(curve.seconds)}"),
                "own MiB": ([size / 2**20 for size in curve.memory], f"memory {curve.named(curve.memory)}"),
            },
        )
        for curve in curves
    }
    return Found(
        f"\n### How the step grows: {asked.title}\n{benchmark_growth.table(curves)}",
        {"growth": [dataclasses.asdict(curve) for curve in curves]},
        lambda file: pictures.growth_curves(file, panels),
    )

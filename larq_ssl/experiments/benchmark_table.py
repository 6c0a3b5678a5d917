"""Tables of the benchmark, in which the first variant of a group is what the others are compared with."""

import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from larq_ssl.experiments.benchmark_workers import Measurement


def table(measured: Mapping[str, Sequence[Measurement]], compares_time: bool) -> str:
    """All groups as Markdown; the first variant of a group is what the others are compared with."""
    text = ""
    for group, results in measured.items():
        titles = [title for title, _ in _cells(results[0], results[0], compares_time)]
        text += f"\n### {group}\n\n| variant | {' | '.join(titles)} |\n| --- |{' ---: |' * len(titles)}\n"
        for result in results:
            cells = [result.name, *(cell for _, cell in _cells(result, results[0], compares_time))]
            text += f"| {' | '.join(cells)} |\n"
    return text


def _cells(result: Measurement, reference: Measurement, compares_time: bool) -> list[tuple[str, str]]:
    """Title and content of each column."""
    compared, compared_range = _spread(ratios(result, reference, compares_time), 2)
    cells = _times(result) if result.latencies else _speeds(result)
    cells += [
        ("time, relative" if compares_time else "speed, relative", compared),
        ("lowest to highest", compared_range),
        ("peak MiB", f"{result.memory / 2**20:,.0f}"),
    ]
    if result.accelerator_memory is not None:
        cells.append(("GPU MiB", f"{result.accelerator_memory / 2**20:,.0f}"))
    if result.latencies:
        cells.append(("own MiB", f"{(result.own_memory or 0) / 2**20:,.0f}"))
        cells.append(("busy", f"{statistics.median(result.busy):.2f}"))
        cells.append(("file MB", "" if result.file_bytes is None else f"{result.file_bytes / 1e6:,.2f}"))
    if result.computes:
        cells.append(
            ("computes in", ", ".join(f"{flag.split('_')[0]}: {kind}" for flag, kind in result.computes.items()))
        )
    return cells


def _speeds(result: Measurement) -> list[tuple[str, str]]:
    rate, rate_range = _spread(result.rates, 1)
    return [("steps a turn", str(result.steps)), ("images/s", rate), ("lowest to highest", rate_range)]


def _times(result: Measurement) -> list[tuple[str, str]]:
    median, late = 1000 * np.percentile(np.concatenate(result.latencies), [50, 95])
    return [("median ms", f"{median:,.2f}"), ("p95 ms", f"{late:,.2f}")]


def ratios(result: Measurement, reference: Measurement, of_times: bool) -> list[float]:
    """How each turn compares with that of the reference in the same round."""
    pairs = zip(result.speeds, reference.speeds, strict=True)
    return [other / own if of_times else own / other for own, other in pairs]


def _spread(values: Sequence[float], digits: int) -> tuple[str, str]:
    low, middle, high = (f"{value:,.{digits}f}" for value in (min(values), statistics.median(values), max(values)))
    return middle, f"{low} to {high}"

"""Whether the binary layers of a run learn, judged by its `diagnostics.jsonl` and stated limits."""

import dataclasses
import json
import math
import os

import numpy as np

from larq_ssl.files import read_text

Path = str | os.PathLike[str]


@dataclasses.dataclass(frozen=True)
class Measure:
    """What is measured of each binary layer, and the limit beyond which the layer is in trouble.

    # Arguments
        name: In `diagnostics.jsonl`.
        title: For people.
        complaint: The same of layers in trouble.
        meaning: What the limit is a share of, in words.
        least: A layer in trouble has at most that.
        most: A layer in trouble has more than that.
        relative: Whether `least` is a share of the largest layer's value in the same epoch.
    """

    name: str
    title: str
    complaint: str
    meaning: str
    least: float = -math.inf
    most: float = math.inf
    relative: bool = False

    def beyond(self, values: np.ndarray) -> np.ndarray:
        """Which of the values `[layers, epochs]` mean trouble; NaN does not."""
        largest = np.max(np.where(np.isnan(values), 0.0, values), axis=0, keepdims=True) if self.relative else 1.0
        return (values > self.most) | (values <= self.least * largest)

    @property
    def limit(self) -> str:
        """The limit in words, e.g. `over 90%`."""
        return f"over {percent(self.most)}" if math.isfinite(self.most) else f"at most {percent(self.least)}"


MEASURES = (
    Measure("sign_flips", "sign flips", "No signs flip", "of the signs per epoch", least=1e-4),
    Measure("weight_change", "change of the weights", "Weights stand still", "of their length per epoch", least=1e-4),
    Measure("saturated", "saturated inputs", "Saturated", "of the inputs get no gradient", most=0.9),
    Measure(
        "gradient_norm", "gradient norm", "Vanishing gradient", "of the largest layer's", least=1e-4, relative=True
    ),
    Measure(
        "dead_channels", "dead input channels", "Dead channels", "of the channels have one sign everywhere", most=0.5
    ),
    Measure(
        "beyond_clip", "latent weights beyond the clip", "Beyond the clip", "of the weights get no gradient", most=0.5
    ),
)
"""The measures in the order of their weight: what comes first makes the headline."""


@dataclasses.dataclass(frozen=True)
class Magnitudes:
    """Histogram of the magnitudes of all latent weights after an epoch.

    # Arguments
        epoch: 0 before the first step.
        edges: Float array `[bins + 1]`, ascending; the outer bins hold all that lies beyond them too.
        shares: Float array `[bins]`, of sum 1.
    """

    epoch: int
    edges: np.ndarray
    shares: np.ndarray


@dataclasses.dataclass(frozen=True)
class History:
    """What `diagnostics.jsonl` holds.

    # Arguments
        epochs: Int64 array `[epochs]`: those that were measured, ascending; there may be none yet.
        layers: Names of the binary layers, from input to output.
        values: Float array `[layers, epochs]` by the name of the measure, NaN where nothing was measured.
        weights: Histograms of the first and the last line that has one; empty where kernels are not binary.
    """

    epochs: np.ndarray
    layers: tuple[str, ...]
    values: dict[str, np.ndarray]
    weights: tuple[Magnitudes, ...]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The diagnosis in words.

    # Arguments
        learns: Whether no complaint concerns half of the layers or more.
        headline: One sentence.
        details: One sentence per complaint that is not the headline.
    """

    learns: bool
    headline: str
    details: tuple[str, ...]


def read_history(file: Path) -> History:
    """Reads a `diagnostics.jsonl`.

    # Raises
        ValueError: If the file is not one.
    """
    rows = []
    for number, line in enumerate(read_text(file).splitlines(), 1):
        try:
            row = json.loads(line)
            rows.append((int(row["epoch"]), row))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{str(file)!r} must have JSON with an `epoch` in each line; line {number} has not."
            ) from error
    measured = [(epoch, row) for epoch, row in rows if any(measure.name in row for measure in MEASURES)]
    names = [measure.name for measure in MEASURES if any(measure.name in row for _, row in measured)]
    # The gradient norm is that of all layers, in their order; the others may be of some.
    layers = tuple(
        dict.fromkeys(layer for name in ("gradient_norm", *names) for _, row in measured for layer in row.get(name, {}))
    )
    values = {
        name: np.array([[row.get(name, {}).get(layer, np.nan) for _, row in measured] for layer in layers], float)
        for name in names
    }
    with_weights = [(epoch, row["latent_weights"]) for epoch, row in rows if "latent_weights" in row]
    ends = dict([*with_weights[:1], *with_weights[-1:]])
    weights = tuple(_magnitudes(epoch, histogram) for epoch, histogram in ends.items())
    return History(np.array([epoch for epoch, _ in measured], np.int64), layers, values, weights)


def _magnitudes(epoch: int, histogram: dict) -> Magnitudes:
    counts = np.array(histogram["counts"], float)
    return Magnitudes(epoch, np.array(histogram["edges"], float), counts / counts.sum())


def judge(history: History) -> Verdict:
    """Judges each layer by its median over the second half of the run.

    The first epochs may be rough, and towards the end of a schedule signs come to rest by right. A complaint that
    concerns at least half of the layers is a headline; one that concerns fewer is an exception.

    # Raises
        ValueError: If no epoch has been measured yet.
    """
    if not len(history.epochs):
        raise ValueError("`history` holds no epoch whose layers were measured.")
    medians = {name: _second_half(history, values) for name, values in history.values.items()}
    grave: list[str] = []
    slight: list[str] = []
    concerned: set[str] = set()
    for measure in (measure for measure in MEASURES if measure.name in medians):
        median = medians[measure.name]
        known = np.isfinite(median)
        names = [history.layers[row] for row in np.flatnonzero(known & measure.beyond(median[:, None])[:, 0])]
        if names:
            sentences = grave if 2 * len(names) >= known.sum() else slight
            sentences.append(_sentence(measure, names, int(known.sum())))
            concerned.update(names)
    if grave:
        return Verdict(False, grave[0], (*grave[1:], *slight))
    exceptions = f", except {len(concerned)} of {len(history.layers)}" if concerned else ""
    # Neither flips nor changes: whether anything moved is not known.
    learn = "learn" if {"sign_flips", "weight_change"} & _known(medians).keys() else "get a gradient"
    return Verdict(True, f"Binary layers {learn}{exceptions}{_summary(medians)}.", tuple(slight))


def _second_half(history: History, values: np.ndarray) -> np.ndarray:
    """Medians `[layers]` over the later half of the epochs, NaN where nothing was measured in it."""
    later = values[:, 2 * history.epochs > history.epochs[-1]]
    known = np.isfinite(later).any(axis=1)
    return np.array([np.nanmedian(row) if any_ else np.nan for row, any_ in zip(later, known, strict=True)])


def _sentence(measure: Measure, names: list[str], of: int) -> str:
    text = f"{measure.complaint} in {len(names)} of {of} binary layers ({measure.limit} {measure.meaning})"
    if len(names) == of:
        return f"{text}."
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{text}: {', '.join(names[:3])}{more}."


def _summary(medians: dict[str, np.ndarray]) -> str:
    told = {
        "sign_flips": "{} of the signs flip per epoch",
        "weight_change": "weights change by {} per epoch",
        "saturated": "{} of the inputs are saturated",
        "dead_channels": "{} of the channels are dead",
    }
    known = _known(medians)
    parts = [text.format(percent(known[name])) for name, text in told.items() if name in known]
    return f": {', '.join(parts)}" if parts else ""


def _known(medians: dict[str, np.ndarray]) -> dict[str, float]:
    """The median layer of each measure of which anything is known."""
    return {name: float(np.nanmedian(values)) for name, values in medians.items() if np.isfinite(values).any()}


def percent(share: float) -> str:
    """A share as a person reads it: `0.012%`, `3.4%`, `41%`."""
    value = 100 * share
    return f"{value:.0f}%" if value >= 10 or value == 0 else f"{value:.2g}%"

"""What a linear evaluation says: accuracies of every learning rate, and of the chosen one."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from larq_ssl.evaluation.accuracy import check_labels
from larq_ssl.evaluation.features import Features
from larq_ssl.evaluation.linear_settings import LinearPreset
from larq_ssl.evaluation.linear_sweep import Sweep
from larq_ssl.evaluation.normalise import unit_rows


@dataclasses.dataclass(frozen=True)
class LinearResult:
    """What a linear evaluation found.

    # Arguments
        metrics: For the chosen learning rate `last/top1`, `last/top5`, `best/top1`, `best/top5`, `best/epoch`
            (from 1) and `learning_rate`; the same of each rate as `lr_<rate>/last/top1` etc., with
            `lr_<rate>/diverged` 0 or 1. With images held out `validation/last/top1` etc., the accuracies on
            those at the chosen rate. Rates are named as the preset has them, before they are scaled to the batch.
        predictions: Int64 array `[test images]`: of the chosen rate after the last epoch.
        learning_rate: The chosen one.
    """

    metrics: dict[str, float]
    predictions: np.ndarray
    learning_rate: float


class Scores:
    """Accuracies of a sweep on its test images, and on those held out, epoch by epoch.

    # Arguments
        config: The settings.
        sets: `test`, and `validation` if learning rate and best epoch are not to be chosen on the test images.
        dim: Length of the features.
        classes: Number of classes.
    # Raises
        ValueError: If labels are missing or sizes disagree.
    """

    def __init__(self, config: LinearPreset, sets: Mapping[str, Features | None], dim: int, classes: int) -> None:
        self._config, self._sets = config, {}
        for name, part in sets.items():
            if part is not None:
                check(name, part, dim, classes)
                self._sets[name] = (inputs(part, config), tf.constant(part.labels))
        self.history: dict[str, list[np.ndarray]] = {name: [] for name in self._sets}

    @property
    def labels(self) -> dict[str, np.ndarray]:
        """Of the sets, by name."""
        return {name: labels.numpy() for name, (_, labels) in self._sets.items()}

    def add(self, sweep: Sweep) -> None:
        """Tests the classifiers at the end of an epoch."""
        for name, (features, labels) in self._sets.items():
            self.history[name].append(sweep.accuracies(features, labels).numpy())

    def result(self, sweep: Sweep) -> LinearResult:
        """After the last epoch."""
        reported = np.stack(self.history["test"])
        selected_on = np.stack(self.history.get("validation", reported))
        metrics, chosen = _metrics(self._config, reported, selected_on, sweep.diverged)
        if "validation" in self._sets:
            metrics |= _of_chosen(selected_on[:, chosen], int(metrics["best/epoch"]))
        predictions = sweep.predictions(self._sets["test"][0], chosen)
        return LinearResult(metrics, predictions, self._config.learning_rates[chosen])


def check(name: str, part: Features, dim: int, classes: int) -> None:
    """Refuses features without labels, or of another length."""
    check_labels(name, part.labels, classes)
    if part.features.shape[1] != dim:
        raise ValueError(
            f"`{name}` must have features of size {dim} like those that are trained on, got {part.features.shape[1]}."
        )


def inputs(part: Features, config: LinearPreset) -> tf.Tensor:
    """What the classifiers see of features."""
    return tf.constant(unit_rows(part.features) if config.normalise else part.features)


def _metrics(
    config: LinearPreset, reported: np.ndarray, selected_on: np.ndarray, diverged: np.ndarray
) -> tuple[dict[str, float], int]:
    """All metrics and the index of the chosen rate, from accuracies `[epochs, rates, 2]`."""
    reported = np.where(diverged[:, None], 0.0, reported)
    best = np.argmax(selected_on[..., 0], axis=0)
    per_rate = [_of_rate(reported[:, rate], int(best[rate])) for rate in range(len(diverged))]
    chosen = max(
        np.flatnonzero(~diverged),
        key=lambda rate: (
            selected_on[-1, rate, 0],
            selected_on[best[rate], rate, 0],
            -config.learning_rates[rate],
        ),
    )
    metrics = {**per_rate[chosen], "learning_rate": config.learning_rates[chosen]}
    for rate, values in enumerate(per_rate):
        values = {**values, "diverged": float(diverged[rate])}
        metrics.update({f"lr_{config.learning_rates[rate]:g}/{name}": value for name, value in values.items()})
    return {name: float(value) for name, value in metrics.items()}, int(chosen)


def _of_rate(accuracies: np.ndarray, best: int) -> dict[str, float]:
    """Metrics of a rate from its `[epochs, 2]`; `best` counts from 0."""
    return {**_epochs(accuracies, {"last": -1, "best": best}), "best/epoch": best + 1.0}


def _of_chosen(held_out: np.ndarray, best_epoch: int) -> dict[str, float]:
    """Metrics of images held out, from accuracies `[epochs, 2]` at the chosen rate; `best_epoch` counts from 1."""
    told = _epochs(held_out, {"last": -1, "best": best_epoch - 1})
    return {f"validation/{name}": value for name, value in told.items()}


def _epochs(accuracies: np.ndarray, epochs: Mapping[str, int]) -> dict[str, float]:
    tops: Sequence[tuple[int, int]] = ((0, 1), (1, 5))
    return {
        f"{name}/top{top}": float(accuracies[epoch, column]) for name, epoch in epochs.items() for column, top in tops
    }

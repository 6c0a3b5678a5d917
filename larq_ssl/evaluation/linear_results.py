"""What a linear evaluation says: accuracies of every learning rate, and of the chosen one."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from larq_ssl.evaluation.accuracy import TOPS, check_labels
from larq_ssl.evaluation.examples import Examples, check_test
from larq_ssl.evaluation.features import Features
from larq_ssl.evaluation.linear_settings import LinearPreset
from larq_ssl.evaluation.linear_sweep import Sweep
from larq_ssl.evaluation.normalise import unit_rows
from larq_ssl.heads import linear_classifier


@dataclasses.dataclass(frozen=True)
class LinearResult:
    """What a linear evaluation found.

    # Arguments
        metrics: For the chosen learning rate `last/top1`, `last/top5`, `best/top1`, `best/top5`, `best/epoch`
            (from 1) and `learning_rate`; the same of each rate as `lr_<rate>/last/top1` etc., with
            `lr_<rate>/diverged` 0 or 1. With images held out `validation/last/top1` etc., the accuracies on
            those at the chosen rate. Rates are named as the preset has them, before they are scaled to the batch.
            Of images with several labels `map` and `map_eleven_points` in the place of `top1` and `top5`.
        predictions: Int64 array `[test images]`: of the chosen rate after the last epoch. Of images with several labels
            bools `[test images, classes]`.
        learning_rate: The chosen one.
        kernel, bias: Float32 arrays `[dim, classes]` and `[classes]`: the classifier of the chosen rate after the last
            epoch, of features that are divided by their length if the preset says so.
    """

    metrics: dict[str, float]
    predictions: np.ndarray
    learning_rate: float
    kernel: np.ndarray
    bias: np.ndarray

    def classifier(self) -> tf.keras.Sequential:
        """The classifier as a head, `larq_ssl.heads.linear_classifier`."""
        dim, classes = self.kernel.shape
        head = linear_classifier("linear", dim, classes)
        head.set_weights([self.kernel, self.bias])
        return head


class Scores:
    """Accuracies of a sweep on its test images, and on those held out, epoch by epoch.

    # Arguments
        config: The settings.
        sets: `test`, and `validation` if learning rate and best epoch are not to be chosen on the test images.
        dim: Length of the features.
        classes: Number of classes.
        names: Of the classes, if an image has several of them; `None` if it has one.
    # Raises
        ValueError: If labels are missing or sizes disagree.
    """

    def __init__(
        self,
        config: LinearPreset,
        sets: Mapping[str, Features | Examples | None],
        dim: int,
        classes: int,
        names: tuple[str, ...] | None = None,
    ) -> None:
        self._config, self._sets = config, {}
        for name, part in sets.items():
            if part is not None:
                check(name, part, dim, classes, names)
                if isinstance(part, Examples):
                    check_test(part.presence, part.names)
                self._sets[name] = (inputs(part, config), wanted(part))
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
        metrics, chosen = _metrics(self._config, reported, selected_on, sweep.diverged, sweep.measures)
        if "validation" in self._sets:
            metrics |= _of_chosen(selected_on[:, chosen], int(metrics["best/epoch"]), sweep.measures)
        predictions = sweep.predictions(self._sets["test"][0], chosen)
        kernel, bias = sweep.classifier(chosen)
        return LinearResult(metrics, predictions, self._config.learning_rates[chosen], kernel, bias)


def check(name: str, part: Features | Examples, dim: int, classes: int, names: tuple[str, ...] | None = None) -> None:
    """Refuses features without labels, with those of other classes, or of another length; arguments as of `Scores`."""
    if isinstance(part, Features) and names is None:
        check_labels(name, part.labels, classes)
    elif not isinstance(part, Examples) or part.names != names:
        told = part.names if isinstance(part, Examples) else "one label per image"
        raise ValueError(
            f"`{name}` must have the labels of what is trained on, {names or 'one per image'}, got {told}."
        )
    if part.features.shape[1] != dim:
        raise ValueError(
            f"`{name}` must have features of size {dim} like those that are trained on, got {part.features.shape[1]}."
        )


def inputs(part: Features | Examples, config: LinearPreset) -> tf.Tensor:
    """What the classifiers see of features."""
    return tf.constant(unit_rows(part.features) if config.normalise else part.features)


def wanted(part: Features | Examples) -> tf.Tensor:
    """What the classifiers are to say: int64 `[images]`, or of several labels float32 `[images, classes]`."""
    if isinstance(part, Examples):
        return tf.constant(part.presence, tf.float32)
    return tf.constant(part.labels)


def _metrics(
    config: LinearPreset,
    reported: np.ndarray,
    selected_on: np.ndarray,
    diverged: np.ndarray,
    measures: tuple[str, str] = TOPS,
) -> tuple[dict[str, float], int]:
    """All metrics and the index of the chosen rate, from accuracies `[epochs, rates, 2]`."""
    reported = np.where(diverged[:, None], 0.0, reported)
    best = np.argmax(selected_on[..., 0], axis=0)
    per_rate = [_of_rate(reported[:, rate], int(best[rate]), measures) for rate in range(len(diverged))]
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


def _of_rate(accuracies: np.ndarray, best: int, measures: tuple[str, str]) -> dict[str, float]:
    """Metrics of a rate from its `[epochs, 2]`; `best` counts from 0."""
    return {**_epochs(accuracies, {"last": -1, "best": best}, measures), "best/epoch": best + 1.0}


def _of_chosen(held_out: np.ndarray, best_epoch: int, measures: tuple[str, str]) -> dict[str, float]:
    """Metrics of images held out, from accuracies `[epochs, 2]` at the chosen rate; `best_epoch` counts from 1."""
    told = _epochs(held_out, {"last": -1, "best": best_epoch - 1}, measures)
    return {f"validation/{name}": value for name, value in told.items()}


def _epochs(accuracies: np.ndarray, epochs: Mapping[str, int], measures: tuple[str, str]) -> dict[str, float]:
    return {
        f"{name}/{measure}": float(accuracies[epoch, column])
        for name, epoch in epochs.items()
        for column, measure in enumerate(measures)
    }

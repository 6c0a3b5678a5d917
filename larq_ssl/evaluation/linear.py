"""Linear evaluation: a softmax classifier on frozen features, at all learning rates of a sweep at once."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from larq_ssl.evaluation.accuracy import check_labels, label_ranks
from larq_ssl.evaluation.features import Features, Progress

# Images whose logits are held at once in evaluation.
_CHUNK = 1024


@dataclasses.dataclass(frozen=True)
class LinearPreset:
    """How the classifiers are trained: SGD on cross-entropy, kernel N(0, `init_std`), bias 0.

    # Arguments
        name: Name of the preset.
        learning_rates: The sweep.
        batch_size: Images per step; the last, smaller batch of an epoch is used too.
        epochs: Passes over the features.
        drops: Fractions of the epochs after which the learning rate is multiplied by `drop_factor`.
        drop_factor: See `drops`.
        momentum: Of SGD.
        weight_decay: L2 penalty, added to the gradient of the kernel and the bias.
        normalise: Divide each feature vector by its length.
        init_std: Standard deviation of the initial kernel.
    """

    name: str
    learning_rates: tuple[float, ...]
    batch_size: int = 256
    epochs: int = 100
    drops: tuple[float, ...] = (0.6, 0.8)
    drop_factor: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0
    normalise: bool = False
    init_std: float = 0.01

    def __post_init__(self) -> None:
        rates = self.learning_rates
        if not rates or min(rates) <= 0 or len(set(rates)) < len(rates):
            raise ValueError(f"`learning_rates` must be different numbers above 0, got {rates}.")
        for name in ("batch_size", "epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if not all(0 < drop < 1 for drop in self.drops):
            raise ValueError(f"`drops` must be fractions of the epochs between 0 and 1, got {self.drops}.")


PRESETS = {
    # The paper has 30, its released code 0.01; untrained networks of small width are best at 0.001.
    "bssl": LinearPreset("bssl", learning_rates=(0.001, 0.01, 0.1, 1.0, 10.0, 30.0)),
    "moco": LinearPreset("moco", learning_rates=(30.0,)),
}


def linear_preset(name: str, **overrides: Any) -> LinearPreset:
    """A preset by name, with some of its fields replaced.

    # Raises
        ValueError: If there is no such preset or field.
    """
    if name not in PRESETS:
        raise ValueError(f"`preset` must be one of {sorted(PRESETS)}, got {name!r}.")
    fields = {field.name for field in dataclasses.fields(LinearPreset)} - {"name"}
    for field in overrides:
        if field not in fields:
            raise ValueError(f"`preset` has no field {field!r}; its fields are {sorted(fields)}.")
    return dataclasses.replace(PRESETS[name], **overrides)


@dataclasses.dataclass(frozen=True)
class LinearResult:
    """What a linear evaluation found.

    # Arguments
        metrics: For the chosen learning rate `last/top1`, `last/top5`, `best/top1`, `best/top5`, `best/epoch`
            (from 1) and `learning_rate`; the same of each rate as `lr_<rate>/last/top1` etc., with
            `lr_<rate>/diverged` 0 or 1. With images held out `validation/last/top1` etc., the accuracies on
            those at the chosen rate.
        predictions: Int64 array `[test images]`: of the chosen rate after the last epoch.
        learning_rate: The chosen one.
    """

    metrics: dict[str, float]
    predictions: np.ndarray
    learning_rate: float


def linear(
    train: Features,
    test: Features,
    classes: int,
    preset: str | LinearPreset = "bssl",
    seed: int = 0,
    validation: Features | None = None,
    progress: Progress | None = None,
) -> LinearResult:
    """Train one linear classifier per learning rate on frozen features and test them after every epoch.

    All of them start from the same kernel and see the same batches, so a sweep equals its runs one by one, at
    the price of little more than one. The best epoch has the highest top-1; the learning rate is chosen by
    the last epoch's top-1 (then by the best epoch's, then the smaller one).

    Differences from the papers: each image has one feature vector, of its centre crop, where they draw a new
    crop in each epoch; and learning rates are swept, where they state one.

    # Arguments
        train: Features and labels to train on.
        test: Features and labels to report on.
        classes: Number of classes.
        preset: Name of a preset, or a `LinearPreset` (see `linear_preset`).
        seed: Of the kernel and of the order of the images.
        validation: What learning rate and best epoch are chosen on (see `features.holdout`). By default the
            test set, as the papers do.
        progress: Called with epochs done and in all.
    # Returns
        `LinearResult`. A rate at which the classifier diverged has accuracy 0 and is never chosen.
    # Raises
        ValueError: If labels are missing, sizes disagree, or all rates diverge.
    # References
        - BSSL, Sec. 4 (learning rate 30); the released recipe of BURN (0.01); He et al., MoCo (30)
    """
    config = linear_preset(preset) if isinstance(preset, str) else preset
    sets = {"train": train, "test": test, **({} if validation is None else {"validation": validation})}
    for name, part in sets.items():
        check_labels(name, part.labels, classes)
        if part.features.shape[1] != train.features.shape[1]:
            raise ValueError(
                f"`{name}` must have features of size {train.features.shape[1]} like `train`, "
                f"got {part.features.shape[1]}."
            )
    sweep = _Sweep(config, _inputs(train, config), train.labels, classes, seed)
    tests = {name: (_inputs(part, config), tf.constant(part.labels)) for name, part in sets.items() if name != "train"}
    history: dict[str, list[np.ndarray]] = {name: [] for name in tests}
    for epoch in range(config.epochs):
        sweep.train_epoch(epoch)
        for name, (inputs, labels) in tests.items():
            history[name].append(sweep.accuracies(inputs, labels).numpy())
        if progress is not None:
            progress(epoch + 1, config.epochs)
    reported = np.stack(history["test"])
    metrics, chosen = _metrics(config, reported, np.stack(history.get("validation", reported)), sweep.diverged)
    if validation is not None:
        metrics |= _of_chosen(np.stack(history["validation"])[:, chosen], int(metrics["best/epoch"]))
    predictions = sweep.predictions(tests["test"][0])[:, chosen].numpy()
    return LinearResult(metrics, predictions, config.learning_rates[chosen])


class _Sweep:
    """One classifier per learning rate, side by side in one kernel `[dim, rates * classes]`."""

    def __init__(self, config: LinearPreset, inputs: tf.Tensor, labels: np.ndarray, classes: int, seed: int) -> None:
        self._config, self._inputs, self._labels = config, inputs, tf.constant(labels, tf.int32)
        self._rates, self._classes, self._seed = len(config.learning_rates), classes, seed
        generator = np.random.default_rng((seed, 0))
        kernel = generator.normal(0.0, config.init_std, (inputs.shape[1], classes)).astype(np.float32)
        self.kernel = tf.Variable(np.tile(kernel, self._rates))
        self.bias = tf.Variable(tf.zeros(self._rates * classes))
        self._velocities = [tf.Variable(tf.zeros_like(variable)) for variable in (self.kernel, self.bias)]
        self.diverged = np.zeros(self._rates, bool)

    def train_epoch(self, epoch: int) -> None:
        """One pass over the features, in the order of this epoch (from 0)."""
        drops = sum(epoch >= round(drop * self._config.epochs, 6) for drop in self._config.drops)
        rates = np.array(self._config.learning_rates, np.float32) * np.float32(self._config.drop_factor**drops)
        order = np.random.default_rng((self._seed, 1, epoch)).permutation(len(self._labels))
        loss = self._train(tf.constant(order, tf.int32), tf.constant(np.repeat(rates, self._classes)))
        kernel = np.reshape(np.abs(self.kernel.numpy()).max(axis=0), [self._rates, -1])
        self.diverged |= ~np.isfinite(loss.numpy()) | ~np.isfinite(kernel).all(axis=1)

    @tf.function
    def _train(self, order: tf.Tensor, rates: tf.Tensor) -> tf.Tensor:
        total = tf.zeros([self._rates])
        for start in tf.range(0, tf.size(order), self._config.batch_size):
            rows = order[start : start + self._config.batch_size]
            total += self._step(tf.gather(self._inputs, rows), tf.gather(self._labels, rows), rates)
        return total

    def _step(self, inputs: tf.Tensor, labels: tf.Tensor, rates: tf.Tensor) -> tf.Tensor:
        logits = self._logits(inputs)
        targets = tf.one_hot(labels, self._classes)[:, None]
        # Derived by hand: a tape would differentiate the sum over rates, and one NaN would reach them all.
        delta = (tf.nn.softmax(logits) - targets) / tf.cast(tf.size(labels), tf.float32)
        delta = tf.reshape(delta, [-1, self._rates * self._classes])
        gradients = [tf.matmul(inputs, delta, transpose_a=True), tf.reduce_sum(delta, axis=0)]
        for variable, velocity, gradient in zip((self.kernel, self.bias), self._velocities, gradients, strict=True):
            gradient += self._config.weight_decay * variable
            # The learning rate stays outside of the velocity (as in PyTorch): a drop takes effect at once.
            velocity.assign(self._config.momentum * velocity + gradient)
            variable.assign_sub(rates * velocity)
        return -tf.reduce_sum(targets * tf.nn.log_softmax(logits), axis=[0, 2])

    def _logits(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.reshape(inputs @ self.kernel + self.bias, [-1, self._rates, self._classes])

    @tf.function(reduce_retracing=True)
    def accuracies(self, inputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Top-1 and top-5 `[rates, 2]`."""
        hits = tf.zeros([self._rates, 2])
        for start in tf.range(0, tf.size(labels), _CHUNK):
            logits = self._logits(inputs[start : start + _CHUNK])
            part = tf.repeat(labels[start : start + _CHUNK, None], self._rates, axis=1)
            ranks = label_ranks(logits, part)
            hits += tf.stack([tf.math.count_nonzero(ranks < top, axis=0, dtype=tf.float32) for top in (1, 5)], axis=1)
        return hits / tf.cast(tf.size(labels), tf.float32)

    def predictions(self, inputs: tf.Tensor) -> tf.Tensor:
        """Int64 tensor `[images, rates]`."""
        starts = range(0, len(inputs), _CHUNK)
        return tf.concat([tf.argmax(self._logits(inputs[i : i + _CHUNK]), axis=-1) for i in starts], axis=0)


def _inputs(part: Features, config: LinearPreset) -> tf.Tensor:
    if not config.normalise:
        return tf.constant(part.features)
    return tf.constant(part.features / np.maximum(np.linalg.norm(part.features, axis=1, keepdims=True), 1e-12))


def _metrics(
    config: LinearPreset, reported: np.ndarray, selected_on: np.ndarray, diverged: np.ndarray
) -> tuple[dict[str, float], int]:
    """All metrics and the index of the chosen rate, from accuracies `[epochs, rates, 2]`."""
    if diverged.all():
        raise ValueError(f"`learning_rates` {config.learning_rates} all diverged; use smaller ones, or normalise=True.")
    reported = np.where(diverged[:, None], 0.0, reported)
    best = np.argmax(selected_on[..., 0], axis=0)
    per_rate = [
        {
            "last/top1": reported[-1, rate, 0],
            "last/top5": reported[-1, rate, 1],
            "best/top1": reported[best[rate], rate, 0],
            "best/top5": reported[best[rate], rate, 1],
            "best/epoch": best[rate] + 1.0,
            "diverged": float(diverged[rate]),
        }
        for rate in range(len(diverged))
    ]
    chosen = max(
        np.flatnonzero(~diverged),
        key=lambda rate: (
            selected_on[-1, rate, 0],
            selected_on[best[rate], rate, 0],
            -config.learning_rates[rate],
        ),
    )
    metrics = {**per_rate[chosen], "learning_rate": config.learning_rates[chosen]}
    del metrics["diverged"]
    for rate, values in zip(config.learning_rates, per_rate, strict=True):
        metrics.update({f"lr_{rate:g}/{name}": value for name, value in values.items()})
    return {name: float(value) for name, value in metrics.items()}, int(chosen)


def _of_chosen(held_out: np.ndarray, best_epoch: int) -> dict[str, float]:
    """Metrics of images held out, from accuracies `[epochs, 2]` at the chosen rate; `best_epoch` counts from 1."""
    epochs = {"last": -1, "best": best_epoch - 1}
    return {
        f"validation/{name}/top{top}": float(held_out[epoch, column])
        for name, epoch in epochs.items()
        for column, top in enumerate((1, 5))
    }

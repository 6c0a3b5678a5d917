"""The classifiers of all learning rates of a sweep, trained side by side."""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from larq_ssl.evaluation.accuracy import TOPS, label_ranks
from larq_ssl.evaluation.linear_settings import LinearPreset

# Images whose logits are held at once in evaluation.
_CHUNK = 1024
_TRUST = 0.001


class Sweep:
    """One linear classifier per learning rate, side by side in one kernel `[dim, rates * classes]`.

    All start from the same kernel and see the same batches. With \\( g \\) the gradient of the mean cross-entropy plus
    the weight decay times the weights, and the momentum \\( m \\),

    \\[ v \\leftarrow m v + q g, \\qquad w \\leftarrow w - \\eta v \\]

    "nesterov" goes along \\( g + m v \\) instead of \\( v \\). With "lars", biases are not decayed, and
    \\( q = 0.001 \\|w\\| / \\|g\\| \\) for the kernel of each classifier, or 1 if a norm is 0; otherwise \\( q = 1 \\).

    # Arguments
        config: The settings.
        dim: Length of the features.
        classes: Number of classes.
        seed: Of the kernel.
    """

    measures: tuple[str, str] = TOPS
    """Names of what `accuracies` gives; the first decides."""

    def __init__(self, config: LinearPreset, dim: int, classes: int, seed: int) -> None:
        self._config, self._classes = config, classes
        self._rates = len(config.learning_rates)
        generator = np.random.default_rng((seed, 0))
        kernel = generator.normal(0.0, config.init_std, (dim, classes)).astype(np.float32)
        self.kernel = tf.Variable(np.tile(kernel, self._rates))
        self.bias = tf.Variable(tf.zeros(self._rates * classes))
        self._velocities = [tf.Variable(tf.zeros_like(variable)) for variable in (self.kernel, self.bias)]
        self.diverged = np.zeros(self._rates, bool)

    @property
    def state(self) -> dict[str, tf.Variable]:
        """All that training changes, by name."""
        names = ("kernel", "bias", "kernel_velocity", "bias_velocity")
        return dict(zip(names, (self.kernel, self.bias, *self._velocities), strict=True))

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Goes back to what `state` was."""
        for name, variable in self.state.items():
            variable.assign(arrays[name])
        self.end_epoch()

    @tf.function
    def train_epoch(self, inputs: tf.Tensor, labels: tf.Tensor, order: tf.Tensor, rates: tf.Tensor) -> None:
        """A step per row of `rates` `[steps, rates]`, on images in an order."""
        size = self._config.batch_size
        for step in tf.range(tf.shape(rates)[0]):
            rows = order[step * size : (step + 1) * size]
            self._step(tf.gather(inputs, rows), tf.gather(labels, rows), rates[step])

    @tf.function(reduce_retracing=True)
    def train_batch(self, inputs: tf.Tensor, labels: tf.Tensor, rates: tf.Tensor) -> None:
        """A step on one batch, at `rates` `[rates]`."""
        self._step(inputs, labels, rates)

    def end_epoch(self) -> None:
        """Takes note of classifiers that have diverged.

        # Raises
            ValueError: If all have.
        """
        largest = np.reshape(np.abs(self.kernel.numpy()).max(axis=0), [self._rates, -1])
        self.diverged |= ~np.isfinite(largest).all(axis=1)
        if self.diverged.all():
            raise ValueError(
                f"`learning_rates` {self._config.learning_rates} all diverged; use smaller ones, or normalise=True."
            )

    def _step(self, inputs: tf.Tensor, labels: tf.Tensor, rates: tf.Tensor) -> None:
        delta = tf.reshape(self._slope(self._logits(inputs), labels), [-1, self._rates * self._classes])
        by_class = tf.repeat(rates, self._classes)
        gradients = [tf.matmul(inputs, delta, transpose_a=True), tf.reduce_sum(delta, axis=0)]
        for variable, velocity, gradient in zip((self.kernel, self.bias), self._velocities, gradients, strict=True):
            gradient = self._adapted(variable, gradient)
            # The learning rate stays outside of the velocity (as in PyTorch): a drop takes effect at once.
            moved = velocity.assign(self._config.momentum * velocity + gradient)
            if self._config.optimizer == "nesterov":
                moved = gradient + self._config.momentum * moved
            variable.assign_sub(by_class * moved)

    def _slope(self, logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Derivative of the mean loss of each rate by the logits, `[images, rates, classes]`.

        By hand: a tape would differentiate the sum over rates, and one NaN would reach them all.
        """
        targets = tf.one_hot(labels, self._classes)[:, None]
        return (tf.nn.softmax(logits) - targets) / tf.cast(tf.size(labels), tf.float32)

    def _adapted(self, variable: tf.Variable, gradient: tf.Tensor) -> tf.Tensor:
        """The gradient with decay, and with LARS of a length that the weights decide."""
        lars, vector = self._config.optimizer == "lars", len(variable.shape) == 1
        if self._config.weight_decay and not (lars and vector):
            gradient += self._config.weight_decay * variable
        if not lars or vector:
            return gradient
        norms = [self._norms(tensor) for tensor in (variable, gradient)]
        ratio = tf.where((norms[0] > 0) & (norms[1] > 0), _TRUST * tf.math.divide_no_nan(*norms), 1.0)
        return tf.repeat(ratio, self._classes) * gradient

    def _norms(self, kernel: tf.Tensor) -> tf.Tensor:
        """Of each classifier's kernel, `[rates]`."""
        squares = tf.reduce_sum(tf.square(kernel), axis=0)
        return tf.sqrt(tf.reduce_sum(tf.reshape(squares, [self._rates, self._classes]), axis=1))

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

    def classifier(self, rate: int) -> tuple[np.ndarray, np.ndarray]:
        """Kernel `[dim, classes]` and bias `[classes]` of one rate, by its number."""
        columns = slice(rate * self._classes, (rate + 1) * self._classes)
        return self.kernel.numpy()[:, columns], self.bias.numpy()[columns]

    def predictions(self, inputs: tf.Tensor, rate: int) -> np.ndarray:
        """Int64 array `[images]`: of the classifier of one rate, by its number."""
        starts = range(0, len(inputs), _CHUNK)
        parts = [tf.argmax(self._logits(inputs[i : i + _CHUNK])[:, rate], axis=-1).numpy() for i in starts]
        return np.concatenate(parts)

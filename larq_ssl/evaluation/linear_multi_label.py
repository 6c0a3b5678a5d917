"""The classifiers of a sweep for images that may show several things at once: a sigmoid per class."""

import numpy as np
import tensorflow as tf

from larq_ssl.evaluation.average_precision import PRECISIONS, mean_average_precisions
from larq_ssl.evaluation.linear_sweep import Sweep

# Images whose logits are held at once in evaluation.
_CHUNK = 1024


class MultiLabelSweep(Sweep):
    """`Sweep` by the mean of `larq_ssl.losses.sigmoid_cross_entropy`, measured by VOC's mean average precision.

    Labels are float32 `[images, classes]`: 1 where the class is in the image, 0 where it is not, -1 where all that is
    there of it is difficult: left out in training and in the test.

    # Arguments
        config, dim, classes, seed: See `Sweep`.
    """

    measures = PRECISIONS

    def _slope(self, logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        known = tf.cast(labels >= 0, tf.float32)
        share = tf.math.divide_no_nan(known, tf.reduce_sum(known, axis=1, keepdims=True))[:, None]
        wanted = tf.maximum(labels, 0.0)[:, None]
        return share * (tf.nn.sigmoid(logits) - wanted) / tf.cast(tf.shape(labels)[0], tf.float32)

    def accuracies(self, inputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Mean average precision by the area and at eleven points `[rates, 2]`; 0 where logits are not finite."""
        logits = self._all_logits(inputs)
        found = np.zeros((logits.shape[1], len(self.measures)))
        for rate, of_rate in enumerate(np.moveaxis(logits, 1, 0)):
            if np.isfinite(of_rate).all():
                found[rate] = list(mean_average_precisions(labels.numpy(), of_rate).values())
        return tf.constant(found)

    def predictions(self, inputs: tf.Tensor, rate: int) -> np.ndarray:
        """Bools `[images, classes]`: whether the classifier of one rate, by its number, says that a class is there."""
        return self._all_logits(inputs)[:, rate] > 0

    def _all_logits(self, inputs: tf.Tensor) -> np.ndarray:
        starts = range(0, len(inputs), _CHUNK)
        return np.concatenate([self._logits(inputs[start : start + _CHUNK]).numpy() for start in starts])

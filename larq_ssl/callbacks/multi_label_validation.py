"""Mean average precision on images held out, while a classifier of several labels per image trains."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from larq_ssl.callbacks.validation import Validation
from larq_ssl.checkpoints import NotFiniteError
from larq_ssl.data.datasets import ImageDataset
from larq_ssl.data.multi_label import presence_of
from larq_ssl.data.pipeline import image_batches
from larq_ssl.evaluation.average_precision import mean_average_precisions
from larq_ssl.evaluation.examples import check_test


class MultiLabelValidation(Validation):
    """Adds `val_map` and `val_map_eleven_points` every `every` epochs and after the last.

    What is difficult is left out, class by class, as PASCAL VOC does.

    # Arguments
        dataset, image_size, every, batch_size: See `Validation`; each class must be in an image.
    # Raises
        ValueError: If `every` is below 1, or no image shows one of the classes.
    """

    _scores: Callable[[tf.Tensor], tf.Tensor] | None = None

    def _check(self, dataset: ImageDataset) -> None:
        check_test(*presence_of(dataset))

    def measured(self) -> dict[str, float]:
        if self._scores is None:
            images = tf.TensorSpec([None, self._image_size, self._image_size, 3], tf.uint8)
            self._scores = tf.function(lambda x: self.model.classify(x), input_signature=[images])
        scores, ids = [], []
        for batch in image_batches(self._dataset, self._image_size, self._batch_size):
            scores.append(self._scores(batch["image"]).numpy())
            ids.append(batch["id"].numpy())
        table = np.concatenate(scores).astype(np.float64)
        # Which no order of the images could be made of.
        if not np.isfinite(table).all():
            raise NotFiniteError("The logits of images held out are not finite.")
        precisions = mean_average_precisions(presence_of(self._dataset)[0][np.concatenate(ids)], table)
        return {f"val_{name}": value for name, value in precisions.items()}

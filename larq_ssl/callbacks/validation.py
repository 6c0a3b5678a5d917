"""Accuracy on images held out, while a classifier trains."""

from collections.abc import Callable

import tensorflow as tf

from larq_ssl.callbacks.whole_epochs import WholeEpochs
from larq_ssl.data.datasets import ImageDataset
from larq_ssl.data.pipeline import image_batches
from larq_ssl.evaluation.accuracy import check_labels, label_ranks


class Validation(WholeEpochs):
    """Adds `val_top1` and `val_top5` every `every` epochs and after the last.

    The model that is trained classifies the images in inference mode, as probes see them.

    # Arguments
        dataset: Images held out, all of them with a label.
        image_size: Side of the images in pixels.
        every: Distance in epochs.
        batch_size: Images per step. It does not alter the result beyond rounding.
    # Raises
        ValueError: If `every` is below 1, or an image has no label.
    """

    def __init__(self, dataset: ImageDataset, image_size: int, every: int = 1, batch_size: int = 256):
        super().__init__()
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}.")
        self._check(dataset)
        self._dataset, self._image_size, self._every, self._batch_size = dataset, image_size, every, batch_size
        self._ranks: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        last = epoch + 1 == self.params.get("epochs")
        if logs is None or not self.epoch_is_whole() or not (last or (epoch + 1) % self._every == 0):
            return
        logs.update(self.measured())

    def measured(self) -> dict[str, float]:
        """What is added to the logs, of the model as it is."""
        return {f"val_top{top}": accuracy for top, accuracy in self.accuracies().items()}

    def accuracies(self) -> dict[int, float]:
        """Top-1 and top-5 of the model as it is, by 1 and 5."""
        if self._ranks is None:
            self._ranks = self._compile()
        hits, count = {1: 0, 5: 0}, 0
        for batch in image_batches(self._dataset, self._image_size, self._batch_size):
            ranks = self._ranks(batch["image"], batch["label"]).numpy()
            hits = {top: found + int((ranks < top).sum()) for top, found in hits.items()}
            count += len(ranks)
        return {top: found / count for top, found in hits.items()}

    def _check(self, dataset: ImageDataset) -> None:
        check_labels("dataset", dataset.labels(), dataset.class_count())

    def _compile(self) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
        # A signature with a free batch size: a smaller last batch would trace the network again.
        images = tf.TensorSpec([None, self._image_size, self._image_size, 3], tf.uint8)
        labels = tf.TensorSpec([None], tf.int64)
        return tf.function(lambda x, y: label_ranks(self.model.classify(x), y), input_signature=[images, labels])

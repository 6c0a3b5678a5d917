"""kNN accuracy of the features while the network trains."""

import tensorflow as tf

from larq_ssl.callbacks.whole_epochs import WholeEpochs
from larq_ssl.data.datasets import ImageDataset
from larq_ssl.evaluation.features import extract
from larq_ssl.evaluation.knn import knn


class OnlineKNN(WholeEpochs):
    """Adds `knn` (top-1, DINO's weighted vote) every `every` epochs and after the last.

    Two labelled sets of its own, never the views that the network trains on.

    # Arguments
        encoder: The network to watch; run in inference mode.
        bank: Labelled images whose features vote.
        queries: Labelled images that are classified.
        image_size: Side of the images in pixels.
        every: Distance in epochs.
        k: Number of neighbours; at most the number of images in `bank`.
        batch_size: Of the feature extraction.
    """

    def __init__(
        self,
        encoder: tf.keras.Model,
        bank: ImageDataset,
        queries: ImageDataset,
        image_size: int,
        every: int = 1,
        k: int = 20,
        batch_size: int = 256,
    ):
        super().__init__()
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}.")
        self._classes = bank.class_count()
        self._encoder, self._bank, self._queries = encoder, bank, queries
        self._image_size, self._every, self._batch_size = image_size, every, batch_size
        self._k = min(k, bank.size)
        self.accuracy: float | None = None

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        last = epoch + 1 == self.params.get("epochs")
        if logs is None or not self.epoch_is_whole() or not (last or (epoch + 1) % self._every == 0):
            return
        bank = extract(self._encoder, self._bank, self._image_size, self._batch_size)
        queries = extract(self._encoder, self._queries, self._image_size, self._batch_size)
        metrics = knn(bank, queries, self._classes, ks=(self._k,))
        self.accuracy = logs["knn"] = metrics[f"{self._k}/top1"]

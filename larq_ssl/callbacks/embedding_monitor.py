"""How embeddings lie on the sphere while the network trains: the same numbers for every method."""

import numpy as np
import tensorflow as tf

from larq_ssl.callbacks.whole_epochs import WholeEpochs
from larq_ssl.checkpoints import NotFiniteError
from larq_ssl.losses.alignment_uniformity import alignment, uniformity


class EmbeddingMonitor(WholeEpochs):
    """Adds rank, alignment and uniformity of the embeddings of a few fixed views, after every so many epochs.

    Of the encoder `embedding_rank`, `alignment` and `uniformity`, of a projection head behind it `projection_rank`,
    `projection_alignment` and `projection_uniformity`:

    - rank: `effective_rank` of the first view, 1 when all images lie in one direction, at most their number;
    - alignment: mean squared distance between the unit embeddings of two views of an image, 0 if they are one;
    - uniformity: logarithm of the mean of \\( e^{-2 \\|x_i - x_j\\|^2} \\), 0 when all images are one, -3.94 for rows
      spread evenly over 128 dimensions.

    # Arguments
        encoder: The network to watch; run in inference mode.
        head: Projection head `[batch, dim] -> [batch, embedding]`, or `None`.
        views: One or two views of each image, uint8 `[images, views, height, width, 3]`; of one there is no alignment.
        every: Distance in epochs; the last one counts always.
        batch_size: Images at once.
    # Raises
        ValueError: If there are less than two images, no views, or the distance is below 1.
        NotFiniteError: After an epoch, if the features are not finite: the training has diverged.
    # References
        - RankMe: Assessing the Downstream Performance of Pretrained Self-Supervised Representations by Their Rank
          (Garrido et al., 2023); of unit rows here
        - Understanding Contrastive Representation Learning through Alignment and Uniformity on the Hypersphere (Wang &
          Isola, 2020)
    """

    def __init__(
        self,
        encoder: tf.keras.Model,
        head: tf.keras.Model | None,
        views: np.ndarray,
        every: int = 1,
        batch_size: int = 128,
    ):
        super().__init__()
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}.")
        if views.ndim != 5 or len(views) < 2 or not views.shape[1]:
            raise ValueError(
                f"views must be [images, views, height, width, 3] of two images or more, got {views.shape}."
            )
        self._encoder, self._head, self._views = encoder, head, views[:, :2]
        self._every, self._batch_size = every, batch_size

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        last = epoch + 1 == self.params.get("epochs")
        if logs is None or not self.epoch_is_whole() or not (last or (epoch + 1) % self._every == 0):
            return
        features = [self._features(view) for view in np.moveaxis(self._views, 1, 0)]
        if not np.isfinite(features).all():
            raise NotFiniteError(f"After epoch {epoch + 1} the features of {self._encoder.name} are not finite.")
        logs |= _numbers(features, "embedding_rank", "alignment", "uniformity")
        if self._head is not None:
            projections = [self._head(part, training=False) for part in features]
            logs |= _numbers(projections, "projection_rank", "projection_alignment", "projection_uniformity")

    def _features(self, images: np.ndarray) -> tf.Tensor:
        starts = range(0, len(images), self._batch_size)
        parts = [self._encoder(images[start : start + self._batch_size], training=False) for start in starts]
        return tf.concat(parts, axis=0)


def _numbers(views: list[tf.Tensor], rank: str, aligned: str, uniform: str) -> dict[str, float]:
    """By these names, of the embeddings `[images, dim]` of one or two views."""
    views = [tf.math.l2_normalize(tf.cast(view, tf.float32), axis=-1) for view in views]
    numbers = {rank: effective_rank(views[0].numpy())}
    if len(views) == 2:
        numbers[aligned] = float(tf.reduce_mean(alignment(*views)))
    return {**numbers, uniform: float(np.mean([uniformity(view) for view in views]))}


def effective_rank(features: np.ndarray) -> float:
    """Exponential of the entropy of the normalised singular values of the unit features `[images, dim]`.

    # References
        - Roy and Vetterli, The effective rank: a measure of effective dimensionality
    """
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    singular = np.linalg.svd(unit, compute_uv=False)
    share = singular / max(singular.sum(), 1e-12)
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))

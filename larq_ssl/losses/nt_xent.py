"""The contrastive loss of SimCLR: pick the other view of the image among all views of all images of the batch."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from larq_ssl import distribute
from larq_ssl.losses.checks import check_same_shape, check_temperature, float32_rows

Keys = tuple[tf.Tensor, tf.Tensor]


def nt_xent_logits(
    first: tf.Tensor,
    second: tf.Tensor,
    temperature: float = 0.1,
    keys: Keys | None = None,
    queue: tf.Tensor | None = None,
) -> tf.Tensor:
    """Similarities of both views of each image to both views of every image of all replicas.

    \\[ s_{ij} = \\langle z_i, k_j \\rangle / \\tau \\]

    A view is no answer to itself: there the similarity is the smallest float32, whose exponential is 0.

    # Arguments
        first, second: Float tensors `[batch, dim]` of unit rows (`unit_rows`): the two views of this replica's images;
            any float type, computed in float32.
        temperature: \\( \\tau \\), positive.
        keys: What to look for instead, as from a momentum encoder: unit rows `[global, dim]` of the first and of the
            second views of all replicas' images, in their order. No gradient flows into them. By default the keys are
            the embeddings themselves, gathered over the replicas, and the gradient flows into them too.
        queue: Float tensor `[size, dim]` of unit rows: keys of other images. No gradient flows into it.
    # Returns
        Float32 tensor `[2 * batch, 2 * global + size]`: rows of the first views, then of the second ones; columns
        of the first views' keys, of the second ones', of the queue.
    # Raises
        TypeError: If an argument is not of a float type.
        ValueError: If the shapes do not fit, or the temperature is not positive.
    # References
        - A Simple Framework for Contrastive Learning of Visual Representations (Chen et al., 2020), Sec. 2.1
    """
    check_temperature(temperature)
    first, second = float32_rows("first", first), float32_rows("second", second)
    check_same_shape(first=first, second=second)
    if keys is None:
        # Side by side: one collective instead of two.
        columns = tf.split(distribute.all_gather(tf.concat([first, second], axis=1)), 2, axis=1)
    else:
        columns = [tf.stop_gradient(float32_rows("keys", rows)) for rows in keys]
    itself = tf.concat([_own(first), tf.shape(columns[0])[0] + _own(first)], axis=0)
    if queue is not None:
        columns.append(tf.stop_gradient(float32_rows("queue", queue)))
    _check_columns(first, columns)
    logits = tf.linalg.matmul(tf.concat([first, second], axis=0), tf.concat(columns, axis=0), transpose_b=True)
    masked = tf.one_hot(itself, tf.shape(logits)[1], on_value=True, off_value=False)
    return tf.where(masked, logits.dtype.min, logits / temperature)


def nt_xent(
    first: tf.Tensor,
    second: tf.Tensor,
    temperature: float = 0.1,
    keys: Keys | None = None,
    queue: tf.Tensor | None = None,
) -> tf.Tensor:
    """Normalised, temperature-scaled cross-entropy of telling the other view of an image, in both directions.

    \\[ \\mathcal{L}_n = \\ell(z_n, z'_n) + \\ell(z'_n, z_n), \\quad
       \\ell(z_i, z_j) = -\\log \\frac{\\exp(\\langle z_i, z_j \\rangle / \\tau)}
       {\\sum_{k \\ne i} \\exp(\\langle z_i, z_k \\rangle / \\tau)} \\]

    The sum has \\( 2N - 1 \\) terms, both views of the \\( N \\) images of all replicas but \\( i \\) itself.

    # Arguments
        first, second, temperature, keys, queue: See `nt_xent_logits`.
    # Returns
        Float32 tensor `[batch]`, in nats; \\( 2 \\ln(2N - 1) \\) if all embeddings are equal.
    # Raises
        TypeError: If an argument is not of a float type.
        ValueError: If the shapes do not fit, or the temperature is not positive.
    # References
        - A Simple Framework for Contrastive Learning of Visual Representations (Chen et al., 2020), Eq. 1
        - Big Self-Supervised Models are Strong Semi-Supervised Learners (Chen et al., 2020), Eq. 1
    # Differences from the paper
        The sum of the two directions, as in the released code, twice the mean over all views. Keys of another network
        and a queue are a reconstruction, see `larq_ssl.methods.SimCLR`.
    """
    return nt_xent_of_logits(nt_xent_logits(first, second, temperature, keys, queue))


def nt_xent_of_logits(logits: tf.Tensor) -> tf.Tensor:
    """`nt_xent` of similarities that are computed already, by `nt_xent_logits`."""
    of_first, of_second = tf.split(logits, 2)
    own = _own(of_first)
    images = tf.shape(of_first)[0] * distribute.replicas()
    return tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=images + own, logits=of_first
    ) + tf.nn.sparse_softmax_cross_entropy_with_logits(labels=own, logits=of_second)


def between_views(logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The similarities that SimCLR watches: those of first views to second ones alone.

    # Arguments
        logits: Of `nt_xent_logits`.
    # Returns
        Float32 tensor `[batch, global]`, and int32 `[batch]`, which column of each row is the right answer.
    """
    of_first = tf.split(logits, 2)[0]
    images = tf.shape(of_first)[0] * distribute.replicas()
    return of_first[:, images : 2 * images], _own(of_first)


@tf.keras.utils.register_keras_serializable(package="larq_ssl")
class NTXent(tf.keras.losses.Loss):
    """`nt_xent` as a Keras loss: `y_true` are the embeddings of one view, `y_pred` those of the other.

    # Arguments
        temperature: What the similarities are divided by, positive.
        reduction: As of any Keras loss.
        name: Name of the loss.
    # Raises
        ValueError: If the temperature is not positive.
    """

    def __init__(
        self,
        temperature: float = 0.1,
        reduction: str = tf.keras.losses.Reduction.AUTO,
        name: str = "nt_xent",
    ) -> None:
        super().__init__(reduction=reduction, name=name)
        check_temperature(temperature)
        self.temperature = temperature

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        return nt_xent(y_true, y_pred, self.temperature)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature}


def _own(rows: tf.Tensor) -> tf.Tensor:
    """The numbers of this replica's images among those of all replicas, one per row."""
    return distribute.replica_slice(tf.range(tf.shape(rows)[0] * distribute.replicas()))


def _check_columns(first: tf.Tensor, columns: Sequence[tf.Tensor]) -> None:
    images = None if first.shape[0] is None else first.shape[0] * distribute.replicas()
    for name, rows, count in zip(("keys", "keys", "queue"), columns, (images, images, None), strict=False):
        if not rows.shape.is_compatible_with([count, first.shape[1]]):
            raise ValueError(f"{name} must have shape [{count or 'rows'}, {first.shape[1]}], got {rows.shape}.")

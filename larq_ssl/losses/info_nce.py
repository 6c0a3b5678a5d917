"""The contrastive loss of MoCo: pick the other view of the image among a queue of other images."""

from typing import Any

import tensorflow as tf

from larq_ssl.losses.checks import check_same_shape, check_temperature, float32_rows


def info_nce_logits(query: tf.Tensor, key: tf.Tensor, queue: tf.Tensor, temperature: float = 0.2) -> tf.Tensor:
    """Similarities of each query to its own key (column 0) and to every key of the queue.

    \\[ \\ell_i = [\\langle q_i, k_i \\rangle, \\langle q_i, n_1 \\rangle, \\dots,
       \\langle q_i, n_K \\rangle] / \\tau \\]

    # Arguments
        query: Float tensor `[batch, dim]` of unit rows (`unit_rows`), any float type; computed in float32.
        key: Float tensor `[batch, dim]` of unit rows. No gradient flows into it.
        queue: Float tensor `[size, dim]` of unit rows: the keys of other images. No gradient flows into it.
        temperature: \\( \\tau \\), positive.
    # Returns
        Float32 tensor `[batch, 1 + size]`; the right answer of every row is 0.
    # Raises
        TypeError: If an argument is not of a float type.
        ValueError: If the shapes do not fit, or the temperature is not positive.
    # References
        - Momentum Contrast for Unsupervised Visual Representation Learning (He et al., 2020), Eq. 1
    """
    check_temperature(temperature)
    query = float32_rows("query", query)
    key = tf.stop_gradient(float32_rows("key", key))
    queue = tf.stop_gradient(float32_rows("queue", queue))
    check_same_shape(query=query, key=key)
    if not query.shape[-1:].is_compatible_with(queue.shape[-1:]):
        raise ValueError(f"queue must have rows as long as query, got {queue.shape} and {query.shape}.")
    positive = tf.reduce_sum(query * key, axis=-1, keepdims=True)
    negative = tf.linalg.matmul(query, queue, transpose_b=True)
    return tf.concat([positive, negative], axis=-1) / temperature


def info_nce(query: tf.Tensor, key: tf.Tensor, queue: tf.Tensor, temperature: float = 0.2) -> tf.Tensor:
    """Cross-entropy of telling a query's own key from the keys in the queue.

    \\[ \\mathcal{L}(q_i) = -\\log \\frac{\\exp(\\langle q_i, k_i \\rangle / \\tau)}
       {\\exp(\\langle q_i, k_i \\rangle / \\tau) + \\sum_{n} \\exp(\\langle q_i, n \\rangle / \\tau)} \\]

    # Arguments
        query: Float tensor `[batch, dim]` of unit rows (`unit_rows`), any float type; computed in float32.
        key: Float tensor `[batch, dim]` of unit rows. No gradient flows into it.
        queue: Float tensor `[size, dim]` of unit rows: the keys of other images. No gradient flows into it.
        temperature: \\( \\tau \\), positive.
    # Returns
        Float32 tensor `[batch]`, in nats; about `log(1 + size)` before training.
    # Raises
        TypeError: If an argument is not of a float type.
        ValueError: If the shapes do not fit, or the temperature is not positive.
    # References
        - Momentum Contrast for Unsupervised Visual Representation Learning (He et al., 2020), Eq. 1
        - Improved Baselines with Momentum Contrastive Learning (Chen et al., 2020): temperature 0.2
    # Differences from the paper
        None.
    """
    return info_nce_of_logits(info_nce_logits(query, key, queue, temperature))


def info_nce_of_logits(logits: tf.Tensor) -> tf.Tensor:
    """`info_nce` of similarities that are computed already, by `info_nce_logits`."""
    right = tf.zeros(tf.shape(logits)[:1], tf.int32)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=right, logits=logits)


@tf.keras.utils.register_keras_serializable(package="larq_ssl")
class InfoNCE(tf.keras.losses.Loss):
    """`info_nce` as a Keras loss: `y_true` is the pair `(key, queue)`, `y_pred` the query.

    # Arguments
        temperature: What the similarities are divided by, positive.
        reduction: As of any Keras loss.
        name: Name of the loss.
    # Raises
        ValueError: If the temperature is not positive.
    """

    def __init__(
        self,
        temperature: float = 0.2,
        reduction: str = tf.keras.losses.Reduction.AUTO,
        name: str = "info_nce",
    ) -> None:
        super().__init__(reduction=reduction, name=name)
        check_temperature(temperature)
        self.temperature = temperature

    def call(self, y_true: tuple[tf.Tensor, tf.Tensor], y_pred: tf.Tensor) -> tf.Tensor:
        key, queue = y_true
        return info_nce(y_pred, key, queue, self.temperature)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature}

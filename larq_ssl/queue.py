"""Queues of what the last images were embedded as: the keys of momentum contrast, and the embeddings of SwAV."""

from typing import Any

import numpy as np
import tensorflow as tf


@tf.keras.utils.register_keras_serializable(package="larq_ssl")
class KeyQueue(tf.keras.layers.Layer):
    """The keys of the last images, oldest overwritten first.

    It starts with random unit rows, so that every row is a valid negative from the first step on. Both
    variables are saved with the model that owns the queue, and are float32 and int64 under every precision
    policy.

    # Arguments
        size: Number of keys, a multiple of the number of keys that are put in at once.
        dim: Length of a key.
        seed: Seed of the random rows; equal on every replica.
        name: Name of the layer.
    # Attributes
        keys: Variable `[size, dim]`, float32, unit rows.
        pointer: Variable `[]`, int64: the row that the next key goes to.
    # Raises
        ValueError: If `size` or `dim` is not positive.
    # References
        - Momentum Contrast for Unsupervised Visual Representation Learning (He et al., 2020), Algorithm 1
    # Differences from the paper
        None. The released code keeps the transpose.
    """

    def __init__(self, size: int, dim: int, seed: int = 0, name: str = "queue", **kwargs: Any) -> None:
        # The policy of the networks must not turn the keys into bfloat16.
        super().__init__(name=name, **{**kwargs, "dtype": "float32", "trainable": False})
        for argument, value in (("size", size), ("dim", dim)):
            if value < 1:
                raise ValueError(f"{argument} of the queue must be positive, got {value}.")
        self.size, self.dim, self.seed = size, dim, seed
        rows = np.random.default_rng(seed).standard_normal((size, dim))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        # Replicas write the same gathered keys: no reduction is needed, nor rounding wanted.
        shared: dict[str, Any] = {
            "trainable": False,
            "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA,
        }
        self.keys = self.add_weight(
            "keys", [size, dim], tf.float32, tf.constant_initializer(rows.astype(np.float32)), **shared
        )
        self.pointer = self.add_weight("pointer", [], tf.int64, "zeros", **shared)

    def enqueue(self, keys: tf.Tensor) -> None:
        """Replaces the oldest keys. Call it after the loss has read the queue.

        Under a distribution strategy call it in replica context, with the keys of all replicas.

        # Arguments
            keys: Float tensor `[batch, dim]` of unit rows, where `batch` divides the size of the queue.
        # Raises
            ValueError: If the shape does not fit, as far as it is known when the graph is made.
            tf.errors.InvalidArgumentError: If a batch whose size is not known by then does not fit.
        """
        keys = tf.stop_gradient(tf.cast(keys, tf.float32))
        if not keys.shape.is_compatible_with([None, self.dim]):
            raise ValueError(f"keys must have shape [batch, {self.dim}], got {keys.shape}.")
        batch = keys.shape[0]
        if batch is not None and (batch == 0 or self.size % batch):
            raise ValueError(f"size of the queue must be a multiple of the batch {batch}, got {self.size}.")
        count = tf.shape(keys, tf.int64)[0]
        if batch is None:
            fits = tf.debugging.assert_equal(
                self.size % count,
                tf.zeros([], tf.int64),
                f"size of the queue ({self.size}) % batch must be 0.",
            )
            # Nothing else orders the check before the write, which has a worse message.
            with tf.control_dependencies([] if fits is None else [fits]):
                count = tf.identity(count)
        start = tf.identity(self.pointer)
        self.keys[start : start + count].assign(keys)
        self.pointer.assign((start + count) % self.size)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "size": self.size, "dim": self.dim, "seed": self.seed}


@tf.keras.utils.register_keras_serializable(package="larq_ssl")
class EmbeddingQueue(tf.keras.layers.Layer):
    """The embeddings of the last images, newest batch first, those of each view apart.

    It starts empty, with zeros, and is of use once it is full. It is saved with the model that owns it, and float32
    under every precision policy.

    # Arguments
        views: Number of views of an image that are kept.
        size: Number of images.
        dim: Length of an embedding.
        name: Name of the layer.
    # Attributes
        embeddings: Variable `[views, size, dim]`, float32.
    # Raises
        ValueError: If a number is not positive.
    # References
        - Unsupervised Learning of Visual Features by Contrasting Cluster Assignments (Caron et al., 2020), Sec. 5.2
    # Differences from the paper
        None.
    """

    def __init__(self, views: int, size: int, dim: int, name: str = "queue", **kwargs: Any) -> None:
        super().__init__(name=name, **{**kwargs, "dtype": "float32", "trainable": False})
        for argument, value in (("views", views), ("size", size), ("dim", dim)):
            if value < 1:
                raise ValueError(f"{argument} of the queue must be positive, got {value}.")
        self.views, self.size, self.dim = views, size, dim
        self.embeddings = self.add_weight(
            "embeddings",
            [views, size, dim],
            tf.float32,
            "zeros",
            trainable=False,
            # Replicas write the same gathered embeddings.
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )

    def is_full(self) -> tf.Tensor:
        """Whether the oldest place is taken, a boolean scalar: the last row is zero until then."""
        return tf.reduce_any(self.embeddings[:, -1] != 0)

    def enqueue(self, embeddings: tf.Tensor, condition: tf.Tensor | bool = True) -> None:
        """Puts these embeddings in front and drops the oldest. Call it after the loss has read the queue.

        Under a distribution strategy call it in replica context, with the embeddings of all replicas.

        # Arguments
            embeddings: Float tensor `[views, batch, dim]`, where the batch is not larger than the queue.
            condition: Boolean scalar: without it the queue stays as it is.
        # Raises
            ValueError: If the shape does not fit.
        """
        embeddings = tf.stop_gradient(tf.cast(embeddings, tf.float32))
        if not embeddings.shape.is_compatible_with([self.views, None, self.dim]):
            raise ValueError(f"embeddings must have shape [{self.views}, batch, {self.dim}], got {embeddings.shape}.")
        if (embeddings.shape[1] or 0) > self.size:
            raise ValueError(f"size of the queue must be at least the batch {embeddings.shape[1]}, got {self.size}.")
        moved = tf.concat([embeddings, self.embeddings], axis=1)[:, : self.size]
        # No assignment inside of `tf.cond`: replicas refuse it.
        self.embeddings.assign(tf.where(condition, moved, self.embeddings))

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "views": self.views, "size": self.size, "dim": self.dim}

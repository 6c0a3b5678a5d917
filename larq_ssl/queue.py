"""The queue of keys of momentum contrast."""

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
            tf.debugging.assert_equal(
                self.size % count,
                tf.zeros([], tf.int64),
                f"size of the queue ({self.size}) % batch must be 0.",
            )
        start = tf.identity(self.pointer)
        self.keys[start : start + count].assign(keys)
        self.pointer.assign((start + count) % self.size)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "size": self.size, "dim": self.dim, "seed": self.seed}

"""The centre of DINO: where the logits of the momentum network lie on average."""

from typing import Any

import tensorflow as tf

from larq_ssl import distribute


@tf.keras.utils.register_keras_serializable(package="larq_ssl")
class Center(tf.keras.layers.Layer):
    """Moving average of the mean of a batch of rows, zero at the start.

    \\[ c \\leftarrow m c + (1 - m) \\, \\frac{1}{N} \\sum_i z_i \\]

    # Arguments
        dim: Length of a row.
        momentum: \\( m \\) in `[0, 1]`.
        name: Name of the layer.
    # Attributes
        mean: Variable `[dim]`, float32 under every precision policy.
    # Raises
        ValueError: If a number is out of its range.
    # References
        - Emerging Properties in Self-Supervised Vision Transformers (Caron et al., 2021), Eq. 4
    # Differences from the paper
        None.
    """

    def __init__(self, dim: int, momentum: float = 0.9, name: str = "center", **kwargs: Any) -> None:
        super().__init__(name=name, **{**kwargs, "dtype": "float32", "trainable": False})
        if dim < 1:
            raise ValueError(f"dim of the centre must be positive, got {dim}.")
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum of the centre must lie in [0, 1], got {momentum}.")
        self.dim, self.momentum = dim, momentum
        self.mean = self.add_weight(
            "mean",
            [dim],
            tf.float32,
            "zeros",
            trainable=False,
            # Replicas write the same mean.
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )

    def mean_of(self, rows: tf.Tensor) -> tf.Tensor:
        """The mean of these rows, those of all replicas: the same on each of them.

        # Arguments
            rows: Float tensor `[rows, dim]`, as many on each replica.
        # Returns
            Float32 tensor `[dim]`.
        """
        (total,) = distribute.all_reduce_sum([tf.reduce_mean(tf.cast(rows, tf.float32), axis=0)])
        return total / distribute.replicas()

    def follow(self, mean: tf.Tensor) -> None:
        """Moves the centre towards a mean of all replicas."""
        self.mean.assign(self.momentum * self.mean + (1.0 - self.momentum) * mean)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "dim": self.dim, "momentum": self.momentum}

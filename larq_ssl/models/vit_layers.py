"""The layers that vision transformers need and that Keras lacks."""

from typing import Any

import tensorflow as tf

from larq_ssl.roles import Role

_register = tf.keras.utils.register_keras_serializable(package="larq_ssl")
_CUBIC = -0.75  # PyTorch's; TensorFlow and Pillow have -0.5


@_register
class Tokens(tf.keras.layers.Layer):
    """From a map of patches to tokens: a class token in front, and to each the embedding of its position.

    For maps of another size than the one that the embeddings were made for these are interpolated, bicubically. The
    published networks do so by a factor of (n + 0.1) / grid, the 0.1 against rounding, which moves each position a
    little; so does this layer. The class token and the embeddings are kernels by role: only vectors go without weight
    decay.

    # Arguments
        grid: Height and width of the map that there is an embedding for each position of.
        token_initializer: Of the class token.
        position_initializer: Of the embeddings, the first of which is that of the class token.
    # References
        - DINO (ICCV 2021), released code
    """

    weight_roles = {"class_token": Role.KERNEL, "position_embedding": Role.KERNEL}  # noqa: RUF012

    def __init__(
        self, grid: int, token_initializer: Any = "zeros", position_initializer: Any = "zeros", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.grid = grid
        self.token_initializer = tf.keras.initializers.get(token_initializer)
        self.position_initializer = tf.keras.initializers.get(position_initializer)

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes the class token and the embeddings, which stay in float32 under any precision policy."""
        channels = input_shape[-1]
        self.class_token = self.add_weight(
            "class_token", [1, 1, channels], initializer=self.token_initializer, experimental_autocast=False
        )
        self.position_embedding = self.add_weight(
            "position_embedding",
            [1, 1 + self.grid**2, channels],
            initializer=self.position_initializer,
            experimental_autocast=False,
        )
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """`[batch, 1 + height * width, channels]`."""
        batch, height, width = (size_of(inputs, axis) for axis in range(3))
        channels = inputs.shape[-1]
        first = self.class_token + self.position_embedding[:, :1]
        first = tf.broadcast_to(tf.cast(first, inputs.dtype), [batch, 1, channels])
        patches = inputs + tf.cast(self._positions(height, width), inputs.dtype)
        return tf.concat([first, tf.reshape(patches, [batch, height * width, channels])], axis=1)

    def _positions(self, height: int | tf.Tensor, width: int | tf.Tensor) -> tf.Tensor:
        """The embeddings of a map `[height, width, channels]`."""
        embedding = tf.reshape(self.position_embedding[0, 1:], [self.grid, self.grid, -1])

        def interpolated() -> tf.Tensor:
            rows = tf.einsum("hi,ijc->hjc", bicubic_matrix(height, self.grid), embedding)
            return tf.einsum("wj,hjc->hwc", bicubic_matrix(width, self.grid), rows)

        if isinstance(height, int) and isinstance(width, int):
            return embedding if height == width == self.grid else interpolated()
        is_grid = tf.logical_and(tf.equal(height, self.grid), tf.equal(width, self.grid))
        return tf.cond(is_grid, lambda: embedding, interpolated)

    def get_config(self) -> dict:
        """The arguments, for serialisation."""
        initializers = {
            "token_initializer": tf.keras.initializers.serialize(self.token_initializer),
            "position_initializer": tf.keras.initializers.serialize(self.position_initializer),
        }
        return {**super().get_config(), "grid": self.grid, **initializers}


def bicubic_matrix(outputs: int | tf.Tensor, inputs: int) -> tf.Tensor:
    """`[outputs, inputs]`: its product with values at `inputs` places interpolates them at `outputs` places.

    As PyTorch's bicubic interpolation by a factor of (outputs + 0.1) / inputs: pixels are squares, beyond the border
    are the values of the border, and nothing is smoothed where the number of places falls.
    """
    scale = tf.cast(inputs / (tf.cast(outputs, tf.float64) + 0.1), tf.float32)
    place = (tf.range(outputs, dtype=tf.float32) + 0.5) * scale - 0.5
    before = tf.floor(place)
    neighbours = before[:, None] + tf.range(-1.0, 3.0)
    distance = tf.abs(place[:, None] - neighbours)
    near = ((_CUBIC + 2) * distance - (_CUBIC + 3)) * distance**2 + 1
    far = ((distance - 5) * distance + 8) * distance * _CUBIC - 4 * _CUBIC
    weights = tf.where(distance <= 1, near, far)
    columns = tf.cast(tf.clip_by_value(neighbours, 0, inputs - 1), tf.int32)
    return tf.reduce_sum(weights[:, :, None] * tf.one_hot(columns, inputs), axis=1)


@_register
class SelfAttention(tf.keras.layers.Layer):
    r"""What tokens take from each other, head by head; the dense layers before and after it are not part of it.

    \\[ \mathrm{softmax}\left(\frac{Q K^\top}{\sqrt{d}}\right) V \\]

    # Arguments
        heads: Among which the channels are divided.
    """

    def __init__(self, heads: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.heads = heads

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """From queries, keys and values `[batch, tokens, 3 * channels]` to `[batch, tokens, channels]`."""
        tokens, channels = size_of(inputs, 1), inputs.shape[-1] // 3
        parts = tf.reshape(inputs, [-1, tokens, 3, self.heads, channels // self.heads])
        query, key, value = tf.unstack(tf.transpose(parts, [2, 0, 3, 1, 4]))
        scores = tf.matmul(query * (channels // self.heads) ** -0.5, key, transpose_b=True)
        shares = tf.nn.softmax(tf.cast(scores, tf.float32))
        taken = tf.matmul(tf.cast(shares, inputs.dtype), value)
        return tf.reshape(tf.transpose(taken, [0, 2, 1, 3]), [-1, tokens, channels])

    def get_config(self) -> dict:
        """The arguments, for serialisation."""
        return {**super().get_config(), "heads": self.heads}


@_register
class DropPath(tf.keras.layers.Layer):
    r"""Sets a residual branch to zero for some examples of a batch while it trains, and scales it up for the others.

    \\[ f(x) = \frac{b}{1 - p} x, \quad b \sim \mathrm{Bernoulli}(1 - p) \\]

    The expectation is `x`, and so is the output in inference mode. Not `StochasticDepth` of TensorFlow Addons, which
    draws once for the whole batch, and scales in inference mode instead of in training: a teacher without it would be
    another function than its student.

    The draws come from a generator of the layer's own, seeded by TensorFlow's global seed when the layer is built. Its
    state is saved in checkpoints, so that runs resume exactly, but it is no weight of the network.

    # Arguments
        rate: Probability of zero.
    # References
        - Deep Networks with Stochastic Depth (ECCV 2016)
    """

    def __init__(self, rate: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"`rate` must be at least 0 and below 1, not {rate!r}.")
        self.rate = rate

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes the generator."""
        seed = tf.random.uniform([], maxval=tf.int64.max, dtype=tf.int64)
        self.generator = tf.random.Generator.from_seed(int(seed))
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """The branch, or nothing of it, example by example."""
        if not training:
            return inputs
        shape = [size_of(inputs, 0), *[1] * (len(inputs.shape) - 1)]
        kept = self.generator.uniform(shape) >= self.rate
        return inputs * tf.cast(tf.cast(kept, tf.float32) / (1 - self.rate), inputs.dtype)

    def get_config(self) -> dict:
        """The arguments, for serialisation."""
        return {**super().get_config(), "rate": self.rate}


def size_of(tensor: tf.Tensor, axis: int) -> int | tf.Tensor:
    """The length of an axis: a number where it is known, else a tensor."""
    return tensor.shape[axis] if tensor.shape[axis] is not None else tf.shape(tensor)[axis]

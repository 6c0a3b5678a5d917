"""The layers that our networks and heads need and that Keras and Larq lack."""

import tensorflow as tf

from larq_ssl.roles import Role

_register = tf.keras.utils.register_keras_serializable(package="larq_ssl")

# value = (pixel - mean) / std, per channel, for pixels in 0..255.
_PREPROCESSING = {
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "unit": ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    "zoo": ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    "none": None,
}


@_register
class ChannelBias(tf.keras.layers.Layer):
    """Adds one learnable number per channel: the threshold of RSign, which is the sign of the result.

    # References
        - ReActNet, Sec. 4.2
    """

    weight_roles = {"bias": Role.THRESHOLD}  # noqa: RUF012

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes the bias, at zero."""
        self.bias = self.add_weight("bias", shape=[input_shape[-1]], initializer="zeros")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """`inputs` plus the bias of its channel."""
        return tf.nn.bias_add(inputs, self.bias)


@_register
class RPReLU(tf.keras.layers.Layer):
    r"""PReLU with a learnable shift, per channel, before and after it.

    \\[ f(x) = \mathrm{PReLU}(x + b_{in}) + b_{out} \\]

    # References
        - ReActNet, Sec. 4.2
    """

    weight_roles = {"bias_in": Role.THRESHOLD, "slope": Role.SLOPE, "bias_out": Role.THRESHOLD}  # noqa: RUF012

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes the shifts, at zero, and the slope, at 0.25."""
        shape = [input_shape[-1]]
        self.bias_in = self.add_weight("bias_in", shape=shape, initializer="zeros")
        self.slope = self.add_weight("slope", shape=shape, initializer=tf.keras.initializers.Constant(0.25))
        self.bias_out = self.add_weight("bias_out", shape=shape, initializer="zeros")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """The activation, in the dtype of `inputs`."""
        shifted = tf.nn.bias_add(inputs, self.bias_in)
        # TFLite's converters recognise these two terms as its PRELU, of which the slope of a map has three axes.
        slope = tf.reshape(self.slope, [1] * (shifted.shape.rank - 2) + [-1])
        activated = tf.nn.relu(shifted) + -slope * tf.nn.relu(-shifted)
        return tf.nn.bias_add(activated, self.bias_out)


@_register
class Preprocessing(tf.keras.layers.Layer):
    """From pixels in 0..255 to what a network was trained on; always in float32.

    # Arguments
        mode: `"imagenet"` (minus mean, over standard deviation of ImageNet), `"unit"` (0..1), `"zoo"`
            (-1..1, as Larq Zoo) or `"none"` (only a cast).
    """

    def __init__(self, mode: str = "imagenet", **kwargs) -> None:  # type: ignore[no-untyped-def]
        if mode not in list(_PREPROCESSING):
            raise ValueError(f"`preprocessing` must be one of {sorted(_PREPROCESSING)}, not {mode!r}.")
        super().__init__(**{**kwargs, "dtype": "float32", "autocast": False})
        self.mode = mode

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Float32 images, normalised."""
        images = tf.cast(inputs, tf.float32)
        normalisation = _PREPROCESSING[self.mode]
        if normalisation is None:
            return images
        mean, std = normalisation
        return (images - tf.constant(mean)) * (1.0 / tf.constant(std))

    def get_config(self) -> dict:
        """The arguments, for serialisation."""
        return {**super().get_config(), "mode": self.mode}


@_register
class Rotate180(tf.keras.layers.Layer):
    """Turns maps `[batch, height, width, channels]` by 180 degrees.

    Keras pads stride-2 layers at the end, PyTorch on both sides. On even sizes a network with turned kernels
    that sees the turned image equals the PyTorch network.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """The maps, turned."""
        return tf.reverse(inputs, axis=[1, 2])


@_register
class WindowCentres(tf.keras.layers.Layer):
    """Every second position of maps: the centres of the "same" windows of a 3x3 of stride 2.

    On even sizes these are the positions 1, 3, ..., where a 1x1 convolution of stride 2 would take 0, 2, ...
    PyTorch's windows and 1x1 convolutions both take 0, 2, ..., so a shortcut beside a 3x3 needs this.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """The maps at half the size."""
        _, height, width, channels = inputs.shape
        if height and width and not height % 2 and not width % 2:
            # The same numbers, sooner: neighbours become channels, and a slice copies whole rows.
            pairs = tf.reshape(inputs, [-1, 2, width // 2, 2 * channels])[:, 1, :, channels:]
            return tf.reshape(pairs, [-1, height // 2, width // 2, channels])
        dynamic = tf.shape(inputs)
        height, width = (inputs.shape[axis] or dynamic[axis] for axis in (1, 2))
        return inputs[:, 1 - height % 2 :: 2, 1 - width % 2 :: 2]


@_register
class UnitRows(tf.keras.layers.Layer):
    """Each row `[batch, dim]` divided by its Euclidean length, in float32 under any precision policy."""

    def __init__(self, **kwargs) -> None:  # type: ignore[no-untyped-def]
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """The unit rows."""
        return tf.math.l2_normalize(inputs, axis=-1)


@_register
class WeightNormDense(tf.keras.layers.Layer):
    r"""A dense layer without bias whose columns are a gain times a direction of length one.

    \[ y_k = g_k \, \Big\langle x, \frac{v_k}{\|v_k\|_2} \Big\rangle \]

    # Arguments
        units: Number of columns.
        free_gain: Whether the gains are trained, from 1 on; otherwise there are none, and unit rows give cosines.
    # References
        - Weight Normalization (Salimans & Kingma, 2016); the last layer of DINO's head
    """

    weight_roles = {"v": Role.LAST_LAYER, "g": Role.LAST_LAYER}  # noqa: RUF012

    def __init__(self, units: int, free_gain: bool = False, **kwargs) -> None:  # type: ignore[no-untyped-def]
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.units, self.free_gain = units, free_gain

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes the directions, uniform as PyTorch's, and the gains."""
        limit = input_shape[-1] ** -0.5
        uniform = tf.keras.initializers.RandomUniform(-limit, limit)
        self.v = self.add_weight("v", shape=[input_shape[-1], self.units], initializer=uniform)
        self.g = self.add_weight("g", shape=[self.units], initializer="ones") if self.free_gain else None
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Outputs `[batch, units]`, float32."""
        outputs = tf.linalg.matmul(inputs, tf.math.l2_normalize(self.v, axis=0, epsilon=0.0))
        return outputs if self.g is None else outputs * self.g

    def get_config(self) -> dict:
        """The arguments, for serialisation."""
        return {**super().get_config(), "units": self.units, "free_gain": self.free_gain}


@_register
class StandardisedDense(tf.keras.layers.Dense):
    r"""A dense layer whose columns have mean 0 and length 1 whatever they were, times a gain.

    \[ y = g \odot \hat W^T x + b, \quad \hat W_{ik} = \frac{W_{ik} - \mu_k}{\sqrt{n} \, \sigma_k} \]

    with mean \( \mu_k \) and deviation \( \sigma_k \) of the \( n \) weights of output \( k \): outputs keep the size
    of the inputs without statistics of the batch. Gains start at 1.

    # References
        - Weight Standardization (Qiao et al., 2019); the scaling and the gain as in Brock et al., 2021
    """

    weight_roles = {"kernel": Role.KERNEL, "gain": Role.NORM, "bias": Role.BIAS}  # noqa: RUF012

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes kernel, bias and gains."""
        self.gain = self.add_weight("gain", shape=[self.units], initializer="ones")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Outputs `[batch, units]`."""
        kernel = tf.cast(self.kernel, tf.float32)
        centred = kernel - tf.reduce_mean(kernel, axis=0)
        # An epsilon of PyTorch's size: columns of one input have no deviation.
        scale = tf.cast(self.gain, tf.float32) * tf.math.rsqrt(tf.reduce_sum(tf.square(centred), axis=0) + 1e-10)
        outputs = tf.linalg.matmul(inputs, tf.cast(centred * scale, inputs.dtype))
        return tf.nn.bias_add(outputs, self.bias) if self.use_bias else outputs


def batch_norm(
    name: str,
    synchronized: bool = False,
    center: bool = True,
    gamma_initializer: str | tf.keras.initializers.Initializer = "ones",
    dtype: str | None = None,
) -> tf.keras.layers.BatchNormalization:
    """BatchNormalization with PyTorch's defaults, which all the papers use.

    Its statistics are float32 under every precision policy.

    Keras uses the biased variance for the moving statistics of 2-D inputs and when `synchronized`; PyTorch
    uses the unbiased one. Of 4-D inputs both use the unbiased one.

    # Arguments
        name: Name of the layer.
        synchronized: Whether the statistics are those of all replicas together.
        center: Whether it has a shift.
        gamma_initializer: Where the scales start; zeros close a residual branch.
        dtype: Of its outputs, instead of the precision policy's.
    """
    return tf.keras.layers.BatchNormalization(
        name=name,
        momentum=0.9,
        epsilon=1e-5,
        center=center,
        synchronized=synchronized,
        gamma_initializer=gamma_initializer,
        dtype=dtype,
    )

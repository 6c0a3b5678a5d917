r"""Selective kernels: a 3x3 convolution with two outputs, mixed channel by channel as the whole map asks for.

\\[ y = \sum_{i=1}^{2} a_i v_i, \qquad (a_1, a_2) = \mathrm{softmax}(W_2 \, \mathrm{ReLU}(\mathrm{BN}(W_1 \,
\mathrm{mean}(v_1 + v_2)))), \qquad (v_1, v_2) = \mathrm{ReLU}(\mathrm{BN}(W x)) \\]

The mean is over positions, the softmax over the two streams of each channel.

Differences from the paper (Li et al.): as in SimCLRv2, both streams come from one 3x3 convolution, where the paper has
a 3x3 and a 5x5 of grouped channels. In the moving variance of the BatchNorm behind `W_1`, which sees one position per
image, Keras's factor n / (n - 1) counts: n is the number of images. `synchronized` has none, nor has SimCLRv2's code.

# References
    - Selective Kernel Networks (Li et al., CVPR 2019)
    - Big Self-Supervised Models are Strong Semi-Supervised Learners (SimCLRv2, Chen et al., NeurIPS 2020), Sec. 2
"""

import tensorflow as tf

from larq_ssl.layers import batch_norm
from larq_ssl.models.convolutions import float_conv, lecun_normal, symmetric_conv
from larq_ssl.models.encoder import LayerStore

_LAYERS = tf.keras.layers
_MIN_SQUEEZED = 32
_register = tf.keras.utils.register_keras_serializable(package="larq_ssl")


@_register
class StreamsMean(tf.keras.layers.Layer):
    """Sum of the two streams of maps `[batch, height, width, 2 * channels]`, averaged over positions."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Maps `[batch, 1, 1, channels]`."""
        first, second = tf.split(inputs, 2, axis=-1)
        # Thousands of summands: too many for bfloat16.
        mean = tf.reduce_mean(tf.cast(first + second, tf.float32), axis=[1, 2], keepdims=True)
        return tf.cast(mean, inputs.dtype)


@_register
class StreamsMixture(tf.keras.layers.Layer):
    """The two streams of maps, weighted by the softmax of two logits per image and channel."""

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        """Of maps `[batch, height, width, 2 * channels]` and logits `[batch, 1, 1, 2 * channels]` half the channels."""
        maps, logits = inputs
        stacked = tf.stack(tf.split(tf.cast(logits, tf.float32), 2, axis=-1))
        shares = tf.cast(tf.nn.softmax(stacked, axis=0), maps.dtype)
        first, second = tf.split(maps, 2, axis=-1)
        return first * shares[0] + second * shares[1]


def selective_conv(
    x: tf.Tensor, name: str, filters: int, strides: int, sk_ratio: float, layers: LayerStore
) -> tf.Tensor:
    """A 3x3 convolution with BatchNorm and ReLU in two streams, and their mixture.

    # Arguments
        x: Maps.
        name: In front of the names of the layers.
        filters: Channels of each stream.
        strides: Of the 3x3.
        sk_ratio: So many channels per channel of a stream remain between the two 1x1 convolutions, at least 32.
        layers: Makes the layers.
    # Returns
        Maps of `filters` channels, none of them negative.
    """
    streams = symmetric_conv(x, layers, f"{name}/conv3x3", 2 * filters, 3, strides, lecun_normal)
    streams = layers(batch_norm, f"{name}/bn")(streams)
    streams = layers(_LAYERS.ReLU, f"{name}/relu")(streams)
    squeezed = layers(StreamsMean, f"{name}/mean")(streams)
    squeezed_dim = max(int(filters * sk_ratio), _MIN_SQUEEZED)
    squeezed = float_conv(layers, f"{name}/squeeze", squeezed_dim, 1, 1, lecun_normal)(squeezed)
    squeezed = layers(batch_norm, f"{name}/squeeze_bn")(squeezed)
    squeezed = layers(_LAYERS.ReLU, f"{name}/squeeze_relu")(squeezed)
    logits = float_conv(layers, f"{name}/mix", 2 * filters, 1, 1, lecun_normal)(squeezed)
    return layers(StreamsMixture, f"{name}/mixture")((streams, logits))

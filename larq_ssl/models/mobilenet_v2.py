"""MobileNetV2 as a float network, in the layout of torchvision.

`keras.applications` has another padding and other constants of BatchNorm, into which no published self-supervised
checkpoint fits. `stem="cifar"` is a first convolution of stride 1.

Differences from the paper: layers at stride 2 pad at the end (Keras's "same") instead of on both sides; see
`rotate_input`. No dropout, as in all self-supervised training. `width` scales the last layer, too, which the paper
keeps at 1,280 channels or more. As in the paper the shifts (`beta`) of the BatchNorms that end blocks are optimised,
but the next BatchNorms take them away: their gradient is rounding.

# References
    - MobileNetV2: Inverted Residuals and Linear Bottlenecks (CVPR 2018)
"""

import functools

import tensorflow as tf

from larq_ssl.layers import batch_norm
from larq_ssl.models.convolutions import float_conv, kaiming_fan_out
from larq_ssl.models.encoder import Architecture, EncoderSpec, LayerStore

_LAYERS = tf.keras.layers
# Expansion, channels, number of blocks and stride of the first of them.
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def inverted_residual(
    x: tf.Tensor, name: str, filters: int, strides: int, expansion: int, layers: LayerStore
) -> tf.Tensor:
    """1x1 to more channels, 3x3 within each of them, 1x1 to few; a shortcut where the shapes agree."""
    shortcut = x
    if expansion > 1:
        x = _conv_bn(x, f"{name}/expand", expansion * x.shape[-1], 1, 1, layers)
        x = _relu6(x, f"{name}/expand", layers)
    x = _depthwise_bn(x, f"{name}/depthwise", strides, layers)
    x = _relu6(x, f"{name}/depthwise", layers)
    x = _conv_bn(x, f"{name}/project", filters, 1, 1, layers)
    if strides == 1 and shortcut.shape[-1] == filters:
        x = layers(_LAYERS.Add, f"{name}/add")([x, shortcut])
    return x


def _conv_bn(x: tf.Tensor, name: str, filters: int, kernel_size: int, strides: int, layers: LayerStore) -> tf.Tensor:
    x = float_conv(layers, f"{name}/conv", filters, kernel_size, strides, kaiming_fan_out)(x)
    return layers(batch_norm, f"{name}/bn")(x)


def _depthwise_bn(x: tf.Tensor, name: str, strides: int, layers: LayerStore) -> tf.Tensor:
    # PyTorch counts all channels as outputs of a depthwise kernel; Keras's own `fan_out` is 9.
    deviation = (2 / (9 * x.shape[-1])) ** 0.5
    layer = layers(
        _LAYERS.DepthwiseConv2D,
        f"{name}/conv",
        kernel_size=3,
        strides=strides,
        padding="same",
        use_bias=False,
        depthwise_initializer=functools.partial(tf.keras.initializers.RandomNormal, 0.0, deviation),
    )
    return layers(batch_norm, f"{name}/bn")(layer(x))


def _relu6(x: tf.Tensor, name: str, layers: LayerStore) -> tf.Tensor:
    return layers(_LAYERS.ReLU, f"{name}/relu6", max_value=6.0)(x)


def _trunk(x: tf.Tensor, spec: EncoderSpec, layers: LayerStore) -> dict[str, tf.Tensor]:
    stride = 2 if spec.stem == "imagenet" else 1
    x = _conv_bn(x, "stem", spec.channels(32), 3, stride, layers)
    x = _relu6(x, "stem", layers)
    maps, number = {}, 0
    for expansion, channels, blocks, first_strides in _STAGES:
        for index in range(blocks):
            number += 1
            strides = first_strides if index == 0 else 1
            stride *= strides
            x = inverted_residual(x, f"block{number}", spec.channels(channels), strides, expansion, layers)
            maps[f"stride{stride}"] = x
    x = _conv_bn(x, "head", spec.channels(1280), 1, 1, layers)
    maps[f"stride{stride}"] = _relu6(x, "head", layers)
    return maps


MOBILENET_V2 = Architecture(_trunk, binarizations=("none",))

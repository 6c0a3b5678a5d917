"""ResNet-18, -34 and -50 as float networks, in the layout of torchvision (v1.5: the stride is on the 3x3).

`keras.applications` has another layout (stride on the 1x1, biases, another epsilon), into which no published
self-supervised checkpoint fits. `stem="cifar"` is a 3x3 convolution of stride 1 without max pooling.

Differences from the papers: layers at stride 2 pad at the end (Keras's "same") instead of on both sides; see
`rotate_input`. Their shortcuts sample the centres of those windows, as in PyTorch, which on even sizes a 1x1
convolution of stride 2 does not.

# References
    - Deep Residual Learning for Image Recognition (CVPR 2016)
"""

import functools

import tensorflow as tf

from larq_ssl.layers import WindowCentres, batch_norm
from larq_ssl.models.convolutions import float_conv, kaiming_fan_out
from larq_ssl.models.encoder import Architecture, EncoderSpec, LayerStore

_LAYERS = tf.keras.layers
# (kernel size, multiple of the stage's channels) of the convolutions of a block.
_BASIC = ((3, 1), (3, 1))
_BOTTLENECK = ((1, 1), (3, 1), (1, 4))


def residual_block(
    x: tf.Tensor,
    name: str,
    channels: int,
    strides: int,
    convolutions: tuple[tuple[int, int], ...],
    layers: LayerStore,
) -> tf.Tensor:
    """Two or three convolutions and one shortcut; the stride is on the first 3x3."""
    shortcut = x
    filters = channels * convolutions[-1][1]
    if strides == 2:
        shortcut = layers(WindowCentres, f"{name}/shortcut/centres")(shortcut)
    if strides == 2 or filters != x.shape[-1]:
        shortcut = _conv_bn(shortcut, f"{name}/shortcut/conv", f"{name}/shortcut/bn", filters, 1, 1, layers)
    for index, (kernel_size, multiple) in enumerate(convolutions, start=1):
        conv_strides, strides = (strides, 1) if kernel_size == 3 else (1, strides)
        names = f"{name}/conv{index}", f"{name}/bn{index}"
        x = _conv_bn(x, *names, channels * multiple, kernel_size, conv_strides, layers)
        if index < len(convolutions):
            x = layers(_LAYERS.ReLU, f"{name}/relu{index}")(x)
    x = layers(_LAYERS.Add, f"{name}/add")([x, shortcut])
    return layers(_LAYERS.ReLU, f"{name}/relu{len(convolutions)}")(x)


def _conv_bn(
    x: tf.Tensor,
    conv_name: str,
    bn_name: str,
    filters: int,
    kernel_size: int,
    strides: int,
    layers: LayerStore,
) -> tf.Tensor:
    x = float_conv(layers, conv_name, filters, kernel_size, strides, kaiming_fan_out)(x)
    return layers(batch_norm, bn_name)(x)


def _trunk(
    x: tf.Tensor,
    spec: EncoderSpec,
    layers: LayerStore,
    blocks: tuple[int, ...],
    convolutions: tuple[tuple[int, int], ...],
) -> dict[str, tf.Tensor]:
    base = spec.channels(64)
    kernel_size, stride = (7, 2) if spec.stem == "imagenet" else (3, 1)
    x = _conv_bn(x, "stem/conv", "stem/bn", base, kernel_size, stride, layers)
    x = layers(_LAYERS.ReLU, "stem/relu")(x)
    if spec.stem == "imagenet":
        x = layers(_LAYERS.MaxPooling2D, "stem/pool", pool_size=3, strides=2, padding="same")(x)
        stride *= 2
    maps = {}
    for stage, block_count in enumerate(blocks, start=1):
        for block in range(1, block_count + 1):
            strides = 2 if stage > 1 and block == 1 else 1
            stride *= strides
            channels = base * 2 ** (stage - 1)
            x = residual_block(x, f"stage{stage}/block{block}", channels, strides, convolutions, layers)
        maps[f"stride{stride}"] = x
    return maps


RESNET_18 = Architecture(functools.partial(_trunk, blocks=(2, 2, 2, 2), convolutions=_BASIC), binarizations=("none",))
RESNET_34 = Architecture(functools.partial(_trunk, blocks=(3, 4, 6, 3), convolutions=_BASIC), binarizations=("none",))
RESNET_50 = Architecture(
    functools.partial(_trunk, blocks=(3, 4, 6, 3), convolutions=_BOTTLENECK), binarizations=("none",)
)

"""XNOR-ResNet-18: ResNet-18 in the block order of XNOR-Net, BatchNorm - sign - convolution.

A block has two binary 3x3 convolutions and one shortcut; where the shape changes, the shortcut is a real-valued 1x1
convolution (type B). Before the pooling come BatchNorm and ReLU, as before XNOR-Net's last layer. `stem="cifar"` is a
3x3 convolution of stride 1 without max pooling.

Differences from the paper: only kernels are scaled; the scales of the activations, which it finds to matter little,
are left out, as in Larq Zoo's XNORNet. There is no ReLU behind the binary convolutions, which it suggests for AlexNet
and VGG: sums could only grow. The convolution of a shortcut has no BatchNorm, whose shift the next one would take
away. Layers at stride 2 pad at the end, see `rotate_input`, and shortcuts sample the centres of their windows. The
paper has no stage 1 (binary activations, real kernels); the float twin has ReLU where the sign was.

# References
    - XNOR-Net: ImageNet Classification Using Binary Convolutional Neural Networks (ECCV 2016), Sec. 3.2 and 4.2
"""

import functools

import tensorflow as tf

from larq_ssl.layers import WindowCentres, batch_norm
from larq_ssl.models.convolutions import BinaryFamily, binary_conv, float_conv
from larq_ssl.models.encoder import Architecture, EncoderSpec, LayerStore
from larq_ssl.quantizers import MagnitudeSign

_LAYERS = tf.keras.layers

XNOR = BinaryFamily(
    input_quantizer="ste_sign",
    kernel_quantizer=functools.partial(MagnitudeSign, scale_in_grad=True, clip_grad=True, mean_in_grad=True),
    float_activation=tf.nn.relu,
)


def xnor_block(x: tf.Tensor, name: str, filters: int, strides: int, binarization: str, layers: LayerStore) -> tf.Tensor:
    """Two binary 3x3 convolutions, each behind a BatchNorm, and one shortcut."""
    shortcut = x
    if strides == 2:
        shortcut = layers(WindowCentres, f"{name}/shortcut/centres")(shortcut)
    if strides == 2 or filters != x.shape[-1]:
        shortcut = float_conv(layers, f"{name}/shortcut/conv", filters, 1, 1, XNOR.initializer)(shortcut)
    for index, conv_strides in ((1, strides), (2, 1)):
        x = layers(batch_norm, f"{name}/bn{index}")(x)
        x = binary_conv(layers, f"{name}/conv{index}", filters, 3, conv_strides, binarization, XNOR)(x)
    return layers(_LAYERS.Add, f"{name}/add")([x, shortcut])


def _trunk(x: tf.Tensor, spec: EncoderSpec, layers: LayerStore) -> dict[str, tf.Tensor]:
    base = spec.channels(64)
    kernel_size, stride = (7, 2) if spec.stem == "imagenet" else (3, 1)
    x = float_conv(layers, "stem/conv", base, kernel_size, stride, XNOR.initializer)(x)
    x = layers(batch_norm, "stem/bn")(x)
    x = layers(_LAYERS.ReLU, "stem/relu")(x)
    if spec.stem == "imagenet":
        x = layers(_LAYERS.MaxPooling2D, "stem/pool", pool_size=3, strides=2, padding="same")(x)
        stride *= 2
    maps = {}
    for stage in range(1, 5):
        for block in range(1, 3):
            strides = 2 if stage > 1 and block == 1 else 1
            stride *= strides
            channels = base * 2 ** (stage - 1)
            x = xnor_block(x, f"stage{stage}/block{block}", channels, strides, spec.binarization, layers)
        maps[f"stride{stride}"] = x
    x = layers(batch_norm, "last/bn")(x)
    maps[f"stride{stride}"] = layers(_LAYERS.ReLU, "last/relu")(x)
    return maps


XNOR_18 = Architecture(_trunk)

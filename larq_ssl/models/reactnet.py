"""ReActNet-A, a MobileNet of binary convolutions, in the official form and in BURN's.

Differences from the papers: fresh kernels have the same distribution in all three binarization modes (that of
the official step 1, PyTorch's default), so that twins start equal; the official step 2 draws fresh binary
kernels from `0.001 * U[0, 1)`, all signs positive, and inherits none of step 1's; here it inherits all 31.
Layers at stride 2 pad at the end (Keras's "same") instead of on both sides; see `rotate_input`. The float twin
(`binarization="none"`), which the papers do not have, has nothing in the place of the signs; their thresholds
are there, for transfers, but are not trained.

# References
    - ReActNet: Towards Precise Binary Neural Network with Generalized Activation Functions (ECCV 2020)
    - BSSL, Sec. 4 (released code, named BURN)
"""

import functools

import tensorflow as tf

from larq_ssl.layers import ChannelBias, RPReLU, batch_norm
from larq_ssl.models.convolutions import BinaryFamily, binary_conv, float_conv
from larq_ssl.models.encoder import Architecture, EncoderSpec, LayerStore
from larq_ssl.quantizers import MagnitudeSign

_LAYERS = tf.keras.layers

# Channels of blocks 1 to 13 as multiples of the stem's, and their strides.
_BLOCKS = ((2, 1), (4, 2), (4, 1), (8, 2), (8, 1), (16, 2), *[(16, 1)] * 5, (32, 2), (32, 1))

OFFICIAL = BinaryFamily(
    input_quantizer="approx_sign",
    kernel_quantizer=functools.partial(MagnitudeSign, scale_in_grad=False, clip_grad=True),
    rsign_rprelu=True,
)
BURN = BinaryFamily(
    input_quantizer="ste_sign",
    kernel_quantizer=functools.partial(MagnitudeSign, scale_in_grad=True, clip_grad=False),
    initializer=functools.partial(
        tf.keras.initializers.VarianceScaling, scale=2.0, mode="fan_in", distribution="untruncated_normal"
    ),
    rsign_rprelu=True,
)


def rsign_bias(layers: LayerStore, name: str, binarization: str) -> ChannelBias:
    """The threshold of an RSign, which nothing trains where there is no sign.

    In the float twin it would be a shift before a convolution and BatchNormalization, which take it away again:
    before a 1x1 its gradient is nothing but rounding, and Adam makes whole steps of that.
    """
    return layers(ChannelBias, name, trainable=binarization != "none")


def react_block(
    x: tf.Tensor,
    name: str,
    filters: int,
    strides: int,
    binarization: str,
    family: BinaryFamily,
    layers: LayerStore,
) -> tf.Tensor:
    """A 3x3 and a 1x1 convolution with a shortcut around each; the 1x1 is two where the channels double."""

    def conv(branch: tf.Tensor, suffix: str, kernel_size: int, strides: int = 1) -> tf.Tensor:
        return binary_conv(layers, f"{name}/{suffix}", channels, kernel_size, strides, binarization, family)(branch)

    channels = x.shape[-1]
    if filters not in (channels, 2 * channels):
        raise ValueError(f"`filters` must be {channels} or {2 * channels}, not {filters}.")
    shortcut = x
    if strides == 2:
        shortcut = layers(_LAYERS.AveragePooling2D, f"{name}/shortcut/pool", padding="same")(x)
    branch = rsign_bias(layers, f"{name}/sign1", binarization)(x)
    branch = layers(batch_norm, f"{name}/bn1")(conv(branch, "conv3x3", 3, strides))
    x = layers(_LAYERS.Add, f"{name}/add1")([branch, shortcut])
    x = layers(RPReLU, f"{name}/act1")(x)
    branch = rsign_bias(layers, f"{name}/sign2", binarization)(x)
    halves = []
    for half in ("",) if filters == channels else ("_a", "_b"):
        y = layers(batch_norm, f"{name}/bn2{half}")(conv(branch, f"conv1x1{half}", 1))
        halves.append(layers(_LAYERS.Add, f"{name}/add2{half}")([y, x]))
    x = layers(_LAYERS.Concatenate, f"{name}/concatenate")(halves) if len(halves) > 1 else halves[0]
    return layers(RPReLU, f"{name}/act2")(x)


def _trunk(x: tf.Tensor, spec: EncoderSpec, layers: LayerStore, family: BinaryFamily) -> dict[str, tf.Tensor]:
    base = spec.channels(32)
    stride = 2 if spec.stem == "imagenet" else 1
    x = float_conv(layers, "stem/conv", base, 3, stride, family.initializer)(x)
    x = layers(batch_norm, "stem/bn")(x)
    maps = {}
    for index, (multiple, block_strides) in enumerate(_BLOCKS, start=1):
        stride *= block_strides
        x = react_block(x, f"block{index}", base * multiple, block_strides, spec.binarization, family, layers)
        maps[f"stride{stride}"] = x
    return maps


REACTNET_A = Architecture(functools.partial(_trunk, family=OFFICIAL))
REACTNET_A_BURN = Architecture(functools.partial(_trunk, family=BURN), extra_fc=True)

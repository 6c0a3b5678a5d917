"""ReActNet-A, a MobileNet of binary convolutions, in the official form and in BURN's.

Differences from the papers: fresh kernels have the same distribution in all three binarization modes (that of
the official step 1, PyTorch's default), so that twins start equal; the official step 2 draws fresh binary
kernels from `0.001 * U[0, 1)`, all signs positive, and inherits none of step 1's; here it inherits all 31.
Layers at stride 2 pad at the end (Keras's "same") instead of on both sides; see `rotate_input`.

# References
    - ReActNet: Towards Precise Binary Neural Network with Generalized Activation Functions (ECCV 2020)
    - BSSL, Sec. 4 (released code, named BURN)
"""

import dataclasses
import functools
import logging
from collections.abc import Callable

import larq
import tensorflow as tf

from larq_ssl.layers import ChannelBias, RPReLU, batch_norm
from larq_ssl.models.encoder import Architecture, EncoderSpec, LayerStore
from larq_ssl.quantizers import MagnitudeSign

_LAYERS = tf.keras.layers

# Channels of blocks 1 to 13 as multiples of the stem's, and their strides.
_BLOCKS = ((2, 1), (4, 2), (4, 1), (8, 2), (8, 1), (16, 2), *[(16, 1)] * 5, (32, 2), (32, 1))


@dataclasses.dataclass(frozen=True)
class BinaryFamily:
    """How a family of networks binarises and starts.

    # Arguments
        input_quantizer: Larq's name of the sign with its straight-through estimator.
        scale_in_grad: See `MagnitudeSign`.
        clip_grad: See `MagnitudeSign`.
        initializer: Makes the initialiser of a convolution's kernel.
    """

    input_quantizer: str
    scale_in_grad: bool
    clip_grad: bool
    initializer: Callable[[], tf.keras.initializers.Initializer]


OFFICIAL = BinaryFamily(
    input_quantizer="approx_sign",
    scale_in_grad=False,
    clip_grad=True,
    # PyTorch's default: uniform within ±1/sqrt(fan_in).
    initializer=functools.partial(
        tf.keras.initializers.VarianceScaling, scale=1 / 3, mode="fan_in", distribution="uniform"
    ),
)
BURN = BinaryFamily(
    input_quantizer="ste_sign",
    scale_in_grad=True,
    clip_grad=False,
    initializer=functools.partial(
        tf.keras.initializers.VarianceScaling, scale=2.0, mode="fan_in", distribution="untruncated_normal"
    ),
)


def binary_conv(
    name: str,
    filters: int,
    kernel_size: int,
    strides: int,
    binarization: str,
    family: BinaryFamily,
    kernel_initializer: tf.keras.initializers.Initializer | str,
) -> larq.layers.QuantConv2D:
    """A convolution without bias whose input is binary in stage 1, and whose kernel too in stage 2."""
    kernel_quantizer = None
    if binarization == "full":
        kernel_quantizer = MagnitudeSign(scale_in_grad=family.scale_in_grad, clip_grad=family.clip_grad)
    log = logging.getLogger("larq.layers_base")
    log.addFilter(_is_not_about_constraints)
    try:
        return larq.layers.QuantConv2D(
            filters,
            kernel_size,
            strides=strides,
            padding="same",
            pad_values=0.0,
            use_bias=False,
            input_quantizer=None if binarization == "none" else family.input_quantizer,
            kernel_quantizer=kernel_quantizer,
            kernel_initializer=kernel_initializer,
            name=name,
        )
    finally:
        log.removeFilter(_is_not_about_constraints)


def _is_not_about_constraints(record: logging.LogRecord) -> bool:
    # Larq asks for a constraint that clips latent weights; the official code has none, so nor do we.
    return "without setting `kernel_constraint`" not in record.getMessage()


def float_conv(
    layers: LayerStore,
    name: str,
    filters: int,
    kernel_size: int,
    strides: int,
    initializer: Callable[[], tf.keras.initializers.Initializer],
) -> tf.keras.layers.Conv2D:
    """A real-valued convolution without bias."""
    return layers(
        _LAYERS.Conv2D,
        name,
        filters=filters,
        kernel_size=kernel_size,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer=initializer,
    )


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
        make = functools.partial(binary_conv, binarization=binarization, family=family)
        layer = layers(
            make,
            f"{name}/{suffix}",
            filters=channels,
            kernel_size=kernel_size,
            strides=strides,
            kernel_initializer=family.initializer,
        )
        return layer(branch)

    channels = x.shape[-1]
    if filters not in (channels, 2 * channels):
        raise ValueError(f"`filters` must be {channels} or {2 * channels}, not {filters}.")
    shortcut = x
    if strides == 2:
        shortcut = layers(_LAYERS.AveragePooling2D, f"{name}/shortcut/pool", padding="same")(x)
    branch = layers(ChannelBias, f"{name}/sign1")(x)
    branch = layers(batch_norm, f"{name}/bn1")(conv(branch, "conv3x3", 3, strides))
    x = layers(_LAYERS.Add, f"{name}/add1")([branch, shortcut])
    x = layers(RPReLU, f"{name}/act1")(x)
    branch = layers(ChannelBias, f"{name}/sign2")(x)
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

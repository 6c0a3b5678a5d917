"""The convolutions of all networks: binary ones in three modes, and real-valued ones."""

import dataclasses
import functools
import logging
from collections.abc import Callable
from typing import Any, TypeAlias

import larq
import tensorflow as tf

from larq_ssl.models.binary_convolution import Bfloat16BinaryConv2D
from larq_ssl.models.encoder import LayerStore

Initializer: TypeAlias = tf.keras.initializers.Initializer

# Uniform within ±1/sqrt(fan_in).
pytorch_default: Callable[[], Initializer] = functools.partial(
    tf.keras.initializers.VarianceScaling, scale=1 / 3, mode="fan_in", distribution="uniform"
)
kaiming_fan_out: Callable[[], Initializer] = functools.partial(
    tf.keras.initializers.VarianceScaling, scale=2.0, mode="fan_out", distribution="untruncated_normal"
)
# Truncated, with deviation 1/sqrt(fan_in): what Keras's VarianceScaling is by default.
lecun_normal: Callable[[], Initializer] = tf.keras.initializers.LecunNormal


@dataclasses.dataclass(frozen=True)
class BinaryFamily:
    """How a family of networks binarises and starts.

    # Arguments
        input_quantizer: Larq's name of the sign with its straight-through estimator.
        kernel_quantizer: Makes the quantizer of a kernel.
        initializer: Makes the initialiser of a convolution's kernel.
        float_activation: What takes the place of the sign under `binarization="none"`; `None` for nothing.
        rsign_rprelu: Whether signs have a learnable threshold (RSign) and sums an RPReLU, as in ReActNet.
    """

    input_quantizer: str
    kernel_quantizer: Callable[[], larq.quantizers.Quantizer]
    initializer: Callable[[], Initializer] = pytorch_default
    float_activation: Callable[[tf.Tensor], tf.Tensor] | None = None
    rsign_rprelu: bool = False


def binary_conv(
    layers: LayerStore,
    name: str,
    filters: int,
    kernel_size: int,
    strides: int,
    binarization: str,
    family: BinaryFamily,
) -> larq.layers.QuantConv2D:
    """A convolution without bias whose input is binary in stage 1, and whose kernel too in stage 2."""
    in_bfloat16 = layers.binary_compute == "bfloat16" and binarization == "full"
    return layers(
        functools.partial(_unconstrained, Bfloat16BinaryConv2D if in_bfloat16 else larq.layers.QuantConv2D),
        name,
        filters=filters,
        kernel_size=kernel_size,
        strides=strides,
        padding="same",
        pad_values=0.0,
        use_bias=False,
        input_quantizer=family.float_activation if binarization == "none" else family.input_quantizer,
        kernel_quantizer=family.kernel_quantizer() if binarization == "full" else None,
        kernel_initializer=family.initializer,
    )


def float_conv(
    layers: LayerStore,
    name: str,
    filters: int,
    kernel_size: int,
    strides: int,
    initializer: Callable[[], Initializer],
    padding: str = "same",
) -> tf.keras.layers.Conv2D:
    """A real-valued convolution without bias."""
    return layers(
        tf.keras.layers.Conv2D,
        name,
        filters=filters,
        kernel_size=kernel_size,
        strides=strides,
        padding=padding,
        use_bias=False,
        kernel_initializer=initializer,
    )


def symmetric_conv(
    x: tf.Tensor,
    layers: LayerStore,
    name: str,
    filters: int,
    kernel_size: int,
    strides: int,
    initializer: Callable[[], Initializer],
) -> tf.Tensor:
    """A real-valued convolution without bias, of an odd kernel, that pads on both sides at stride 2, too.

    For float networks alone: Larq Compute Engine binarises no convolution that comes after a layer of padding.
    """
    padding = "same"
    if strides > 1 and kernel_size > 1:
        x = layers(tf.keras.layers.ZeroPadding2D, f"{name}/pad", padding=kernel_size // 2)(x)
        padding = "valid"
    return float_conv(layers, name, filters, kernel_size, strides, initializer, padding)(x)


def _unconstrained(make: type[larq.layers.QuantConv2D], **arguments: Any) -> larq.layers.QuantConv2D:
    log = logging.getLogger("larq.layers_base")
    log.addFilter(_is_not_about_constraints)
    try:
        return make(**arguments)
    finally:
        log.removeFilter(_is_not_about_constraints)


def _is_not_about_constraints(record: logging.LogRecord) -> bool:
    # Larq asks for a constraint that clips latent weights; the papers have none, so nor do we.
    return "without setting `kernel_constraint`" not in record.getMessage()

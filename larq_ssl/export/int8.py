"""Real-valued first and last layers in 8 bits, by fake quantisation, which converters turn into integer arithmetic.

The first layer is the convolution of the stem with the BatchNormalization behind it, folded into its kernel; the last
ones are the dense layers. Kernels of convolutions have a scale for each filter, those of dense layers one, and what
goes in and comes out has a range that was seen on images.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from larq_ssl.export.baking import float32_policy
from larq_ssl.export.product import Product
from larq_ssl.export.small_maps import ExportedLayers
from larq_ssl.models import Encoder, assign_weights, named_weights
from larq_ssl.models.registry import build_blank

PARTS = ("last", "first")
"""What can be in 8 bits, in the order in which it is tried: the last layers hold most of the real-valued weights."""

_LAYERS = tf.keras.layers
_Layer = TypeVar("_Layer", bound=tf.keras.layers.Layer)
Range = tuple[float, float]


class _Int8:
    """What both kinds of layers share; `limits` are the largest magnitudes of the kernel."""

    def __init__(self, input_range: Range, output_range: Range, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.input_range, self.output_range = input_range, output_range

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes kernel, bias and limits."""
        super().build(input_shape)  # type: ignore[misc]
        shape = [self.kernel.shape[-1]] if self.per_filter else []  # type: ignore[attr-defined]
        self.limits = self.add_weight("limits", shape=shape, trainable=False)  # type: ignore[attr-defined]

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """The layer of rounded inputs and kernel, its outputs rounded."""
        inputs = tf.quantization.fake_quant_with_min_max_args(inputs, *self.input_range)
        rounding = tf.quantization.fake_quant_with_min_max_vars
        if self.per_filter:  # type: ignore[attr-defined]
            rounding = tf.quantization.fake_quant_with_min_max_vars_per_channel
        kernel = rounding(self.kernel, -self.limits, self.limits, narrow_range=True)  # type: ignore[attr-defined]
        outputs = tf.nn.bias_add(self.product(inputs, kernel), self.bias)  # type: ignore[attr-defined]
        return tf.quantization.fake_quant_with_min_max_args(outputs, *self.output_range)


class Int8Conv(_Int8, tf.keras.layers.Conv2D):
    """A convolution in 8 bits."""

    per_filter = True

    def product(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Without bias."""
        return tf.nn.conv2d(inputs, kernel, self.strides, self.padding.upper())


class Int8Dense(_Int8, tf.keras.layers.Dense):
    """A dense layer in 8 bits."""

    per_filter = False

    def product(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Without bias."""
        return tf.linalg.matmul(inputs, kernel)


def quantised(product: Product, parts: tuple[str, ...], images: np.ndarray) -> Product:
    """The product with some real-valued layers in 8 bits.

    # Arguments
        product: In float32.
        parts: Some of `PARTS`.
        images: uint8 `[images, size, size, 3]`, to see ranges on.
    # Raises
        ValueError: If there is no such layer that can be.
    """
    changed: dict[str, tuple[type, Range, Range]] = {}
    stem = first_layer(product.encoder) if "first" in parts else None
    if stem is not None:
        name, end = stem
        # All that pixels can be, whatever the images show.
        pixels = np.stack([np.zeros_like(images[0]), np.full_like(images[0], 255), *images])
        changed[name] = (Int8Conv, _seen(product.encoder, name, pixels, "input"), _seen(product.encoder, end, images))
    dense = [layer.name for layer in product.encoder.layers if type(layer) is _LAYERS.Dense]
    for name in dense if "last" in parts else ():
        changed[name] = (Int8Dense, _seen(product.encoder, name, images, "input"), _seen(product.encoder, name, images))
    encoder = _rebuilt(product.encoder, stem, changed) if changed else product.encoder
    head = product.head
    if head is not None and "last" in parts:
        head = _int8_head(head, np.asarray(product.encoder.predict(images.astype(np.float32), verbose=0)))
    if encoder is product.encoder and head is product.head:
        raise ValueError("there is no such layer")
    return dataclasses.replace(product, encoder=encoder, exported_head=head, int8=parts)


def first_layer(encoder: Encoder) -> tuple[str, str]:
    """Names of the first convolution and of the BatchNormalization behind it.

    # Raises
        ValueError: If the network does not begin so.
    """
    first = next((layer for layer in encoder.layers if type(layer) is _LAYERS.Conv2D), None)
    after = [node.outbound_layer for node in first.outbound_nodes] if first is not None else []
    if first is None or len(after) != 1 or not isinstance(after[0], _LAYERS.BatchNormalization):
        raise ValueError("the first layer is no convolution that a BatchNormalization alone follows")
    return first.name, after[0].name


class _Int8Layers(ExportedLayers):
    """Layers for export, some of them in 8 bits."""

    def __init__(self, changed: dict[str, tuple[type, Range, Range]], left_out: str | None) -> None:
        super().__init__()
        self._changed, self._left_out = changed, left_out

    def __call__(self, make: Callable[..., _Layer], name: str, **arguments: Any) -> _Layer:
        """See `LayerStore`."""
        fresh = name not in self._layers
        layer = super().__call__(make, name, **arguments)
        if fresh and name in self._changed:
            kind, seen, given = self._changed[name]
            self._layers[name] = kind(seen, given, **{**layer.get_config(), "use_bias": True})
        if fresh and name == self._left_out:
            self._layers[name] = _LAYERS.Activation("linear", name=name)
        return self._layers.get(name, layer)


def _rebuilt(encoder: Encoder, stem: tuple[str, str] | None, changed: dict[str, tuple[type, Range, Range]]) -> Encoder:
    with float32_policy():
        twin = build_blank(encoder.spec, _Int8Layers(changed, stem[1] if stem else None))
    arrays = {name: weight.numpy() for name, weight in named_weights(encoder).items()}
    if stem is not None:
        _fold(arrays, *stem, epsilon=encoder.get_layer(stem[1]).epsilon)
    for name, (kind, _, _) in changed.items():
        arrays[f"{name}/limits"] = _limits(arrays[f"{name}/kernel"], (0, 1, 2) if kind is Int8Conv else None)
    assign_weights(twin, arrays)
    return twin


def _fold(arrays: dict[str, np.ndarray], conv: str, norm: str, epsilon: float) -> None:
    """Puts a BatchNormalization into the kernel and the bias of the convolution before it."""
    mean, variance = (arrays.pop(f"{norm}/moving_{name}") for name in ("mean", "variance"))
    scale = arrays.pop(f"{norm}/gamma", np.ones_like(mean)) / np.sqrt(variance + epsilon)
    shift = arrays.pop(f"{norm}/beta", np.zeros_like(mean))
    before = arrays.get(f"{conv}/bias", np.zeros_like(mean))
    arrays[f"{conv}/kernel"] = arrays[f"{conv}/kernel"] * scale
    arrays[f"{conv}/bias"] = (before - mean) * scale + shift


def _int8_head(head: tf.keras.Model, features: np.ndarray) -> tf.keras.Sequential:
    """Of the head of a product, whose layers are flat."""
    layers: list[tf.keras.layers.Layer] = [tf.keras.Input(head.input_shape[1:])]
    weights = []
    for layer in head.layers:
        seen, features = features, np.asarray(layer(features, training=False))
        arrays = layer.get_weights()
        if type(layer) is _LAYERS.Dense:
            config = {**layer.get_config(), "use_bias": True, "activation": None}
            if layer.activation is not tf.keras.activations.linear:
                raise ValueError("a dense layer has an activation of its own")
            layers.append(Int8Dense(_range(seen), _range(features), **config))
            bias = arrays[1] if layer.use_bias else np.zeros(layer.units, np.float32)
            arrays = [arrays[0], bias, _limits(arrays[0], None)]
        else:
            layers.append(type(layer).from_config(layer.get_config()))
        weights.append(arrays)
    with float32_policy():
        twin = tf.keras.Sequential(layers, name=head.name)
    for layer, arrays in zip(twin.layers, weights, strict=True):
        layer.set_weights(arrays)
    return twin


def _limits(kernel: np.ndarray, axes: tuple[int, ...] | None) -> np.ndarray:
    return np.maximum(np.abs(kernel).max(axis=axes), 1e-6).astype(np.float32)


def _seen(encoder: Encoder, layer: str, images: np.ndarray, side: str = "output") -> Range:
    tensor = getattr(encoder.get_layer(layer), side)
    return _range(tf.keras.Model(encoder.inputs, tensor).predict(images.astype(np.float32), verbose=0))


def _range(values: np.ndarray) -> Range:
    # With 0 in it, which padding and ReLU need exactly.
    return min(0.0, float(values.min())), max(1e-6, float(values.max()))

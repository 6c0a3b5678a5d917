"""What the binary layers of an encoder do with a few images and with their weights; looking alters nothing."""

import dataclasses
from collections.abc import Callable, Sequence

import larq
import numpy as np
import tensorflow as tf


def is_binary(quantizer: object) -> bool:
    """Whether a quantizer leaves one bit; float twins may have other functions in its place, or `None`."""
    return getattr(quantizer, "precision", None) == 1 and not isinstance(quantizer, larq.quantizers.NoOp)


def blocked(quantizer: Callable[[tf.Tensor], tf.Tensor], values: tf.Tensor) -> tf.Tensor:
    """Where a quantizer lets no gradient through to its input: saturation, as its straight-through estimator has it.

    That is \\( |x| > 1 \\) for `ste_sign` and `MagnitudeSign(clip_grad=True)`, \\( |x| \\geq 1 \\) for `approx_sign`,
    and nowhere where the estimator is not clipped.

    # Arguments
        quantizer: A quantizer of Larq's kind.
        values: Float tensor of any shape: what is quantised.
    # Returns
        Bool tensor of the same shape.
    """
    values = tf.convert_to_tensor(values)
    with tf.GradientTape() as tape:
        tape.watch(values)
        quantized = quantizer(values)
    return tape.gradient(quantized, values, unconnected_gradients="zero") == 0


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The inputs of binary layers, counted: integer arrays `[layers]`.

    # Arguments
        entries: Numbers that are binarised: images x positions x channels.
        saturated: Those of them that get no gradient, see `blocked`.
        channels: Input channels.
        dead: Those of them whose binary value is the same at all positions of all images: they tell the layer nothing.
    """

    entries: np.ndarray
    saturated: np.ndarray
    channels: np.ndarray
    dead: np.ndarray


class BinaryProbe:
    """Counts what enters the binary layers of an encoder when it sees some images, in inference mode.

    # Arguments
        encoder: A functional model, `[batch, height, width, 3] -> ...`.
        layers: Layers of it with an `input_quantizer`.
    """

    def __init__(self, encoder: tf.keras.Model, layers: Sequence[tf.keras.layers.Layer]):
        self._layers = list(layers)
        outputs = {layer.name: _input_within(encoder, layer) for layer in self._layers}
        self._network = tf.keras.Model(encoder.inputs, outputs)
        self._count = tf.function(self._counts)

    def __call__(self, images: np.ndarray) -> Inputs:
        """Counts over these images `[images, height, width, 3]`."""
        return Inputs(*(counts.numpy() for counts in self._count(tf.convert_to_tensor(images))))

    def _counts(self, images: tf.Tensor) -> list[tf.Tensor]:
        inputs = self._network(images, training=False)
        counts = []
        for layer in self._layers:
            values = inputs[layer.name]
            signs = layer.input_quantizer(values)
            positions = list(range(values.shape.rank - 1))
            same = tf.reduce_max(signs, positions) == tf.reduce_min(signs, positions)
            saturated = tf.math.count_nonzero(blocked(layer.input_quantizer, values))
            counts.append((tf.size(values, tf.int64), saturated, tf.size(same, tf.int64), tf.math.count_nonzero(same)))
        return [tf.stack(column) for column in zip(*counts, strict=True)]


def _input_within(encoder: tf.keras.Model, layer: tf.keras.layers.Layer) -> tf.Tensor:
    """What enters a layer in this network: encoders of other sizes may share it."""
    names = encoder._network_nodes
    places = [place for place in range(len(layer.inbound_nodes)) if f"{layer.name}_ib-{place}" in names]
    if len(places) != 1:
        raise ValueError(f"`layers` must be part of `encoder` once each, {layer.name!r} is there {len(places)} times.")
    return layer.get_input_at(places[0])

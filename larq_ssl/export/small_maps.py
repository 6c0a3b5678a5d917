"""Binary convolutions of maps that are smaller than the kernel, in a form that devices compute rightly.

The fast kernels of Larq Compute Engine 0.16 pad with ones and then correct the borders for zeros. Where a map is
smaller than the kernel (3x3 on 2x2, as in the last stage of a network that sees images of 16 pixels; 3x3 with dilation
4, which spans 9, on 8x8) two borders meet in one place, which the correction does not expect, and the result is wrong;
the reference kernel is right. The same numbers come out of padding with ones, which is right everywhere, minus what
the taps beyond the edge add.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import larq
import numpy as np
import tensorflow as tf

from larq_ssl.models.encoder import LayerStore

_Layer = TypeVar("_Layer", bound=tf.keras.layers.Layer)


@tf.keras.utils.register_keras_serializable(package="larq_ssl")
class SmallMapConv(larq.layers.QuantConv2D):
    r"""A convolution with binary input, padded with zeros, that pads small maps with ones instead.

    \\[ \mathrm{conv}_0(x) = \mathrm{conv}_1(x) - e, \quad e = \mathrm{conv}_1(0) \\]

    where the index is the number that is padded with. \\(e\\) is the weight `edge`, a map that depends on the kernel
    alone. Only maps that are smaller than what the kernel spans have one; of others the layer is Larq's own. Where the
    size of the maps is not known before the network is traced, there is no weight, and the edge is a constant.
    """

    edge: tf.Variable | None = None

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes the kernel and, of a small map, the edge."""
        super().build(input_shape)
        if self._is_small(input_shape):
            self._map_shape = input_shape
            shape = [1, *self.compute_output_shape(input_shape)[1:]]
            self.edge = self.add_weight("edge", shape=shape, initializer="zeros", trainable=False)

    def _is_small(self, input_shape: tf.TensorShape) -> bool:
        sides = input_shape[1:3]
        spans = [(size - 1) * rate + 1 for size, rate in zip(self.kernel_size, self.dilation_rate, strict=True)]
        zeros = self.padding == "same" and self._is_native_padding
        return zeros and None not in sides and any(side < span for side, span in zip(sides, spans, strict=True))

    def edge_of(self, kernel: np.ndarray, input_shape: tf.TensorShape | None = None) -> np.ndarray:
        """What the edge has to be for a kernel `[height, width, in, out]`, by default on maps of the known size."""
        maps = tf.zeros([1, *(input_shape or self._map_shape)[1:]])
        return self._padded(maps, tf.constant(kernel)).numpy()

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Maps `[batch, height, width, filters]`."""
        if not self._is_small(inputs.shape):
            return super().call(inputs)
        edge = self.edge
        if edge is None:
            with tf.init_scope():
                found = self.edge_of(self.kernel.numpy(), inputs.shape)
            edge = tf.constant(found)
        maps = self._padded(self.input_quantizer(inputs), self.kernel)
        # Not `maps - edge`: the converter would take the edge for the shift of a BatchNormalization.
        return -(edge - maps)

    def _padded(self, maps: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        ones = tf.pad(maps, self._get_padding_same(maps), constant_values=1.0)
        return tf.nn.conv2d(ones, kernel, self.strides, "VALID", dilations=self.dilation_rate)


class ExportedLayers(LayerStore):
    """Layers of a network to be exported: blank, binary convolutions fit for maps of any size."""

    def __init__(self) -> None:
        super().__init__(blank=True)

    def __call__(self, make: Callable[..., _Layer], name: str, **arguments: Any) -> _Layer:
        """See `LayerStore`."""
        layer = super().__call__(make, name, **arguments)
        if type(layer) is larq.layers.QuantConv2D:
            self._layers[name] = SmallMapConv.from_config(layer.get_config())
        return cast(_Layer, self._layers[name])

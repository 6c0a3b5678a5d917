r"""Fully binary convolutions that are computed in bfloat16 while training.

Both operands of a binary convolution are ±1, up to one scale per filter, and bfloat16 holds them exactly:

\[ y = a_o \cdot \mathrm{conv}(\mathrm{sign}(x), \mathrm{sign}(w_o)) \]

Products are exact and are added in float32; only the sum is rounded to bfloat16, before it is multiplied by the scale
in float32. Integers up to 256 survive that unchanged, larger ones to within \( 2^{-8} \) of their size. What flows back
is rounded to bfloat16 on its way into the two backward convolutions and out of them: each factor to within
\( 2^{-8} \) of its size. Everything else is float32.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

import larq
import tensorflow as tf

from larq_ssl.models.convolution_gradients import Convolution
from larq_ssl.quantizers import MagnitudeSign, QuickApproxSign

_register = tf.keras.utils.register_keras_serializable(package="larq_ssl")


@_register
class Bfloat16BinaryConv2D(larq.layers.QuantConv2D):
    """`QuantConv2D` of binary inputs and kernels that computes in bfloat16, see above.

    Weights, quantizers, costs and names are those of `QuantConv2D`; the kernel quantizer must give values of one
    magnitude per filter.

    # Raises
        ValueError: If inputs or kernels are not binary, since rounding them would be another network, or if channels
            are in groups.
    """

    input_quantizer: Callable | None

    def __init__(self, *args, **kwargs) -> None:  # type: ignore[no-untyped-def]
        super().__init__(*args, **kwargs)
        larqs = self.input_quantizer
        if type(larqs) is larq.quantizers.ApproxSign:
            self.input_quantizer = QuickApproxSign(metrics=larqs._custom_metrics, name=larqs.name)
        for what, quantizer in (("input", self.input_quantizer), ("kernel", self.kernel_quantizer)):
            if not is_binary(quantizer):
                raise ValueError(f"`{what}_quantizer` must be binary to compute in bfloat16, not {quantizer!r}.")
        if self.groups != 1:
            # Keras hands over their kernels quantised.
            raise ValueError(f"`groups` must be 1 to compute in bfloat16, not {self.groups}.")

    def convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """The convolution, in the dtype of the kernel."""
        # Larq changes `padding` for the time of this call alone, and gradients are asked for later.
        convolve = Convolution(
            self.strides,
            self.padding.upper(),
            self.dilation_rate,
            "NHWC" if self.data_format == "channels_last" else "NCHW",
        )
        shared = _shared(self, lambda: BinaryKernel.of(kernel, self.kernel_quantizer))
        return binary_convolution(convolve, inputs, shared)


def is_binary(quantizer: Callable | None) -> bool:
    """Whether what a quantizer gives has one bit and one magnitude; 0 and 1 have two."""
    others = (larq.quantizers.NoOp, larq.quantizers.SteHeaviside)
    return getattr(quantizer, "precision", None) == 1 and not isinstance(quantizer, others)


class BinaryKernel(NamedTuple):
    """A kernel whose filters each have values of one magnitude, in the forms that its convolutions need.

    # Attributes
        latent: `[rows, columns, channels, filters]`, what gets the gradient by the kernel.
        scale: Magnitudes `[filters]`, in the same dtype.
        signs: -1 and 1, bfloat16.
        rounded: The kernel in bfloat16.
    """

    latent: tf.Tensor
    scale: tf.Tensor
    signs: tf.Tensor
    rounded: tf.Tensor

    @classmethod
    def of(cls, kernel: tf.Tensor | tf.Variable, quantizer: Callable | None = None) -> "BinaryKernel":
        """A kernel of Larq, or one that is binary already.

        # Arguments
            kernel: A `QuantizedVariable` of the quantizer, not yet quantised, or, without one, a tensor that is.
            quantizer: Of the variable.
        """
        if isinstance(quantizer, MagnitudeSign):
            with larq.context.quantized_scope(False):
                latent, scale = quantizer.in_parts(tf.convert_to_tensor(kernel))
        else:
            latent = tf.convert_to_tensor(kernel)
            scale = tf.abs(tf.stop_gradient(latent[0, 0, 0]))  # as large as all others of its filter
        signs = tf.cast(larq.math.sign(tf.stop_gradient(latent)), tf.bfloat16)
        return cls(latent, scale, signs, signs * tf.cast(scale, tf.bfloat16))


_sharing = threading.local()  # replicas are threads, and each has kernels of its own


@contextlib.contextmanager
def same_weights() -> Iterator[None]:
    """Inside no weight changes: a kernel is quantised once, however often its layer is called.

    For calls that one gradient tape records, the loss of two views say. Of the calls of a layer the first must be
    recorded, and two of them must not lie in one branch of `tf.cond` or one body of a loop: they would get no gradient.
    """
    outer = getattr(_sharing, "kernels", None)
    _sharing.kernels = {}
    try:
        yield
    finally:
        _sharing.kernels = outer


def _shared(layer: tf.keras.layers.Layer, make: Callable[[], BinaryKernel]) -> BinaryKernel:
    """The kernel of a layer, the same for all calls within `same_weights`."""
    kernels = getattr(_sharing, "kernels", None)
    if kernels is None:
        return make()
    # What a branch of a graph has made, the graph around it does not know.
    key = id(layer), id(tf.compat.v1.get_default_graph())
    if key not in kernels:
        kernels[key] = make()
    return kernels[key]


def binary_convolution(convolve: Convolution, inputs: tf.Tensor, kernel: BinaryKernel) -> tf.Tensor:
    """A linear convolution of ±1 (and 0, for padding) with filters of ±1 times a scale, computed in bfloat16.

    # Arguments
        convolve: Which one.
        inputs: Of -1, 0 and 1.
    # Returns
        Its outputs, in the dtype of the kernel, and its gradients by `inputs` and by the kernel, each in their dtype.
    """

    @tf.custom_gradient
    def scaled(inputs: tf.Tensor, latent: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        small = tf.cast(inputs, tf.bfloat16)
        outputs = tf.cast(convolve(small, kernel.signs), latent.dtype) * kernel.scale

        def grad(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            by_inputs, by_kernel = convolve.gradients(small, kernel.rounded, tf.cast(upstream, tf.bfloat16))
            return tf.cast(by_inputs, inputs.dtype), tf.cast(by_kernel, latent.dtype)

        return outputs, grad

    return scaled(inputs, kernel.latent)

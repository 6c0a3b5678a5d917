r"""The arithmetic of fully binary convolutions in training: float32, or bfloat16 where that is faster.

Both operands of a binary convolution are ±1, up to one scale per filter, and bfloat16 holds them exactly:

\[ y = a_o \cdot \mathrm{conv}(\mathrm{sign}(x), \mathrm{sign}(w_o)) \]

Products are exact and are added in float32; only the sum is rounded to bfloat16, before it is multiplied by the scale
in float32. Integers up to 256 survive that unchanged, larger ones to within \( 2^{-8} \) of their size. What flows back
is rounded to bfloat16 on its way into the two backward convolutions and out of them: each factor to within
\( 2^{-8} \) of its size. Everything else is float32.
"""

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import larq
import tensorflow as tf

from larq_ssl.quantizers import QuickApproxSign

BINARY_COMPUTES = ("auto", "float32", "bfloat16")

_register = tf.keras.utils.register_keras_serializable(package="larq_ssl")

# Batch, side and channels of the convolution that is tried: enough work that its arithmetic decides, and soon done.
_TRIED = (4, 14, 256)
_TURNS = 12
WORTH = 1.05
"""How much faster bfloat16 must be to be chosen: a choice that hangs on noise would not be the same twice."""


@_register
class Bfloat16BinaryConv2D(larq.layers.QuantConv2D):
    """`QuantConv2D` of binary inputs and kernels that computes in bfloat16, see above.

    Weights, quantizers, costs and names are those of `QuantConv2D`; the kernel quantizer must give one magnitude per
    filter, as all do that are of one bit.

    # Raises
        ValueError: If inputs or kernels are not binary: rounding them would be another network.
    """

    input_quantizer: Callable | None

    def __init__(self, *args, **kwargs) -> None:  # type: ignore[no-untyped-def]
        super().__init__(*args, **kwargs)
        if type(self.input_quantizer) is larq.quantizers.ApproxSign:
            self.input_quantizer = QuickApproxSign()
        for what, quantizer in (("input", self.input_quantizer), ("kernel", self.kernel_quantizer)):
            if not is_binary(quantizer):
                raise ValueError(f"`{what}_quantizer` must be binary to compute in bfloat16, not {quantizer!r}.")

    def convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """The convolution, in the dtype of its inputs."""

        def convolve(signs: tf.Tensor, filters: tf.Tensor) -> tf.Tensor:
            return super(Bfloat16BinaryConv2D, self).convolution_op(signs, filters)

        return binary_convolution(convolve, inputs, _shared(self, lambda: BinaryKernel.of(kernel)))


def is_binary(quantizer: Callable | None) -> bool:
    """Whether what a quantizer gives has one bit."""
    return getattr(quantizer, "precision", None) == 1 and not isinstance(quantizer, larq.quantizers.NoOp)


class BinaryKernel(NamedTuple):
    """A kernel whose filters each have values of one magnitude, in the forms that its convolutions need.

    # Attributes
        values: The kernel `[rows, columns, channels, filters]`, which gets the gradient.
        scale: Magnitudes `[filters]`, in the same dtype.
        signs: -1 and 1, bfloat16.
        rounded: The values in bfloat16.
    """

    values: tf.Tensor
    scale: tf.Tensor
    signs: tf.Tensor
    rounded: tf.Tensor

    @classmethod
    def of(cls, kernel: tf.Tensor | tf.Variable) -> "BinaryKernel":
        values = tf.convert_to_tensor(kernel)
        constant = tf.stop_gradient(values)
        rounded = tf.cast(constant, tf.bfloat16)  # which keeps the sign
        return cls(values, tf.abs(constant[0, 0, 0]), tf.sign(rounded), rounded)


_sharing = threading.local()  # replicas are threads, and each has kernels of its own


@contextlib.contextmanager
def same_weights() -> Iterator[None]:
    """Inside no weight changes: a kernel is quantised once, however often its layer is called.

    For calls that one gradient tape records, the loss of two views say.
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


def binary_convolution(
    convolve: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], inputs: tf.Tensor, kernel: BinaryKernel
) -> tf.Tensor:
    """A linear convolution of ±1 (and 0, for padding) with filters of ±1 times a scale, computed in bfloat16.

    # Arguments
        convolve: Of inputs `[batch, height, width, channels]` and a kernel `[rows, columns, channels, filters]`.
        inputs: Of -1, 0 and 1.
        kernel: Of the same dtype.
    # Returns
        Its outputs, and its gradients by `inputs` and by the values of the kernel, in the dtype of the two.
    """

    @tf.custom_gradient
    def scaled(inputs: tf.Tensor, values: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        small = tf.cast(inputs, tf.bfloat16)
        outputs = tf.cast(convolve(small, kernel.signs), inputs.dtype) * tf.cast(kernel.scale, inputs.dtype)

        def grad(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            rounded = tf.cast(upstream, tf.bfloat16)
            # For its gradients: in a graph, where nobody asks for the outputs, they are not computed again.
            with tf.GradientTape() as tape:
                tape.watch([small, kernel.rounded])
                again = convolve(small, kernel.rounded)
            by_inputs, by_kernel = tape.gradient(again, [small, kernel.rounded], rounded)
            return tf.cast(by_inputs, inputs.dtype), tf.cast(by_kernel, values.dtype)

        return outputs, grad

    return scaled(inputs, kernel.values)


@dataclasses.dataclass(frozen=True)
class Choice:
    """What binary convolutions are computed in.

    # Attributes
        compute: `float32` or `bfloat16`.
        ratio: How many times as fast as in float32 they were in bfloat16, `None` if nobody has tried.
    """

    compute: str
    ratio: float | None = None

    def __str__(self) -> str:
        if self.ratio is None:
            return f"Binary convolutions are computed in {self.compute}."
        return (
            f"Binary convolutions are computed in {self.compute}: in bfloat16 one takes {1 / self.ratio:.2f} times as "
            "long as in float32 on this hardware (--binary_compute=float32|bfloat16 spares the trial)."
        )


def choose(binary_compute: str = "auto") -> Choice:
    """What to compute in on this hardware; `auto` takes about a second to find out.

    # Raises
        ValueError: If it is none of `BINARY_COMPUTES`.
    """
    if binary_compute not in BINARY_COMPUTES:
        raise ValueError(f"binary_compute must be one of {', '.join(BINARY_COMPUTES)}, got {binary_compute!r}.")
    if binary_compute != "auto":
        return Choice(binary_compute)
    ratio = _measured_ratio()
    return Choice("bfloat16" if ratio >= WORTH else "float32", ratio)


def _measured_ratio() -> float:
    """How many times as fast a convolution of signs, forward and backward, is in bfloat16."""
    batch, side, channels = _TRIED
    draw = tf.random.Generator.from_seed(0)
    inputs = tf.sign(draw.normal([batch, side, side, channels]))
    kernel = tf.sign(draw.normal([3, 3, channels, channels]))

    def convolve(signs: tf.Tensor, filters: tf.Tensor) -> tf.Tensor:
        return tf.nn.conv2d(signs, filters, 1, "SAME")

    @tf.function
    def step(in_bfloat16: bool) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch([inputs, kernel])
            outputs = (
                binary_convolution(convolve, inputs, BinaryKernel.of(kernel))
                if in_bfloat16
                else convolve(inputs, kernel)
            )
        return [outputs, *tape.gradient(outputs, [inputs, kernel])]

    return times_as_fast(lambda: step(False)[-1], lambda: step(True)[-1], _TURNS)


def times_as_fast(first: Callable[[], tf.Tensor], second: Callable[[], tf.Tensor], turns: int) -> float:
    """How many times as fast as the first the second computation is.

    Of each, the shortest of some turns counts: what else the machine does makes a turn longer, and never shorter.
    """

    def seconds(compute: Callable[[], tf.Tensor]) -> float:
        started = time.perf_counter()
        compute().numpy()
        return time.perf_counter() - started

    for compute in (first, second):
        seconds(compute)
    taken = [(seconds(first), seconds(second)) for _ in range(turns)]
    shortest = [min(times) for times in zip(*taken, strict=True)]
    return shortest[0] / shortest[1]

"""What fully binary convolutions are computed in while training: float32, or bfloat16 where that is faster."""

import dataclasses
import time
from collections.abc import Callable

import tensorflow as tf

from larq_ssl.models.binary_convolution import BinaryKernel, binary_convolution
from larq_ssl.models.convolution_gradients import Convolution

BINARY_COMPUTES = ("auto", "float32", "bfloat16")

# Batch, side and channels of the convolution that is tried: enough work that its arithmetic decides, and soon done.
_TRIED = (4, 14, 256)
_TURNS = 12
WORTH = 1.05
"""How much faster bfloat16 must be to be chosen: a choice that hangs on noise would not be the same twice."""


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

    convolve = Convolution()

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

"""Colour and blur ops of SimCLR and BYOL on a whole batch, one parameter per example.

They work on *planes*: float32 `[3, n, height, width]` as in `augment`, but in `[0, 1]` and not rounded; a jitter clips
them after each of its ops. Names are those of torchvision's ops, but some of the ops are others (`tf.image`'s):

| op | SimCLR | BYOL | torchvision (`augment`) |
|---|---|---|---|
| brightness | times the factor | plus the number | times the factor |
| contrast | from the mean of each channel | as SimCLR | from the mean luma |
| saturation | S of HSV times the factor, at most 1 | as SimCLR | from the luma |
| hue | H of HSV plus the shift | as SimCLR | the same, in 8 bits |
| blur | beyond the border is black | as SimCLR | beyond the border is a mirror |

Differences from the papers: SimCLR draws one sigma of the blur for all images of a batch. Here each has its own, so
that the pixels do not depend on the batch size.

# References
    - SimCLR, Appendix A, and the released code of SimCLRv2
    - BYOL, Appendix B and released code
"""

from collections.abc import Callable, Sequence

import tensorflow as tf

from larq_ssl.data.augment import HUE, by_number
from larq_ssl.data.blur import filter_columns, filter_rows
from larq_ssl.data.resize import round_to

Op = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
_LUMA = (0.2989, 0.587, 0.114)
_TINY = 1e-12
# What is summed over many pixels is rounded to the first, weights to the second: then sums in float64 are exact, and do
# not depend on the order, hence neither on the batch size.
_UNIT, _WEIGHT_UNIT = 2.0**-24, 2.0**-26


def from_bytes(planes: tf.Tensor) -> tf.Tensor:
    """Planes of whole numbers from 0 to 255 as planes in `[0, 1]`."""
    return planes * (1.0 / 255.0)


def to_bytes(planes: tf.Tensor) -> tf.Tensor:
    """Back, rounded."""
    return tf.floor(_clip(planes) * 255.0 + 0.5)


def _clip(x: tf.Tensor) -> tf.Tensor:
    return tf.raw_ops.ClipByValue(t=x, clip_value_min=0.0, clip_value_max=1.0)


def _per_example(x: tf.Tensor) -> tf.Tensor:
    return tf.reshape(tf.cast(x, tf.float32), [-1, 1, 1])


def _fixed_point(x: tf.Tensor) -> tf.Tensor:
    """Multiples of a small unit, in float64."""
    return round_to(tf.cast(x, tf.float64), _UNIT)


def brightness(planes: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Multiplies by `factor` `[n]` (SimCLR)."""
    return planes * _per_example(factor)


def added_brightness(planes: tf.Tensor, delta: tf.Tensor) -> tf.Tensor:
    """Adds `delta` `[n]` (BYOL)."""
    return planes + _per_example(delta)


def contrast(planes: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Distances from the mean of each channel times `factor` `[n]`."""
    pixels = tf.cast(tf.shape(planes)[2] * tf.shape(planes)[3], tf.float64)
    total = tf.reduce_sum(_fixed_point(planes), axis=[2, 3], keepdims=True)
    mean = tf.cast(total / pixels, tf.float32)
    return (planes - mean) * _per_example(factor) + mean


def saturation(planes: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """The saturation of HSV times `factor` `[n]`, at most 1.

    \\[ x' = V - (V - x) \\min(f, 1 / S), \\qquad V = \\max_c x_c, \\qquad S = (V - \\min_c x_c) / V \\]
    """
    value = tf.reduce_max(planes, axis=0)
    chroma = value - tf.reduce_min(planes, axis=0)
    return value - (value - planes) * tf.minimum(_per_example(factor), value / tf.maximum(chroma, _TINY))


def hue(planes: tf.Tensor, shift: tf.Tensor) -> tf.Tensor:
    """Shifts the hue of HSV by `shift` `[n]` turns."""
    red, green, blue = tf.unstack(planes)
    value = tf.maximum(tf.maximum(red, green), blue)
    chroma = value - tf.minimum(tf.minimum(red, green), blue)
    # Sixths of a turn times chroma.
    scaled = tf.where(
        tf.equal(red, value),
        green - blue,
        tf.where(tf.equal(green, value), 2.0 * chroma + (blue - red), 4.0 * chroma + (red - green)),
    )
    turn = scaled / (tf.maximum(chroma, _TINY) * 6.0) + _per_example(shift)
    sextant = (turn - tf.floor(turn)) * 6.0
    return tf.stack(
        [
            value - chroma * _clip(2.0 - tf.abs(sextant - 3.0)),
            value - chroma * _clip(tf.abs(sextant - 2.0) - 1.0),
            value - chroma * _clip(tf.abs(sextant - 4.0) - 1.0),
        ]
    )


def grey(planes: tf.Tensor) -> tf.Tensor:
    """The luma, of `tf.image.rgb_to_grayscale`, in all three channels."""
    red, green, blue = (plane * weight for plane, weight in zip(tf.unstack(planes), _LUMA, strict=True))
    return tf.tile((red + green + blue)[None], [3, 1, 1, 1])


def solarise(planes: tf.Tensor, threshold: float = 0.5) -> tf.Tensor:
    """Inverts the values of at least `threshold`."""
    return tf.where(planes >= threshold, 1.0 - planes, planes)


SIMCLR: tuple[Op, ...] = (brightness, contrast, saturation, hue)
"""The ops of a jitter by their numbers (see `augment`)."""
BYOL: tuple[Op, ...] = (added_brightness, contrast, saturation, hue)


def jitter(
    planes: tf.Tensor,
    order: tf.Tensor,
    factors: tf.Tensor,
    mask: tf.Tensor,
    with_hue: bool,
    ops: Sequence[Op],
) -> tf.Tensor:
    """The four ops, in another order for each example, clipped after each.

    # Arguments
        order: int32 `[n, 4]`: a permutation of the four op numbers.
        factors: Float `[n, 4]`: brightness, contrast, saturation, hue.
        mask: Bool `[n]`: the examples that are changed.
        with_hue: False promises that all hue shifts are 0.
        ops: `SIMCLR` or `BYOL`.
    """
    ops = ops if with_hue else ops[:HUE]
    nothing = len(ops)
    order = tf.where(mask[:, None] & (order < nothing), order, nothing)
    clipped = [
        lambda x, i, f=f, number=number: _clip(f(x, tf.gather(factors[:, number], i))) for number, f in enumerate(ops)
    ]
    for place in range(order.shape[1]):
        planes = by_number(planes, order[:, place], clipped)
    return planes


def blur_taps(size: int) -> int:
    """Length of the blur's kernel for views of a size: odd, about a tenth of it, 23 of 224 pixels."""
    return 2 * (size // 10 // 2) + 1


def gaussian_blur(planes: tf.Tensor, sigma: tf.Tensor, taps: int) -> tf.Tensor:
    """Convolves with a Gaussian; beyond the border is black.

    # Arguments
        planes: Of known height and width.
        sigma: `[n]`, in pixels.
        taps: Length of the kernel; of an even number, the next odd one.
    """
    if taps < 2:
        return planes
    offset = tf.range(taps // 2 + 1, dtype=tf.float64)
    # Smaller ones change nothing, and 0 would not be a number.
    sigma = tf.maximum(tf.cast(sigma, tf.float64), 0.01)[:, None]
    kernels = tf.exp(-(offset**2) / (2.0 * sigma**2))
    kernels = round_to(kernels / (2.0 * tf.reduce_sum(kernels, axis=1, keepdims=True) - 1.0), _WEIGHT_UNIT)
    x = filter_rows(_fixed_point(planes), kernels, mirrored=False)
    x = filter_columns(_fixed_point(x), kernels, mirrored=False)
    return tf.cast(x, tf.float32)

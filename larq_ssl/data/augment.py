"""Colour and blur ops on a whole batch, one parameter per example.

They work on *planes*: float32 `[3, n, height, width]` holding whole numbers from 0 to 255. Channels first, because a
vector unit then works on whole rows; whole numbers, because this is what Pillow's 8-bit arithmetic does after each op
(it truncates, it does not round), and because sums of whole numbers are exact in any order.

Each op is a pure function, the same eagerly and in a `tf.data` map.
"""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

# Numbers of the four ops of a colour jitter.
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
ORDERS = np.array(list(itertools.permutations(range(4))), np.int32)


def to_planes(images: tf.Tensor) -> tf.Tensor:
    """Images uint8 `[n, height, width, 3]` as planes."""
    # TensorFlow transposes float32 several times faster than uint8. The clip, which changes nothing, keeps Grappler
    # from moving the cast behind the transposition to "save memory".
    return tf.transpose(_clip(tf.cast(images, tf.float32)), [3, 0, 1, 2])


def from_planes(planes: tf.Tensor) -> tf.Tensor:
    """Planes as images uint8 `[n, height, width, 3]`."""
    return tf.cast(_clip(tf.transpose(planes, [1, 2, 3, 0])), tf.uint8)


def _clip(x: tf.Tensor) -> tf.Tensor:
    # One fused kernel, where `tf.clip_by_value` runs two.
    return tf.raw_ops.ClipByValue(t=x, clip_value_min=0.0, clip_value_max=255.0)


def _per_example(x: tf.Tensor) -> tf.Tensor:
    return tf.reshape(tf.cast(x, tf.float32), [-1, 1, 1])


def luma(planes: tf.Tensor) -> tf.Tensor:
    """ITU-R 601 luma `[n, height, width]`, in Pillow's fixed point (exact in float32)."""
    red, green, blue = tf.unstack(planes)
    return tf.floor((red * 19595.0 + green * 38470.0 + blue * 7471.0 + 32768.0) * 2.0**-16)


def _mean_luma(grey: tf.Tensor) -> tf.Tensor:
    """Rounded mean `[n, 1, 1]`; summed as integers, so in whatever order."""
    total = tf.reduce_sum(tf.cast(grey, tf.int32), axis=[1, 2], keepdims=True)
    count = tf.cast(tf.shape(grey)[1] * tf.shape(grey)[2], tf.float64)
    return tf.cast(tf.floor(tf.cast(total, tf.float64) / count + 0.5), tf.float32)


def flip(planes: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Mirrors the examples of `mask` (bool `[n]`) from left to right."""
    return tf.where(mask[:, None, None], tf.reverse(planes, [3]), planes)


def brightness(planes: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Multiplies by `factor` `[n]`."""
    return tf.floor(_clip(planes * _per_example(factor)))


def contrast(planes: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Blends with the mean luma of the image; `factor` `[n]`, 1 changes nothing."""
    factor = _per_example(factor)
    return tf.floor(_clip(planes * factor + _mean_luma(luma(planes)) * (1.0 - factor)))


def saturation(planes: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Blends each pixel with its luma; `factor` `[n]`, 1 changes nothing."""
    factor = _per_example(factor)
    return tf.floor(_clip(planes * factor + luma(planes) * (1.0 - factor)))


def blend(planes: tf.Tensor, op: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """`brightness`, `contrast` or `saturation`, another one for each example, in one go.

    # Arguments
        op: Integer `[n]`: BRIGHTNESS, CONTRAST or SATURATION.
        factor: Float `[n]`.
    """
    grey = luma(planes)
    op, factor = tf.reshape(op, [-1, 1, 1]), _per_example(factor)
    rest = 1.0 - factor
    to_mean = tf.where(op == CONTRAST, _mean_luma(grey) * rest, 0.0)
    to_grey = tf.where(op == SATURATION, rest, 0.0)
    return tf.floor(_clip(planes * factor + (grey * to_grey + to_mean)))


def hue(planes: tf.Tensor, shift: tf.Tensor) -> tf.Tensor:
    """Shifts the hue by `shift` `[n]` turns, through Pillow's 8-bit HSV."""
    red, green, blue = tf.unstack(planes)
    value = tf.maximum(tf.maximum(red, green), blue)
    chroma = value - tf.minimum(tf.minimum(red, green), blue)
    # Sixths of a turn times chroma. Few passes and few `tf.where` (slow): this op is a third of a jitter's cost.
    scaled = tf.where(
        tf.equal(red, value),
        green - blue,
        tf.where(tf.equal(green, value), 2.0 * chroma + (blue - red), 4.0 * chroma + (red - green)),
    )
    turn = scaled / (tf.maximum(chroma, 1.0) * 6.0)
    byte = tf.floor((turn - tf.floor(turn)) * 255.0)
    # torchvision adds uint8(shift * 255), which truncates towards zero and wraps.
    byte += _per_example(tf.math.floormod(tf.cast(tf.cast(shift, tf.float64) * 255.0, tf.int32), 256))
    sextant = (byte - tf.floor(byte * 2.0**-8) * 256.0) * (6.0 / 255.0)
    # Zero where there is no colour, so that the hue does not matter there.
    span = value * tf.floor(chroma * 255.0 / tf.maximum(value, 1.0)) * (1.0 / 255.0)
    value += 0.5

    def channel(distance: tf.Tensor) -> tf.Tensor:
        full = tf.raw_ops.ClipByValue(t=distance, clip_value_min=0.0, clip_value_max=1.0)
        return tf.floor(value - span * full)

    return tf.stack(
        [
            channel(2.0 - tf.abs(sextant - 3.0)),
            channel(tf.abs(sextant - 2.0) - 1.0),
            channel(tf.abs(sextant - 4.0) - 1.0),
        ]
    )


def grey(planes: tf.Tensor) -> tf.Tensor:
    """The luma in all three channels."""
    return tf.tile(luma(planes)[None], [3, 1, 1, 1])


def solarise(planes: tf.Tensor, threshold: float = 128.0) -> tf.Tensor:
    """Inverts the values of at least `threshold`."""
    return tf.where(planes >= threshold, 255.0 - planes, planes)


def _jitter_group(planes: tf.Tensor, order: tf.Tensor, factors: tf.Tensor, hue_at: int | None) -> tf.Tensor:
    """Jitter of examples that all have their hue op at the same place (`None`: last, and not done)."""
    for place in range(4):
        if place == hue_at:
            planes = hue(planes, factors[:, HUE])
        elif hue_at is not None or place < 3:
            op = order[:, place]
            planes = blend(planes, op, tf.gather(factors, op, batch_dims=1))
    return planes


def jitter(
    planes: tf.Tensor,
    order: tf.Tensor,
    factors: tf.Tensor,
    mask: tf.Tensor | None = None,
    with_hue: bool = True,
) -> tf.Tensor:
    """Brightness, contrast, saturation and hue, in another order for each example.

    # Arguments
        order: int32 `[n, 4]`: a permutation of the four op numbers.
        factors: Float `[n, 4]`: brightness, contrast, saturation, hue.
        mask: Bool `[n]`: the examples that are changed; all without it.
        with_hue: False promises that all hue shifts are 0.
    """
    if planes.shape[1] == 1 and mask is not None:
        return tf.cond(mask[0], lambda: jitter_one(planes, order, factors, with_hue), lambda: planes)
    if not with_hue:
        # Hue last; the other three keep their order.
        order = tf.gather(order, tf.argsort(tf.cast(order == HUE, tf.int32), stable=True), batch_dims=1)
    place = tf.argmax(order == HUE, axis=1, output_type=tf.int32)
    if mask is not None:
        place = tf.where(mask, place, -1)
    # Examples with hue at the same place go through the same ops: so nobody pays for an op that he did not draw.
    places = ([] if mask is None else [-1]) + (list(range(4)) if with_hue else [3])
    members = [tf.where(place == p)[:, 0] for p in places]
    parts = []
    for p, member in zip(places, members, strict=True):
        part = tf.gather(planes, member, axis=1)
        if p >= 0:
            hue_at = p if with_hue else None
            part = _jitter_group(part, tf.gather(order, member), tf.gather(factors, member), hue_at)
        parts.append(part)
    return tf.gather(tf.concat(parts, axis=1), tf.argsort(tf.concat(members, axis=0)), axis=1)


def jitter_one(planes: tf.Tensor, order: tf.Tensor, factors: tf.Tensor, with_hue: bool = True) -> tf.Tensor:
    """`jitter` of a single example (`n` = 1), with only the ops that it drew in the order that it drew."""
    ops = [brightness, contrast, saturation, hue if with_hue else lambda x, _: x]
    for place in range(4):
        branches = [lambda op=op, i=i, x=planes: op(x, factors[:, i]) for i, op in enumerate(ops)]
        planes = tf.ensure_shape(tf.switch_case(order[0, place], branches), planes.shape)
    return planes


def on_subset(planes: tf.Tensor, mask: tf.Tensor, op: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """Applies `op(planes, indices)` to the examples of `mask` (bool `[n]`) only."""
    if planes.shape[1] == 1:
        return tf.cond(mask[0], lambda: op(planes, tf.zeros([1], tf.int64)), lambda: planes)
    chosen, others = tf.where(mask)[:, 0], tf.where(~mask)[:, 0]
    parts = [op(tf.gather(planes, chosen, axis=1), chosen), tf.gather(planes, others, axis=1)]
    return tf.gather(tf.concat(parts, axis=1), tf.argsort(tf.concat([chosen, others], axis=0)), axis=1)


def by_number(
    planes: tf.Tensor, number: tf.Tensor, ops: Sequence[Callable[[tf.Tensor, tf.Tensor], tf.Tensor]]
) -> tf.Tensor:
    """Applies to each example the op of its number (`[n]`) only, as `op(planes, indices)`; with `len(ops)`, none."""
    if planes.shape[1] == 1:
        branches = [lambda op=op: op(planes, tf.zeros([1], tf.int64)) for op in ops]
        return tf.ensure_shape(tf.switch_case(number[0], [*branches, lambda: planes]), planes.shape)
    members = [tf.where(number == place)[:, 0] for place in range(len(ops) + 1)]
    parts = [tf.gather(planes, member, axis=1) for member in members]
    parts[:-1] = [op(part, member) for op, part, member in zip(ops, parts, members, strict=False)]
    return tf.gather(tf.concat(parts, axis=1), tf.argsort(tf.concat(members, axis=0)), axis=1)

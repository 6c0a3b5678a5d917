"""RandAugment: a few ops of Pillow, which ones is drawn anew for each example, all of about one strength.

They work on planes (see `augment`). An op has one number, which goes from the first at magnitude 0 to the second at 10:

| op | its number | from | to |
|---|---|---:|---:|
| AutoContrast, Equalize, Invert | none | | |
| Rotate | angle in degrees, of either sign | 0 | 30 |
| PosterizeTpu | bits that are kept, whole | 0 | 4 |
| Solarize | threshold, whole; values from it on are inverted | 0 | 256 |
| SolarizeAdd | what is added to values below 128, whole | 0 | 110 |
| Color, Contrast, Brightness, Sharpness | factor, 1 changes nothing | 0.1 | 1.9 |
| ShearX, ShearY | pixels per pixel, of either sign | 0 | 0.3 |
| TranslateXRel, TranslateYRel | share of the side, of either sign | 0 | 0.45 |

What comes from beyond the image has the mean colour of ImageNet.

Differences from the released code of InfoMin: images are moved by bilinear interpolation, where it draws bilinear or
bicubic for each op; TensorFlow has no bicubic one.

# References
    - What Makes for Good Views for Contrastive Learning? (InfoMin, Tian et al., 2020), released code
    - RandAugment: Practical Automated Data Augmentation with a Reduced Search Space (Cubuk et al., 2020)
"""

import dataclasses
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from larq_ssl.data import augment
from larq_ssl.data.rng import Op

MAX_MAGNITUDE = 10.0
FILL = (124.0, 116.0, 104.0)
"""The mean colour of ImageNet."""
_DRAWS = 5


@dataclasses.dataclass(frozen=True)
class RandAugment:
    """How many ops a view gets, and how strong they are.

    # Arguments
        ops: Number of ops, drawn with replacement.
        magnitude: Mean of the magnitude of each, in `[0, 10]`.
        deviation: Its standard deviation; what is drawn beyond `[0, 10]` is set to the end.
        probability: With which each of them is done.
    # Raises
        ValueError: If a number is out of its range.
    """

    ops: int = 2
    magnitude: float = 10.0
    deviation: float = 0.5
    probability: float = 0.5

    def __post_init__(self) -> None:
        if self.ops < 1:
            raise ValueError(f"ops is {self.ops}: it must be at least 1")
        if not 0.0 <= self.magnitude <= MAX_MAGNITUDE:
            raise ValueError(f"magnitude is {self.magnitude}: it must lie in [0, {MAX_MAGNITUDE}]")
        if not 0.0 <= self.deviation < math.inf:
            raise ValueError(f"deviation is {self.deviation}: it must be finite and at least 0")
        if not 0.0 <= self.probability <= 1.0:
            raise ValueError(f"probability is {self.probability}: it must lie in [0, 1]")

    @property
    def columns(self) -> tuple[tuple[Op, int], ...]:
        """The draws of a view, in their order, see `rng.view_uniforms`."""
        return tuple((Op.RAND_AUGMENT, draw) for draw in range(_DRAWS * self.ops))


def draw(uniforms: tf.Tensor, settings: RandAugment) -> tuple[tf.Tensor, tf.Tensor]:
    """What is done to views.

    # Arguments
        uniforms: Float64 `[..., len(settings.columns)]` in `[0, 1)`.
    # Returns
        int32 `[..., settings.ops]`, places in `OPS` or its length for nothing; and float32, likewise, their numbers.
    """
    which, fires, radius, angle, side = (uniforms[..., part::_DRAWS] for part in range(_DRAWS))
    normal = tf.sqrt(-2.0 * tf.math.log(1.0 - radius)) * tf.cos(2.0 * math.pi * angle)
    magnitude = tf.clip_by_value(settings.magnitude + settings.deviation * normal, 0.0, MAX_MAGNITUDE)
    op = tf.cast(which * len(OPS), tf.int32)
    return tf.where(fires < settings.probability, op, len(OPS)), level(op, magnitude, side < 0.5)


def level(op: tf.Tensor, magnitude: tf.Tensor, negative: tf.Tensor) -> tf.Tensor:
    """The numbers of ops, see the table above.

    # Arguments
        op: Integers, places in `OPS`.
        magnitude: Float64, likewise, in `[0, 10]`.
        negative: Bool, likewise: whether those of either sign are below 0.
    # Returns
        Float32.
    """
    start, end, whole, signed = (np.array(column) for column in zip(*_LEVELS.values(), strict=True))
    start, end, whole, signed = (tf.gather(column, op) for column in (start, end, whole, signed))
    value = start + (end - start) * magnitude / MAX_MAGNITUDE
    value = tf.where(whole, tf.floor(value), value)
    return tf.cast(tf.where(signed & negative, -value, value), tf.float32)


def rand_augment(planes: tf.Tensor, op: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
    """Does to each example its ops, one after the other, and to none of them another.

    # Arguments
        planes: Float32 `[3, n, height, width]`, of known height and width.
        op, number: `[n, ops]`, see `draw`.
    """
    for place in range(op.shape[1]):
        now = number[:, place]
        ops = [lambda x, i, f=f, now=now: f(x, tf.gather(now, i)) for f in _APPLY.values()]
        planes = augment.by_number(planes, op[:, place], ops)
    return planes


def _per_example(x: tf.Tensor) -> tf.Tensor:
    return tf.reshape(x, [-1, 1, 1])


def _autocontrast(planes: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
    """Stretches each channel to the whole range; one of a single value stays."""
    low, high = (tf.cast(find(planes, axis=[2, 3]), tf.float64) for find in (tf.reduce_min, tf.reduce_max))
    # Through a table in float64, as Pillow, whose truncation would tell any other rounding.
    scale = 255.0 / tf.maximum(high - low, 1.0)
    levels = tf.range(256, dtype=tf.float64)
    table = levels * scale[..., None] + (-low * scale)[..., None]
    table = tf.where((high > low)[..., None], tf.floor(tf.clip_by_value(table, 0.0, 255.0)), levels)
    return tf.gather(tf.cast(table, tf.float32), tf.cast(planes, tf.int32), batch_dims=2)


def _equalise(planes: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
    images = tf.ensure_shape(tf.transpose(planes, [1, 2, 3, 0]), [None, *planes.shape[2:], 3])
    return tf.transpose(_addons().equalize(images), [3, 0, 1, 2])


def _invert(planes: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
    return 255.0 - planes


def _posterise(planes: tf.Tensor, bits: tf.Tensor) -> tf.Tensor:
    step = _per_example(tf.gather(2.0 ** np.arange(8, -1, -1, dtype=np.float32), tf.cast(bits, tf.int32)))
    return tf.floor(planes / step) * step


def _solarise(planes: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
    return augment.solarise(planes, _per_example(threshold))


def _solarise_add(planes: tf.Tensor, added: tf.Tensor) -> tf.Tensor:
    return tf.where(planes < 128.0, tf.minimum(planes + _per_example(added), 255.0), planes)


def _sharpness(planes: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Blends with the smoothed image, whose border is the image's.

    `tfa.image.sharpness` has one factor for all examples, and rounds where Pillow truncates.
    """
    height, width = planes.shape[2:]
    kernel = tf.constant([[1.0, 1.0, 1.0], [1.0, 5.0, 1.0], [1.0, 1.0, 1.0]])[..., None, None]
    total = tf.nn.conv2d(tf.reshape(planes, [-1, height, width, 1]), kernel, 1, "VALID")
    smooth = tf.reshape(tf.floor(total / 13.0 + 0.5), [3, -1, height - 2, width - 2])
    inside = tf.pad(tf.ones([height - 2, width - 2], tf.bool), [[1, 1], [1, 1]])
    smooth = tf.where(inside, tf.pad(smooth, [[0, 0], [0, 0], [1, 1], [1, 1]]), planes)
    return tf.floor(tf.clip_by_value(smooth + _per_example(factor) * (planes - smooth), 0.0, 255.0))


def _rotate(planes: tf.Tensor, degrees: tf.Tensor) -> tf.Tensor:
    height, width = (tf.constant([float(side)]) for side in planes.shape[2:])
    return _move(planes, _addons().angles_to_projective_transforms(degrees * (math.pi / 180.0), height, width))


def _shear_x(planes: tf.Tensor, slope: tf.Tensor) -> tf.Tensor:
    return _move(planes, _matrices(slope, across=slope, right=0.5 * slope))


def _shear_y(planes: tf.Tensor, slope: tf.Tensor) -> tf.Tensor:
    return _move(planes, _matrices(slope, along=slope, down=0.5 * slope))


def _translate_x(planes: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    return _move(planes, _matrices(share, right=share * planes.shape[3]))


def _translate_y(planes: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    return _move(planes, _matrices(share, down=share * planes.shape[2]))


def _matrices(like: tf.Tensor, **given: tf.Tensor) -> tf.Tensor:
    """Where pixels come from: `x + across * y + right`, `along * x + y + down`; by rows `[n, 8]` of `tfa.image`."""
    zero, one = tf.zeros_like(like), tf.ones_like(like)
    across, right, along, down = (given.get(name, zero) for name in ("across", "right", "along", "down"))
    return tf.stack([one, across, right, along, one, down, zero, zero], axis=1)


def _move(planes: tf.Tensor, matrices: tf.Tensor) -> tf.Tensor:
    """Pixels from where matrices say, interpolated; `FILL` where that is beyond the image."""
    height, width = planes.shape[2:]
    transform = _addons().transform
    images = tf.reshape(planes, [-1, height, width, 1])
    moved = transform(images, tf.tile(matrices, [3, 1]), "bilinear", "nearest")
    # Pillow truncates. A thousandth, so that a flat colour does not get darker by rounding.
    moved = tf.reshape(tf.floor(moved + 1e-3), tf.shape(planes))
    # Where nothing of a picture of ones arrives. (By itself the op would blend the fill into the border.)
    ones = tf.ones([tf.shape(planes)[1], height, width, 1])
    inside = tf.reshape(transform(ones, matrices, "nearest", "constant"), [1, -1, height, width])
    return tf.where(inside > 0.0, moved, tf.reshape(FILL, [3, 1, 1, 1]))


def _addons() -> Any:
    """`tfa.image`. To import it takes a second and prints a farewell, so only those do who use it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow_addons.image as addons
    return addons


_APPLY: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "AutoContrast": _autocontrast,
    "Equalize": _equalise,
    "Invert": _invert,
    "Rotate": _rotate,
    "PosterizeTpu": _posterise,
    "Solarize": _solarise,
    "SolarizeAdd": _solarise_add,
    "Color": augment.saturation,
    "Contrast": augment.contrast,
    "Brightness": augment.brightness,
    "Sharpness": _sharpness,
    "ShearX": _shear_x,
    "ShearY": _shear_y,
    "TranslateXRel": _translate_x,
    "TranslateYRel": _translate_y,
}
# Number at magnitude 0 and at 10, whether it is whole, whether it has either sign.
_LEVELS: dict[str, tuple[float, float, bool, bool]] = {
    **dict.fromkeys(_APPLY, (0.0, 0.0, False, False)),
    "Rotate": (0.0, 30.0, False, True),
    "PosterizeTpu": (0.0, 4.0, True, False),
    "Solarize": (0.0, 256.0, True, False),
    "SolarizeAdd": (0.0, 110.0, True, False),
    **dict.fromkeys(("Color", "Contrast", "Brightness", "Sharpness"), (0.1, 1.9, False, False)),
    **dict.fromkeys(("ShearX", "ShearY"), (0.0, 0.3, False, True)),
    **dict.fromkeys(("TranslateXRel", "TranslateYRel"), (0.0, 0.45, False, True)),
}
OPS = tuple(_APPLY)
"""Names of the ops, by whose places they are drawn."""

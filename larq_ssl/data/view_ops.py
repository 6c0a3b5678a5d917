"""What a view policy does to crops: its draws turned into parameters, and the ops of `augment` with them."""

from typing import Any

import numpy as np
import tensorflow as tf

from larq_ssl.data import augment, crops
from larq_ssl.data.blur import gaussian_blur
from larq_ssl.data.rng import Op
from larq_ssl.data.views import View

# Every draw of a view, in this order.
COLUMNS = (
    *crops.COLUMNS,
    (Op.FLIP, 0),
    *((Op.JITTER, draw) for draw in range(6)),
    (Op.GREY, 0),
    (Op.BLUR, 0),
    (Op.BLUR, 1),
    (Op.SOLARISE, 0),
)
FLIP = len(crops.COLUMNS)
_JITTER, _GREY, _BLUR, _SOLARISE = FLIP + 1, FLIP + 7, FLIP + 8, FLIP + 10


def _per_view(views: tuple[View, ...], field: str) -> np.ndarray:
    """A field of all views, float64 `[1, views, ...]`."""
    return np.array([[getattr(view, field) for view in views]], np.float64)


def flips(uniforms: Any, views: tuple[View, ...]) -> Any:
    """Bool `[n, views]`, NumPy or tensor as `uniforms` is."""
    return uniforms[:, :, FLIP] < _per_view(views, "flip")


def jitter_parameters(uniforms: tf.Tensor, views: tuple[View, ...]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Mask bool `[n, views]`, order int32 `[n, views, 4]` and factors float32 `[n, views, 4]`."""
    mask = uniforms[:, :, _JITTER] < _per_view(views, "jitter_probability")
    order = tf.gather(augment.ORDERS, tf.cast(uniforms[:, :, _JITTER + 1] * 24.0, tf.int32))
    strength = _per_view(views, "jitter")
    middle, lowest = np.array([1.0, 1.0, 1.0, 0.0]), np.array([0.0, 0.0, 0.0, -0.5])
    low, high = np.maximum(middle - strength, lowest), middle + strength
    factors = low + (high - low) * uniforms[:, :, _JITTER + 2 : _JITTER + 6]
    return mask, order, tf.cast(factors, tf.float32)


def blur_parameters(uniforms: tf.Tensor, views: tuple[View, ...]) -> tuple[tf.Tensor, tf.Tensor]:
    """Mask bool `[n, views]` and sigma float64 `[n, views]`."""
    sigma = _per_view(views, "blur_sigma")
    drawn = sigma[..., 0] + (sigma[..., 1] - sigma[..., 0]) * uniforms[:, :, _BLUR + 1]
    return uniforms[:, :, _BLUR] < _per_view(views, "blur_probability"), drawn


def grey_mask(uniforms: tf.Tensor, views: tuple[View, ...]) -> tf.Tensor:
    """Bool `[n, views]`."""
    return uniforms[:, :, _GREY] < _per_view(views, "grey_probability")


def solarise_mask(uniforms: tf.Tensor, views: tuple[View, ...]) -> tf.Tensor:
    """Bool `[n, views]`."""
    return uniforms[:, :, _SOLARISE] < _per_view(views, "solarise_probability")


def changes_colour(views: tuple[View, ...]) -> bool:
    """Whether `apply_colour` does anything."""
    fields = ("jitter_probability", "grey_probability", "blur_probability", "solarise_probability")
    return any(getattr(view, field) > 0.0 for view in views for field in fields)


def apply_colour(planes: tf.Tensor, uniforms: tf.Tensor, views: tuple[View, ...]) -> tf.Tensor:
    """Jitter, grey, blur and solarise.

    # Arguments
        planes: Float32 `[3, n * views, height, width]`, see `augment`.
        uniforms: Float64 `[n, views, len(COLUMNS)]`.
    """

    def flat(x: tf.Tensor, *shape: int) -> tf.Tensor:
        return tf.reshape(x, [-1, *shape])

    if any(view.jitter_probability > 0.0 for view in views):
        mask, order, factors = jitter_parameters(uniforms, views)
        with_hue = any(view.jitter[3] > 0.0 for view in views)
        planes = augment.jitter(planes, flat(order, 4), flat(factors, 4), flat(mask), with_hue)
    if any(view.grey_probability > 0.0 for view in views):
        mask = flat(grey_mask(uniforms, views))
        planes = augment.on_subset(planes, mask, lambda x, _: augment.grey(x))
    if any(view.blur_probability > 0.0 for view in views):
        mask, sigma = (flat(x) for x in blur_parameters(uniforms, views))
        longest = max(view.blur_sigma[1] for view in views)
        planes = augment.on_subset(planes, mask, lambda x, chosen: gaussian_blur(x, tf.gather(sigma, chosen), longest))
    if any(view.solarise_probability > 0.0 for view in views):
        mask = flat(solarise_mask(uniforms, views))
        planes = augment.on_subset(planes, mask, lambda x, _: augment.solarise(x))
    return planes

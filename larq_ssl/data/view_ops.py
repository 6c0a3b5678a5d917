"""What a view policy does to images: its draws turned into parameters, and the ops of its family with them."""

from typing import Any

import numpy as np
import tensorflow as tf

from larq_ssl.data import augment, crops, jigsaw, rand_augment
from larq_ssl.data.families import Family, family_of
from larq_ssl.data.rng import Op
from larq_ssl.data.views import View, ViewPolicy

# Every draw of a view, in this order; see `columns` for those that few policies have.
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


def columns(policy: ViewPolicy) -> tuple[tuple[Op, int], ...]:
    """The draws of each view of a policy: `COLUMNS`, then those of RandAugment and those of patches if it has any."""
    settings = policy.global_views[0].rand_augment
    return COLUMNS + (settings.columns if settings else ()) + (jigsaw.COLUMNS if policy.jigsaw else ())


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
    family = family_of(views)
    middle = np.array([family.neutral_brightness, 1.0, 1.0, 0.0])
    lowest = np.array([family.smallest_brightness, 0.0, 0.0, -0.5])
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
    if any(view.rand_augment for view in views):
        return True
    return any(getattr(view, field) > 0.0 for view in views for field in fields)


def _parameters(uniforms: tf.Tensor, views: tuple[View, ...]) -> dict[str, tf.Tensor]:
    """What `apply_colour` needs of the draws, a row for each view of each example."""
    jitter, order, factors = jitter_parameters(uniforms, views)
    blur, sigma = blur_parameters(uniforms, views)
    table = {
        "jitter": jitter,
        "order": order,
        "factors": factors,
        "grey": grey_mask(uniforms, views),
        "blur": blur,
        "sigma": sigma,
        "solarise": solarise_mask(uniforms, views),
    }
    settings = views[0].rand_augment
    if settings is not None:
        first = len(COLUMNS)
        table["op"], table["number"] = rand_augment.draw(
            uniforms[:, :, first : first + len(settings.columns)], settings
        )
    return {name: tf.reshape(x, [-1, *x.shape[2:]]) for name, x in table.items()}


def _apply(planes: tf.Tensor, drawn: dict[str, tf.Tensor], views: tuple[View, ...]) -> tf.Tensor:
    ops = family_of(views)
    planes = ops.start(planes)
    if any(view.jitter_probability > 0.0 for view in views):
        with_hue = any(view.jitter[3] > 0.0 for view in views)
        planes = ops.jitter(planes, drawn["order"], drawn["factors"], drawn["jitter"], with_hue)
    grey_last = views[0].rand_augment is not None
    if not grey_last:
        planes = _grey(planes, drawn, views, ops)
    if any(view.blur_probability > 0.0 for view in views):
        sigma = drawn["sigma"]
        planes = augment.on_subset(planes, drawn["blur"], lambda x, i: ops.blur(x, tf.gather(sigma, i), views))
    if any(view.solarise_probability > 0.0 for view in views):
        planes = augment.on_subset(planes, drawn["solarise"], lambda x, _: ops.solarise(x))
    if grey_last:
        planes = rand_augment.rand_augment(planes, drawn["op"], drawn["number"])
        planes = _grey(planes, drawn, views, ops)
    return ops.finish(planes)


def _grey(planes: tf.Tensor, drawn: dict[str, tf.Tensor], views: tuple[View, ...], ops: Family) -> tf.Tensor:
    if all(view.grey_probability == 0.0 for view in views):
        return planes
    return augment.on_subset(planes, drawn["grey"], lambda x, _: ops.grey(x))


# Larger views are worked on one at a time: a few of them fill a core's cache.
_BATCHED_SIDE = 64


def apply_colour(
    planes: tf.Tensor, uniforms: tf.Tensor, views: tuple[View, ...], one_by_one: bool | None = None
) -> tf.Tensor:
    """Jitter, grey, blur, solarise, RandAugment.

    # Arguments
        planes: Float32 `[3, n * views, size, size]`, see `augment`.
        uniforms: Float64 `[n, views, at least len(COLUMNS)]`, with the draws of RandAugment behind those.
        one_by_one: Whether views are worked on singly: the same pixels, faster for large views.
    # Returns
        uint8 `[n * views, size, size, 3]`.
    """
    if not changes_colour(views):
        return augment.from_planes(planes)
    size = views[0].size
    planes = tf.ensure_shape(planes, [3, None, size, size])
    drawn = _parameters(uniforms, views)
    if not (size > _BATCHED_SIDE if one_by_one is None else one_by_one):
        return augment.from_planes(_apply(planes, drawn, views))

    def one(i: tf.Tensor) -> tf.Tensor:
        row = {name: x[i][None] for name, x in drawn.items()}
        x = tf.ensure_shape(planes[:, i : i + 1], [3, 1, size, size])
        return augment.from_planes(_apply(x, row, views))[0]

    indices = tf.range(tf.shape(planes)[1])
    signature = tf.TensorSpec([size, size, 3], tf.uint8)
    return tf.map_fn(one, indices, parallel_iterations=1, fn_output_signature=signature)

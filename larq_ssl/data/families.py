"""What the ops of a family of views are (`View.family`): one table, from the crop to the last op of colour."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from larq_ssl.data import augment, augment_tf, blur, crops, crops_tf
from larq_ssl.data.views import View

Views = tuple[View, ...]


@dataclasses.dataclass(frozen=True)
class Family:
    """Ops of a family.

    # Arguments
        boxes: From draws to crops, see `crops.crop_boxes`.
        antialias: Whether crops are resized as by Pillow (`resize`), or as by TensorFlow (`resize_tf`).
        neutral_brightness, smallest_brightness: Of a jitter: the one that changes nothing, and the end of its range.
        start, finish: From planes of whole numbers (see `augment`) to those that the following ops work on, and back.
        jitter, grey, solarise: Ops on planes.
        blur: Likewise, given the sigma of each example and the views.
    """

    boxes: Callable[[Any, Any, Any, Views], Any]
    antialias: bool
    neutral_brightness: float
    smallest_brightness: float
    start: Callable[[tf.Tensor], tf.Tensor]
    finish: Callable[[tf.Tensor], tf.Tensor]
    jitter: Callable[[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, bool], tf.Tensor]
    grey: Callable[[tf.Tensor], tf.Tensor]
    solarise: Callable[[tf.Tensor], tf.Tensor]
    blur: Callable[[tf.Tensor, tf.Tensor, Views], tf.Tensor]


def family_of(views: Sequence[View]) -> Family:
    """The family of views, which is one (see `ViewPolicy`)."""
    return _FAMILIES[views[0].family]


def crop_boxes(uniforms: Any, height: Any, width: Any, views: Views) -> Any:
    """Crops by the views' family; see `crops.crop_boxes`."""
    return family_of(views).boxes(uniforms, height, width, views)


def _unchanged(planes: tf.Tensor) -> tf.Tensor:
    return planes


def _pillow_blur(planes: tf.Tensor, sigma: tf.Tensor, views: Views) -> tf.Tensor:
    return blur.gaussian_blur(planes, sigma, max(view.blur_sigma[1] for view in views))


def _tf_blur(planes: tf.Tensor, sigma: tf.Tensor, views: Views) -> tf.Tensor:
    return augment_tf.gaussian_blur(planes, sigma, augment_tf.blur_taps(views[0].size))


_TORCHVISION = Family(
    boxes=crops.crop_boxes,
    antialias=True,
    neutral_brightness=1.0,
    smallest_brightness=0.0,
    start=_unchanged,
    finish=_unchanged,
    jitter=augment.jitter,
    grey=augment.grey,
    solarise=augment.solarise,
    blur=_pillow_blur,
)
_SIMCLR = Family(
    boxes=crops_tf.simclr_boxes,
    antialias=False,
    neutral_brightness=1.0,
    smallest_brightness=0.0,
    start=augment_tf.from_bytes,
    finish=augment_tf.to_bytes,
    jitter=functools.partial(augment_tf.jitter, ops=augment_tf.SIMCLR),
    grey=augment_tf.grey,
    solarise=augment_tf.solarise,
    blur=_tf_blur,
)
_BYOL = dataclasses.replace(
    _SIMCLR,
    boxes=crops_tf.byol_boxes,
    neutral_brightness=0.0,
    smallest_brightness=-1.0,
    jitter=functools.partial(augment_tf.jitter, ops=augment_tf.BYOL),
)
_FAMILIES = {"torchvision": _TORCHVISION, "simclr": _SIMCLR, "byol": _BYOL}

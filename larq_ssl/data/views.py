"""View policies: which random views of an image a method is trained on, as data.

The order of the ops is crop, flip, jitter, grey, blur, solarise, for every policy without RandAugment, and crop, flip,
jitter, blur, solarise, RandAugment, grey for those with it. (MoCo v2 flips last: the ops between are the same for an
image and its mirror image, so the views are too.)

Policies by torchvision's ops are here, those with local views besides in `multi_crop_views`, those with RandAugment in
`infomin_views`, and those of SimCLR, BYOL and MSBReg, by other ops (`View.family`), in `simclr_byol_views`.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from larq_ssl.data.infomin_views import INFOMIN
from larq_ssl.data.multi_crop_views import MULTI_CROPS
from larq_ssl.data.simclr_byol_views import SIMCLR_BYOL
from larq_ssl.data.view_policy import INTERPOLATIONS, MAX_BLUR_SIGMA, View, ViewPolicy

__all__ = ["INTERPOLATIONS", "MAX_BLUR_SIGMA", "POLICIES", "View", "ViewPolicy", "policy"]


def _moco_v2(size: int) -> ViewPolicy:
    """MoCo v2's "aug+", as in its released code."""
    view = View(
        size,
        crop_scale=(0.2, 1.0),
        interpolation="bilinear",
        flip=0.5,
        jitter=(0.4, 0.4, 0.4, 0.1),
        jitter_probability=0.8,
        grey_probability=0.2,
        blur_probability=0.5,
    )
    return ViewPolicy("moco_v2", (view, view))


def _s2bnn(size: int) -> ViewPolicy:
    """S2-BNN's "lite" augmentation: MoCo v2's with less jitter and blur (Sec. 4 and 6.1)."""
    view = dataclasses.replace(_moco_v2(size).global_views[0], jitter_probability=0.6, blur_probability=0.2)
    return ViewPolicy("s2bnn", (view, view))


def _bssl(size: int) -> ViewPolicy:
    """What BSSL's released code does; the paper states none of it."""
    view = View(
        size,
        crop_scale=(0.08, 1.0),
        flip=0.5,
        jitter=(0.4, 0.4, 0.4, 0.1),
        jitter_probability=0.6,
        grey_probability=0.2,
        blur_probability=0.2,
    )
    return ViewPolicy("bssl", (view, view))


def _cifar(size: int) -> ViewPolicy:
    """BSSL's for images of 32 pixels: larger crops and no blur, which erases what such an image shows."""
    view = dataclasses.replace(_bssl(size).global_views[0], crop_scale=(0.2, 1.0), blur_probability=0.0)
    return ViewPolicy("cifar", (view, view))


def _digits(size: int) -> ViewPolicy:
    """For handwritten digits: what a flip, a hue or a small crop would change is the digit itself."""
    view = View(
        size,
        crop_scale=(0.5, 1.0),
        jitter=(0.4, 0.4, 0.0, 0.0),
        jitter_probability=0.8,
        blur_probability=0.2,
        blur_sigma=(0.1, 1.0),
    )
    return ViewPolicy("digits", (view, view))


def _crop_flip(size: int) -> ViewPolicy:
    """One view for supervised training, fine-tuning and distillation."""
    return ViewPolicy("crop_flip", (View(size, crop_scale=(0.08, 1.0), flip=0.5),))


def _digits_plain(size: int) -> ViewPolicy:
    """The same of digits: the crop of `digits` alone."""
    return ViewPolicy("digits_plain", (View(size, crop_scale=(0.5, 1.0)),))


def _evaluation(size: int) -> ViewPolicy:
    """One plain view. (Probes use `pipeline.image_batches`, which also crops to the centre.)"""
    return ViewPolicy("evaluation", (View(size),))


POLICIES: dict[str, Callable[[int], ViewPolicy]] = {
    "moco_v2": _moco_v2,
    "s2bnn": _s2bnn,
    "bssl": _bssl,
    "cifar": _cifar,
    "digits": _digits,
    "crop_flip": _crop_flip,
    "digits_plain": _digits_plain,
    "evaluation": _evaluation,
    **{name: functools.partial(crops.policy, name) for name, crops in MULTI_CROPS.items()},
    **INFOMIN,
    **SIMCLR_BYOL,
}


def policy(
    name: str,
    image_size: int,
    *,
    smallest_global: float | None = None,
    largest_local: float | None = None,
    local_size: int | None = None,
    local_views: int | None = None,
    **overrides: Any,
) -> ViewPolicy:
    """The policy of that name, with some of its numbers changed.

    # Arguments
        name: A key of `POLICIES`.
        image_size: Side of the global views in pixels; that of local views is in proportion.
        smallest_global, largest_local, local_size, local_views: See `ViewPolicy.with_crops`.
        overrides: Fields of `View`, such as `jitter_probability=0.5`, of all views alike.
    """
    if name not in POLICIES:
        raise ValueError(f"policy is {name!r}: it must be one of {sorted(POLICIES)}")
    fields = [field.name for field in dataclasses.fields(View) if field.name != "size"]
    for key in overrides:
        if key not in fields:
            raise ValueError(f"{key!r} is not a field of a view: the fields are {fields}")
    base = POLICIES[name](image_size)
    changed = dataclasses.replace(
        base,
        global_views=tuple(dataclasses.replace(view, **overrides) for view in base.global_views),
        local_views=tuple(dataclasses.replace(view, **overrides) for view in base.local_views),
    )
    return changed.with_crops(smallest_global, largest_local, local_size, local_views)

"""Policies of InfoMin: strong colours, blur, RandAugment, and patches for a jigsaw.

Differences from the released code: the blur continues an image at its border by a mirror image that repeats the last
pixel, the original by one that does not; those of `rand_augment`.

# References
    - What Makes for Good Views for Contrastive Learning? (InfoMin, Tian et al., 2020), released code
"""

import dataclasses
from collections.abc import Callable

from larq_ssl.data.rand_augment import RandAugment
from larq_ssl.data.view_policy import View, ViewPolicy


def _infomin(size: int) -> ViewPolicy:
    view = View(
        size,
        crop_scale=(0.2, 1.0),
        interpolation="bilinear",
        flip=0.5,
        jitter=(0.8, 0.8, 0.8, 0.2),
        jitter_probability=0.8,
        grey_probability=0.2,
        blur_probability=0.5,
        rand_augment=RandAugment(),
    )
    return ViewPolicy("infomin", (view, view))


def _infomin_jigsaw(size: int) -> ViewPolicy:
    """With the nine patches of PIRL, as the released preset has them."""
    return dataclasses.replace(_infomin(size).with_jigsaw(), name="infomin_jigsaw")


def _infomin_cifar(size: int) -> ViewPolicy:
    """For images of 32 pixels: no blur, which erases what such an image shows."""
    view = dataclasses.replace(_infomin(size).global_views[0], blur_probability=0.0)
    return ViewPolicy("infomin_cifar", (view, view))


INFOMIN: dict[str, Callable[[int], ViewPolicy]] = {
    "infomin": _infomin,
    "infomin_jigsaw": _infomin_jigsaw,
    "infomin_cifar": _infomin_cifar,
}

"""Policies of SimCLR, BYOL and MSBReg: crops, colours and blur are not torchvision's (see `crops_tf`, `augment_tf`).

SimCLR normalises images to [0, 1] alone, the others by ImageNet's mean and deviation: that is the encoder's
`preprocessing`, "unit" and "imagenet".

Differences from the papers: MSBReg does not state its smallest crop, the resize and whose ops it uses. As it is built
on BYOL, all of them are BYOL's here (a reconstruction).

# References
    - SimCLRv2, Sec. 2; SimCLR, Appendix A and B.9; released code: `simclr`, `simclr_cifar`
    - BYOL, Appendix B and released code: `byol`
    - MSBReg, supplement, Table 1: `msbreg`
"""

import dataclasses
from collections.abc import Callable

from larq_ssl.data.view_policy import View, ViewPolicy

_SMALLEST_CROP = 0.08
_MSBREG_VIEWS = 4


def _crop_flip(size: int, family: str) -> View:
    return View(size, crop_scale=(_SMALLEST_CROP, 1.0), flip=0.5, family=family)


def _simclr_view(size: int, strength: float, blur: float) -> View:
    """SimCLR's, with jitter of a strength s."""
    return dataclasses.replace(
        _crop_flip(size, "simclr"),
        jitter=(0.8 * strength, 0.8 * strength, 0.8 * strength, 0.2 * strength),
        jitter_probability=0.8,
        grey_probability=0.2,
        blur_probability=blur,
    )


def _simclr(size: int) -> ViewPolicy:
    return ViewPolicy("simclr", (_simclr_view(size, 1.0, 0.5),) * 2)


def _simclr_cifar(size: int) -> ViewPolicy:
    """For images of 32 pixels: half the strength and no blur."""
    return ViewPolicy("simclr_cifar", (_simclr_view(size, 0.5, 0.0),) * 2)


def _simclr_crop_flip(size: int) -> ViewPolicy:
    """One view for supervised training, fine-tuning and distillation."""
    return ViewPolicy("simclr_crop_flip", (_crop_flip(size, "simclr"),))


def _byol_view(size: int, blur: float, solarise: float) -> View:
    return dataclasses.replace(
        _crop_flip(size, "byol"),
        jitter=(0.4, 0.4, 0.2, 0.1),
        jitter_probability=0.8,
        grey_probability=0.2,
        blur_probability=blur,
        solarise_probability=solarise,
    )


def _byol(size: int) -> ViewPolicy:
    """The first view always blurred, the second hardly, but solarised at times."""
    return ViewPolicy("byol", (_byol_view(size, 1.0, 0.0), _byol_view(size, 0.1, 0.2)))


def _byol_cifar(size: int) -> ViewPolicy:
    """For images of 32 pixels: no blur, which erases what such an image shows."""
    return ViewPolicy("byol_cifar", (_byol_view(size, 0.0, 0.0), _byol_view(size, 0.0, 0.2)))


def _msbreg(size: int) -> ViewPolicy:
    """K views alike; K = 4, `ViewPolicy.with_views` sets another."""
    return ViewPolicy("msbreg", (_byol_view(size, 1.0, 0.2),) * _MSBREG_VIEWS)


def _msbreg_cifar(size: int) -> ViewPolicy:
    """For images of 32 pixels: no blur."""
    return ViewPolicy("msbreg_cifar", (_byol_view(size, 0.0, 0.2),) * _MSBREG_VIEWS)


SIMCLR_BYOL: dict[str, Callable[[int], ViewPolicy]] = {
    "simclr": _simclr,
    "simclr_cifar": _simclr_cifar,
    "simclr_crop_flip": _simclr_crop_flip,
    "byol": _byol,
    "byol_cifar": _byol_cifar,
    "msbreg": _msbreg,
    "msbreg_cifar": _msbreg_cifar,
}

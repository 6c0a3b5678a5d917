"""The policies of SimCLR, BYOL and MSBReg hold the published numbers; other numbers of views alike."""

import dataclasses

import pytest

from larq_ssl.data.simclr_byol_views import SIMCLR_BYOL
from larq_ssl.data.views import View, ViewPolicy, policy

# SimCLRv2, released code, strength 1; BYOL, Appendix B and released code, without blur and solarising.
SIMCLR = View(
    224,
    crop_scale=(0.08, 1.0),
    ratio=(3 / 4, 4 / 3),
    interpolation="bicubic",
    flip=0.5,
    jitter=(0.8, 0.8, 0.8, 0.2),
    jitter_probability=0.8,
    grey_probability=0.2,
    blur_probability=0.5,
    blur_sigma=(0.1, 2.0),
    solarise_probability=0.0,
    family="simclr",
)
BYOL = dataclasses.replace(SIMCLR, jitter=(0.4, 0.4, 0.2, 0.1), blur_probability=0.0, family="byol")
CROP = View(224, crop_scale=(0.08, 1.0), flip=0.5)
PUBLISHED = {
    "simclr": (SIMCLR, SIMCLR),
    "simclr_cifar": (dataclasses.replace(SIMCLR, jitter=(0.4, 0.4, 0.4, 0.1), blur_probability=0.0),) * 2,
    "simclr_crop_flip": (dataclasses.replace(CROP, family="simclr"),),
    "byol": (
        dataclasses.replace(BYOL, blur_probability=1.0),
        dataclasses.replace(BYOL, blur_probability=0.1, solarise_probability=0.2),
    ),
    "byol_cifar": (BYOL, dataclasses.replace(BYOL, solarise_probability=0.2)),
    "msbreg": (dataclasses.replace(BYOL, blur_probability=1.0, solarise_probability=0.2),) * 4,
    "msbreg_cifar": (dataclasses.replace(BYOL, solarise_probability=0.2),) * 4,
    "crop_flip": (CROP,),
    "digits_plain": (View(224, crop_scale=(0.5, 1.0)),),
}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_policy_is_as_published(name):
    assert policy(name, 224) == ViewPolicy(name, PUBLISHED[name])


def test_none_is_left_out():
    assert set(SIMCLR_BYOL) < set(PUBLISHED)


@pytest.mark.parametrize("name", ["msbreg", "simclr", "digits", "crop_flip", "sslight"])
@pytest.mark.parametrize("count", [1, 2, 8])
def test_other_numbers_of_views(name, count):
    plain = policy(name, 64)
    if name == "sslight":
        plain = dataclasses.replace(plain, global_views=plain.global_views[:1])
    changed = plain.with_views(count)
    assert changed.global_views == plain.global_views[:1] * count
    assert dataclasses.replace(changed, global_views=plain.global_views) == plain


def test_views_that_differ_have_no_other_number():
    with pytest.raises(ValueError, match="count is 4: the global views of byol differ"):
        policy("byol", 64).with_views(4)
    with pytest.raises(ValueError, match="count is 0: it must be at least 1"):
        policy("msbreg", 64).with_views(0)

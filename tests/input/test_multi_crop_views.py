"""Multi-crop policies hold the published numbers, which can be changed for global and for local views separately."""

import dataclasses

import pytest

from larq_ssl.data import views
from larq_ssl.data.multi_crop_views import MULTI_CROPS
from larq_ssl.data.views import View, policy

PLAIN = View(
    1,
    crop_scale=(0.5, 1.0),
    ratio=(3 / 4, 4 / 3),
    interpolation="bicubic",
    flip=0.5,
    jitter=(0.4, 0.4, 0.2, 0.1),
    jitter_probability=0.8,
    grey_probability=0.2,
    blur_probability=0.5,
    blur_sigma=(0.1, 2.0),
    solarise_probability=0.0,
)
DINO = (
    dataclasses.replace(PLAIN, blur_probability=1.0),
    dataclasses.replace(PLAIN, blur_probability=0.1, solarise_probability=0.2),
    PLAIN,
)
SSLIGHT_SWAV = (dataclasses.replace(PLAIN, jitter=(0.8, 0.8, 0.8, 0.2)),) * 3
SWAV = (dataclasses.replace(SSLIGHT_SWAV[0], interpolation="bilinear"),) * 3
# Ops, S_g, S_l, LC, N_l and alpha: released code of DINO and SwAV; SSLight, Table 8 and released settings.
PUBLISHED = {
    "dino": (DINO, 0.4, 0.4, 96, 8, None),
    "dino_convnet": (DINO, 0.14, 0.14, 96, 6, None),
    "dino_vit": (DINO, 0.25, 0.25, 96, 10, None),
    "sslight": (DINO, 0.3, 0.3, 128, 6, 0.4),
    "sslight_vit": (DINO, 0.3, 0.3, 128, 10, 0.4),
    "swav": (SWAV, 0.14, 0.14, 96, 6, None),
    "sslight_swav_baseline": (SSLIGHT_SWAV, 0.14, 0.14, 96, 6, None),
    "sslight_swav": (SSLIGHT_SWAV, 0.3, 0.3, 128, 6, 0.4),
}
WITH_LOCAL = sorted(name for name, crops in MULTI_CROPS.items() if crops.local_views)


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_policy_is_as_published(name):
    (first, second, local), smallest, largest, size, count, alpha = PUBLISHED[name]
    found = policy(name, 224)
    assert (found.name, found.alpha) == (name, alpha)
    assert found.global_views == tuple(
        dataclasses.replace(view, size=224, crop_scale=(smallest, 1.0)) for view in (first, second)
    )
    assert found.local_views == (dataclasses.replace(local, size=size, crop_scale=(0.05, largest)),) * count


def test_swav_of_two_views_is_as_published():
    view = dataclasses.replace(SWAV[0], size=224, crop_scale=(0.08, 1.0))
    assert policy("swav_global", 224) == views.ViewPolicy("swav_global", (view, view))


@pytest.mark.parametrize(
    ("name", "image_size", "local_size"),
    [
        ("cifar_multi_crop", 32, 14),
        ("cifar_multi_crop", 24, 10),
        ("cifar_multi_crop_sslight", 32, 18),
        ("cifar_multi_crop_sslight", 24, 14),
        ("digits_multi_crop", 16, 11),
        ("sslight", 448, 256),
        ("dino", 16, 8),  # in proportion it would be 7
    ],
)
def test_local_views_are_in_proportion(name, image_size, local_size):
    found = policy(name, image_size)
    assert {view.size for view in found.global_views} == {image_size}
    assert {view.size for view in found.local_views} == {local_size}


@pytest.mark.parametrize("name", ["cifar_multi_crop", "cifar_multi_crop_sslight"])
def test_small_images_are_not_blurred(name):
    large = {"cifar_multi_crop": "dino_convnet", "cifar_multi_crop_sslight": "sslight"}[name]
    unblurred = policy(large, 32, blur_probability=0.0)
    assert dataclasses.replace(unblurred, name=name) == policy(name, 32)


def test_parts_of_digits_are_neither_flipped_nor_coloured():
    found = policy("digits_multi_crop", 16)
    assert found.global_views == policy("digits", 16).global_views
    for view in found.local_views:
        assert view.flip == view.grey_probability == view.solarise_probability == view.jitter[3] == 0
        assert view.crop_scale == (0.2, 0.5)


@pytest.mark.parametrize("name", WITH_LOCAL)
def test_each_number_is_changed_alone(name):
    plain = policy(name, 64)
    (low, high), count = plain.local_views[0].crop_scale, len(plain.local_views)
    changed = policy(name, 64, smallest_global=0.2)
    assert [view.crop_scale for view in changed.global_views] == [(0.2, 1.0)] * 2
    assert changed.local_views == plain.local_views
    changed = policy(name, 64, largest_local=0.6)
    assert [view.crop_scale for view in changed.local_views] == [(low, 0.6)] * count
    changed = policy(name, 64, local_size=40)
    assert [view.crop_scale for view in changed.local_views] == [(low, high)] * count
    assert [view.size for view in changed.local_views] == [40] * count
    assert changed.global_views == plain.global_views
    assert policy(name, 64, local_views=count + 3).local_views == plain.local_views[:1] * (count + 3)
    assert policy(name, 64, flip=0.25).local_views == tuple(
        dataclasses.replace(view, flip=0.25) for view in plain.local_views
    )


def test_no_local_views():
    """What a sweep down to none needs: the numbers of local views do not matter then."""
    without = policy("sslight", 224, local_views=0, local_size=96, largest_local=0.2)
    assert without == policy("sslight", 224).first(2)
    assert policy("bssl", 224, local_views=0) == policy("bssl", 224)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("bssl", {"local_size": 96}, "local_size is 96: bssl has no local views"),
        ("bssl", {"local_views": 6}, "local_views is 6: bssl has no local views"),
        ("swav_global", {"largest_local": 0.3}, "largest_local is 0.3: swav_global has no local views"),
        ("sslight", {"local_views": -1}, "local_views is -1: it must be at least 0"),
        ("sslight", {"local_size": 7}, r"local_size is 7: it must lie in \[8, 224\]"),
        ("sslight", {"local_size": 225}, r"local_size is 225: it must lie in \[8, 224\]"),
        ("sslight", {"smallest_global": 0.0}, r"smallest_global is 0.0: it must lie in \(0, 1.0\]"),
        ("sslight", {"smallest_global": 1.1}, r"smallest_global is 1.1: it must lie in \(0, 1.0\]"),
        ("sslight", {"largest_local": 0.04}, r"largest_local is 0.04: it must lie in \[0.05, 1\]"),
        ("sslight", {"largest_local": 1.1}, r"largest_local is 1.1: it must lie in \[0.05, 1\]"),
    ],
)
def test_mistakes_are_named(name, change, message):
    with pytest.raises(ValueError, match=message):
        policy(name, 224, **change)

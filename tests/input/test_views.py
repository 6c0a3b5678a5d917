"""The policies hold the published numbers: a training would not tell that one of them has changed."""

import dataclasses

import pytest

from larq_ssl.data.views import POLICIES, View, ViewPolicy, policy

_PUBLISHED = {
    # He et al., MoCo v2, released code ("aug+").
    "moco_v2": View(
        224,
        crop_scale=(0.2, 1.0),
        ratio=(3 / 4, 4 / 3),
        interpolation="bilinear",
        flip=0.5,
        jitter=(0.4, 0.4, 0.4, 0.1),
        jitter_probability=0.8,
        grey_probability=0.2,
        blur_probability=0.5,
        blur_sigma=(0.1, 2.0),
        solarise_probability=0.0,
    ),
    # Shen et al., S2-BNN, Sec. 6.1 and released code ("lite").
    "s2bnn": View(
        224,
        crop_scale=(0.2, 1.0),
        ratio=(3 / 4, 4 / 3),
        interpolation="bilinear",
        flip=0.5,
        jitter=(0.4, 0.4, 0.4, 0.1),
        jitter_probability=0.6,
        grey_probability=0.2,
        blur_probability=0.2,
        blur_sigma=(0.1, 2.0),
        solarise_probability=0.0,
    ),
    # BSSL, released code.
    "bssl": View(
        224,
        crop_scale=(0.08, 1.0),
        ratio=(3 / 4, 4 / 3),
        interpolation="bicubic",
        flip=0.5,
        jitter=(0.4, 0.4, 0.4, 0.1),
        jitter_probability=0.6,
        grey_probability=0.2,
        blur_probability=0.2,
        blur_sigma=(0.1, 2.0),
        solarise_probability=0.0,
    ),
}


@pytest.mark.parametrize("name", sorted(_PUBLISHED))
def test_policy_is_as_published(name):
    assert policy(name, 224).global_views == (_PUBLISHED[name], _PUBLISHED[name])
    assert policy(name, 224).local_views == ()


def test_digits_are_neither_flipped_nor_coloured():
    for view in policy("digits", 16).global_views:
        assert view.flip == view.grey_probability == view.solarise_probability == view.jitter[3] == 0
        assert view.crop_scale == (0.5, 1.0)


@pytest.mark.parametrize("name", sorted(_PUBLISHED))
def test_a_policy_can_be_cut_to_one_view(name):
    assert policy(name, 224).first(1) == ViewPolicy(name, (_PUBLISHED[name],))
    assert policy(name, 224).first(2) == policy(name, 224)
    assert ViewPolicy("multi", policy(name, 224).global_views, policy(name, 96).global_views).first(1).local_views == ()
    for count in (0, 3):
        with pytest.raises(ValueError, match=f"count is {count}: {name} has 2 global views"):
            policy(name, 224).first(count)


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_overrides_reach_every_view(name):
    changed = policy(name, 32, flip=0.25)
    assert all(view.flip == 0.25 for view in changed.global_views)
    plain = policy(name, 32)
    assert changed.global_views == tuple(dataclasses.replace(view, flip=0.25) for view in plain.global_views)
    with pytest.raises(ValueError, match="not a field"):
        policy(name, 32, flips=0.25)

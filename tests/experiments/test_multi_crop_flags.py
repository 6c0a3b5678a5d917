"""What the flags of a command make of a view policy, and what they must be to it."""

import pytest
from absl import flags as absl_flags

from larq_ssl.data import views
from larq_ssl.experiments import chosen_views, multi_crop_flags

LOCAL = ("local_crop_scale", "local_size", "local_views")


@pytest.fixture
def flags(monkeypatch):
    """Sets the flags of a command that has those of multi-crop views."""
    return lambda **values: _command(monkeypatch, ("crop_scale", *LOCAL), values)


def _command(monkeypatch, names, values):
    told = absl_flags.FlagValues()
    for name in (*names, "image_size"):
        absl_flags.DEFINE_string(name, None, "", flag_values=told)
    told.mark_as_parsed()
    for name, value in {"image_size": 224, **values}.items():
        told[name].value = value
    monkeypatch.setattr(chosen_views, "FLAGS", told)


def test_no_flag_changes_nothing(flags):
    flags()
    assert chosen_views.overrides() == {}
    for name in views.POLICIES.keys() - {"infomin_jigsaw"}:
        assert chosen_views.policy(name) == views.policy(name, 224)


def test_each_flag_has_its_number(flags):
    flags(crop_scale=0.2, local_crop_scale=0.4, local_size=112, local_views=4, image_size=192)
    policy = chosen_views.policy("sslight")
    assert {(view.size, view.crop_scale) for view in policy.global_views} == {(192, (0.2, 1.0))}
    assert {(view.size, view.crop_scale) for view in policy.local_views} == {(112, (0.05, 0.4))}
    assert len(policy.local_views) == 4


def test_crop_scale_is_of_global_views_alone(flags):
    flags(crop_scale=0.2)
    assert chosen_views.policy("sslight").local_views == views.policy("sslight", 224).local_views
    assert chosen_views.policy("bssl") == views.policy("bssl", 224, crop_scale=(0.2, 1.0))


def test_a_command_need_not_have_the_flags(monkeypatch):
    _command(monkeypatch, ("crop_scale",), {"crop_scale": 0.2})
    assert chosen_views.overrides() == {"smallest_global": 0.2}
    assert chosen_views.policy("bssl") == views.policy("bssl", 224, crop_scale=(0.2, 1.0))


def test_no_local_views(flags):
    flags(local_views=0, local_size=96)
    assert chosen_views.policy("sslight") == views.policy("sslight", 224).first(2)
    flags(local_views=0)
    assert chosen_views.policy("bssl") == views.policy("bssl", 224)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("bssl", {"local_size": 96}, "--local_size=96 has no meaning with the views 'bssl', which are all global"),
        ("bssl", {"local_views": 6}, "--local_views=6 has no meaning"),
        ("swav_global", {"local_crop_scale": 0.3}, "--local_crop_scale=0.3 has no meaning"),
        ("sslight", {"local_crop_scale": 0.04}, "--local_crop_scale must be at least 0.05, .*'sslight', got 0.04"),
        ("sslight", {"local_size": 225}, r"local_size is 225: it must lie in \[8, 224\]"),
        ("blurry", {}, "policy is 'blurry'"),
    ],
)
def test_mistakes_are_one_sentence(name, values, message, flags):
    flags(**values)
    with pytest.raises(ValueError, match=message):
        chosen_views.policy(name)


def test_alpha_is_a_share_between_two_kinds_of_pairs(monkeypatch):
    flag = multi_crop_flags.FLAGS["alpha"]
    assert flag.value is None
    for bad in ("-0.1", "1.1"):
        with pytest.raises(absl_flags.IllegalFlagValueError):
            flag.parse(bad)
    told = absl_flags.FlagValues()
    absl_flags.DEFINE_float("alpha", 0.4, "", flag_values=told)
    told.mark_as_parsed()
    monkeypatch.setattr(multi_crop_flags, "FLAGS", told)
    assert multi_crop_flags.alpha(views.policy("dino_convnet", 32)) == 0.4
    assert multi_crop_flags.alpha(views.policy("sslight", 32, local_views=0)) is None
    told["alpha"].value = 0.2
    assert multi_crop_flags.alpha(views.policy("sslight", 32)) == 0.2
    told["alpha"].value = None
    assert multi_crop_flags.alpha(views.policy("sslight", 32, local_views=4)) == 0.4
    assert multi_crop_flags.alpha(views.policy("sslight", 32, local_views=0)) is None
    assert multi_crop_flags.alpha(views.policy("dino_convnet", 32)) is None

"""The ratio of pixel scales is that of the crops which training cuts, and has the mean that SSLight chose LC by."""

import math

import numpy as np
import pytest

from larq_ssl.data import datasets, pipeline, pixel_scale, views
from larq_ssl.data.views import View, ViewPolicy

IMAGES = 20_000
# The published means come from as many draws of torchvision's sampler, a pair each, and have two decimals.
PUBLISHED_DRAWS = 20_000
ROUNDING = 0.005


def ratios(policy, height, width):
    return pixel_scale.ratios(policy, np.arange(IMAGES), np.full(IMAGES, height), np.full(IMAGES, width))


@pytest.mark.parametrize(
    ("share", "local_size", "sides", "expected"),
    [
        (0.3, 128, (375, 500), 1.07),
        (0.3, 128, (400, 400), 1.00),
        (0.14, 96, (375, 500), 1.39),
        (0.3, 96, (375, 500), 1.89),
    ],
)
def test_means_are_those_of_torchvision(share, local_size, sides, expected):
    """Within three standard errors of both means: 0.013 for 1.07 and 1.00, 0.022 for 1.39, 0.024 for 1.89."""
    policy = views.policy("sslight", 224, smallest_global=share, largest_local=share, local_size=local_size)
    values = ratios(policy, *sides)
    found = pixel_scale.statistics(values)
    theirs = values.std() / math.sqrt(PUBLISHED_DRAWS)
    error = 3 * math.hypot(found["standard_error"], theirs)
    assert error < 0.025
    assert abs(found["mean"] - expected) <= error + ROUNDING, (found, theirs)


@pytest.mark.parametrize(
    ("share", "local_size", "expected"), [(0.14, 96, 1.18), (0.14, 103, 1.03), (0.3, 96, 1.64), (0.3, 128, 0.92)]
)
def test_means_of_uniform_areas_are_as_published(share, local_size, expected):
    policy = views.policy("dino_convnet", 224, smallest_global=share, largest_local=share, local_size=local_size)
    assert pixel_scale.uniform_mean(policy) == pytest.approx(expected, abs=ROUNDING)
    formula = (224 / local_size) ** 2 * (0.05 + share) / 2 * math.log(1 / share) / (1 - share)
    assert pixel_scale.uniform_mean(policy) == pytest.approx(formula, rel=1e-12)


def test_areas_that_always_fit_are_uniform():
    """Small crops are never drawn anew, so that the formula holds for real ones."""
    large, small = View(224, (0.1, 0.3)), View(96, (0.05, 0.1))
    policy = ViewPolicy("small", (large, large), (small, small, small))
    found = pixel_scale.statistics(ratios(policy, 400, 400))
    assert found["mean"] == pytest.approx(pixel_scale.uniform_mean(policy), abs=4 * found["standard_error"] + 0.002)


def test_crops_of_one_area_have_one_ratio():
    whole, part = View(64), View(16, (0.25, 0.25), ratio=(1.0, 1.0))
    policy = ViewPolicy("fixed", (whole,), (part,) * 3)
    assert pixel_scale.uniform_mean(policy) == 4.0
    values = pixel_scale.ratios(policy, np.arange(5), np.full(5, 40), np.full(5, 40))
    np.testing.assert_array_equal(values, np.full((5, 1, 3), 4.0))
    found = pixel_scale.statistics(values)
    assert found == {
        "mean": 4.0,
        "standard_error": 0.0,
        **dict.fromkeys(("q05", "q25", "q50", "q75", "q95"), 4.0),
        "within_2": 0.0,
    }


def test_the_crops_are_those_that_training_cuts(monkeypatch):
    monkeypatch.setattr(pixel_scale, "_CHUNK", 5)
    pixels = np.zeros((12, 40, 60, 3), np.uint8)
    labels = np.zeros(12, np.int64)
    dataset = datasets.ImageDataset("memory", "train", 12, None, (), "x", targets=labels, images=pixels)
    policy = views.policy("sslight", 24, local_views=3)
    batches = list(pipeline.view_batches(dataset, policy, 12, seed=7, boxes=True).take(2))
    ids, boxes = (np.concatenate([batch[name] for batch in batches]) for name in ("id", "boxes"))
    found = pixel_scale.ratios(policy, ids, np.full(24, 40), np.full(24, 60), seed=7, epochs=np.repeat([0, 1], 12))
    assert found.shape == (24, 2, 3)
    np.testing.assert_array_equal(found[:12], pixel_scale.ratios(policy, ids[:12], *np.full((2, 12), [[40], [60]]), 7))
    for image, one, other in np.ndindex(found.shape):
        in_global = 24**2 / np.prod(boxes[image, one, 2:])
        in_local = 14**2 / np.prod(boxes[image, 2 + other, 2:])
        assert found[image, one, other] == pytest.approx(in_global / in_local, rel=1e-12)


def test_the_error_is_one_of_images_not_of_pairs():
    """Pairs that share their crops tell nothing new."""
    values = np.exp(np.random.default_rng(0).normal(size=(400, 1, 1)))
    one, copied = (pixel_scale.statistics(np.tile(values, (1, 2, count))) for count in (1, 6))
    assert one["standard_error"] == pytest.approx(copied["standard_error"])
    assert one["standard_error"] == pytest.approx(values.std(ddof=1) / 20)


def test_the_share_of_pairs_is_that_of_the_baselines():
    shares = {name: pixel_scale.pair_share(views.policy(name, 224)) for name in ("dino_convnet", "dino_vit", "bssl")}
    assert shares == {"dino_convnet": 2 / 14, "dino_vit": 2 / 22, "bssl": 1.0}
    assert pixel_scale.pair_share(views.policy("bssl", 224).first(1)) == 0.0


def test_global_views_alone_have_no_ratio():
    policy = views.policy("bssl", 224)
    with pytest.raises(ValueError, match="policy is 'bssl': it has no local views"):
        pixel_scale.uniform_mean(policy)
    with pytest.raises(ValueError, match="policy is 'bssl': it has no local views"):
        ratios(policy, 30, 30)

"""Boxes of random resized crops against 20,000 draws of torchvision's for each setting."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.data import crops, rng, views
from larq_ssl.data.views import View
from tests import golden

DRAWS = 4000


@pytest.fixture(scope="module")
def arrays():
    return golden.load("a7_crop_stats")


def draw(view, height, width, seed=0):
    ids = np.arange(DRAWS)
    uniforms = rng.view_uniforms(seed, np.zeros(DRAWS, np.int64), ids, (0,), crops.COLUMNS)
    sides = np.full(DRAWS, height), np.full(DRAWS, width)
    return crops.crop_boxes(uniforms, *sides, (view,))[:, 0], uniforms, sides


def within(name, value, expected, deviation):
    assert abs(value - expected) <= deviation, (name, value, expected, deviation)


def nothing_fits(uniforms, height, width, view):
    """Whether all ten boxes that torchvision would propose are larger than the image."""
    proposals = uniforms[:, : 2 * crops.CANDIDATES].reshape(-1, crops.CANDIDATES, 2)
    low, high = view.crop_scale
    area = height * width * (low + (high - low) * proposals[..., 0])
    aspect = np.exp(np.log(3 / 4) + np.log((4 / 3) / (3 / 4)) * proposals[..., 1])
    h, w = np.rint(np.sqrt(area / aspect)), np.rint(np.sqrt(area * aspect))
    return ((h > height) | (w > width)).all(axis=1)


def test_statistics(arrays):
    rows = [dict(zip(arrays["columns"], row, strict=True)) for row in arrays["rows"]]
    for i, row in enumerate(rows):
        height, width = int(row["height"]), int(row["width"])
        view = View(32, crop_scale=(row["scale_lo"], row["scale_hi"]))
        boxes, uniforms, _ = draw(view, height, width, seed=i)
        top, left, h, w = boxes.T
        assert (top >= 0).all() and (left >= 0).all()  # noqa: PT018
        assert (top + h <= height).all() and (left + w <= width).all()  # noqa: PT018
        noise = 6 * np.sqrt(1 / DRAWS + 1 / row["draws"])
        area, log_aspect = h * w / (height * width), np.log(w / h)
        within("area", area.mean(), row["area_mean"], row["area_std"] * noise + 1e-9)
        within("aspect", log_aspect.mean(), row["log_aspect_mean"], row["log_aspect_std"] * noise + 1e-9)
        for values, key in ((area, "area_quantiles"), (log_aspect, "log_aspect_quantiles")):
            for level, quantile in zip(arrays["quantile_levels"], arrays[key][i], strict=True):
                spread = np.sqrt(level * (1 - level)) * noise
                # Sides are whole pixels: a quantile is a value that many boxes have.
                assert np.mean(values < quantile - 1e-9) <= level + spread, (row, key, level)
                assert np.mean(values <= quantile + 1e-9) >= level - spread, (row, key, level)
        p = row["fallback_fraction"]
        within(
            "fallback",
            np.mean(nothing_fits(uniforms[:, 0], height, width, view)),
            p,
            np.sqrt(p * (1 - p)) * noise + 1e-3,
        )
        for offset, free, key in ((top, height - h, "rel_y_mean"), (left, width - w, "rel_x_mean")):
            if row[key] >= 0 and row["fallback_fraction"] < 1e-3:
                within(key, (offset / np.maximum(free, 1)).mean(), row[key], 0.5 * noise)


def test_the_crops_of_published_policies_are_among_the_statistics(arrays):
    """Of global and of local views."""
    tested = {tuple(row[:2]) for row in arrays["rows"]}
    for name in ("bssl", "moco_v2", "dino", "dino_convnet", "dino_vit", "sslight", "swav", "swav_global"):
        policy = views.policy(name, 224)
        assert {view.crop_scale for view in policy.global_views + policy.local_views} <= tested, name


def test_tensorflow_cuts_the_same_boxes():
    three = (View(32, crop_scale=(0.08, 1.0)), View(32, crop_scale=(0.9, 1.0), ratio=(0.5, 2.0)), View(32))
    n = 300
    sides = np.arange(n) % 40 + 1, np.arange(n) % 77 + 1
    uniforms = rng.view_uniforms(3, np.zeros(n, np.int64), np.arange(n), range(3), crops.COLUMNS)
    boxes = crops.crop_boxes(uniforms, *sides, three)
    tensors = (tf.constant(x) for x in (uniforms, *sides))
    np.testing.assert_array_equal(crops.crop_boxes(*tensors, three), boxes)
    np.testing.assert_array_equal(boxes[:, 2], np.stack([0 * sides[0], 0 * sides[0], *sides], -1))
    assert (boxes[..., 2:] >= 1).all()
    assert (boxes[..., 0] + boxes[..., 2] <= sides[0][:, None]).all()
    assert (boxes[..., 1] + boxes[..., 3] <= sides[1][:, None]).all()


def test_fallback_is_the_largest_centred_box():
    boxes, *_ = draw(View(32, crop_scale=(0.9, 1.0)), 100, 400)
    assert np.unique(boxes, axis=0).tolist() == [[0, 133, 100, 133]]
    boxes, *_ = draw(View(32, crop_scale=(0.9, 1.0)), 400, 100)
    assert np.unique(boxes, axis=0).tolist() == [[133, 0, 133, 100]]

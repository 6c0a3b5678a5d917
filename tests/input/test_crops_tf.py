"""Boxes of SimCLR's and BYOL's crops against 20,000 draws of their released code for each size of image."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.data import crops, crops_tf, families, rng
from larq_ssl.data.views import View
from tests import golden

DRAWS = 4000
FAMILIES = ("simclr", "byol")


@pytest.fixture(scope="module")
def arrays():
    return golden.load("a7_crop_stats")


def draw(view, height, width, seed=0, count=DRAWS):
    uniforms = rng.view_uniforms(seed, np.zeros(count, np.int64), np.arange(count), (0,), crops.COLUMNS)
    return families.crop_boxes(uniforms, np.full(count, height), np.full(count, width), (view,))[:, 0]


def within(name, value, expected, deviation):
    assert abs(value - expected) <= deviation, (name, value, expected, deviation)


@pytest.mark.parametrize("family", FAMILIES)
def test_statistics(arrays, family):
    rows = [dict(zip(arrays["columns"], row, strict=True)) for row in arrays[f"{family}_rows"]]
    for i, row in enumerate(rows):
        height, width = int(row["height"]), int(row["width"])
        boxes = draw(View(32, crop_scale=(row["scale_lo"], row["scale_hi"]), family=family), height, width, seed=i)
        top, left, h, w = boxes.T
        assert min(top.min(), left.min()) >= 0
        assert ((top + h <= height) & (left + w <= width)).all()
        noise = 6 * np.sqrt(1 / DRAWS + 1 / row["draws"])
        area, log_aspect = h * w / (height * width), np.log(w / h)
        for values, key in ((area, "area"), (log_aspect, "log_aspect"), (h, "crop_height"), (w, "crop_width")):
            deviation = row[f"{key}_std"] if f"{key}_std" in row else values.std()
            within((row, key), values.mean(), row[f"{key}_mean"], deviation * noise)
        for values, key in ((area, "area_quantiles"), (log_aspect, "log_aspect_quantiles")):
            for level, quantile in zip(arrays["quantile_levels"], arrays[f"{family}_{key}"][i], strict=True):
                spread = np.sqrt(level * (1 - level)) * noise
                # Sides are whole pixels: a quantile is a value that many boxes have.
                assert np.mean(values < quantile - 1e-9) <= level + spread, (row, key, level)
                assert np.mean(values <= quantile + 1e-9) >= level - spread, (row, key, level)
        # SimCLR's is the whole image, BYOL's one that touches a side of it.
        touches = (h == height) & (w == width) if family == "simclr" else (h == height) | (w == width)
        p = row["fallback_fraction"]
        within((row, "fallback"), touches.mean(), p, np.sqrt(p * (1 - p)) * noise + 1e-3)
        for offset, free, key in ((top, height - h, "rel_y_mean"), (left, width - w, "rel_x_mean")):
            within((row, key), (offset / np.maximum(free, 1)).mean(), row[key], 0.5 * noise)
        if family == "simclr":
            assert area.min() >= 0.1
            within((row, "area_min"), area.min(), row["area_min"], 0.02)


@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.05, 0.14), (0.3, 0.9)])
def test_simclr_draws_as_tensorflow(scale):
    """Also where most draws are drawn anew, and over the areas that are accepted alone."""
    height, width, count = 60, 90, 3000
    area, log_aspect = {}, {}
    for name in ("ours", "theirs"):
        if name == "ours":
            _, _, h, w = draw(View(32, crop_scale=scale, family="simclr"), height, width, count=count).T
        else:
            h, w = _tensorflow_sides(height, width, scale, count).T
        area[name], log_aspect[name] = h * w / (height * width), np.log(w / h)
    for values in (area, log_aspect):
        ours, theirs = np.sort(values["ours"]), np.sort(values["theirs"])
        everywhere = np.concatenate([ours, theirs])
        distance = np.searchsorted(ours, everywhere, "right") - np.searchsorted(theirs, everywhere, "right")
        # Kolmogorov and Smirnov: one in 10,000 are farther apart.
        assert np.abs(distance).max() / count < 2.23 * np.sqrt(2 / count)
    assert area["ours"].max() <= scale[1]
    assert area["ours"].min() >= max(scale[0], 0.1)


def _tensorflow_sides(height, width, scale, count):
    def one(i):
        _, size, _ = tf.image.stateless_sample_distorted_bounding_box(
            [height, width, 3],
            tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
            seed=tf.stack([i, 7]),
            min_object_covered=0.1,
            aspect_ratio_range=(3 / 4, 4 / 3),
            area_range=scale,
            max_attempts=100,
        )
        return size[:2]

    return tf.function(lambda: tf.map_fn(one, tf.range(count)))().numpy()


def test_simclr_takes_the_whole_image_where_no_crop_is_accepted():
    # One row of pixels has no crop of such a shape.
    assert np.unique(draw(View(32, crop_scale=(0.5, 1.0), family="simclr"), 1, 100), axis=0).tolist() == [
        [0, 0, 1, 100]
    ]


def test_byol_clips_what_does_not_fit():
    boxes = draw(View(32, crop_scale=(0.9, 1.0), family="byol"), 100, 400)
    assert (boxes[:, 2] == 100).all()
    assert boxes[:, 3].min() < 170
    assert boxes[:, 3].max() > 220
    np.testing.assert_array_equal(np.unique(draw(View(32, (0.08, 0.08), family="byol"), 1, 3)[:, 2:]), [1])


@pytest.mark.parametrize("family", FAMILIES)
def test_tensorflow_cuts_the_same_boxes(family):
    three = (View(32, (0.08, 1.0)), View(32, (0.9, 1.0), ratio=(0.5, 2.0)), View(32))
    sampler = {"simclr": crops_tf.simclr_boxes, "byol": crops_tf.byol_boxes}[family]
    n = 300
    sides = np.arange(n) % 40 + 1, np.arange(n) % 77 + 1
    uniforms = rng.view_uniforms(3, np.zeros(n, np.int64), np.arange(n), range(3), crops.COLUMNS)
    boxes = sampler(uniforms, *sides, three)
    tensors = (tf.constant(x) for x in (uniforms, *sides))
    np.testing.assert_array_equal(sampler(*tensors, three), boxes)
    np.testing.assert_array_equal(boxes[:, 2], np.stack([0 * sides[0], 0 * sides[0], *sides], -1))
    assert (boxes[..., 2:] >= 1).all()
    assert (boxes[..., :2] >= 0).all()
    assert (boxes[..., 0] + boxes[..., 2] <= sides[0][:, None]).all()
    assert (boxes[..., 1] + boxes[..., 3] <= sides[1][:, None]).all()


@pytest.mark.parametrize("family", ["torchvision", *FAMILIES])
def test_no_number_of_a_box_depends_on_what_the_colours_drew(family):
    """More columns than those of the crop change nothing."""
    view = View(32, (0.08, 1.0), family=family)
    uniforms = rng.view_uniforms(3, np.zeros(50, np.int64), np.arange(50), (0,), crops.COLUMNS)
    sides = np.full(50, 100), np.full(50, 80)
    more = np.concatenate([uniforms, np.random.default_rng(0).random((50, 1, 11))], axis=2)
    boxes = families.crop_boxes(uniforms, *sides, (view,))
    np.testing.assert_array_equal(families.crop_boxes(more, *sides, (view,)), boxes)

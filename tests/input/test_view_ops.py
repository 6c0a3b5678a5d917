"""From draws to pixels: every op that a view drew is done, with the numbers that it drew, and draws are independent."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.data import augment, crops, rng, view_ops
from larq_ssl.data.blur import gaussian_blur
from larq_ssl.data.rng import Op
from larq_ssl.data.views import View

JITTER = (0.4, 0.3, 0.2, 0.1)
VIEW = View(
    16,
    flip=0.5,
    jitter=JITTER,
    jitter_probability=0.5,
    grey_probability=0.4,
    blur_probability=0.6,
    blur_sigma=(0.5, 1.5),
    solarise_probability=0.3,
)


def draws(examples, views=1):
    epochs = np.zeros(examples, np.int64)
    return rng.view_uniforms(7, epochs, np.arange(examples), range(views), view_ops.COLUMNS)


def column(uniforms, op, draw=0):
    return uniforms[..., view_ops.COLUMNS.index((op, draw))]


def as_tensor(pixels):
    return augment.to_planes(tf.constant(pixels[None]))


def by_hand(pixels, uniforms):
    """One view, op after op."""
    planes = as_tensor(pixels)
    done = []
    if column(uniforms, Op.JITTER) < VIEW.jitter_probability:
        done.append("jitter")
        order = list(itertools.permutations(range(4)))[int(24 * column(uniforms, Op.JITTER, 1))]
        ops = (augment.brightness, augment.contrast, augment.saturation, augment.hue)
        for op in order:
            middle = 0.0 if op == 3 else 1.0
            u = column(uniforms, Op.JITTER, 2 + op)
            planes = ops[op](planes, tf.constant([middle + JITTER[op] * (2 * u - 1)], tf.float32))
    if column(uniforms, Op.GREY) < VIEW.grey_probability:
        done.append("grey")
        planes = augment.grey(planes)
    if column(uniforms, Op.BLUR) < VIEW.blur_probability:
        done.append("blur")
        sigma = 0.5 + column(uniforms, Op.BLUR, 1)
        planes = gaussian_blur(planes, tf.constant([sigma], tf.float64), VIEW.blur_sigma[1])
    if column(uniforms, Op.SOLARISE) < VIEW.solarise_probability:
        done.append("solarise")
        planes = augment.solarise(planes)
    return augment.from_planes(planes)[0].numpy(), done


@pytest.mark.parametrize("one_by_one", [False, True])
def test_a_view_gets_the_ops_that_it_drew_in_their_order(one_by_one):
    examples = 24
    uniforms = draws(examples, views=2)
    pixels = np.random.default_rng(0).integers(0, 256, (examples * 2, 16, 16, 3), np.uint8)
    views = (VIEW, VIEW)
    actual = view_ops.apply_colour(augment.to_planes(tf.constant(pixels)), tf.constant(uniforms), views, one_by_one)
    seen = {}
    for result, image, row in zip(actual.numpy(), pixels, uniforms.reshape(examples * 2, -1), strict=True):
        expected, done = by_hand(image, row)
        np.testing.assert_array_equal(result, expected, err_msg=str(done))
        seen.setdefault(tuple(done), []).append(not np.array_equal(result, image))
    for op in ("jitter", "grey", "blur", "solarise"):
        assert {op in done for done in seen} == {True, False}
    assert all(all(changed) for done, changed in seen.items() if done)
    assert not any(seen[()])


def parameters(examples):
    """All that is drawn for a view, a column of numbers each."""
    uniforms, views = draws(examples), (VIEW,)
    tensor = tf.constant(uniforms)
    jitter, order, factors = (x.numpy()[:, 0] for x in view_ops.jitter_parameters(tensor, views))
    blur, sigma = (x.numpy()[:, 0] for x in view_ops.blur_parameters(tensor, views))
    sides = np.full(examples, 400), np.full(examples, 300)
    # Boxes of one size, so that nothing but their place is left.
    fixed = View(16, crop_scale=(0.1, 0.1), ratio=(0.999, 1.001))
    top, left, _, _ = crops.crop_boxes(uniforms, *sides, (fixed,))[:, 0].T
    return {
        "top": top,
        "left": left,
        "flip": view_ops.flips(uniforms, views)[:, 0],
        "jitter": jitter,
        "first op": order[:, 0],
        **dict(zip(("brightness", "contrast", "saturation", "hue"), factors.T, strict=True)),
        "grey": view_ops.grey_mask(tensor, views).numpy()[:, 0],
        "blur": blur,
        "sigma": sigma,
        "solarise": view_ops.solarise_mask(tensor, views).numpy()[:, 0],
    }


def test_no_draw_depends_on_another():
    examples = 4000
    drawn = parameters(examples)
    names = list(drawn)
    correlation = np.corrcoef(np.array([drawn[name] for name in names], np.float64))
    np.fill_diagonal(correlation, 0)
    worst = np.unravel_index(np.abs(correlation).argmax(), correlation.shape)
    assert np.abs(correlation).max() < 5 / np.sqrt(examples), [names[i] for i in worst]


def test_draws_have_the_published_frequencies_and_ranges():
    examples = 4000
    drawn = parameters(examples)
    for name, probability in (("flip", 0.5), ("jitter", 0.5), ("grey", 0.4), ("blur", 0.6), ("solarise", 0.3)):
        assert abs(drawn[name].mean() - probability) < 5 * np.sqrt(probability * (1 - probability) / examples), name
    ranges = {"sigma": (0.5, 1.5), "brightness": (0.6, 1.4), "contrast": (0.7, 1.3), "saturation": (0.8, 1.2)}
    for name, (low, high) in {**ranges, "hue": (-0.1, 0.1)}.items():
        width = high - low
        assert low <= drawn[name].min() < low + 0.01 * width, name
        assert high - 0.01 * width < drawn[name].max() <= high, name
        assert abs(drawn[name].mean() - (low + high) / 2) < 5 * width / np.sqrt(12 * examples), name
    assert np.bincount(drawn["first op"]).min() > 0.22 * examples

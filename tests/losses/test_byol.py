"""BYOL's loss: the official values and gradients, both directions, rows of zeros."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.losses import BYOLLoss, byol_loss
from tests import golden
from tests.comparing import assert_near
from tests.losses.gradients import value_and_gradients


def _rows(count=8, dim=5, seed=0):
    return np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)


@pytest.mark.parametrize("case", [0, 1])
def test_value_and_gradients_are_the_official_ones(case):
    prefix = f"byol{case}_"
    arrays = {key[len(prefix) :]: a for key, a in golden.load("s6_byol_msbreg").items() if key.startswith(prefix)}
    target, online = (np.concatenate([arrays[f"{letter}{view}"] for view in (1, 2)]) for letter in "zp")
    assert_near(byol_loss(target, online), arrays["per_image"])
    loss, (of_target, gradient) = value_and_gradients(
        lambda z, q: tf.reduce_mean(byol_loss(z, q)), target.astype(np.float32), online.astype(np.float32)
    )
    assert_near(loss, arrays["loss"])
    assert of_target is None
    assert_near(gradient, np.concatenate([arrays["grad_p1"], arrays["grad_p2"]]))


def test_a_row_of_zeros_is_at_the_official_distance():
    distance = float(golden.load("s6_byol_msbreg")["byol_zero_row_regression"][0])
    online = np.zeros([2, 5], np.float32)
    np.testing.assert_allclose(byol_loss(_rows(2), online), [2 * distance], rtol=1e-6)
    # So is a target of zeros; two rows of zeros are equal.
    np.testing.assert_allclose(byol_loss(online, _rows(2)), [2 * distance], rtol=1e-6)
    np.testing.assert_array_equal(byol_loss(online, online), [0])


def test_it_is_four_less_two_cosines_of_a_view_with_the_other_target():
    target, online = _rows(6), _rows(6, seed=1)

    def cosine(first, second):
        return np.sum(first * second, axis=1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)

    expected = 4 - 2 * cosine(online[:3], target[3:]) - 2 * cosine(online[3:], target[:3])
    np.testing.assert_allclose(byol_loss(target, online), expected, rtol=1e-5)


def test_lengths_do_not_count_and_a_right_prediction_costs_nothing():
    target = _rows(6)
    swapped = np.concatenate([target[3:], target[:3]])
    for length in (1e-5, 100):
        np.testing.assert_allclose(byol_loss(target, length * swapped), np.zeros(3), atol=1e-6)
        np.testing.assert_allclose(byol_loss(length * target, swapped), np.zeros(3), atol=1e-6)
    np.testing.assert_allclose(byol_loss(target, -swapped), np.full(3, 8), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_is_computed_in_float32(dtype):
    target, online = (tf.cast(_rows(seed=seed), dtype) for seed in (0, 1))
    loss = byol_loss(target, online)
    assert loss.dtype == tf.float32
    np.testing.assert_array_equal(loss, byol_loss(tf.cast(target, tf.float32), tf.cast(online, tf.float32)))


def test_the_keras_loss_is_the_mean():
    target, online = _rows(), _rows(seed=1)
    assert float(BYOLLoss()(target, online)) == pytest.approx(np.mean(byol_loss(target, online)), rel=1e-6)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="target must have the same number of rows for each of 2 views, got 5"):
        byol_loss(_rows(5), _rows(6))
    with pytest.raises(ValueError, match="target and online must have one shape"):
        byol_loss(_rows(4), _rows(6))
    with pytest.raises(TypeError, match="online must be a float tensor"):
        byol_loss(_rows(4), tf.zeros([4, 5], tf.int32))

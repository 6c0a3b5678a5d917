"""DINO's loss, its centre and the temperature of its teacher, against the official class."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.center import Center
from larq_ssl.losses import DINOCrossEntropy, dino_cross_entropy, dino_targets, pair_weights
from larq_ssl.schedules import EpochRamp
from tests import golden
from tests.comparing import assert_near
from tests.losses.gradients import value_and_gradients

ALPHAS = {"official": None, "sslight": 0.4, "baseline": 1 / 7}


@pytest.fixture(scope="module")
def arrays():
    return {key.removeprefix("dino/"): value for key, value in golden.load("l4_losses").items() if "dino/" in key}


def _epochs():
    return [int(epoch) for epoch in golden.load("l4_losses")["dino/epochs"]]


def _local_views(arrays):
    """The teacher has two views of as many images."""
    images = len(arrays["teacher"]) // 2
    return len(arrays["student"]) // images - 2


@pytest.mark.parametrize("epoch", _epochs())
@pytest.mark.parametrize("weights", ALPHAS)
def test_loss_gradient_and_centre_are_the_official_ones(arrays, epoch, weights):
    expected = {
        key.removeprefix(f"epoch{epoch}/{weights}/"): value
        for key, value in arrays.items()
        if key.startswith(f"epoch{epoch}/{weights}/")
    }
    temperature = EpochRamp(0.04, 0.07, epochs=50, steps_per_epoch=3)(3 * epoch + 2)
    assert_near(temperature, expected["teacher_temp"], 1e-6)
    pairs = pair_weights(2, _local_views(arrays), ALPHAS[weights])
    loss, (d_teacher, d_student, d_center) = value_and_gradients(
        lambda teacher, student, center: tf.reduce_mean(
            dino_cross_entropy(teacher, student, center, pairs, temperature)
        ),
        arrays["teacher"],
        arrays["student"],
        arrays["center_before"],
    )
    assert_near(loss, expected["loss"])
    assert_near(d_student, expected["d_student"])
    assert d_teacher is None
    assert d_center is None
    center = Center(len(arrays["center_before"]), 0.9)
    center.mean.assign(arrays["center_before"])
    for key in ("center_after", "center_after_2"):
        center.follow(center.mean_of(tf.constant(arrays["teacher"])))
        assert_near(center.mean, expected[key])


def test_undecided_networks_have_the_logarithm_of_the_number_of_classes():
    for alpha in (None, 0.0, 0.4, 1.0):
        loss = dino_cross_entropy(tf.ones([4, 9]), tf.ones([10, 9]), tf.zeros([9]), pair_weights(2, 3, alpha))
        np.testing.assert_allclose(loss, np.full(2, np.log(9)), rtol=1e-5)


def test_targets_are_centred_and_sharpened():
    logits = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    center = np.linspace(-1, 1, 6).astype(np.float32)
    targets = dino_targets(logits, center, 0.5)
    powers = np.exp((logits - center) / 0.5)
    np.testing.assert_allclose(targets, powers / powers.sum(axis=1, keepdims=True), rtol=1e-5)
    # What all images have in common teaches nothing once the centre has reached it.
    np.testing.assert_allclose(dino_targets(logits + 3 * center, 4 * center, 0.5), targets, rtol=1e-4)
    assert np.all(np.max(dino_targets(logits, center, 0.05), axis=1) > np.max(targets, axis=1))


def test_keras_loss_takes_the_teacher_and_the_centre_as_truth(arrays):
    teacher, student, center = (tf.constant(arrays[key]) for key in ("teacher", "student", "center_before"))
    loss = DINOCrossEntropy(2, _local_views(arrays), 0.4, teacher_temperature=0.07)
    pairs = pair_weights(2, _local_views(arrays), 0.4)
    expected = tf.reduce_mean(dino_cross_entropy(teacher, student, center, pairs, 0.07))
    assert float(loss((teacher, center), student)) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_is_computed_in_float32(arrays, dtype):
    teacher, student = (tf.cast(arrays[key], dtype) for key in ("teacher", "student"))
    pairs = pair_weights(2, _local_views(arrays))
    loss = dino_cross_entropy(teacher, student, arrays["center_before"], pairs)
    assert loss.dtype == tf.float32
    again = dino_cross_entropy(
        tf.cast(teacher, tf.float32), tf.cast(student, tf.float32), arrays["center_before"], pairs
    )
    np.testing.assert_array_equal(loss, again)


def test_whole_numbers_are_refused():
    with pytest.raises(TypeError, match="teacher_logits must be a float tensor, got int32"):
        dino_targets(tf.ones([2, 3], tf.int32), tf.zeros([3]), 0.1)

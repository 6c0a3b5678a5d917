"""Cross-entropy with labels of which some are missing, against the definition and Keras."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.losses import LabelCrossEntropy, label_cross_entropy
from tests import golden
from tests.losses.gradients import central_differences, value_and_gradients

LABELS = np.array([2, -1, 0, 4, -1, 2])


def _logits(seed=0):
    return np.random.default_rng(seed).normal(0, 3, (len(LABELS), 5)).astype(np.float32)


def _plain(logits, smoothing):
    """The definition, in float64."""
    logits = logits.astype(np.float64)
    log_q = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    own = -log_q[np.arange(len(LABELS)), LABELS]
    return np.where(LABELS >= 0, (1 - smoothing) * own - smoothing * log_q.mean(axis=1), 0.0)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_value_and_gradient_are_the_definition(smoothing):
    logits = _logits()
    loss = label_cross_entropy(LABELS, logits, smoothing)
    assert loss.shape == LABELS.shape
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(loss, _plain(logits, smoothing), rtol=1e-5)
    weights = np.arange(1.0, 7.0).astype(np.float32)
    _, (gradient,) = value_and_gradients(
        lambda z: tf.reduce_sum(weights * label_cross_entropy(LABELS, z, smoothing)), logits
    )
    (reference,) = central_differences(lambda z: np.sum(weights * _plain(z, smoothing)), logits)
    np.testing.assert_allclose(gradient, reference, atol=1e-4)
    np.testing.assert_array_equal(gradient[LABELS < 0], np.zeros_like(gradient[LABELS < 0]))
    assert np.all(np.abs(gradient[LABELS >= 0]).max(axis=1) > 0.1)


def test_equals_the_supervised_loss_of_simclr():
    arrays = golden.load("s6_simclr")
    loss = label_cross_entropy(arrays["kd_labels"], arrays["kd_student_logits"])
    np.testing.assert_allclose(np.mean(loss), arrays["kd_supervised_mean"], rtol=1e-5)


def test_smoothing_is_that_of_keras():
    labels, logits = np.maximum(LABELS, 0), _logits()
    one_hot = tf.one_hot(labels, logits.shape[1])
    keras = tf.keras.losses.categorical_crossentropy(one_hot, logits, from_logits=True, label_smoothing=0.2)
    np.testing.assert_allclose(label_cross_entropy(labels, logits, 0.2), keras, rtol=1e-5)


def test_order_of_the_classes_does_not_count():
    logits, order = _logits(), np.array([3, 0, 4, 2, 1])
    renumbered = np.where(LABELS >= 0, np.argsort(order)[LABELS], -1)
    np.testing.assert_allclose(
        label_cross_entropy(renumbered, logits[:, order], 0.1), label_cross_entropy(LABELS, logits, 0.1), rtol=1e-5
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_is_computed_in_float32(dtype):
    logits = tf.cast(_logits(), dtype)
    loss = label_cross_entropy(LABELS, logits)
    assert loss.dtype == tf.float32
    np.testing.assert_array_equal(loss, label_cross_entropy(LABELS, tf.cast(logits, tf.float32)))


def test_keras_loss_is_the_mean_over_all_images():
    expected = np.mean(label_cross_entropy(LABELS, _logits(), 0.3))
    np.testing.assert_allclose(LabelCrossEntropy(0.3)(LABELS, _logits()), expected, rtol=1e-6)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_mistakes_are_named(smoothing):
    for make in (lambda: label_cross_entropy(LABELS, _logits(), smoothing), lambda: LabelCrossEntropy(smoothing)):
        with pytest.raises(ValueError, match=f"smoothing .* got {smoothing}"):
            make()
    with pytest.raises(TypeError, match="logits .* int32"):
        label_cross_entropy(LABELS, np.zeros((6, 5), np.int32))
    with pytest.raises(ValueError, match=r"logits must have shape \[rows, dim\]"):
        label_cross_entropy(LABELS, np.zeros(6, np.float32))

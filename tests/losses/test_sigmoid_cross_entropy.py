"""Cross-entropy of a sigmoid per class, against the definition, scikit-learn and Keras."""

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import log_loss

from larq_ssl.losses import SigmoidCrossEntropy, sigmoid_cross_entropy
from tests.losses.gradients import central_differences, value_and_gradients
from tests.replicas import two_replicas

# Of the third image one class is known, of the last one none.
PRESENCE = np.array(
    [[1, 0, 0, 1], [0, 0, -1, 1], [-1, -1, 1, -1], [0, 0, 0, 0], [-1, 1, -1, 0], [-1, -1, -1, -1]], np.int8
)


def _logits(seed=0):
    return np.random.default_rng(seed).normal(0, 3, PRESENCE.shape).astype(np.float32)


def _plain(presence, logits):
    """The definition, class by class, in float64."""
    losses = []
    for wanted, row in zip(presence, np.asarray(logits, np.float64), strict=True):
        shares = 1 / (1 + np.exp(-row))
        each = [-np.log(share if one else 1 - share) for one, share in zip(wanted, shares, strict=True) if one >= 0]
        losses.append(np.mean(each) if each else 0.0)
    return np.array(losses)


@pytest.mark.parametrize("presence", [PRESENCE, PRESENCE.astype(np.int64), PRESENCE.astype(np.float32)])
def test_value_and_gradient_are_the_definition(presence):
    logits = _logits()
    loss = sigmoid_cross_entropy(presence, logits)
    assert loss.shape == len(presence)
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(loss, _plain(PRESENCE, logits), rtol=1e-5)
    weights = np.arange(1.0, 7.0).astype(np.float32)
    _, (gradient,) = value_and_gradients(lambda z: tf.reduce_sum(weights * sigmoid_cross_entropy(presence, z)), logits)
    (reference,) = central_differences(lambda z: np.sum(weights * _plain(PRESENCE, z)), logits)
    np.testing.assert_allclose(gradient, reference, atol=1e-4)
    np.testing.assert_array_equal(gradient[PRESENCE < 0], np.zeros(np.sum(PRESENCE < 0), np.float32))
    assert np.all(np.abs(gradient[PRESENCE >= 0]) > 0)


def test_is_the_log_loss_of_what_is_known():
    logits = _logits(1)
    for row in range(5):
        known = PRESENCE[row] >= 0
        expected = log_loss(PRESENCE[row][known], 1 / (1 + np.exp(-logits[row][known].astype(float))), labels=[0, 1])
        assert sigmoid_cross_entropy(PRESENCE, logits)[row].numpy() == pytest.approx(expected, rel=1e-5)


def test_is_that_of_keras_where_everything_is_known():
    presence, logits = np.maximum(PRESENCE, 0), _logits(2)
    keras = tf.keras.losses.binary_crossentropy(presence.astype(np.float32), logits, from_logits=True)
    np.testing.assert_allclose(sigmoid_cross_entropy(presence, logits), keras, rtol=1e-5)


def test_neither_order_of_the_classes_nor_difficult_ones_count():
    logits, order = _logits(), [3, 0, 2, 1]
    loss = sigmoid_cross_entropy(PRESENCE, logits)
    np.testing.assert_allclose(sigmoid_cross_entropy(PRESENCE[:, order], logits[:, order]), loss, rtol=1e-6)
    other = np.where(PRESENCE < 0, 1e4, logits).astype(np.float32)
    np.testing.assert_array_equal(sigmoid_cross_entropy(PRESENCE, other), loss)


def test_large_logits_have_a_finite_loss_and_gradient():
    logits = np.full(PRESENCE.shape, 1e4, np.float32)
    loss, (gradient,) = value_and_gradients(lambda z: tf.reduce_sum(sigmoid_cross_entropy(PRESENCE, z)), logits)
    assert loss == pytest.approx(_expected_of_large())
    assert np.isfinite(gradient).all()


def _expected_of_large():
    """10,000 for each absent class, by the number of known ones."""
    return sum(1e4 * np.mean(row[row >= 0] == 0) for row in PRESENCE if (row >= 0).any())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_is_computed_in_float32(dtype):
    logits = tf.cast(_logits(), dtype)
    loss = sigmoid_cross_entropy(PRESENCE, logits)
    assert loss.dtype == tf.float32
    np.testing.assert_array_equal(loss, sigmoid_cross_entropy(PRESENCE, tf.cast(logits, tf.float32)))


def test_two_replicas_have_the_loss_and_the_gradient_of_one():
    logits = _logits()

    def run(presence, rows):
        with tf.GradientTape() as tape:
            tape.watch(rows)
            loss = tf.reduce_sum(sigmoid_cross_entropy(presence, rows)) / len(PRESENCE)
        return loss, tape.gradient(loss, rows)

    strategy = two_replicas()
    halves = [
        strategy.experimental_distribute_values_from_function(
            lambda context, array=array: tf.constant(np.split(array, 2)[context.replica_id_in_sync_group])
        )
        for array in (PRESENCE, logits)
    ]
    losses, gradients = (strategy.experimental_local_results(part) for part in strategy.run(run, halves))
    whole, gradient = run(tf.constant(PRESENCE), tf.constant(logits))
    np.testing.assert_allclose(np.sum(losses), whole, rtol=1e-6)
    np.testing.assert_allclose(np.concatenate(gradients), gradient, rtol=1e-6)


def test_keras_loss_is_the_mean_over_all_images():
    expected = np.mean(sigmoid_cross_entropy(PRESENCE, _logits()))
    np.testing.assert_allclose(SigmoidCrossEntropy()(PRESENCE, _logits()), expected, rtol=1e-6)


def test_mistakes_are_named():
    with pytest.raises(TypeError, match="logits .* int32"):
        sigmoid_cross_entropy(PRESENCE, np.zeros(PRESENCE.shape, np.int32))
    with pytest.raises(ValueError, match=r"logits must have shape \[rows, dim\]"):
        sigmoid_cross_entropy(PRESENCE, np.zeros(6, np.float32))
    with pytest.raises(ValueError, match=r"presence and logits must have one shape, got \(6, 4\) and \(6, 5\)"):
        sigmoid_cross_entropy(PRESENCE, np.zeros((6, 5), np.float32))

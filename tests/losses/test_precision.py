"""Whatever a network computes in, a loss is computed in float32."""

import inspect

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import losses
from tests.half_precision import imprecise
from tests.losses.test_serialisation import LOSSES, truth_and_prediction

HALVES = ["float16", "bfloat16"]


def _map(truth, change):
    """The tensors of a truth, floats changed, labels as they are."""
    if isinstance(truth, tuple):
        return tuple(_map(part, change) for part in truth)
    truth = tf.convert_to_tensor(truth)
    return change(truth) if truth.dtype.is_floating else truth


def _value_and_gradient(loss, truth, prediction):
    with tf.GradientTape() as tape:
        tape.watch(prediction)
        value = loss(truth, prediction)
    return value, tape.gradient(value, prediction)


def test_every_loss_is_tested():
    kinds = {kind for kind in vars(losses).values() if inspect.isclass(kind)}
    assert kinds == {type(loss) for loss in LOSSES}


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_rounded_inputs_have_the_loss_of_the_same_numbers_in_float32(loss, dtype):
    truth, prediction = (_map(part, lambda rows: tf.cast(rows, dtype)) for part in truth_and_prediction(loss))
    in_float32 = [_map(part, lambda rows: tf.cast(rows, tf.float32)) for part in (truth, prediction)]
    value, gradient = _value_and_gradient(loss, truth, prediction)
    expected, expected_gradient = _value_and_gradient(loss, *in_float32)
    assert value.dtype == tf.float32
    assert value == expected
    assert gradient.dtype == dtype
    assert np.any(tf.cast(gradient, tf.float32))
    np.testing.assert_array_equal(gradient, tf.cast(expected_gradient, dtype))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_nothing_of_a_loss_is_computed_in_half_precision(loss, dtype):
    truth, prediction = (_map(part, lambda rows: tf.cast(rows, dtype)) for part in truth_and_prediction(loss))
    step = tf.function(lambda truth, prediction: _value_and_gradient(loss, truth, prediction))
    assert imprecise(step.get_concrete_function(truth, prediction)) == {}


def test_half_precision_would_be_found():
    softmax = tf.function(tf.nn.softmax).get_concrete_function(tf.TensorSpec([2, 3], tf.bfloat16))
    assert imprecise(softmax) == {"Softmax": 1}

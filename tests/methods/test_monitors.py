"""The numbers that show a collapse, at the values that are known."""

import math

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.methods.monitors import class_usage, embedding_std, mean_entropy, target_entropy

_DIM, _MANY = 16, 4096


def test_embedding_std_is_one_for_independent_directions_and_zero_for_one():
    rng = np.random.default_rng(0)
    assert float(embedding_std(rng.normal(size=(_MANY, _DIM)))) == pytest.approx(1.0, abs=0.02)
    same = np.tile(rng.normal(size=(1, _DIM)), (8, 1))
    assert float(embedding_std(same)) == pytest.approx(0.0, abs=1e-5)
    # One direction, other lengths: still collapsed.
    assert float(embedding_std(same * np.arange(1, 9)[:, None])) == pytest.approx(0.0, abs=1e-5)


def test_embedding_std_is_its_formula():
    rows = np.random.default_rng(1).normal(2.0, 1.0, size=(7, 3))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert float(embedding_std(rows)) == pytest.approx(math.sqrt(3) * unit.std(axis=0).mean(), rel=1e-5)


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_entropy_and_usage_tell_constant_targets_from_one_class(temperature):
    uniform = tf.zeros([_DIM, _DIM])
    one_class = 50.0 * tf.one_hot(tf.zeros([_DIM], tf.int32), _DIM)
    all_classes = 50.0 * tf.eye(_DIM)
    values = [
        (float(target_entropy(logits, temperature)), float(class_usage(logits, temperature)))
        for logits in (uniform, one_class, all_classes)
    ]
    expected = [(math.log(_DIM), _DIM), (0.0, 1.0), (0.0, _DIM)]
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-4)


def test_entropy_and_usage_are_their_formulas():
    logits = np.random.default_rng(2).normal(size=(6, 5))
    p = np.exp(logits / 0.2) / np.exp(logits / 0.2).sum(axis=1, keepdims=True)
    entropy, mean = -(p * np.log(p)).sum(axis=1).mean(), p.mean(axis=0)
    assert float(target_entropy(logits, 0.2)) == pytest.approx(entropy, rel=1e-4)
    assert float(mean_entropy(p)) == pytest.approx(entropy, rel=1e-4)
    assert float(class_usage(logits, 0.2)) == pytest.approx(np.exp(-(mean * np.log(mean)).sum()), rel=1e-4)


def test_entropy_of_probabilities_takes_zeros():
    assert float(mean_entropy(tf.eye(4))) == 0
    assert float(mean_entropy(tf.fill([2, 4], 0.25))) == pytest.approx(math.log(4), rel=1e-5)


@pytest.mark.parametrize(
    "monitor",
    [embedding_std, lambda x: target_entropy(x, 0.2), lambda x: class_usage(x, 0.2), lambda x: mean_entropy(x**2)],
)
def test_monitors_carry_no_gradient_and_are_float32(monitor):
    logits = tf.cast(tf.random.stateless_normal([4, 3], [0, 1]), tf.bfloat16)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = monitor(logits)
    assert value.dtype == tf.float32
    assert value.shape == []
    assert tape.gradient(value, logits) is None

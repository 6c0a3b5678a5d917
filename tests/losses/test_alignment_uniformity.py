"""Alignment and uniformity: the official values and gradients, distinct pairs, and known levels."""

import math

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import distribute
from larq_ssl.losses import Alignment, Uniformity, alignment, mean_uniformity, uniformity
from tests import golden
from tests.comparing import assert_near
from tests.losses.gradients import central_differences, value_and_gradients
from tests.replicas import two_replicas


def _unit(count=8, dim=5, seed=0):
    rows = np.random.default_rng(seed).normal(size=(count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def _case(case):
    prefix = f"au{case}_"
    arrays = {key[len(prefix) :]: a for key, a in golden.load("s6_byol_msbreg").items() if key.startswith(prefix)}
    return arrays, *(arrays[side].astype(np.float32) for side in "xy")


@pytest.mark.parametrize("alpha", [1, 2])
@pytest.mark.parametrize("case", [0, 1])
def test_alignment_is_the_official_one(case, alpha):
    arrays, x, y = _case(case)
    loss, (gradient,) = value_and_gradients(lambda x: tf.reduce_mean(alignment(x, y, alpha)), x)
    assert_near(loss, arrays[f"align_alpha{alpha}"])
    assert_near(gradient, arrays[f"align_alpha{alpha}_grad_x"])


@pytest.mark.parametrize("t", ["0.5", "2", "3"])
@pytest.mark.parametrize("case", [0, 1])
def test_uniformity_is_the_official_one(case, t):
    arrays, x, y = _case(case)
    loss, (gradient,) = value_and_gradients(lambda x: uniformity(x, float(t)), x)
    assert_near(loss, arrays[f"uniform_t{t}_x"])
    assert_near(gradient, arrays[f"uniform_t{t}_x_grad"])
    assert_near(uniformity(y, float(t)), arrays[f"uniform_t{t}_y"])
    assert_near(mean_uniformity(x, y, float(t)), arrays[f"uniform_t{t}_mean_xy"])


def test_uniformity_of_random_rows():
    arrays = golden.load("s6_byol_msbreg")
    count, dim, seed = (int(number) for number in arrays["au_random_sphere_N_d_seed"])
    rows = np.random.RandomState(seed).randn(count, dim)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    assert_near(uniformity(rows), arrays["au_random_sphere_uniform_t2"])
    assert float(uniformity(_unit(2048, 128))) == pytest.approx(-3.94, abs=0.005)


def test_uniformity_is_that_of_distinct_pairs():
    rows = _unit(4, 3)
    potentials = [math.exp(-2 * np.sum((rows[i] - rows[j]) ** 2)) for i in range(4) for j in range(i)]
    assert float(uniformity(rows)) == pytest.approx(math.log(np.mean(potentials)), rel=1e-5)
    # Two rows on opposite sides.
    assert float(uniformity([[1.0, 0.0], [-1.0, 0.0]])) == pytest.approx(-8, rel=1e-6)
    assert float(uniformity(np.tile(rows[:1], [5, 1]))) == pytest.approx(0, abs=1e-5)


def test_gradients_are_those_of_differences():
    x, y = _unit(6, 3), _unit(6, 3, seed=1)

    def plain_uniformity(x):
        squares = np.sum((x[:, None] - x[None]) ** 2, axis=-1)[np.triu_indices(6, 1)]
        return np.log(np.mean(np.exp(-2 * squares)))

    _, (gradient,) = value_and_gradients(uniformity, x)
    assert_near(gradient, central_differences(plain_uniformity, x)[0], 2e-5)
    _, (gradient,) = value_and_gradients(lambda x: tf.reduce_sum(alignment(x, y, 3.0)), x)
    expected = central_differences(lambda x: np.sum(np.sum((x - y) ** 2, axis=1) ** 1.5), x)[0]
    assert_near(gradient, expected, 2e-5)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_equal_rows_are_aligned_and_get_no_gradient(alpha):
    x = _unit()
    loss, (gradient,) = value_and_gradients(lambda x: tf.reduce_sum(alignment(x, _unit(), alpha)), x)
    assert loss == 0
    assert not gradient.any()


def test_two_replicas_have_the_value_and_the_gradient_of_one():
    whole = np.stack([_unit(8, 5), _unit(8, 5, seed=1)])

    def value_and_gradient(views, share=1.0):
        with tf.GradientTape() as tape:
            tape.watch(views)
            loss = share * mean_uniformity(*(distribute.all_gather(view) for view in tf.unstack(views)))
        return loss, tape.gradient(loss, views)

    @tf.function
    def of_replica():
        start = 4 * tf.distribute.get_replica_context().replica_id_in_sync_group
        return value_and_gradient(tf.constant(whole)[:, start : start + 4], 0.5)

    loss, gradient = value_and_gradient(tf.constant(whole))
    losses, gradients = (two_replicas().experimental_local_results(part) for part in two_replicas().run(of_replica))
    assert float(sum(losses)) == pytest.approx(float(loss), rel=1e-5)
    assert_near(tf.concat(gradients, axis=1), gradient)


def test_the_keras_losses_are_the_functions():
    x, y = _unit(), _unit(seed=1)
    assert float(Alignment(1.5)(x, y)) == pytest.approx(np.mean(alignment(x, y, 1.5)), rel=1e-6)
    assert float(Uniformity(3.0)(x, y)) == pytest.approx(float(mean_uniformity(x, y, 3.0)), rel=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_is_computed_in_float32(dtype):
    x, y = (tf.cast(_unit(seed=seed), dtype) for seed in (0, 1))
    for function in (alignment, mean_uniformity):
        loss = function(x, y)
        assert loss.dtype == tf.float32
        np.testing.assert_array_equal(loss, function(tf.cast(x, tf.float32), tf.cast(y, tf.float32)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: alignment(_unit(), _unit(), 0.0), "alpha must be positive and finite, got 0.0"),
        (lambda: Alignment(-1.0), "alpha must be positive"),
        (lambda: uniformity(_unit(), math.inf), "t must be positive and finite, got inf"),
        (lambda: Uniformity(0.0), "t must be positive"),
        (lambda: uniformity(_unit(1)), "x must have at least two rows, .*, got 1"),
        (lambda: alignment(_unit(4), _unit(5)), "x and y must have one shape"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()

"""The norms of single gradients that a method keeps through an epoch."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.models.transfer import copy_weights
from larq_ssl.optimizers import SGD
from tests.methods import tiny
from tests.replicas import two_replicas


def _by_hand(method, batch):
    """The L2 norm of the gradient of each optimised variable; the networks run once in training mode."""
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(method.loss_terms(batch)["loss"])
    return np.array([np.linalg.norm(gradient) for gradient in tape.gradient(loss, method.optimized_variables)])


def _step(method, *batches):
    """Steps without the reset that `tiny.trained` makes before each."""
    for batch in batches:
        method.train_step(batch)


def _frozen(make=tiny.bssl, **arguments):
    """Two methods of the same weights, which stay where they are."""
    methods = [make(optimizer=SGD(0.0, momentum=0.0), **arguments) for _ in range(2)]
    for name, network in methods[0].networks.items():
        copy_weights(network, methods[1].networks[name])
    return methods


@pytest.mark.parametrize("make", [tiny.bssl, tiny.moco])
def test_the_norm_of_a_step_is_that_of_the_tape(make):
    method, twin = _frozen(make)
    _step(method, tiny.batch())
    norms = method.gradient_norms(method.optimized_variables)
    expected = _by_hand(twin, tiny.batch())
    np.testing.assert_allclose(norms, expected, rtol=1e-4, atol=1e-6)
    assert expected.max() > 1e-3


def test_several_steps_are_the_root_of_their_mean_square():
    method, twin = _frozen(batch_norm=False)
    batches = [tiny.batch(seed) for seed in range(3)]
    _step(method, *batches)
    squares = np.square([_by_hand(twin, batch) for batch in batches])
    np.testing.assert_allclose(method.gradient_norms(method.optimized_variables), np.sqrt(squares.mean(axis=0)), 1e-4)
    assert squares.std(axis=0).max() > 0.01 * squares.max()


def test_each_epoch_counts_anew_and_variables_are_found_in_any_order():
    method, twin = _frozen(batch_norm=False)
    _step(method, tiny.batch())
    method.reset_metrics()
    variables = method.optimized_variables
    assert method.gradient_norms(variables).tolist() == [0.0] * len(variables)
    _step(method, tiny.batch(1))
    expected = _by_hand(twin, tiny.batch(1))
    np.testing.assert_allclose(method.gradient_norms(variables[::-2]), expected[::-2], rtol=1e-4, atol=1e-6)


def test_clipping_comes_after():
    free, clipped = _frozen(batch_norm=False, gradient_clip=1e-3)
    free.gradient_clip = None
    for method in (free, clipped):
        _step(method, tiny.batch())
    variables = [method.optimized_variables for method in (free, clipped)]
    np.testing.assert_allclose(clipped.gradient_norms(variables[1]), free.gradient_norms(variables[0]), rtol=1e-6)


def test_accumulated_gradients_count_as_the_one_that_is_applied():
    method, twin = _frozen(batch_norm=False, accumulate=4)
    _step(method, tiny.batch())
    expected = _by_hand(twin, tiny.batch())
    np.testing.assert_allclose(method.gradient_norms(method.optimized_variables), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("scale", "finite"), [(128.0, True), (2.0**30, False)])
def test_scaled_losses_leave_no_trace_and_what_overflows_is_left_out(scale, finite):
    tf.keras.mixed_precision.set_global_policy("mixed_float16")
    optimizer = tf.keras.mixed_precision.LossScaleOptimizer(SGD(0.0), initial_scale=scale, dynamic=not finite)
    method = tiny.bssl(optimizer=optimizer)
    _step(method, tiny.batch())
    norms = method.gradient_norms(method.optimized_variables)
    assert np.isfinite(norms).all()
    assert (norms.max() > 1e-3) == finite
    if finite:
        np.testing.assert_allclose(norms, _by_hand(method, tiny.batch()), rtol=0.1, atol=0.02)


def test_two_replicas_have_the_norms_of_one():
    single = tiny.bssl(synchronized=True)
    with two_replicas().scope():
        mirrored = tiny.bssl(synchronized=True)
        for name, network in single.networks.items():
            copy_weights(network, mirrored.networks[name])
    batches = [tiny.batch(seed) for seed in range(2)]
    _step(single, *batches)
    data = tf.data.Dataset.from_tensor_slices({key: tf.concat([one[key] for one in batches], 0) for key in batches[0]})
    mirrored.fit(data.batch(8, drop_remainder=True), epochs=1, steps_per_epoch=2, verbose=0)
    norms = [method.gradient_norms(method.optimized_variables) for method in (single, mirrored)]
    np.testing.assert_allclose(norms[1], norms[0], rtol=1e-3, atol=1e-6)


def test_a_variable_that_is_not_optimised_is_refused():
    method = tiny.bssl()
    stranger = method.networks["teacher"].trainable_variables[0]
    with pytest.raises(ValueError, match="`variables` must be optimised, .* is not"):
        method.gradient_norms([stranger])


MAKERS = {
    **{name: getattr(tiny, name) for name in ("byol", "dino", "infomin", "moco", "moco_star", "msbreg", "simclr")},
    **{name: getattr(tiny, name) for name in ("distill", "supervised", "swav")},
    "infomin_jigsaw": lambda: tiny.infomin(jigsaw=True),
    "s2bnn": lambda: tiny.s2bnn("contrastive_guided"),
}


@pytest.mark.parametrize("name", MAKERS)
def test_each_network_that_learns_counts_in_one_group(name):
    """But for a probe, which teaches none of them anything."""
    method = MAKERS[name]()
    grouped = [network for members in method.gradient_groups.values() for network in members]
    assert len(set(grouped)) == len(grouped)
    assert set(grouped) & set(method.networks) == set(method.optimized)

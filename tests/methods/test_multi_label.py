"""Training with a sigmoid per class: one step against the algorithm typed again, and a student that is frozen."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.methods import MultiLabel
from larq_ssl.models.transfer import copy_weights
from larq_ssl.optimizers import SGD
from tests.methods import tiny


def twins(**arguments):
    """Two methods of the same weights."""
    first, second = tiny.multi_label(**arguments), tiny.multi_label(**arguments)
    for name, network in first.networks.items():
        copy_weights(network, second.networks[name])
    return first, second


@pytest.mark.parametrize("head", [True, False])
def test_a_step_is_that_of_the_algorithm(head):
    method, copy = twins(head=head, optimizer=SGD(0.5, momentum=0.0))
    batch = tiny.several_batch()
    present = batch["targets"].numpy()
    assert {*present.flat} == {-1, 0, 1}
    variables = copy.optimized_variables
    with tf.GradientTape() as tape:
        features = copy.networks["student"](batch["global"][:, 0], training=True)
        outputs = copy.networks["student_head"](features, training=True) if head else features
        shares = tf.sigmoid(copy.networks["classifier"](outputs))
        losses = []
        for image in range(len(present)):
            right = [
                shares[image, c] if present[image, c] else 1 - shares[image, c]
                for c in range(4)
                if present[image, c] >= 0
            ]
            losses.append(-tf.reduce_mean(tf.math.log(tf.stack(right))))
        loss = tf.reduce_mean(losses)
    for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
        variable.assign_sub(0.5 * gradient)
    (terms,) = tiny.trained(method, [batch])
    assert terms["loss"] == pytest.approx(float(loss), rel=1e-5)
    for name, network in copy.networks.items():
        tiny.assert_close(tiny.parameters(method.networks[name]), tiny.parameters(network), 1e-5)
        tiny.assert_close(tiny.statistics(method.networks[name]), tiny.statistics(network), 1e-6)


def test_everything_learns():
    method = tiny.multi_label()
    before = {name: tiny.parameters(network) for name, network in method.networks.items()}
    tiny.trained(method, [tiny.several_batch(seed) for seed in range(3)])
    for name, network in method.networks.items():
        tiny.assert_all_differ(tiny.parameters(network), before[name])
    assert method.variables_without_gradient() == []


def test_a_frozen_student_stays_as_it_is_to_the_bit():
    method = tiny.multi_label(head=False, train_student=False, optimizer=SGD(0.5, weight_decay=0.1))
    student, classifier = method.networks["student"], method.networks["classifier"]
    weights, statistics, before = tiny.parameters(student), tiny.statistics(student), tiny.parameters(classifier)
    tiny.trained(method, [tiny.several_batch(seed) for seed in range(3)])
    tiny.assert_identical(tiny.parameters(student), weights)
    tiny.assert_identical(tiny.statistics(student), statistics)
    tiny.assert_all_differ(tiny.parameters(classifier), before)


def test_labels_are_not_looked_at():
    method, batch = tiny.multi_label(), tiny.several_batch()
    loss = method.loss_terms(batch)["loss"].numpy()
    others = {**batch, "label": tf.constant(np.arange(8) % 4, tf.int64)}
    np.testing.assert_array_equal(method.loss_terms(others)["loss"].numpy(), loss)


def test_flags_of_the_classifier_are_those_of_supervised_training():
    plain, decayed = twins(batch_norm=False), tiny.multi_label(batch_norm=False, classifier_decay=0.3)
    for name, network in plain[0].networks.items():
        copy_weights(network, decayed.networks[name])
    batch = tiny.several_batch()
    kernel = decayed.networks["classifier"].layers[0].kernel.numpy()
    difference = decayed.loss_terms(batch)["loss"] - plain[0].loss_terms(batch)["loss"]
    np.testing.assert_allclose(difference, np.full(8, 0.15 * np.sum(kernel**2)), rtol=1e-4)
    with pytest.raises(ValueError, match="classifier_rate must be above 0, got 0"):
        tiny.multi_label(classifier_rate=0.0)
    assert isinstance(decayed, MultiLabel)

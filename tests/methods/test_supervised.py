"""Supervised training: one step against the algorithm typed again, labels that are missing, rates of their own."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import models
from larq_ssl.heads import first_layers, linear_classifier, simclr_head
from larq_ssl.methods.penalty import kernel_penalty
from larq_ssl.methods.supervised import Supervised
from larq_ssl.models.transfer import copy_weights
from larq_ssl.optimizers import SGD, build_optimizer
from larq_ssl.roles import Role
from tests import golden
from tests.methods import tiny


def twins(**arguments):
    """Two methods of the same weights."""
    first, second = tiny.supervised(**arguments), tiny.supervised(**arguments)
    for name, network in first.networks.items():
        copy_weights(network, second.networks[name])
    return first, second


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("head", [True, False])
def test_a_step_is_that_of_the_algorithm(head, smoothing):
    method, copy = twins(head=head, label_smoothing=smoothing, optimizer=SGD(0.5, momentum=0.0))
    batch = tiny.one_view_batch()
    variables = copy.optimized_variables
    with tf.GradientTape() as tape:
        features = copy.networks["student"](batch["global"][:, 0], training=True)
        outputs = copy.networks["student_head"](features, training=True) if head else features
        logits = copy.networks["classifier"](outputs)
        one_hot = tf.one_hot(batch["label"], 4)
        loss = tf.reduce_mean(
            tf.keras.losses.categorical_crossentropy(one_hot, logits, from_logits=True, label_smoothing=smoothing)
        )
    for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
        variable.assign_sub(0.5 * gradient)
    (terms,) = tiny.trained(method, [batch])
    assert terms["loss"] == pytest.approx(float(loss), rel=1e-5)
    accuracy = np.mean(np.argmax(logits, axis=1) == batch["label"].numpy())
    assert terms["accuracy"] == pytest.approx(accuracy)
    for name, network in copy.networks.items():
        tiny.assert_close(tiny.parameters(method.networks[name]), tiny.parameters(network), 1e-6)
        tiny.assert_close(tiny.statistics(method.networks[name]), tiny.statistics(network), 1e-6)


@pytest.mark.parametrize("head", [True, False])
def test_everything_learns(head):
    method = tiny.supervised(head=head)
    before = {name: tiny.parameters(network) for name, network in method.networks.items()}
    tiny.trained(method, [tiny.one_view_batch(seed) for seed in range(3)])
    assert set(method.networks) == {"student", "classifier", *(["student_head"] if head else [])}
    assert set(method.heads) == set(method.networks) - {"student"}
    for name, network in method.networks.items():
        tiny.assert_all_differ(tiny.parameters(network), before[name])
    assert method.variables_without_gradient() == []


@pytest.mark.parametrize("head", [True, False])
def test_a_frozen_student_stays_as_it_is_to_the_bit(head):
    method = tiny.supervised(head=head, train_student=False, optimizer=SGD(0.5, weight_decay=0.1))
    student = method.networks["student"]
    weights, statistics = tiny.parameters(student), tiny.statistics(student)
    others = {name: tiny.parameters(network) for name, network in method.networks.items() if name != "student"}
    tiny.trained(method, [tiny.one_view_batch(seed) for seed in range(3)])
    assert statistics
    tiny.assert_identical(tiny.parameters(student), weights)
    tiny.assert_identical(tiny.statistics(student), statistics)
    for name, arrays in others.items():
        tiny.assert_all_differ(tiny.parameters(method.networks[name]), arrays)
    assert "student" not in method.optimized
    assert method.encoders["student"] is student


def test_a_frozen_student_is_seen_in_inference_mode():
    method, copy = twins(head=False, train_student=False)
    batch = tiny.one_view_batch()
    logits = copy.networks["classifier"](copy.networks["student"](batch["global"][:, 0], training=False))
    expected = tf.keras.losses.sparse_categorical_crossentropy(batch["label"], logits, from_logits=True)
    np.testing.assert_allclose(method.loss_terms(batch)["loss"], expected, rtol=1e-5)


def test_a_classifier_of_zeros_wakes_the_network_within_three_steps():
    method = Supervised(tiny.encoder("student"), linear_classifier("classifier", 6, 4, "zeros"))
    method.compile(SGD(0.5))
    (first,) = tiny.trained(method, [tiny.one_view_batch()])
    assert first["loss"] == pytest.approx(np.log(4), rel=1e-6)
    assert first["gradient_norm/feature_extractor"] == 0
    assert first["gradient_norm/classifier"] > 0
    tiny.trained(method, [tiny.one_view_batch(seed) for seed in (1, 2)])
    assert method.variables_without_gradient() == []


def test_images_without_label_teach_nothing():
    # Without BatchNorm no image knows of another.
    method, copy = twins(batch_norm=False, optimizer=SGD(0.5, momentum=0.0))
    batch = tiny.one_view_batch(unlabelled=[1, 4, 5])
    pixels = batch["global"].numpy()
    pixels[[1, 4, 5]] = 255 - pixels[[1, 4, 5]]
    others = {**batch, "global": tf.constant(pixels)}
    terms, of_others = tiny.trained(method, [batch])[0], tiny.trained(copy, [others])[0]
    for name in ("loss", "accuracy"):
        assert terms[name] == pytest.approx(of_others[name], rel=1e-6)
    for name, network in method.networks.items():
        tiny.assert_close(tiny.parameters(copy.networks[name]), tiny.parameters(network), 1e-6)
    labelled = method.loss_terms(batch)["loss"].numpy()
    assert np.flatnonzero(labelled == 0).tolist() == [1, 4, 5]


def test_a_batch_without_labels_does_not_count_for_the_accuracy():
    method = tiny.supervised(optimizer=SGD(0.0))
    batches = [tiny.one_view_batch(), tiny.one_view_batch(1, unlabelled=range(8)), tiny.one_view_batch(2, 8, [0, 1])]
    each = [terms["accuracy"] for terms in tiny.trained(method, batches)]
    method.reset_metrics()
    for one in batches:
        together = method.train_step(one)
    assert float(together["accuracy"]) == pytest.approx((each[0] + each[2]) / 2)
    assert each[1] == 0


def test_the_first_of_several_views_is_used():
    method = tiny.supervised(batch_norm=False)
    batch = {**tiny.one_view_batch(), "global": tiny.batch(views=3)["global"]}
    first = {**batch, "global": batch["global"][:, :1]}
    np.testing.assert_allclose(method.loss_terms(batch)["loss"], method.loss_terms(first)["loss"], rtol=1e-6)


def test_classes_are_told_in_inference_mode():
    method = tiny.supervised()
    tiny.trained(method, [tiny.one_view_batch()])
    before = {name: tiny.statistics(network) for name, network in method.networks.items()}
    images = tiny.batch()["global"][:, 0]
    logits = method.classify(images)
    assert logits.shape == (8, 4)
    # Whatever else is in the batch.
    np.testing.assert_allclose(method.classify(images[:3]), logits[:3], rtol=1e-4, atol=1e-5)
    for name, network in method.networks.items():
        tiny.assert_identical(tiny.statistics(network), before[name])


@pytest.mark.parametrize("rate", [7.0, 0.5])
def test_the_classifier_may_learn_at_another_rate(rate):
    copy, method = tiny.supervised(), tiny.supervised(classifier_rate=rate, optimizer=SGD(0.1, momentum=0.0))
    for name, network in copy.networks.items():
        copy_weights(network, method.networks[name])
    copy.compile(SGD(0.1, momentum=0.0))
    before = {name: tiny.parameters(network) for name, network in copy.networks.items()}
    for one in (method, copy):
        tiny.trained(one, [tiny.one_view_batch()])
    for name, network in copy.networks.items():
        factor = rate if name == "classifier" else 1.0
        plain, ours = tiny.parameters(network), tiny.parameters(method.networks[name])
        for key, start in before[name].items():
            np.testing.assert_allclose(ours[key] - start, factor * (plain[key] - start), atol=1e-5)


def test_decay_of_the_classifier_is_that_of_simclr():
    arrays = golden.load("s6_simclr")
    kernel, decay = arrays["lars_sup_kernel_w0"], float(arrays["lars_weight_decay"])
    classifier = linear_classifier("classifier", *kernel.shape)
    classifier.layers[0].kernel.assign(kernel)
    student = tiny.encoder("student", kernel.shape[0])
    losses = []
    for classifier_decay in (0.0, decay):
        method = Supervised(student, classifier, classifier_decay=classifier_decay)
        losses.append(method.loss_terms(tiny.one_view_batch(classes=kernel.shape[1]))["loss"].numpy())
    np.testing.assert_allclose(losses[1], losses[0] + arrays["lars_head_l2_loss"], rtol=1e-5)
    np.testing.assert_allclose(kernel_penalty(classifier, decay), arrays["lars_head_l2_loss"], rtol=1e-5)
    assert float(kernel_penalty(classifier, 0.0)) == 0


def test_with_the_lars_of_simclr_the_classifier_is_decayed_by_the_loss_alone():
    def moved(classifier_decay):
        tf.keras.utils.set_random_seed(0)
        method = tiny.supervised(optimizer=build_optimizer("lars_simclr", 0.1, 0.3), classifier_decay=classifier_decay)
        kernel = method.networks["classifier"].layers[0].kernel
        start = kernel.numpy()
        tiny.trained(method, [tiny.one_view_batch()])
        return start, kernel.numpy()

    start, plain = moved(0.0)
    _, decayed = moved(0.3)
    np.testing.assert_allclose(decayed - plain, -0.1 * 0.3 * start, atol=1e-5)


def test_parts_of_a_batch_add_up_to_the_whole():
    whole, copy = twins(batch_norm=False, classifier_decay=0.1)
    parts = tiny.supervised(batch_norm=False, classifier_decay=0.1, accumulate=4)
    for name, network in copy.networks.items():
        copy_weights(network, parts.networks[name])
    batch = tiny.one_view_batch(unlabelled=[2, 3, 7])
    terms, of_parts = tiny.trained(whole, [batch])[0], tiny.trained(parts, [batch])[0]
    assert of_parts["loss"] == pytest.approx(terms["loss"], rel=1e-5)
    for name, network in whole.networks.items():
        tiny.assert_close(tiny.parameters(parts.networks[name]), tiny.parameters(network), 1e-5)


def test_fine_tuning_goes_on_from_the_layers_of_a_head():
    head = simclr_head("head", 6)
    kept = first_layers(head, 1, "student_head")
    method = Supervised(tiny.encoder("student"), linear_classifier("classifier", 6, 4, "zeros"), kept)
    method.compile(build_optimizer("lars_simclr", 0.05, 0.0))
    assert [role for _, role in method._optimized_roles()][-2:] == [Role.LAST_LAYER, Role.BIAS]
    before = head.get_layer("dense1").kernel.numpy()
    tiny.trained(method, [tiny.one_view_batch(seed) for seed in range(3)])
    np.testing.assert_array_equal(head.get_layer("dense1").kernel, before)
    assert not np.array_equal(kept.get_layer("dense1").kernel, before)


@pytest.mark.parametrize("binarization", ["activations", "full"])
def test_binary_networks_learn_everywhere(binarization):
    student = models.build("reactnet_18", None, binarization, "cifar", 0.125)
    method = Supervised(student, linear_classifier("classifier", student.feature_dim, 4, "zeros"))
    method.compile(SGD(0.1))
    tiny.trained(method, [tiny.one_view_batch(seed, 4, image=(16, 16, 3)) for seed in range(3)])
    assert method.variables_without_gradient() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"label_smoothing": 1.0}, "smoothing .* got 1.0"),
        ({"classifier_rate": 0.0}, "classifier_rate must be above 0, got 0.0"),
        ({"classifier_decay": -0.1}, "classifier_decay must be at least 0, got -0.1"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny.supervised(**arguments)


def test_networks_that_do_not_fit_together_are_refused():
    with pytest.raises(ValueError, match="classifier takes vectors of length 5, and student gives some of length 6"):
        Supervised(tiny.encoder("student", 6), linear_classifier("classifier", 5, 4))

"""Distillation: one step against the algorithm typed again, the teacher frozen, labels where there are some."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import models
from larq_ssl.heads import linear_classifier
from larq_ssl.methods.distill import Distill
from larq_ssl.models.transfer import copy_weights
from larq_ssl.optimizers import SGD
from tests import golden
from tests.comparing import assert_near
from tests.methods import tiny

TEACHER = ("teacher", "teacher_head", "teacher_classifier")
OURS = ("student", "classifier")


def twins(**arguments):
    """Two methods of the same weights."""
    first, second = tiny.distill(**arguments), tiny.distill(**arguments)
    for name, network in first.networks.items():
        copy_weights(network, second.networks[name])
    return first, second


def logits_of_teacher(method, batch):
    outputs = batch["global"][:, 0]
    for name in TEACHER:
        outputs = method.networks[name](outputs, training=False)
    return outputs.numpy()


def log_softmax(rows):
    return rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_a_step_is_that_of_the_algorithm(alpha):
    method, copy = twins(alpha=alpha, temperature=0.5, optimizer=SGD(0.5, momentum=0.0))
    batch = tiny.one_view_batch(unlabelled=[0, 5])
    target = tf.nn.softmax(logits_of_teacher(copy, batch) / 0.5)
    known = batch["label"].numpy() >= 0
    variables = copy.optimized_variables
    with tf.GradientTape() as tape:
        features = copy.networks["student"](batch["global"][:, 0], training=True)
        logits = copy.networks["classifier"](features)
        soft = -tf.reduce_sum(target * tf.nn.log_softmax(logits / 0.5), axis=1)
        hard = -tf.reduce_sum(tf.one_hot(batch["label"], 4) * tf.nn.log_softmax(logits), axis=1)
        loss = tf.reduce_mean((1 - alpha) * hard + alpha * soft)
    for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
        variable.assign_sub(0.5 * gradient)
    (terms,) = tiny.trained(method, [batch])
    assert terms["loss"] == pytest.approx(float(loss), rel=1e-5)
    entropy = -np.mean(np.sum(target * np.log(target), axis=1))
    assert terms["target_entropy"] == pytest.approx(entropy, rel=1e-4)
    assert terms["distillation_kl"] == pytest.approx(np.mean(soft) - entropy, rel=1e-3)
    predicted = np.argmax(logits, axis=1)
    assert terms["agreement"] == pytest.approx(np.mean(predicted == np.argmax(target, axis=1)))
    assert terms["accuracy"] == pytest.approx(np.mean((predicted == batch["label"].numpy())[known]))
    assert ("supervised" in terms) == (alpha < 1)
    if alpha < 1:
        assert terms["supervised"] == pytest.approx(np.mean(hard.numpy()[known]), rel=1e-5)
    for name in OURS:
        tiny.assert_close(tiny.parameters(method.networks[name]), tiny.parameters(copy.networks[name]), 1e-6)


@pytest.mark.parametrize("alpha", [1.0, 0.5])
@pytest.mark.parametrize("in_graph", [False, True])
def test_the_student_learns_and_nothing_of_the_teacher_moves(alpha, in_graph):
    method = tiny.distill(alpha=alpha, head=True, optimizer=SGD(0.1, weight_decay=0.1))
    moving = ("student", "student_head", "classifier")
    before = {name: tiny.parameters(network) for name, network in method.networks.items()}
    statistics = {name: tiny.statistics(method.networks[name]) for name in TEACHER}
    tiny.trained(method, [tiny.one_view_batch(seed, unlabelled=[seed]) for seed in range(3)], in_graph)
    assert method.optimized == moving
    assert method.variables_without_gradient() == []
    for name in moving:
        tiny.assert_all_differ(tiny.parameters(method.networks[name]), before[name])
    assert statistics["teacher"]
    for name in TEACHER:
        tiny.assert_identical(tiny.parameters(method.networks[name]), before[name])
        tiny.assert_identical(tiny.statistics(method.networks[name]), statistics[name])
    assert set(method.heads) == {"student_head", "classifier"}
    assert set(method.encoders) == {"student"}


def test_is_the_loss_of_simclr():
    """Teacher and student that hand on golden logits."""
    arrays = golden.load("s6_simclr")
    classes = arrays["kd_student_logits"].shape[1]

    def half(name, first):
        inputs = tf.keras.Input([2 * classes])
        return tf.keras.Model(inputs, inputs[:, :classes] if first else inputs[:, classes:], name=name)

    identity = linear_classifier("classifier", classes, classes, "zeros")
    identity.layers[0].kernel.assign(np.eye(classes))
    rows = np.concatenate([arrays["kd_teacher_logits"], arrays["kd_student_logits"]], axis=1)
    batch = {"global": tf.constant(rows[:, None]), "label": tf.constant(arrays["kd_labels"])}
    alpha = float(arrays["kd_eq3_alpha"])
    networks = (half("student", False), identity, half("teacher", True))
    for key in (key for key in arrays if key.startswith("kd_eq3_t")):
        method = Distill(*networks, temperature=float(key.split("_")[2][1:]), alpha=alpha)
        assert_near(np.mean(method.loss_terms(batch)["loss"]), arrays[key])
    method = Distill(*networks, alpha=alpha)
    assert_near(np.mean(method.loss_terms(batch)["supervised"]), arrays["kd_supervised_mean"])


def test_with_the_teacher_alone_labels_change_nothing():
    method, copy = twins()
    batch = tiny.one_view_batch()
    tiny.trained(method, [batch])
    tiny.trained(copy, [{**batch, "label": tf.fill([8], tf.constant(-1, tf.int64))}])
    for name in OURS:
        tiny.assert_identical(tiny.parameters(copy.networks[name]), tiny.parameters(method.networks[name]))


def test_the_classifier_is_decayed_by_the_loss():
    plain, decayed = tiny.distill(), tiny.distill(classifier_decay=0.3)
    for name, network in plain.networks.items():
        copy_weights(network, decayed.networks[name])
    losses = [method.loss_terms(tiny.one_view_batch())["loss"] for method in (plain, decayed)]
    kernel = plain.networks["classifier"].layers[0].kernel.numpy()
    np.testing.assert_allclose(losses[1] - losses[0], np.full(8, 0.3 * np.sum(kernel**2) / 2), rtol=1e-4)


def test_images_without_label_carry_no_supervised_gradient():
    steps = []
    for labels in ([2, -1, -1, -1, -1, -1, -1, -1], [2, 1, 0, 3, -1, -1, -1, -1]):
        tf.keras.utils.set_random_seed(0)
        method = tiny.distill(batch_norm=False, alpha=0.5, optimizer=SGD(1.0, momentum=0.0))
        start = tiny.parameters(method.networks["classifier"])
        tiny.trained(method, [{**tiny.one_view_batch(), "label": tf.constant(labels, tf.int64)}])
        after = tiny.parameters(method.networks["classifier"])
        steps.append({key: after[key] - start[key] for key in start})
    few, more = steps
    # What three labels add to the step of the classifier's bias is theirs alone: the residuals of their images.
    tf.keras.utils.set_random_seed(0)
    method = tiny.distill(batch_norm=False)
    logits = method.classify(tiny.one_view_batch()["global"][:, 0]).numpy()
    residuals = np.exp(log_softmax(logits))[1:4] - np.eye(4)[[1, 0, 3]]
    np.testing.assert_allclose(more["dense1/bias"] - few["dense1/bias"], -0.5 * residuals.sum(axis=0) / 8, atol=1e-5)


@pytest.mark.parametrize("keep_teacher", [True, False])
def test_targets_of_a_batch_take_the_place_of_the_teacher(keep_teacher):
    method, copy = twins(alpha=0.5, temperature=0.5)
    if not keep_teacher:
        bare = tiny.distill(alpha=0.5, temperature=0.5, teacher=False)
        for name in OURS:
            copy_weights(copy.networks[name], bare.networks[name])
        copy = bare
        assert set(copy.networks) == set(OURS)
    batches = [tiny.one_view_batch(seed) for seed in range(2)]
    cached = [{**one, "targets": tf.constant(logits_of_teacher(method, one))} for one in batches]
    if keep_teacher:
        copy.networks["teacher"].layers[-1].kernel.assign_add(tf.ones_like(copy.networks["teacher"].layers[-1].kernel))
    for ours, theirs in zip(tiny.trained(method, batches), tiny.trained(copy, cached), strict=True):
        for name, value in ours.items():
            assert theirs[name] == pytest.approx(value, rel=1e-5, abs=1e-6), name
    for name in OURS:
        tiny.assert_close(tiny.parameters(copy.networks[name]), tiny.parameters(method.networks[name]), 1e-6)


def test_without_teacher_and_targets_nothing_can_be_learned():
    method = tiny.distill(teacher=False)
    with pytest.raises(ValueError, match="A batch must have `targets`"):
        method.loss_terms(tiny.one_view_batch())


def test_a_network_of_logits_is_a_whole_teacher():
    teacher = models.build("resnet_18", None, "none", "cifar", 0.125, classes=4)
    student = models.build("reactnet_18", None, "full", "cifar", 0.125)
    method = Distill(student, linear_classifier("classifier", student.feature_dim, 4), teacher)
    method.compile(SGD(0.1))
    before = tiny.parameters(teacher)
    batches = [tiny.one_view_batch(seed, 4, image=(16, 16, 3)) for seed in range(3)]
    history = tiny.trained(method, batches)
    assert np.isfinite(list(history[-1].values())).all()
    assert method.variables_without_gradient() == []
    tiny.assert_identical(tiny.parameters(teacher), before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0.0}, "temperature must be above 0, got 0.0"),
        ({"alpha": 0.0}, "alpha must be above 0 where there is a teacher"),
        ({"alpha": 1.5}, "alpha must be at least 0 and at most 1, got 1.5"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny.distill(**arguments)


def test_teachers_that_do_not_fit_are_refused():
    student, classifier = tiny.encoder("student", 6), linear_classifier("classifier", 6, 4)
    teacher, other = tiny.encoder("teacher", 7), linear_classifier("teacher_classifier", 7, 5)
    with pytest.raises(ValueError, match="The teacher tells 5 classes apart and the classifier 4"):
        Distill(student, classifier, teacher, other)
    with pytest.raises(ValueError, match="teacher_classifier takes vectors of length 6, and teacher gives some of len"):
        Distill(student, classifier, teacher, linear_classifier("teacher_classifier", 6, 4))
    with pytest.raises(ValueError, match="teacher_classifier is given without a teacher"):
        Distill(student, classifier, teacher_classifier=other)

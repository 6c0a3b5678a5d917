"""Eq. 2 and 3 of SimCLRv2 against arrays of its authors' notebook, and against the losses that they are made of."""

import re

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.losses import (
    KnowledgeDistillation,
    distillation_cross_entropy,
    joint_classifier_kl,
    knowledge_distillation,
    label_cross_entropy,
)
from tests import golden
from tests.comparing import assert_near
from tests.losses.gradients import value_and_gradients

KEY = re.compile(r"kd_t(.+)_eq2_mean")


@pytest.fixture(scope="module")
def arrays():
    return golden.load("s6_simclr")


@pytest.fixture(scope="module")
def logits(arrays):
    return arrays["kd_teacher_logits"], arrays["kd_student_logits"]


def temperatures(arrays):
    found = [match[1] for match in map(KEY.fullmatch, arrays) if match]
    assert found
    return found


def test_equation_2_is_the_official_loss_without_the_square_of_the_temperature(arrays, logits):
    for text in temperatures(arrays):
        tau = float(text)
        value, (_, gradient) = value_and_gradients(
            lambda t, s, tau=tau: tf.reduce_mean(knowledge_distillation(t, s, temperature=tau)), *logits
        )
        assert_near(value, arrays[f"kd_t{text}_eq2_mean"], what=text)
        assert_near(gradient, arrays[f"kd_t{text}_eq2_mean_grad"], what=text)
        assert_near(tau**2 * value, arrays[f"kd_t{text}_colab_loss"], what=text)
        assert_near(tau**2 * gradient, arrays[f"kd_t{text}_colab_grad"], what=text)
        total = tf.reduce_sum(knowledge_distillation(*logits, temperature=tau))
        assert_near(total, arrays[f"kd_t{text}_eq2_sum"], what=text)


def test_equation_3_is_the_official_one(arrays, logits):
    found = [key for key in arrays if re.fullmatch(r"kd_eq3_t.+_mean", key)]
    assert found
    for key in found:
        loss = knowledge_distillation(
            *logits,
            arrays["kd_labels"],
            temperature=float(key.split("_")[2][1:]),
            alpha=float(arrays["kd_eq3_alpha"]),
        )
        assert_near(np.mean(loss), arrays[key])


def test_one_number_per_image_in_float32(logits):
    loss = knowledge_distillation(*(rows.astype(np.float16) for rows in logits))
    assert loss.shape == logits[0].shape[:1]
    assert loss.dtype == tf.float32


def test_no_gradient_flows_into_the_teacher(arrays, logits):
    for alpha in (0.3, 1.0):
        _, (of_teacher, of_student) = value_and_gradients(
            lambda t, s, alpha=alpha: tf.reduce_sum(knowledge_distillation(t, s, arrays["kd_labels"], 0.5, alpha)),
            *logits,
        )
        assert of_teacher is None
        assert np.abs(of_student).max() > 0.01


def test_images_without_label_have_the_soft_term_alone(arrays, logits):
    labels = np.where(np.arange(len(arrays["kd_labels"])) % 2, -1, arrays["kd_labels"])
    hidden = labels < 0
    soft, hard = distillation_cross_entropy(*logits, 0.5), label_cross_entropy(arrays["kd_labels"], logits[1])
    loss = knowledge_distillation(*logits, labels, 0.5, alpha=0.4)
    np.testing.assert_allclose(loss[hidden], 0.4 * soft[hidden], rtol=1e-5)
    np.testing.assert_allclose(loss[~hidden], (0.6 * hard + 0.4 * soft)[~hidden], rtol=1e-5)

    def gradient(of_labels, alpha):
        return value_and_gradients(
            lambda s: tf.reduce_sum(knowledge_distillation(logits[0], s, of_labels, 0.5, alpha)), logits[1]
        )[1][0]

    np.testing.assert_allclose(gradient(labels, 0.4)[hidden], 0.4 * gradient(None, 1.0)[hidden], rtol=1e-4, atol=1e-6)


def test_with_alpha_1_labels_are_not_looked_at(logits):
    nonsense = np.full(len(logits[0]), 10**6)
    np.testing.assert_array_equal(knowledge_distillation(*logits, nonsense), knowledge_distillation(*logits))


def test_gradients_are_those_of_the_divergence(logits):
    functions = (
        lambda s: tf.reduce_sum(knowledge_distillation(logits[0], s, temperature=0.7)),
        lambda s: tf.reduce_sum(joint_classifier_kl(logits[0], s, 0.7)),
    )
    ours, theirs = (value_and_gradients(function, logits[1])[1][0] for function in functions)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_order_of_the_classes_does_not_count(arrays, logits):
    order = np.random.default_rng(0).permutation(logits[0].shape[1])
    labels = np.argsort(order)[arrays["kd_labels"]]
    permuted = knowledge_distillation(logits[0][:, order], logits[1][:, order], labels, 0.5, 0.3)
    np.testing.assert_allclose(permuted, knowledge_distillation(*logits, arrays["kd_labels"], 0.5, 0.3), rtol=1e-5)


def test_keras_loss_is_the_mean_with_teacher_and_labels_as_truth(arrays, logits):
    truth = (logits[0], arrays["kd_labels"])
    expected = np.mean(knowledge_distillation(*logits, arrays["kd_labels"], 0.5, 0.3))
    np.testing.assert_allclose(KnowledgeDistillation(0.5, 0.3)(truth, logits[1]), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0.0}, "temperature .* 0.0"),
        ({"alpha": 1.1}, "alpha must be at least 0 and at most 1, got 1.1"),
        ({"alpha": 0.5}, "labels must be given with alpha below 1, got None and 0.5"),
        ({"student_logits": np.zeros((2, 3), np.float32)}, "teacher_logits and student_logits must have one shape"),
    ],
)
def test_mistakes_are_named(arguments, message, logits):
    with pytest.raises(ValueError, match=message):
        knowledge_distillation(**{"teacher_logits": logits[0], "student_logits": logits[1], **arguments})


def test_keras_loss_refuses_numbers_at_once():
    with pytest.raises(ValueError, match="alpha .* -1"):
        KnowledgeDistillation(alpha=-1)
    with pytest.raises(ValueError, match="temperature .* -1"):
        KnowledgeDistillation(-1)

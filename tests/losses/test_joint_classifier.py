"""The joint classifier's divergence."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.losses import JointClassifierKL, joint_classifier_kl
from tests import golden
from tests.losses.gradients import central_differences, value_and_gradients


def _logits(seed=0, shape=(6, 9)):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(np.float32) for _ in range(2)]


def _plain(teacher, student, temperature):
    """The definition, one class at a time, in float64."""
    losses = []
    for t_row, s_row in zip(teacher.astype(np.float64), student.astype(np.float64), strict=True):
        p, q = (np.exp(row / temperature) / np.sum(np.exp(row / temperature)) for row in (t_row, s_row))
        losses.append(sum(p[c] * np.log(p[c] / q[c]) for c in range(len(p))))
    return losses


@pytest.mark.parametrize("temperature", [0.2, 1.0, 3.0])
def test_value_is_the_definition(temperature):
    teacher, student = _logits()
    loss = joint_classifier_kl(teacher, student, temperature)
    assert loss.shape == (6,)
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(loss, _plain(teacher, student, temperature), rtol=2e-5)


def test_equals_the_official_loss_where_only_the_divergence_counts():
    arrays = golden.load("l4_losses")
    index = int(np.flatnonzero(arrays["burn/lambda_c"] == 1)[0])
    student, teacher = arrays["burn/student"], arrays["burn/teacher"]
    loss, (_, gradient) = value_and_gradients(lambda t, s: tf.reduce_mean(joint_classifier_kl(t, s)), teacher, student)
    np.testing.assert_allclose(loss, arrays["burn/kl_fs/loss"][index], atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(gradient, arrays["burn/kl_fs/d_student"][index], atol=1e-5)


def test_gradient_reaches_teacher_and_student():
    teacher, student = _logits(1, (3, 4))
    _, gradients = value_and_gradients(lambda t, s: tf.reduce_sum(joint_classifier_kl(t, s)), teacher, student)
    references = central_differences(lambda t, s: np.sum(_plain(t, s, 0.2)), teacher, student)
    for gradient, reference in zip(gradients, references, strict=True):
        assert np.abs(reference).max() > 0.1
        np.testing.assert_allclose(gradient, reference, rtol=1e-3, atol=1e-4)


def test_only_differences_of_logits_count():
    teacher, student = _logits()
    loss = joint_classifier_kl(teacher, student)
    np.testing.assert_allclose(joint_classifier_kl(teacher + 5, student - 3), loss, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(joint_classifier_kl(student, student), np.zeros(6), atol=1e-6)
    assert np.all(loss.numpy() > 0)


def test_is_not_symmetric():
    teacher, student = _logits()
    assert np.abs(joint_classifier_kl(teacher, student) - joint_classifier_kl(student, teacher)).max() > 1e-2


@pytest.mark.parametrize("scale", [1e3, 1e6, 1e20])
def test_large_logits_are_finite(scale):
    teacher, student = _logits()
    loss, gradients = value_and_gradients(
        lambda t, s: tf.reduce_sum(joint_classifier_kl(t, s)), scale * teacher, scale * student
    )
    assert np.isfinite(loss)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_is_computed_in_float32(dtype):
    teacher, student = (tf.cast(logits, dtype) for logits in _logits())
    loss = joint_classifier_kl(teacher, student)
    assert loss.dtype == tf.float32
    expected = joint_classifier_kl(tf.cast(teacher, tf.float32), tf.cast(student, tf.float32))
    np.testing.assert_array_equal(loss, expected)


def test_keras_loss_is_the_mean_with_the_teacher_as_truth():
    teacher, student = _logits()
    loss = JointClassifierKL(0.5)
    np.testing.assert_allclose(loss(teacher, student), np.mean(joint_classifier_kl(teacher, student, 0.5)), rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            (np.zeros((2, 3), np.float32), np.zeros((2, 4), np.float32)),
            ValueError,
            "teacher_logits and student",
        ),
        ((np.zeros(3, np.float32), np.zeros(3, np.float32)), ValueError, r"teacher_logits .* \[rows, dim\]"),
        ((np.zeros((2, 3), np.int32), np.zeros((2, 3), np.float32)), TypeError, "teacher_logits .* int32"),
        ((*_logits(), 0.0), ValueError, "temperature .* 0.0"),
        ((*_logits(), float("inf")), ValueError, "temperature .* inf"),
    ],
)
def test_mistakes_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        joint_classifier_kl(*arguments)


def test_keras_loss_refuses_a_temperature_at_once():
    with pytest.raises(ValueError, match="temperature .* -1"):
        JointClassifierKL(-1)

"""The cross-entropy between the softmaxes of two embeddings, against the official loss."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.losses import DistillationCrossEntropy, distillation_cross_entropy, joint_classifier_kl, unit_rows
from tests import golden
from tests.losses.gradients import central_differences, value_and_gradients


def _unit(seed=0, rows=6, dim=9):
    drawn = np.random.default_rng(seed).normal(size=(2, rows, dim))
    return list((drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)).astype(np.float32))


def _softmax(rows, temperature):
    exponentials = np.exp(rows.astype(np.float64) / temperature)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def _plain(teacher, student, temperature):
    """The definition, in float64."""
    return -np.sum(_softmax(teacher, temperature) * np.log(_softmax(student, temperature)), axis=1)


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
def test_value_is_the_definition(temperature):
    teacher, student = _unit()
    loss = distillation_cross_entropy(teacher, student, temperature)
    assert loss.shape == (6,)
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(loss, _plain(teacher, student, temperature), rtol=1e-5)


def test_equals_the_official_loss():
    arrays = golden.load("l4_losses")
    teacher, student = arrays["s2bnn/teacher_raw"], arrays["s2bnn/student_raw"]
    tau = float(arrays["s2bnn/tau"])

    def loss(raw, unit):
        return tf.reduce_mean(distillation_cross_entropy(unit_rows(teacher), unit_rows(raw) + unit, tau))

    value, (d_raw, d_unit) = value_and_gradients(loss, student, np.zeros_like(student))
    np.testing.assert_allclose(value, arrays["s2bnn/loss"], rtol=1e-5)
    for gradient, name in ((d_raw, "d_student_raw"), (d_unit, "d_student_unit")):
        expected = arrays[f"s2bnn/{name}"]
        np.testing.assert_allclose(gradient, expected, atol=1e-5 * np.abs(expected).max())


def test_values_of_the_specification():
    """Computed by the authors' code for two rows."""
    student = np.array([[0.1, -0.2, 0.3], [0.5, 0, -0.5]], np.float32)
    teacher = np.array([[0.2, 0.1, -0.1], [0.4, -0.3, 0]], np.float32)
    of_units = distillation_cross_entropy(unit_rows(teacher), unit_rows(student))
    assert float(tf.reduce_mean(of_units)) == pytest.approx(1.6775411, abs=2e-6)
    assert float(tf.reduce_mean(distillation_cross_entropy(teacher, student))) == pytest.approx(1.2386388, abs=2e-6)


def test_gradient_is_the_students_alone():
    teacher, student = _unit(1, 3, 4)
    _, (d_teacher, d_student) = value_and_gradients(
        lambda t, s: tf.reduce_sum(distillation_cross_entropy(t, s)), teacher, student
    )
    assert d_teacher is None
    reference = central_differences(lambda s: _plain(teacher, s, 0.2).sum(), student)[0]
    assert np.abs(reference).max() > 0.1
    np.testing.assert_allclose(d_student, reference, rtol=1e-3, atol=1e-4)


def test_is_smallest_where_both_agree_and_then_the_entropy_of_the_target():
    teacher, student = _unit(rows=64, dim=128)
    least = distillation_cross_entropy(teacher, teacher)
    p = _softmax(teacher, 0.2)
    np.testing.assert_allclose(least, -np.sum(p * np.log(p), axis=1), rtol=1e-5)
    # What the docstring says about the floor.
    assert 4.7 < np.mean(least) < 4.8 < np.log(128)
    assert np.all(distillation_cross_entropy(teacher, student) > least)
    _, (gradient,) = value_and_gradients(lambda s: tf.reduce_sum(distillation_cross_entropy(teacher, s)), teacher)
    np.testing.assert_allclose(gradient, np.zeros_like(teacher), atol=1e-6)


def test_is_the_divergence_above_that_floor():
    teacher, student = _unit()
    above = distillation_cross_entropy(teacher, student) - distillation_cross_entropy(teacher, teacher)
    np.testing.assert_allclose(above, joint_classifier_kl(teacher, student), atol=2e-6)


def test_order_of_the_dimensions_does_not_count_but_a_rotation_does():
    teacher, student = _unit()
    loss = distillation_cross_entropy(teacher, student)
    np.testing.assert_allclose(distillation_cross_entropy(teacher[:, ::-1], student[:, ::-1]), loss, rtol=1e-5)
    rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(9, 9)))[0].astype(np.float32)
    assert np.abs(distillation_cross_entropy(teacher @ rotation, student @ rotation) - loss).max() > 1e-3


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_is_computed_in_float32(dtype):
    teacher, student = (tf.cast(rows, dtype) for rows in _unit())
    loss = distillation_cross_entropy(teacher, student)
    assert loss.dtype == tf.float32
    expected = distillation_cross_entropy(tf.cast(teacher, tf.float32), tf.cast(student, tf.float32))
    np.testing.assert_array_equal(loss, expected)


def test_keras_loss_is_the_mean_with_the_teacher_as_truth():
    teacher, student = _unit()
    expected = np.mean(distillation_cross_entropy(teacher, student, 0.5))
    np.testing.assert_allclose(DistillationCrossEntropy(0.5)(teacher, student), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.zeros((2, 3), np.float32), np.zeros((2, 4), np.float32)), ValueError, "teacher_embedding and student"),
        ((np.zeros(3, np.float32), np.zeros(3, np.float32)), ValueError, r"teacher_embedding .* \[rows, dim\]"),
        ((np.zeros((2, 3), np.int32), np.zeros((2, 3), np.float32)), TypeError, "teacher_embedding .* int32"),
        ((*_unit(), 0.0), ValueError, "temperature .* 0.0"),
    ],
)
def test_mistakes_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        distillation_cross_entropy(*arguments)


def test_keras_loss_refuses_a_temperature_at_once():
    with pytest.raises(ValueError, match="temperature .* -1"):
        DistillationCrossEntropy(-1)

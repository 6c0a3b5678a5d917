"""The distance of student features from teacher features, and BSSL's sum of both losses."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.losses import FeatureSimilarity, feature_similarity, joint_classifier_kl, unit_rows
from tests import golden
from tests.losses.gradients import central_differences, value_and_gradients


def _features(seed=0, shape=(6, 9)):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(np.float32) for _ in range(2)]


def _plain(teacher, student, distance):
    teacher, student = teacher.astype(np.float64), student.astype(np.float64)
    if distance == "l1":
        return np.abs(student - teacher).sum(1)
    if distance == "l2":
        return ((student - teacher) ** 2).sum(1)
    return np.array(
        [1 - np.dot(t, s) / np.linalg.norm(t) / np.linalg.norm(s) for t, s in zip(teacher, student, strict=True)]
    )


@pytest.mark.parametrize("distance", ["cosine", "l1", "l2"])
def test_value_and_gradient_are_the_definition(distance):
    teacher, student = _features()
    loss = feature_similarity(teacher, student, distance)
    assert loss.shape == (6,)
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(loss, _plain(teacher, student, distance), rtol=1e-5)
    _, (d_teacher, d_student) = value_and_gradients(
        lambda t, s: tf.reduce_sum(feature_similarity(t, s, distance)), teacher, student
    )
    assert d_teacher is None
    reference = central_differences(lambda s: _plain(teacher, s, distance).sum(), student)[0]
    np.testing.assert_allclose(d_student, reference, rtol=1e-3, atol=1e-4)


def _burn_pair(student, teacher, lambda_c, distance):
    """The released code's loss of one pair of views; its cosine distance is twice ours."""
    scale = 2.0 if distance == "cosine" else 1.0
    features = scale * feature_similarity(teacher, student, distance)
    classifier = joint_classifier_kl(tf.stop_gradient(teacher), student)
    return tf.reduce_mean((1 - lambda_c) * features + lambda_c * classifier)


@pytest.mark.parametrize(("key", "distance"), [("kl_fs", "cosine"), ("kl_l1", "l1"), ("kl_l2", "l2")])
def test_with_the_divergence_it_is_the_released_loss(key, distance):
    arrays = golden.load("l4_losses")
    for index, lambda_c in enumerate(arrays["burn/lambda_c"]):
        loss, (gradient, d_teacher) = value_and_gradients(
            lambda s, t, weight=lambda_c: _burn_pair(s, t, weight, distance),
            arrays["burn/student"],
            arrays["burn/teacher"],
        )
        expected, d_expected = arrays[f"burn/{key}/loss"][index], arrays[f"burn/{key}/d_student"][index]
        np.testing.assert_allclose(loss, expected, rtol=1e-5)
        np.testing.assert_allclose(gradient, d_expected, atol=1e-5 * np.abs(d_expected).max())
        assert d_teacher is None


def test_two_views_are_crossed_and_summed():
    arrays = golden.load("l4_losses")
    weight = arrays["burn/two_view/lambda_c"]

    def loss_of(first, second):
        pair = _burn_pair(first, arrays["burn/two_view/teacher_2"], weight, "cosine")
        return pair + _burn_pair(second, arrays["burn/teacher"], weight, "cosine")

    loss, gradients = value_and_gradients(loss_of, arrays["burn/student"], arrays["burn/two_view/student_2"])
    np.testing.assert_allclose(loss, arrays["burn/two_view/loss"], rtol=1e-5)
    for index, gradient in enumerate(gradients, start=1):
        np.testing.assert_allclose(gradient, arrays[f"burn/two_view/d_student_{index}"], atol=1e-5)


def test_cosine_ignores_lengths_and_is_between_0_and_2():
    teacher, student = _features()
    loss = feature_similarity(teacher, student)
    for scale in (1e-30, 1e-3, 1e4, 1e30):
        np.testing.assert_allclose(feature_similarity(scale * teacher, student), loss, atol=1e-6)
        np.testing.assert_allclose(feature_similarity(teacher, scale * student), loss, atol=1e-6)
    np.testing.assert_allclose(feature_similarity(teacher, 3 * teacher), np.zeros(6), atol=1e-6)
    np.testing.assert_allclose(feature_similarity(teacher, -teacher), np.full(6, 2.0), atol=1e-6)


@pytest.mark.parametrize("zero_side", ["teacher", "student"])
def test_a_row_of_zeros_has_distance_one_and_no_gradient(zero_side):
    teacher, student = _features()
    (teacher if zero_side == "teacher" else student)[2] = 0
    loss, (_, gradient) = value_and_gradients(lambda t, s: tf.reduce_sum(feature_similarity(t, s)), teacher, student)
    assert feature_similarity(teacher, student)[2] == 1
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all()
    assert not gradient[2].any()
    assert gradient[1].any()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_is_computed_in_float32(dtype):
    teacher, student = (tf.cast(300 * features, dtype) for features in _features())
    for distance in ("cosine", "l1", "l2"):
        loss = feature_similarity(teacher, student, distance)
        assert loss.dtype == tf.float32
        expected = feature_similarity(tf.cast(teacher, tf.float32), tf.cast(student, tf.float32), distance)
        np.testing.assert_array_equal(loss, expected)
        assert np.isfinite(loss).all()


def test_unit_rows_have_length_one_whatever_their_scale():
    rows = _features()[0] * np.array([1e-35, 1e-20, 1, 1e3, 1e20, 1e35], np.float32)[:, None]
    np.testing.assert_allclose(np.linalg.norm(unit_rows(rows), axis=1), np.ones(6), rtol=1e-5)
    gradient = value_and_gradients(lambda x: tf.reduce_sum(unit_rows(x)[:, 0]), _features()[0])[1][0]
    reference = central_differences(
        lambda x: np.sum((x / np.linalg.norm(x, axis=1, keepdims=True))[:, 0]), _features()[0]
    )[0]
    np.testing.assert_allclose(gradient, reference, atol=1e-5)


def test_keras_loss_is_the_mean_with_the_teacher_as_truth():
    teacher, student = _features()
    expected = np.mean(feature_similarity(teacher, student, "l2"))
    np.testing.assert_allclose(FeatureSimilarity("l2")(teacher, student), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: FeatureSimilarity("cos"), ValueError, "distance .* cosine, l1, l2, got 'cos'"),
        (lambda: feature_similarity(*_features(), "dot"), ValueError, "distance .* 'dot'"),
        (
            lambda: feature_similarity(tf.zeros([2, 3]), tf.zeros([2, 4])),
            ValueError,
            r"\(2, 3\) and \(2, 4\)",
        ),
        (
            lambda: feature_similarity(tf.zeros([2, 3]), tf.zeros([2, 3], tf.uint8)),
            TypeError,
            "student.*uint8",
        ),
        (lambda: feature_similarity(tf.zeros([2, 3, 1]), tf.zeros([2, 3])), ValueError, "teacher_features"),
    ],
)
def test_mistakes_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()

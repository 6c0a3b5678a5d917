"""The singular value loss: values, and a gradient that is exact where singular values repeat and finite at zero."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import distribute
from larq_ssl.losses import SingularValueLoss, embedding_rows, singular_value_loss, unit_rows
from larq_ssl.losses.singular_values import ROWS, SPECTRA
from tests import golden
from tests.comparing import assert_near
from tests.losses.gradients import central_differences, value_and_gradients
from tests.replicas import two_replicas


def _unit(count, dim, seed=0):
    rows = np.random.default_rng(seed).normal(size=(count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def _plain(rows, spectrum):
    """The definition, in float64."""
    count, dim = rows.shape
    sigma = np.linalg.svd(rows, compute_uv=False)
    return {
        "sv": lambda: np.sum((sigma * np.sqrt(dim / count) - 1) ** 2),
        "cov": lambda: np.sum((sigma**2 * dim / count - 1) ** 2),
        "nuclear": lambda: 1 - np.sum(sigma) / np.sqrt(count * dim),
    }[spectrum]()


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("case", ["0", "1", "2", "_orthonormal", "_equal_sigma", "_near_collapse", "_collapse"])
def test_value_and_gradient_are_those_of_the_formulas(case, spectrum):
    arrays = golden.load("s6_byol_msbreg")
    rows = arrays[f"spec{case}_Z"].astype(np.float32)
    loss, (gradient,) = value_and_gradients(lambda z: singular_value_loss(z, spectrum), rows)
    np.testing.assert_allclose(loss, arrays[f"spec{case}_{spectrum}"], rtol=1e-5, atol=1e-5)
    assert np.isfinite(gradient).all()
    key = f"spec{case}_{spectrum}_grad"
    if case == "_collapse":
        assert key not in arrays
    else:
        # Singular values that are nearly zero have float32 vectors that are less exact.
        tolerance = 1e-3 if case == "_near_collapse" else 1e-5
        np.testing.assert_allclose(gradient, arrays[key], rtol=0, atol=tolerance * max(1, np.abs(arrays[key]).max()))


@pytest.mark.parametrize(("case", "spectrum", "rows"), itertools.product((0, 1, 2), SPECTRA, ROWS))
def test_of_predictions_it_is_that_of_their_unit_rows(case, spectrum, rows):
    arrays = golden.load("s6_byol_msbreg")
    online = arrays[f"msb{case}_online"]
    views, _, dim = online.shape
    name = f"msb{case}_{spectrum}_{rows}"
    loss, (gradient,) = value_and_gradients(
        lambda q: singular_value_loss(embedding_rows(q, views, rows), spectrum),
        online.reshape(-1, dim).astype(np.float32),
    )
    # Not relative alone: the loss is what is left of sums of about 1, and may be nearly nothing.
    np.testing.assert_allclose(loss, arrays[name], rtol=1e-5, atol=1e-5)
    assert_near(gradient.reshape(online.shape), arrays[f"{name}_grad_online"])


@pytest.mark.parametrize("spectrum", SPECTRA)
def test_levels_of_random_rows_and_of_a_single_direction(spectrum):
    arrays, column = golden.load("s6_byol_msbreg"), 1 + SPECTRA.index(spectrum)
    dim = 128
    for level in arrays["spec_uniform_levels_d128"]:
        assert float(singular_value_loss(_unit(int(level[0]), dim), spectrum)) == pytest.approx(level[column], rel=0.05)
    collapsed = np.tile(_unit(1, dim), [2 * dim, 1])
    expected = arrays["spec_rank1_levels_d128"][column - 1]
    assert float(singular_value_loss(collapsed, spectrum)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("spectrum", SPECTRA)
def test_orthonormal_rows_cost_nothing(spectrum):
    rows = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0].astype(np.float32)
    loss, (gradient,) = value_and_gradients(lambda z: singular_value_loss(z, spectrum), rows)
    assert float(loss) == pytest.approx(0, abs=1e-6)
    if spectrum != "nuclear":
        np.testing.assert_allclose(gradient, np.zeros([6, 6]), atol=1e-5)
    # Rows of length one have nothing to gain.
    of_unit = value_and_gradients(lambda z: singular_value_loss(unit_rows(z), spectrum), rows)[1][0]
    np.testing.assert_allclose(of_unit, np.zeros([6, 6]), atol=1e-5)


@pytest.mark.parametrize("spectrum", SPECTRA)
def test_the_gradient_is_that_of_differences(spectrum):
    rows = _unit(7, 4)
    # Two singular values that are equal, and two others.
    u, _, v = np.linalg.svd(rows, full_matrices=False)
    for matrix in (rows, ((u * [1.5, 1.5, 0.9, 0.4]) @ v).astype(np.float32)):
        _, (gradient,) = value_and_gradients(lambda z: singular_value_loss(z, spectrum), matrix)
        expected = central_differences(lambda z: _plain(z, spectrum), matrix)[0]
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("spectrum", SPECTRA)
def test_steps_against_the_gradient_fill_all_dimensions_even_from_one(spectrum):
    rows = tf.Variable(np.tile(_unit(1, 4), [8, 1]) + 1e-3 * _unit(8, 4, seed=1))
    first = float(singular_value_loss(unit_rows(rows), spectrum))
    for _ in range(200):
        with tf.GradientTape() as tape:
            loss = singular_value_loss(unit_rows(rows), spectrum)
        rows.assign_sub(0.1 * tape.gradient(loss, rows))
    assert float(loss) < 0.03 * first


@pytest.mark.parametrize("spectrum", SPECTRA)
def test_turned_and_exchanged_rows_are_as_good(spectrum):
    rows = _unit(9, 4)
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(4, 4)))[0].astype(np.float32)
    expected = singular_value_loss(rows, spectrum)
    assert_near(singular_value_loss(rows[::-1] @ turn, spectrum), expected)


def test_rows_per_image_are_means_of_length_one():
    online = 3 * _unit(12, 5)
    rows = embedding_rows(online, 4).numpy()
    means = _unit(12, 5).reshape(4, 3, 5).mean(axis=0)
    np.testing.assert_allclose(rows, means / np.linalg.norm(means, axis=1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(embedding_rows(online, 4, "view"), _unit(12, 5), rtol=1e-5)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_two_replicas_have_the_value_and_the_gradient_of_one(spectrum, rows):
    whole = np.random.default_rng(0).normal(size=(2, 8, 5)).astype(np.float32)

    def value_and_gradient(online, share=1.0):
        online = tf.reshape(online, [-1, 5])
        with tf.GradientTape() as tape:
            tape.watch(online)
            matrix = distribute.all_gather(embedding_rows(online, 2, rows))
            loss = share * singular_value_loss(matrix, spectrum)
        return loss, tf.reshape(tape.gradient(loss, online), [2, -1, 5])

    @tf.function
    def of_replica():
        start = 4 * tf.distribute.get_replica_context().replica_id_in_sync_group
        return value_and_gradient(tf.constant(whole)[:, start : start + 4], 0.5)

    loss, gradient = value_and_gradient(tf.constant(whole))
    losses, gradients = (two_replicas().experimental_local_results(part) for part in two_replicas().run(of_replica))
    assert float(sum(losses)) == pytest.approx(float(loss), rel=1e-5)
    assert_near(tf.concat(gradients, axis=1), gradient)


def test_the_keras_loss_looks_at_the_predictions_alone():
    online = 2 * _unit(12, 3)
    expected = float(singular_value_loss(embedding_rows(online, 4, "view"), "cov"))
    assert float(SingularValueLoss(4, "cov", "view")(np.zeros([12, 3]), online)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_is_computed_in_float32(dtype):
    rows = tf.cast(_unit(8, 4), dtype)
    loss = singular_value_loss(rows)
    assert loss.dtype == tf.float32
    np.testing.assert_array_equal(loss, singular_value_loss(tf.cast(rows, tf.float32)))


def test_what_is_not_finite_makes_a_loss_that_is_not():
    rows = _unit(8, 4)
    rows[3, 2] = np.nan
    assert not np.isfinite(singular_value_loss(rows))


def test_fewer_rows_than_dimensions_are_refused():
    with pytest.raises(ValueError, match="rows must be at least as many as their dimensions, .*, got 3 of 4"):
        singular_value_loss(_unit(3, 4))
    graph = tf.function(singular_value_loss, input_signature=[tf.TensorSpec([None, 4])])
    assert np.isfinite(graph(_unit(4, 4)))
    with pytest.raises(tf.errors.InvalidArgumentError, match="at least as many as their dimensions"):
        graph(_unit(3, 4))


def test_unknown_options_are_refused():
    with pytest.raises(ValueError, match="spectrum must be one of sv, cov, nuclear, got 'rank'"):
        singular_value_loss(_unit(8, 4), "rank")
    with pytest.raises(ValueError, match="rows must be one of image, view, got 'batch'"):
        embedding_rows(_unit(8, 4), 2, "batch")
    for arguments in ({"spectrum": "rank"}, {"rows": "batch"}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            SingularValueLoss(**arguments)

"""MSBReg's centroid and Brownian losses: the formulas, BYOL with two views, what is drawn."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.losses import (
    BrownianLoss,
    CentroidLoss,
    brownian_loss,
    byol_loss,
    centroid_loss,
    embedding_rows,
    singular_value_loss,
)
from larq_ssl.methods.brownian import brownian_directions
from tests import golden
from tests.comparing import assert_near
from tests.losses.gradients import central_differences, value_and_gradients

CASES = (0, 1, 2)
CENTROIDS = {
    "centroid": "leave_one_out",
    "centroid_all": "all",
    "centroid_to_centroid": "centroid_to_centroid",
}


def _case(case):
    """Arrays of a case; rows of all views below each other."""
    prefix = f"msb{case}_"
    arrays = {key[len(prefix) :]: a for key, a in golden.load("s6_byol_msbreg").items() if key.startswith(prefix)}
    views, _, dim = arrays["online"].shape
    flat = {name: arrays[name].reshape(-1, dim).astype(np.float32) for name in ("online", "target", "u_per_view")}
    return {**arrays, **flat, "u": arrays["u"].astype(np.float32)}, views


def _assert_is(arrays, name, function):
    """A mean over images and its gradient are those of the arrays."""
    loss, (gradient,) = value_and_gradients(lambda online: tf.reduce_mean(function(online)), arrays["online"])
    assert_near(loss, arrays[name], what=name)
    assert_near(gradient.reshape(arrays[f"{name}_grad_online"].shape), arrays[f"{name}_grad_online"], what=name)


def _rows(count=12, dim=5, seed=0):
    return np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)


@pytest.mark.parametrize(("case", "name"), itertools.product(CASES, CENTROIDS))
def test_centroids_are_those_of_the_formulas(case, name):
    arrays, views = _case(case)
    _assert_is(arrays, name, lambda online: centroid_loss(arrays["target"], online, views, CENTROIDS[name]))


@pytest.mark.parametrize(("case", "per_view"), itertools.product(CASES, [False, True]))
def test_pushes_are_those_of_the_formula(case, per_view):
    arrays, views = _case(case)
    directions = arrays["u_per_view" if per_view else "u"]
    name = "brownian_per_view" if per_view else "brownian"
    _assert_is(arrays, name, lambda online: brownian_loss(directions, online, views))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("spectrum", "rows"), [("sv", "image"), ("sv", "view"), ("cov", "image")])
def test_all_three_together(case, spectrum, rows):
    arrays, views = _case(case)
    lambda_s, lambda_b = arrays["lambda_s_b"].astype(np.float32)

    def total(online):
        loss = centroid_loss(arrays["target"], online, views) + lambda_b * brownian_loss(arrays["u"], online, views)
        return loss + lambda_s * singular_value_loss(embedding_rows(online, views, rows), spectrum)

    _assert_is(arrays, f"total_{spectrum}_{rows}", total)


@pytest.mark.parametrize("centroid", ["leave_one_out", "centroid_to_centroid"])
def test_two_views_are_half_of_byol(centroid):
    arrays, views = _case(0)
    assert views == 2
    _assert_is(arrays, "half_byol_official", lambda online: centroid_loss(arrays["target"], online, 2, centroid))
    target, online = _rows(), _rows(seed=1)
    ours, half = (
        value_and_gradients(lambda q, loss=loss: tf.reduce_sum(loss(q)), online)
        for loss in (lambda q: centroid_loss(target, q, 2, centroid), lambda q: byol_loss(target, q) / 2)
    )
    assert_near(ours[0], half[0])
    assert_near(ours[1][0], half[1][0])


@pytest.mark.parametrize("centroid", CENTROIDS.values())
def test_gradients_are_those_of_differences(centroid):
    target, online = _rows(12).astype(np.float64), _rows(12, seed=1)

    def unit(rows):
        return rows / np.linalg.norm(rows, axis=-1, keepdims=True)

    def plain(online):
        q, z, losses = unit(online.reshape(4, 3, 5)), unit(target.reshape(4, 3, 5)), []
        if centroid == "centroid_to_centroid":
            for one, other in (((0, 1), (2, 3)), ((2, 3), (0, 1))):
                means = (unit(part.mean(axis=0)) for part in (q[list(one)], z[list(other)]))
                losses.append(2 - 2 * np.sum(np.prod(list(means), axis=0), axis=-1))
            return np.mean(losses)
        for view in range(4):
            others = [other for other in range(4) if other != view or centroid == "all"]
            losses.append(2 - 2 * np.sum(q[view] * unit(z[others].mean(axis=0)), axis=-1))
        return np.mean(losses)

    loss, (of_target, gradient) = value_and_gradients(
        lambda z, q: tf.reduce_mean(centroid_loss(z, q, 4, centroid)), target.astype(np.float32), online
    )
    assert of_target is None
    assert_near(loss, plain(online.astype(np.float64)))
    assert_near(gradient, central_differences(plain, online)[0], 2e-5)


def test_the_order_of_views_does_not_count_and_equal_views_cost_nothing():
    target, online = _rows(), _rows(seed=1)
    order = np.arange(12).reshape(4, 3)[[2, 0, 3, 1]].ravel()
    for centroid in ("leave_one_out", "all"):
        expected = centroid_loss(target, online, 4, centroid)
        assert_near(centroid_loss(target[order], online[order], 4, centroid), expected)
    same = np.tile(_rows(3), [4, 1])
    for centroid in CENTROIDS.values():
        np.testing.assert_allclose(centroid_loss(same, 7 * same, 4, centroid), np.zeros(3), atol=1e-6)


def test_lengths_do_not_count():
    """Neither long nor short ones, in one view or another."""
    target, online, directions = _rows(), _rows(seed=1), _rows(3, seed=2)
    lengths = 10.0 ** np.random.default_rng(3).uniform(-5, 2, (2, 12, 1))
    for centroid in CENTROIDS.values():
        expected = centroid_loss(target, online, 4, centroid)
        assert_near(centroid_loss(lengths[0] * target, lengths[1] * online, 4, centroid), expected)
    assert_near(brownian_loss(directions, lengths[1] * online, 4), brownian_loss(directions, online, 4))


def test_directions_are_uniform_on_the_sphere():
    for dim in (5, 8):
        rows = brownian_directions(3, 10, tf.range(4000, dtype=tf.int64), 1, dim).numpy().astype(np.float64)
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-6)
        assert np.abs(rows.mean(axis=0)).max() < 5 / np.sqrt(4000 * dim)
        np.testing.assert_allclose(rows.T @ rows * dim / 4000, np.eye(dim), atol=0.12)
        # A third moment, which normals of the wrong sign or angle would have.
        assert np.abs((rows**3).mean(axis=0)).max() < 5 * np.sqrt(np.mean(rows**6) / 4000)


def test_the_mean_of_all_pushes_is_zero():
    ids = tf.range(1200, dtype=tf.int64)
    online = np.tile(_rows().reshape(4, 3, 5), [1, 400, 1]).reshape(-1, 5)
    pushes = brownian_loss(brownian_directions(0, 0, ids, 1, 5), online, 4)
    # Of a mean of unit rows, whose push has the variance 1 / dim at most.
    assert np.abs(np.mean(pushes)) < 4 / np.sqrt(5 * 1200)
    assert np.std(pushes) > 0.1


def test_a_direction_depends_on_seed_step_image_and_view_alone():
    ids = tf.constant([7, 3, 2**40 + 1], tf.int64)

    def draw(seed=0, step=5, ids=ids, views=2):
        return brownian_directions(seed, step, ids, views, 6).numpy().reshape(views, -1, 6)

    drawn = draw()
    np.testing.assert_array_equal(draw(ids=ids[::-1]), drawn[:, ::-1])
    np.testing.assert_array_equal(draw(ids=ids[1:2])[:, 0], drawn[:, 1])
    np.testing.assert_array_equal(draw(views=1), drawn[:1])
    np.testing.assert_array_equal(tf.function(lambda step: draw_in_graph(step, ids))(tf.constant(5)), drawn)
    others = [draw(seed=1), draw(step=6), draw(ids=ids + 1)]
    rows = np.concatenate([part.reshape(-1, 6) for part in (drawn, *others)])
    assert np.abs(np.triu(rows @ rows.T, 1)).max() < 0.999


def draw_in_graph(step, ids):
    return tf.reshape(brownian_directions(0, step, ids, 2, 6), [2, -1, 6])


def test_the_keras_losses_are_means():
    target, online, directions = _rows(), _rows(seed=1), _rows(3, seed=2)
    expected = np.mean(centroid_loss(target, online, 4, "all"))
    assert float(CentroidLoss(4, "all")(target, online)) == pytest.approx(expected, rel=1e-6)
    expected = np.mean(brownian_loss(directions, online, 4))
    assert float(BrownianLoss(4)(directions, online)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_is_computed_in_float32(dtype):
    target, online = (tf.cast(_rows(seed=seed), dtype) for seed in (0, 1))
    as_float32 = [tf.cast(rows, tf.float32) for rows in (target, online)]
    for loss, expected in (
        (centroid_loss(target, online, 4), centroid_loss(*as_float32, 4)),
        (brownian_loss(target[:3], online, 4), brownian_loss(as_float32[0][:3], as_float32[1], 4)),
    ):
        assert loss.dtype == tf.float32
        np.testing.assert_array_equal(loss, expected)


@pytest.mark.parametrize(
    ("views", "centroid", "message"),
    [
        (1, "all", "views must be at least 2, got 1"),
        (3, "centroid_to_centroid", "views must be even for centroid_to_centroid, .*, got 3"),
        (4, "mean", "centroid must be one of leave_one_out, all, centroid_to_centroid, got 'mean'"),
    ],
)
def test_options_out_of_range_are_refused(views, centroid, message):
    with pytest.raises(ValueError, match=message):
        centroid_loss(_rows(), _rows(), views, centroid)
    with pytest.raises(ValueError, match=message):
        CentroidLoss(views, centroid)


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="online must have the same number of rows for each of 5 views, got 12"):
        brownian_loss(_rows(4), _rows(12), 5)
    with pytest.raises(ValueError, match="directions must have a row for each of 3 images or 12 views .*, got 4"):
        brownian_loss(_rows(4), _rows(12), 4)
    with pytest.raises(ValueError, match="target and online must have one shape"):
        centroid_loss(_rows(8), _rows(12), 4)

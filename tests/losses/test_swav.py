"""SwAV's loss: Sinkhorn-Knopp, assignments with a queue, swapped prediction."""

import math

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.losses import (
    SwAVCrossEntropy,
    pair_weights,
    sinkhorn,
    swav_cross_entropy,
    swav_targets,
    unit_rows,
    view_pair_cross_entropy,
)
from tests import golden
from tests.comparing import assert_near
from tests.losses.gradients import value_and_gradients
from tests.replicas import two_replicas

OFFICIAL = pair_weights(2, 6)


def _scores(rows, prototypes=5, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (rows, prototypes)).astype(np.float32)


def _plain_sinkhorn(scores, epsilon, iterations):
    """The published algorithm, in float64."""
    q = np.exp(scores.astype(np.float64) / epsilon).T
    prototypes, rows = q.shape
    q /= q.sum()
    for _ in range(iterations):
        q /= q.sum(axis=1, keepdims=True) * prototypes
        q /= q.sum(axis=0, keepdims=True) * rows
    return (q * rows).T


def _toy():
    """Embeddings of 8 views of 4 images, prototypes with columns of length one, and the queue, as published."""
    arrays = {key.removeprefix("swav/"): value for key, value in golden.load("l4_losses").items()}
    prototypes = tf.math.l2_normalize(arrays["prototypes"], axis=0)
    assert_near(prototypes, arrays["prototypes_normalised"])
    return arrays, prototypes


def _loss(raw, prototypes, weights, queue=None):
    """Mean loss, and the scores, of un-normalised embeddings."""
    scores = unit_rows(tf.reshape(raw, [32, 8])) @ prototypes
    queue_scores = None if queue is None else tf.einsum("vqd,dk->vqk", queue, prototypes)
    return tf.reduce_mean(swav_cross_entropy(scores[:8], scores, weights, queue_scores=queue_scores)), scores


@pytest.mark.parametrize(("key", "iterations"), [("q", 3), ("q_1_iterations", 1), ("q_10_iterations", 10)])
def test_sinkhorn_is_the_official_one(key, iterations):
    arrays = golden.load("l4_losses")
    assert_near(sinkhorn(arrays["swav/sinkhorn/scores"], 0.05, iterations), arrays[f"swav/sinkhorn/{key}"])


@pytest.mark.parametrize(
    ("case", "queue", "weights"),
    [
        ("no_queue", False, OFFICIAL),
        ("queue", True, OFFICIAL),
        # All zeros, and so not used.
        ("queue_empty", False, OFFICIAL),
        ("rebalanced_sslight/no_queue", False, pair_weights(2, 6, 0.4)),
        ("rebalanced_sslight/queue", True, pair_weights(2, 6, 0.4)),
        ("rebalanced_baseline/no_queue", False, pair_weights(2, 6, 1 / 7)),
        ("rebalanced_baseline/queue", True, pair_weights(2, 6, 1 / 7)),
    ],
)
def test_value_and_gradients_are_the_official_ones(case, queue, weights):
    arrays, prototypes = _toy()
    raw = tf.constant(arrays["raw_views"])
    with tf.GradientTape() as tape:
        tape.watch([raw, prototypes])
        loss, scores = _loss(raw, prototypes, weights, arrays["queue_before"] if queue else None)
    gradients = dict(
        zip(
            ("d_scores", "d_raw_views", "d_prototypes"),
            tape.gradient(loss, [scores, raw, prototypes]),
            strict=True,
        )
    )
    assert_near(scores, arrays["scores"])
    assert_near(loss, arrays[f"{case}/loss"])
    for name in ("d_scores", "d_prototypes", *(() if "rebalanced" in case else ("d_raw_views",))):
        assert_near(gradients[name], arrays[f"{case}/{name}"], what=name)


@pytest.mark.parametrize("case", ["no_queue", "queue"])
def test_assignments_are_the_official_ones(case):
    arrays, prototypes = _toy()
    queue_scores = arrays["queue_before"] @ prototypes.numpy() if case == "queue" else None
    targets = swav_targets(arrays["scores"][:8], queue_scores=queue_scores)
    for view in range(2):
        assert_near(targets[4 * view : 4 * view + 4], arrays[f"{case}/assignments_{view}"])


@pytest.mark.parametrize("epsilon", [0.01, 0.05, 0.5])
def test_sinkhorn_is_the_definition(epsilon):
    scores = _scores(12, 7)
    assert_near(sinkhorn(scores, epsilon, 2), _plain_sinkhorn(scores, epsilon, 2), 2e-5)


def test_rows_sum_to_one_and_columns_come_to_the_same_share():
    scores = _scores(24, 6)
    few, many = (sinkhorn(scores, 0.05, iterations).numpy() for iterations in (3, 200))
    for q in (few, many):
        np.testing.assert_allclose(q.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(many.sum(axis=0), 24 / 6, rtol=1e-3)
    assert np.abs(few.sum(axis=0) - 4).max() > np.abs(many.sum(axis=0) - 4).max()


def test_what_all_scores_share_does_not_count_and_order_does_not():
    scores = _scores(8)
    expected = sinkhorn(scores).numpy()
    # Also where a plain exponential of 0.5 / 0.05 + 100 / 0.05 is infinite.
    assert_near(sinkhorn(scores + np.float32(100)), expected, 1e-3)
    assert_near(sinkhorn(scores[::-1])[::-1], expected)
    # Each prototype is scaled first, so what is added to one has no effect.
    assert_near(sinkhorn(scores + np.float32([0, 0, 0.5, 0, 0])), expected)


@pytest.mark.parametrize("epsilon", [1e-4, 1e-3])
def test_a_small_epsilon_is_finite(epsilon):
    q = sinkhorn(_scores(8), epsilon).numpy()
    assert np.isfinite(q).all()
    np.testing.assert_allclose(q.sum(axis=1), 1, rtol=1e-4)
    # Nothing of it is spread.
    assert np.count_nonzero(q > 0.01) < 16


def test_the_queue_is_assigned_together_with_the_batch_of_its_own_view():
    scores, queue = _scores(8), _scores(6, seed=1).reshape(2, 3, 5)
    targets = swav_targets(scores, queue_scores=queue)
    for view in range(2):
        together = _plain_sinkhorn(np.concatenate([queue[view], scores[4 * view : 4 * view + 4]]), 0.05, 3)
        assert_near(targets[4 * view : 4 * view + 4], together[3:])
    assert np.abs(targets - swav_targets(scores)).max() > 0.01


def test_no_gradient_flows_into_the_assignments():
    scores, queue = _scores(6), _scores(4, seed=1).reshape(2, 2, 5)
    weights = pair_weights(2, 1)
    _, (d_targets, d_scores, d_queue) = value_and_gradients(
        lambda t, s, q: tf.reduce_sum(swav_cross_entropy(t, s, weights, queue_scores=q)), scores[:4], scores, queue
    )
    assert d_targets is None
    assert d_queue is None
    assert np.all(np.isfinite(d_scores))
    assert np.abs(d_scores).max() > 0


def test_equal_prototypes_have_the_loss_of_a_collapse():
    scores = np.tile(_scores(16, 1), [1, 9])
    loss = swav_cross_entropy(scores[:4], scores, OFFICIAL)
    np.testing.assert_allclose(loss, math.log(9), rtol=1e-5)


def test_the_keras_loss_is_the_mean():
    scores = _scores(16)
    loss = SwAVCrossEntropy(2, 6, 0.4, 0.1, 2, 0.2)(scores[:4], scores)
    expected = np.mean(swav_cross_entropy(scores[:4], scores, pair_weights(2, 6, 0.4), 0.1, 2, 0.2))
    assert float(loss) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_is_computed_in_float32(dtype):
    scores = tf.cast(_scores(16), dtype)
    loss = swav_cross_entropy(scores[:4], scores, OFFICIAL)
    assert loss.dtype == tf.float32
    as_float32 = tf.cast(scores, tf.float32)
    np.testing.assert_array_equal(loss, swav_cross_entropy(as_float32[:4], as_float32, OFFICIAL))


def test_two_replicas_have_the_value_and_the_gradient_of_one():
    weights, whole = pair_weights(2, 1), _scores(24).reshape(3, 8, 5)

    def value_and_gradient(scores, targets):
        scores = tf.reshape(scores, [-1, 5])
        with tf.GradientTape() as tape:
            tape.watch(scores)
            loss = tf.reduce_sum(swav_cross_entropy(targets, scores, weights)) / 8
        return loss, tape.gradient(loss, scores)

    @tf.function
    def of_replica():
        context = tf.distribute.get_replica_context()
        start = 4 * context.replica_id_in_sync_group
        mine = tf.constant(whole)[:, start : start + 4]
        # All rows are needed to assign one.
        rows = context.all_gather(tf.transpose(mine[:2], [1, 0, 2]), axis=0)
        targets = tf.reshape(tf.transpose(rows, [1, 0, 2]), [-1, 5])
        assigned = tf.reshape(swav_targets(targets), [2, 8, 5])[:, start : start + 4]
        scores = tf.reshape(mine, [-1, 5])
        with tf.GradientTape() as tape:
            tape.watch(scores)
            loss = tf.reduce_sum(view_pair_cross_entropy(tf.reshape(assigned, [-1, 5]), scores, 0.1, weights)) / 8
        return loss, tf.reshape(tape.gradient(loss, scores), [3, 4, 5])

    loss, gradient = value_and_gradient(tf.constant(whole), tf.reshape(whole[:2], [-1, 5]))
    losses, gradients = (two_replicas().experimental_local_results(part) for part in two_replicas().run(of_replica))
    assert float(sum(losses)) == pytest.approx(float(loss), rel=1e-5)
    assert_near(tf.concat(gradients, axis=1), tf.reshape(gradient, [3, 8, 5]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epsilon": 0.0}, "epsilon must be positive and finite, got 0.0"),
        ({"iterations": 0}, "iterations must be at least 1, got 0"),
        ({"temperature": -1.0}, "temperature must be positive"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments, message):
    scores = _scores(16)
    with pytest.raises(ValueError, match=message):
        swav_cross_entropy(scores[:4], scores, OFFICIAL, **arguments)
    with pytest.raises(ValueError, match=message):
        SwAVCrossEntropy(**arguments)


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="target_scores must have the same number of rows for each of 2 views, got 5"):
        swav_targets(_scores(5))
    with pytest.raises(TypeError, match="scores must be a float tensor"):
        sinkhorn(tf.zeros([3, 2], tf.int32))

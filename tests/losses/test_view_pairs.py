"""Weights of pairs of views, and the cross-entropy over them against a loop over the pairs."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.losses import pair_weights, query_weights, view_pair_cross_entropy
from tests.losses.gradients import central_differences, value_and_gradients
from tests.replicas import two_replicas

BATCH, CLASSES = 3, 5
VIEWS = [(2, 0), (2, 1), (2, 6), (3, 4)]


def _rows(global_views, local_views, batch=BATCH):
    """Targets and logits, view-major."""
    random = np.random.default_rng(0)
    targets = random.dirichlet(np.ones(CLASSES), global_views * batch).astype(np.float32)
    return targets, random.normal(size=((global_views + local_views) * batch, CLASSES)).astype(np.float32)


def _loop(targets, logits, temperature, global_views, alpha, batch=BATCH):
    """Pair by pair, image by image: the mean of the global pairs and that of the local ones."""
    logits = logits.astype(np.float64) / temperature
    log_softmax = logits - np.log(np.sum(np.exp(logits), axis=1, keepdims=True))
    losses = np.zeros(batch)
    for image in range(batch):
        pairs = {"global": [], "local": []}
        for target in range(global_views):
            for view in range(len(logits) // batch):
                if view != target:
                    term = -np.sum(targets[target * batch + image] * log_softmax[view * batch + image])
                    pairs["global" if view < global_views else "local"].append(term)
        if alpha is None or not pairs["local"]:
            losses[image] = np.mean(pairs["global"] + pairs["local"])
        else:
            losses[image] = alpha * np.mean(pairs["global"]) + (1 - alpha) * np.mean(pairs["local"])
    return losses


@pytest.mark.parametrize(("global_views", "local_views"), VIEWS)
@pytest.mark.parametrize("alpha", [None, 0.0, 0.4, 1.0])
def test_weights_sum_to_one_and_no_view_predicts_itself(global_views, local_views, alpha):
    weights = pair_weights(global_views, local_views, alpha)
    assert weights.shape == (global_views, global_views + local_views)
    assert weights.dtype == np.float32
    assert weights.sum() == pytest.approx(1.0, abs=1e-6)
    assert not np.diag(weights).any()
    share = weights[:, :global_views].sum()
    expected = 1.0 if not local_views else (global_views - 1) / (global_views - 1 + local_views)
    assert share == pytest.approx(expected if alpha is None or not local_views else alpha, abs=1e-6)


@pytest.mark.parametrize(("global_views", "local_views"), VIEWS)
@pytest.mark.parametrize("alpha", [None, 0.0, 0.4, 1.0])
def test_weights_of_queries_share_what_one_target_has(global_views, local_views, alpha):
    weights = query_weights(global_views, local_views, alpha)
    assert weights.shape == (global_views + local_views - 1,)
    assert weights.sum() == pytest.approx(1.0, abs=1e-6)
    of_global, of_local = np.split(weights, [global_views - 1])
    if alpha is None or not local_views:
        np.testing.assert_allclose(weights, np.full(len(weights), 1 / len(weights)), rtol=1e-6)
    else:
        np.testing.assert_allclose(of_global, np.full(len(of_global), alpha / len(of_global)), rtol=1e-6)
        np.testing.assert_allclose(of_local, np.full(local_views, (1 - alpha) / local_views), rtol=1e-6)


@pytest.mark.parametrize(("global_views", "local_views"), VIEWS)
def test_the_share_of_the_pairs_is_the_plain_mean(global_views, local_views):
    targets, logits = _rows(global_views, local_views)
    share = (global_views - 1) / (global_views - 1 + local_views)
    weights = pair_weights(global_views, local_views, share)
    np.testing.assert_allclose(weights, pair_weights(global_views, local_views), rtol=1e-6)
    loss = view_pair_cross_entropy(targets, logits, 0.3, weights)
    np.testing.assert_allclose(loss, _loop(targets, logits, 0.3, global_views, None), rtol=1e-5)


@pytest.mark.parametrize(("global_views", "local_views"), VIEWS)
@pytest.mark.parametrize("alpha", [None, 0.4])
def test_value_and_gradient_are_those_of_the_loop(global_views, local_views, alpha):
    targets, logits = _rows(global_views, local_views)
    weights = pair_weights(global_views, local_views, alpha)
    loss = view_pair_cross_entropy(targets, logits, 0.3, weights)
    assert loss.shape == (BATCH,)
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(loss, _loop(targets, logits, 0.3, global_views, alpha), rtol=1e-5)
    _, (d_targets, d_logits) = value_and_gradients(
        lambda t, s: tf.reduce_sum(view_pair_cross_entropy(t, s, 0.3, weights)), targets, logits
    )
    assert d_targets is None
    reference = central_differences(lambda s: _loop(targets, s, 0.3, global_views, alpha).sum(), logits)[0]
    np.testing.assert_allclose(d_logits, reference, atol=1e-4)


def test_local_views_may_change_places_and_a_constant_be_added():
    targets, logits = _rows(2, 3)
    weights = pair_weights(2, 3, 0.4)
    loss = view_pair_cross_entropy(targets, logits, 0.3, weights)
    views = logits.reshape(5, BATCH, CLASSES)
    other_order = views[[0, 1, 4, 2, 3]].reshape(-1, CLASSES)
    np.testing.assert_allclose(view_pair_cross_entropy(targets, other_order, 0.3, weights), loss, rtol=1e-5)
    np.testing.assert_allclose(view_pair_cross_entropy(targets, logits + 7.0, 0.3, weights), loss, rtol=1e-4)
    # Both views of both networks change places: the pairs stay what they are. Those of the student alone do not.
    swapped = views[[1, 0, 2, 3, 4]].reshape(-1, CLASSES)
    turned = targets.reshape(2, BATCH, CLASSES)[::-1].reshape(-1, CLASSES)
    np.testing.assert_allclose(view_pair_cross_entropy(turned, swapped, 0.3, weights), loss, rtol=1e-5)
    assert np.abs(view_pair_cross_entropy(targets, swapped, 0.3, weights) - loss).max() > 0.01


def test_each_image_has_a_loss_of_its_own():
    targets, logits = _rows(2, 3)
    weights = pair_weights(2, 3, 0.4)
    rows = np.arange(len(logits)) % BATCH == 1
    alone = view_pair_cross_entropy(targets[rows[: len(targets)]], logits[rows], 0.3, weights)
    np.testing.assert_allclose(alone, view_pair_cross_entropy(targets, logits, 0.3, weights)[1:2], rtol=1e-5)


def test_two_replicas_have_the_value_and_gradient_of_one():
    batch, views = 4, 5
    targets, logits = _rows(2, 3, batch)
    weights = pair_weights(2, 3, 0.4)
    expected, (_, d_logits) = value_and_gradients(
        lambda t, s: tf.reduce_mean(view_pair_cross_entropy(t, s, 0.3, weights)), targets, logits
    )

    @tf.function
    def replica(targets, logits):
        part = batch // 2 * tf.distribute.get_replica_context().replica_id_in_sync_group

        def mine(rows, count):
            return tf.reshape(tf.reshape(rows, [count, batch, CLASSES])[:, part : part + batch // 2], [-1, CLASSES])

        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = view_pair_cross_entropy(mine(targets, 2), mine(logits, views), 0.3, weights)
            share = tf.reduce_mean(loss) / 2
        return share, tape.gradient(share, logits)

    results = two_replicas().run(replica, args=(tf.constant(targets), tf.constant(logits)))
    value, gradient = (sum(two_replicas().experimental_local_results(result)) for result in results)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, d_logits, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 6), "two global views .* got 1, 6"),
        ((2, -1), "no negative number, got 2, -1"),
        ((2, 6, 1.2), r"alpha must lie in \[0, 1\] or be None, got 1\.2"),
        ((2, 6, float("nan")), "alpha must lie in .* got nan"),
    ],
)
def test_mistakes_in_the_weights_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        pair_weights(*arguments)


@pytest.mark.parametrize(
    ("shapes", "temperature", "message"),
    [
        ([(5, 4), (20, 4)], 0.1, "targets must have the same number of rows for each of 2 views, got 5"),
        ([(8, 4), (21, 4)], 0.1, "logits must have the same number of rows for each of 5 views, got 21"),
        ([(8, 4), (20, 3)], 0.1, "as many classes"),
        ([(8, 4), (20, 4)], 0.0, "temperature must be positive"),
        ([(8, 4), (25, 4)], 0.1, "targets and logits must be of as many images, got 4 and 5"),
        # One image would be a target for all.
        ([(2, 4), (20, 4)], 0.1, "targets and logits must be of as many images, got 1 and 4"),
    ],
)
def test_tensors_that_do_not_fit_are_named(shapes, temperature, message):
    with pytest.raises(ValueError, match=message):
        view_pair_cross_entropy(*(tf.zeros(shape) for shape in shapes), temperature, pair_weights(2, 3))


def test_one_target_is_no_target_for_all_where_shapes_are_unknown():
    graph = tf.function(
        lambda targets, logits: view_pair_cross_entropy(targets, logits, 0.1, pair_weights(2, 3)),
        input_signature=[tf.TensorSpec([None, None])] * 2,
    )
    assert graph(tf.zeros([8, 4]), tf.zeros([20, 4])).shape == (4,)
    with pytest.raises(tf.errors.InvalidArgumentError):
        graph(tf.zeros([2, 4]), tf.zeros([20, 4]))

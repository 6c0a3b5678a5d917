"""The contrastive loss and its queue, against three steps of the official momentum contrast."""

import math

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.losses import InfoNCE, info_nce, info_nce_logits, info_nce_of_logits, query_weights, unit_rows
from tests import golden
from tests.comparing import assert_near
from tests.losses.gradients import central_differences, value_and_gradients


def _unit(seed, *shape):
    rows = np.random.default_rng(seed).normal(size=shape)
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def _plain(query, key, queue, temperature):
    losses = []
    for q, k in zip(query.astype(np.float64), key.astype(np.float64), strict=True):
        positive = np.exp(q @ k / temperature)
        losses.append(-np.log(positive / (positive + sum(np.exp(q @ n / temperature) for n in queue))))
    return np.array(losses)


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
def test_value_and_gradient_are_the_definition(temperature):
    query, key, queue = _unit(0, 5, 7), _unit(1, 5, 7), _unit(2, 11, 7)
    loss = info_nce(query, key, queue, temperature)
    assert loss.shape == (5,)
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(loss, _plain(query, key, queue, temperature), rtol=1e-4)
    _, (d_query, d_key, d_queue) = value_and_gradients(
        lambda q, k, n: tf.reduce_sum(info_nce(q, k, n, temperature)), query, key, queue
    )
    assert d_key is None
    assert d_queue is None
    reference = central_differences(lambda q: _plain(q, key, queue, temperature).sum(), query)[0]
    np.testing.assert_allclose(d_query, reference, rtol=1e-3, atol=1e-4)


def _mlp(weights, inputs):
    hidden = tf.nn.relu(inputs @ weights["dense1/kernel"] + weights["dense1/bias"])
    return hidden @ weights["dense2/kernel"] + weights["dense2/bias"]


def test_three_official_steps():
    arrays = golden.load("l4_losses")
    tau, momentum, rate = (float(arrays[f"moco/{name}"]) for name in ("tau", "momentum", "sgd_lr"))
    names = [f"dense{i}/{part}" for i in (1, 2) for part in ("kernel", "bias")]
    query_net = {name: tf.Variable(arrays[f"moco/init/{name}"]) for name in names}
    key_net = {name: tf.Variable(arrays[f"moco/init/{name}"]) for name in names}
    queue = arrays["moco/init/queue"]
    for step in range(3):
        at = {key.split("/", 2)[2]: value for key, value in arrays.items() if key.startswith(f"moco/step{step}/")}
        for name in names:
            key_net[name].assign(momentum * key_net[name] + (1 - momentum) * query_net[name])
        key = unit_rows(_mlp(key_net, at["x_key"]))
        with tf.GradientTape(persistent=True) as tape:
            raw = _mlp(query_net, at["x_query"])
            logits = info_nce_logits(unit_rows(raw), key, queue, tau)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(tf.zeros(len(raw), tf.int32), logits))
        np.testing.assert_allclose(logits, at["logits"], atol=1e-5)
        np.testing.assert_allclose(loss, at["loss"], rtol=1e-5)
        ours = tf.reduce_mean(info_nce(unit_rows(raw), key, queue, tau))
        np.testing.assert_allclose(ours, at["loss"], rtol=1e-5)
        np.testing.assert_allclose(tape.gradient(loss, logits), at["d_logits"], atol=1e-5)
        np.testing.assert_allclose(tape.gradient(loss, raw), at["d_query_raw"], atol=1e-5)
        for name in names:
            gradient = tape.gradient(loss, query_net[name])
            np.testing.assert_allclose(gradient, at[f"d/{name}"], atol=1e-5)
            query_net[name].assign_sub(rate * gradient)
            np.testing.assert_allclose(query_net[name], at[f"query_encoder_after/{name}"], atol=1e-5)
        queue = at["queue_after"]


def test_multi_crop_queries_share_key_and_queue():
    arrays = golden.load("l4_losses")
    query, key = arrays["moco_star/query_unit"], arrays["moco_star/key_unit"]
    views = len(query) // len(key)
    logits = info_nce_logits(
        query, tf.tile(key, [views, 1]), arrays["moco_star/init/queue"], float(arrays["moco_star/tau"])
    )
    np.testing.assert_allclose(logits, arrays["moco_star/logits"], atol=1e-5)


@pytest.mark.parametrize(("weights", "alpha"), [("sslight", 0.4), ("baseline", 1 / 7), ("baseline", None)])
def test_weighted_queries_have_the_official_loss_and_gradient(weights, alpha):
    arrays = golden.load("l4_losses")
    logits, views = arrays["moco_star/logits"], len(arrays["moco_star/views"])
    of_view = query_weights(2, views - 2, alpha)
    shares = arrays[f"moco_star/{weights}/weights"]
    np.testing.assert_allclose([of_view[0], of_view[1:].sum()], shares, rtol=1e-6)

    def mean_loss(logits):
        losses = tf.reshape(info_nce_of_logits(logits), [views - 1, -1])
        return tf.reduce_mean(tf.tensordot(tf.constant(of_view), losses, axes=1))

    loss, (d_logits,) = value_and_gradients(mean_loss, logits)
    assert_near(loss, arrays[f"moco_star/{weights}/loss"])
    assert_near(d_logits, arrays[f"moco_star/{weights}/d_logits"])


def test_loss_at_the_start_is_the_log_of_the_number_of_keys():
    size, dim, tau = 4096, 128, 0.2
    loss = info_nce(_unit(0, 512, dim), _unit(1, 512, dim), _unit(2, size, dim), tau)
    expected = math.log(1 + size) + 1 / (2 * dim * tau**2)
    assert float(tf.reduce_mean(loss)) == pytest.approx(expected, abs=0.1)


def test_rotations_and_the_order_of_the_queue_do_not_count():
    query, key, queue = _unit(0, 5, 7), _unit(1, 5, 7), _unit(2, 11, 7)
    rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(7, 7)))[0].astype(np.float32)
    loss = info_nce(query, key, queue)
    np.testing.assert_allclose(info_nce(query @ rotation, key @ rotation, queue @ rotation), loss, rtol=1e-4)
    np.testing.assert_allclose(info_nce(query, key, queue[::-1]), loss, rtol=1e-5)
    assert np.all(info_nce(key, key, queue) < info_nce(-key, key, queue))


def test_a_small_temperature_is_finite():
    query, key, queue = _unit(0, 5, 7), _unit(1, 5, 7), _unit(2, 11, 7)
    loss, (gradient, *_) = value_and_gradients(
        lambda q, k, n: tf.reduce_sum(info_nce(q, k, n, 1e-6)), query, key, queue
    )
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_is_computed_in_float32(dtype):
    query, key, queue = (tf.cast(rows, dtype) for rows in (_unit(0, 5, 7), _unit(1, 5, 7), _unit(2, 11, 7)))
    loss = info_nce(query, key, queue)
    assert loss.dtype == tf.float32
    expected = info_nce(*(tf.cast(rows, tf.float32) for rows in (query, key, queue)))
    np.testing.assert_array_equal(loss, expected)


def test_keras_loss_takes_key_and_queue_as_truth():
    query, key, queue = _unit(0, 5, 7), _unit(1, 5, 7), _unit(2, 11, 7)
    expected = np.mean(info_nce(query, key, queue, 0.3))
    np.testing.assert_allclose(InfoNCE(0.3)((key, queue), query), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(5, 7), (4, 7), (11, 7)], "query and key"),
        ([(5, 7), (5, 7), (11, 6)], r"queue must .* \(11, 6\)"),
        ([(5, 7), (5, 7), (11,)], r"queue must .* \[rows, dim\]"),
    ],
)
def test_shapes_that_do_not_fit_are_named(shapes, message):
    with pytest.raises(ValueError, match=message):
        info_nce(*(tf.zeros(shape) for shape in shapes))


def test_temperature_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="temperature .* 0"):
        InfoNCE(0)

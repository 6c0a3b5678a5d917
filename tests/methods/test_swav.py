"""SwAV: views, prototypes, assignments, queue, and what is frozen."""

import math

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.callbacks import FreezeRoles
from larq_ssl.heads import mlp_head, prototypes
from larq_ssl.losses import pair_weights, swav_cross_entropy, unit_rows
from larq_ssl.methods import SwAV
from larq_ssl.optimizers import LARS, SGD, Adam
from larq_ssl.roles import Role
from tests import golden
from tests.comparing import assert_near
from tests.methods import tiny

PROTOTYPES = 7


def _step(method, seed=0, **arguments):
    one = tiny.multi_crop_batch(seed, **arguments)
    return one, tiny.trained(method, [one])[0]


def _groups(one):
    return [tf.concat(tf.unstack(one[key], axis=1), axis=0) for key in ("global", "local")]


def _embeddings(method, one):
    """Unit embeddings of all views, view-major, of the networks as they are."""
    features = [method.networks["student"](group, training=True) for group in _groups(one)]
    return unit_rows(method.networks["student_head"](tf.concat(features, axis=0), training=True))


def _kernel(method):
    return method.networks["prototypes"].layers[-1].kernel


def _normalised(kernel):
    return tf.math.l2_normalize(kernel, axis=0).numpy()


def test_the_loss_is_that_of_the_networks_on_their_views():
    method = tiny.swav(alpha=0.4, epsilon=0.1, iterations=2, temperature=0.2, optimizer=SGD(0.0))
    one, terms = _step(method)
    scores = method.networks["prototypes"](_embeddings(method, one))
    losses = swav_cross_entropy(scores[:8], scores, pair_weights(2, 3, 0.4), 0.1, 2, 0.2)
    assert terms["loss"] == pytest.approx(float(tf.reduce_mean(losses)), rel=1e-5)
    assert terms["loss"] == terms["swav"]


@pytest.mark.parametrize("case", ["no_queue", "queue", "queue_empty"])
def test_a_step_is_the_official_one(case):
    arrays = {key.removeprefix("swav/"): value for key, value in golden.load("l4_losses").items()}
    raw, size = arrays["raw_views"], 0 if case == "no_queue" else 12
    # Images that carry the embeddings, and networks that only hand them on.
    images = np.zeros([4, 8, 1, 3, 3], np.float32)
    images.reshape(4, 8, 9)[..., :8] = raw.transpose(1, 0, 2)
    pixels = tf.keras.Input([None, 3, 3])
    student = tf.keras.Model(pixels, tf.keras.layers.Dense(8, use_bias=False)(tf.reshape(pixels, [-1, 9])))
    head, assigned = mlp_head("head", 8, (), 8, norm="none"), prototypes("prototypes", 8, 10)
    student.set_weights([np.eye(9, 8)])
    head.set_weights([np.eye(8), np.zeros(8)])
    assigned.set_weights([arrays["prototypes"]])
    method = SwAV(student, head, assigned, queue_size=size)
    method.compile(SGD(1.0, momentum=0.0))
    if case == "queue":
        method.queue.embeddings.assign(arrays["queue_before"])
    one = {"global": images[:, :2], "local": images[:, 2:], "id": np.arange(4)}
    terms = tiny.trained(method, [{key: tf.constant(value) for key, value in one.items()}])[0]
    assert terms["loss"] == pytest.approx(float(arrays[f"{case}/loss"]), rel=1e-5)
    gradients = arrays[f"{case}/d_raw_views"].reshape(32, 8)
    kernel, bias = head.get_weights()
    assert_near(np.eye(8) - kernel, raw.reshape(32, 8).T @ gradients, 2e-5)
    assert_near(-bias, gradients.sum(axis=0), 2e-5)
    assert_near(arrays["prototypes_normalised"] - assigned.get_weights()[0], arrays[f"{case}/d_prototypes"], 2e-5)
    if size:
        assert_near(method.queue.embeddings, arrays[f"{case}/queue_after"])


def test_statistics_are_those_of_each_size_and_of_all_views_in_the_head():
    method = tiny.swav(optimizer=SGD(0.0))
    student, head = method.networks["student"], method.networks["student_head"]
    one, _ = _step(method)
    inner = tf.keras.Model(student.input, student.get_layer("conv1").output)
    mean = np.zeros(8)
    for group in _groups(one):
        mean = 0.9 * mean + 0.1 * np.mean(inner(group), axis=(0, 1, 2))
    np.testing.assert_allclose(student.get_layer("bn1").moving_mean, mean, rtol=1e-4, atol=1e-6)
    features = tf.concat([student(group, training=True) for group in _groups(one)], axis=0)
    hidden = head.get_layer("dense1")(features)
    np.testing.assert_allclose(head.get_layer("bn1").moving_mean, 0.1 * np.mean(hidden, axis=0), rtol=1e-4, atol=1e-6)


def test_everything_optimised_moves():
    method = tiny.swav(optimizer=SGD(0.5), linear_probe=True)
    before = {name: tiny.parameters(network) for name, network in method.networks.items()}
    before["prototypes"] = {key: _normalised(kernel) for key, kernel in before["prototypes"].items()}
    tiny.trained(method, [tiny.multi_crop_batch(seed) for seed in range(3)])
    assert method.variables_without_gradient() == []
    for name, network in method.networks.items():
        tiny.assert_all_differ(tiny.parameters(network), before[name])


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: SGD(0.5, momentum=0.9, weight_decay=0.1),
        lambda: Adam(0.1, 0.1),
        lambda: LARS.preset("swav", 10.0, weight_decay=0.1),
    ],
)
def test_the_prototypes_are_only_normalised_while_they_are_frozen(optimizer):
    method = tiny.swav(optimizer=optimizer())
    _kernel(method).assign(2.0 * _kernel(method))
    expected, hidden = _kernel(method).numpy(), method.networks["student_head"].get_layer("dense1").kernel.numpy()
    # A momentum that is there before the freezing must not move them, either.
    _step(method, 9)
    expected = _kernel(method).numpy()
    method.freeze([Role.PROTOTYPES])
    for step in range(3):
        _step(method, step)
        expected = _normalised(expected)
        assert _kernel(method).numpy().tobytes() == expected.tobytes()
    assert method.variables_without_gradient() == []
    np.testing.assert_allclose(np.linalg.norm(expected, axis=0), 1, rtol=1e-6)
    assert not np.allclose(method.networks["student_head"].get_layer("dense1").kernel, hidden)
    method.freeze([])
    _step(method, 3)
    assert not np.allclose(_kernel(method), _normalised(expected), atol=1e-5)


def test_the_prototypes_are_frozen_for_so_many_updates():
    method, seen = tiny.swav(optimizer=SGD(0.5, weight_decay=0.1)), []
    watch = tf.keras.callbacks.LambdaCallback(on_batch_end=lambda batch, logs: seen.append(_kernel(method).numpy()))
    start = _normalised(_kernel(method))
    data = tf.data.Dataset.from_tensors(tiny.multi_crop_batch()).repeat()
    method.fit(data, epochs=1, steps_per_epoch=4, callbacks=[FreezeRoles(["prototypes"], 2), watch], verbose=0)
    assert [np.allclose(kernel, start, atol=1e-6) for kernel in seen] == [True, True, False, False]


def test_the_queue_is_filled_from_its_step_on_and_used_when_it_is_full():
    method = tiny.swav(queue_size=8, queue_start_step=1, optimizer=SGD(0.0))
    plain = tiny.swav(optimizer=SGD(0.0))
    for name, network in method.networks.items():
        plain.networks[name].set_weights(network.get_weights())
    expected = np.zeros([2, 8, 5])
    for step in range(5):
        one, terms = _step(method, step)
        embeddings = _embeddings(method, one)
        kernel = _kernel(method)
        # The first is not kept, two fill it.
        queue = tf.matmul(expected, tf.cast(kernel, tf.float64)) if step >= 3 else None
        scores = embeddings @ kernel
        losses = swav_cross_entropy(scores[:8], scores, pair_weights(2, 3), queue_scores=queue)
        assert terms["loss"] == pytest.approx(float(tf.reduce_mean(losses)), rel=1e-5)
        without = tiny.trained(plain, [one])[0]["loss"]
        assert (terms["loss"] == pytest.approx(without, rel=1e-5)) == (step < 3)
        if step >= 1:
            expected = np.concatenate([np.reshape(embeddings[:8], [2, 4, 5]), expected], axis=1)[:, :8]
        np.testing.assert_allclose(method.queue.embeddings, expected, atol=1e-5)


def test_a_queue_that_is_full_before_its_step_goes_on():
    method = tiny.swav(queue_size=8, queue_start_step=100, optimizer=SGD(0.0))
    method.queue.embeddings.assign(tf.ones([2, 8, 5]))
    one, _ = _step(method)
    np.testing.assert_allclose(method.queue.embeddings[0, :4], _embeddings(method, one)[:4], atol=1e-5)
    np.testing.assert_array_equal(method.queue.embeddings[:, 4:], np.ones([2, 4, 5]))


def test_equal_prototypes_have_the_loss_of_a_collapse():
    method = tiny.swav(optimizer=SGD(0.0), alpha=0.4)
    _kernel(method).assign(tf.ones([5, PROTOTYPES]))
    _, terms = _step(method)
    assert terms["swav"] == pytest.approx(math.log(PROTOTYPES), rel=1e-5)
    assert terms["target_entropy"] == pytest.approx(math.log(PROTOTYPES), rel=1e-5)
    assert terms["class_usage"] == pytest.approx(PROTOTYPES, rel=1e-5)
    assert method.collapse_values == {"swav": math.log(PROTOTYPES)}


def test_the_probe_teaches_the_encoder_nothing():
    plain, probed = (tiny.swav(optimizer=SGD(0.5), linear_probe=flag) for flag in (False, True))
    for name, network in plain.networks.items():
        probed.networks[name].set_weights(network.get_weights())
    _step(plain)
    _, terms = _step(probed)
    for name, network in plain.networks.items():
        tiny.assert_close(tiny.parameters(probed.networks[name]), tiny.parameters(network), 1e-6)
    assert terms["loss"] == pytest.approx(terms["swav"] + terms["probe"], rel=1e-5)


def test_global_views_alone_are_enough_and_there_must_be_two():
    method = tiny.swav(optimizer=SGD(0.5), alpha=0.4)
    one = {key: value for key, value in tiny.multi_crop_batch().items() if key != "local"}
    assert np.isfinite(tiny.trained(method, [one])[0]["loss"])
    with pytest.raises(ValueError, match="SwAV assigns 2 global views, got 1"):
        tiny.trained(method, [{**one, "global": one["global"][:, :1]}])


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_scores_and_queue_are_float32_under_any_policy(policy):
    tf.keras.mixed_precision.set_global_policy(policy)
    optimizer = SGD(0.1) if policy == "mixed_bfloat16" else tf.keras.mixed_precision.LossScaleOptimizer(SGD(0.1))
    method = tiny.swav(queue_size=8, optimizer=optimizer)
    history = tiny.trained(method, [tiny.multi_crop_batch(seed) for seed in range(3)], in_graph=True)
    assert np.isfinite([terms["loss"] for terms in history]).all()
    assert _kernel(method).dtype == method.queue.embeddings.dtype == tf.float32
    lengths = np.linalg.norm(method.queue.embeddings, axis=-1)
    # Zero where no hidden unit of the head is on.
    assert np.all((lengths == 0) | (np.abs(lengths - 1) < 1e-5))
    assert np.mean(lengths) > 0.8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": 1.5}, "alpha must lie in"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"epsilon": 0.0}, "epsilon must be positive"),
        ({"iterations": 0}, "iterations must be at least 1"),
        ({"queue_size": -1}, "queue_size must be at least 0, got -1"),
        ({"queue_start_step": -1}, "queue_start_step must be at least 0, got -1"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny.swav(**arguments)


def test_a_queue_that_is_shorter_than_the_batch_is_refused():
    with pytest.raises(ValueError, match="size of the queue must be at least the batch 4, got 3"):
        _step(tiny.swav(queue_size=3))


def test_prototypes_are_prototypes_alone():
    head = mlp_head("prototypes", 5, (), 7, norm="none", output_bias=False)
    with pytest.raises(ValueError, match=r"prototypes must be a network of prototypes alone.*\(kernel\)"):
        SwAV(tiny.conv_encoder("student"), mlp_head("student_head", 6, [9], 5, "batch"), head)


def test_products():
    method = tiny.swav(queue_size=8)
    assert isinstance(method, SwAV)
    assert set(method.encoders) == {"student"}
    assert set(method.heads) == {"student_head", "prototypes"}
    assert method.memories == {"queue": method.queue}
    assert tiny.swav().memories == {}

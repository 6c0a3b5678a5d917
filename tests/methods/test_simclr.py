"""SimCLR: a step by its definition, with and without memory; statistics, momentum networks, queue and probe."""

import math

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.losses import unit_rows
from larq_ssl.methods import SimCLR
from larq_ssl.methods.joint_probe import JointProbe
from larq_ssl.methods.monitors import embedding_std
from larq_ssl.optimizers import LARS, SGD, Adam
from larq_ssl.roles import Role
from tests import golden
from tests.methods import tiny

PAIRS = (("student", "momentum_encoder"), ("student_head", "momentum_head"))
MEMORY = [False, True]


def _embed(method, encoder, head, images):
    """Unit embeddings of both views in one pass, view after view."""
    both = tf.concat([images[:, 0], images[:, 1]], axis=0)
    return unit_rows(method.networks[head](method.networks[encoder](both, training=True), training=True))


def _plain_loss(method, images):
    """The mean loss, image by image; keys of a memory are those of the momentum networks."""
    count = len(images)
    queries = _embed(method, "student", "student_head", images)
    keys, queue = queries, []
    if method.queue is not None:
        keys = tf.stop_gradient(_embed(method, "momentum_encoder", "momentum_head", images))
        queue = tf.unstack(tf.convert_to_tensor(method.queue.keys))
    losses = []
    for row in range(2 * count):
        others = [keys[other] for other in range(2 * count) if other != row]
        scores = [tf.exp(tf.tensordot(queries[row], key, 1) / method.temperature) for key in [*others, *queue]]
        positive = tf.exp(tf.tensordot(queries[row], keys[(row + count) % (2 * count)], 1) / method.temperature)
        losses.append(-tf.math.log(positive / tf.add_n(scores)))
    return tf.add_n(losses) / count


@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize("memory", MEMORY)
def test_a_step_is_that_of_the_definition(memory, in_graph):
    method = tiny.simclr(memory=memory, temperature=0.3, optimizer=SGD(1.0, momentum=0.0))
    one = tiny.batch(size=4)
    with tf.GradientTape() as tape:
        expected = _plain_loss(method, one["global"])
    gradients = tape.gradient(expected, method.optimized_variables)
    before = [variable.numpy() for variable in method.optimized_variables]
    terms = tiny.trained(method, [one], in_graph)[0]
    assert terms["loss"] == terms["contrastive"] == pytest.approx(float(expected), rel=1e-5)
    for start, gradient, variable in zip(before, gradients, method.optimized_variables, strict=True):
        scale = max(1.0, np.abs(gradient).max())
        np.testing.assert_allclose(start - variable, gradient, rtol=0, atol=1e-4 * scale, err_msg=variable.name)


@pytest.mark.parametrize("memory", MEMORY)
def test_what_is_watched(memory):
    arguments = {"queue_size": 36} if memory else {}
    method = tiny.simclr(memory=memory, optimizer=SGD(0.0), **arguments)
    one = tiny.batch(size=6)
    first, second = np.split(_embed(method, "student", "student_head", one["global"]).numpy(), 2)
    if memory:
        second = np.split(_embed(method, "momentum_encoder", "momentum_head", one["global"]).numpy(), 2)[1]
    similarities = first.astype(np.float64) @ second.T / 0.1
    chances = np.exp(similarities) / np.exp(similarities).sum(axis=1, keepdims=True)
    both = tf.concat(tf.unstack(one["global"], axis=1), axis=0)
    features = method.networks["student"](both, training=True)
    terms = tiny.trained(method, [one])[0]
    assert terms["embedding_std"] == pytest.approx(float(embedding_std(features[:6])), rel=1e-4)
    assert terms["accuracy"] == pytest.approx(np.mean(np.argmax(chances, axis=1) == np.arange(6)))
    assert terms["entropy"] == pytest.approx(-np.sum(chances * np.log(chances)) / 6, rel=1e-3)
    assert set(terms) == {
        *("loss", "contrastive", "accuracy", "entropy", "embedding_std"),
        *("gradient_norm/feature_extractor", "gradient_norm/head"),
    }


def test_batch_norm_sees_both_views_together():
    method = tiny.simclr(memory=True, optimizer=SGD(0.0))
    one = tiny.batch()
    tiny.trained(method, [one])
    both = tf.concat(tf.unstack(one["global"], axis=1), axis=0)
    for name in ("student", "momentum_encoder"):
        network = method.networks[name]
        inner = tf.keras.Model(network.input, network.get_layer("dense1").output)(both).numpy()
        moments = {"moving_mean": 0.1 * inner.mean(axis=0), "moving_variance": 0.9 + 0.1 * inner.var(axis=0)}
        for attribute, expected in moments.items():
            np.testing.assert_allclose(getattr(network.get_layer("bn1"), attribute), expected, rtol=1e-4, atol=1e-6)


def test_the_queue_gets_the_keys_of_both_views_after_they_were_compared():
    method = tiny.simclr(memory=True, optimizer=SGD(0.0), queue_size=48)
    start = method.queue.keys.numpy()
    one, other = tiny.batch(size=8), tiny.batch(1, size=8)
    keys = [_embed(method, "momentum_encoder", "momentum_head", batch["global"]) for batch in (one, other)]
    tiny.trained(method, [one, other])
    np.testing.assert_allclose(method.queue.keys[:32], tf.concat(keys, axis=0), atol=1e-5)
    np.testing.assert_array_equal(method.queue.keys[32:], start[32:])
    assert int(method.queue.pointer) == 32


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
def test_the_momentum_networks_follow_the_weights_of_the_step_before(momentum):
    method = tiny.simclr(memory=True, momentum=momentum, optimizer=SGD(0.5))
    averages = {target: tiny.parameters(method.networks[source]) for source, target in PAIRS}
    for seed in range(3):
        for source, target in PAIRS:
            for key, weights in tiny.parameters(method.networks[source]).items():
                averages[target][key] = momentum * averages[target][key] + (1 - momentum) * weights.astype(np.float64)
        tiny.trained(method, [tiny.batch(seed)])
        for source, target in PAIRS:
            tiny.assert_close(tiny.parameters(method.networks[target]), averages[target], 1e-6)
            tiny.assert_all_differ(tiny.parameters(method.networks[source]), averages[target])


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize(
    "optimizer", [lambda: SGD(0.5), lambda: Adam(0.01), lambda: LARS.preset("simclr", 1.0)], ids=["sgd", "adam", "lars"]
)
def test_everything_optimised_moves_and_nothing_else(memory, optimizer):
    arguments = {"momentum": 1.0} if memory else {}
    method = tiny.simclr(memory=memory, optimizer=optimizer(), linear_probe=True, **arguments)
    before = {name: tiny.parameters(network) for name, network in method.networks.items()}
    assert len(before) == (5 if memory else 3)
    tiny.trained(method, [tiny.labelled_batch(seed) for seed in range(3)], in_graph=True)
    assert method.variables_without_gradient() == []
    for name, network in method.networks.items():
        compare = tiny.assert_identical if name.startswith("momentum") else tiny.assert_all_differ
        compare(tiny.parameters(network), before[name])


def test_the_probe_learns_from_both_views_and_teaches_the_encoder_nothing():
    method, one = tiny.simclr(linear_probe=True), tiny.labelled_batch()
    with tf.GradientTape() as tape:
        terms = method.loss_terms(one)
        probe = tf.reduce_mean(terms["probe"])
    student = method.networks["student"].trainable_variables
    assert tape.gradient(probe, student) == [None] * len(student)
    np.testing.assert_allclose(terms["loss"], terms["contrastive"] + terms["probe"], rtol=1e-5)
    features = method.networks["student"](tf.concat(tf.unstack(one["global"], axis=1), axis=0), training=True)
    logits = method.networks["linear_probe"](features)
    labels = tf.concat([one["label"]] * 2, axis=0)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    np.testing.assert_allclose(terms["probe"], tf.add_n(tf.split(losses, 2)) / 2, rtol=1e-4)
    right = np.argmax(logits, axis=1) == labels.numpy()
    np.testing.assert_allclose(terms["probe_accuracy"], right.reshape(2, -1).mean(axis=0))


def test_images_without_a_label_do_not_count_in_the_probe():
    method, one = tiny.simclr(batch_norm=False, linear_probe=True), tiny.labelled_batch(size=6)
    whole = method.loss_terms(one)
    known = np.arange(6) < 4
    part = method.loss_terms({**one, "label": tf.where(known, one["label"], -1)})
    np.testing.assert_allclose(part["probe"], whole["probe"] * known * 6 / 4, rtol=1e-5)


def test_the_decay_of_the_probe_is_that_of_the_released_code():
    arrays = golden.load("s6_simclr")
    kernel = arrays["lars_sup_kernel_w0"]
    classifier = tf.keras.Sequential([tf.keras.layers.Dense(kernel.shape[1], input_shape=[kernel.shape[0]])])
    classifier.set_weights([kernel, arrays["lars_sup_bias_w0"]])
    probe = JointProbe(classifier, weight_decay=float(arrays["lars_weight_decay"]))
    assert float(probe.loss({"probe": 0.0})) == pytest.approx(float(arrays["lars_head_l2_loss"]), rel=1e-5)


def test_lars_leaves_the_probe_to_the_loss():
    method = tiny.simclr(linear_probe=True, probe_weight_decay=0.5, optimizer=LARS.preset("simclr", 0.1))
    plain, one = tiny.simclr(linear_probe=True), tiny.labelled_batch()
    for name, network in method.networks.items():
        plain.networks[name].set_weights(network.get_weights())
    kernel, bias = method.networks["linear_probe"].trainable_variables
    assert [method.optimizer.role(variable) for variable in (kernel, bias)] == [Role.LAST_LAYER, Role.BIAS]
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(plain.loss_terms(one)["probe"])
    gradients = tape.gradient(loss, plain.networks["linear_probe"].trainable_variables)
    before = kernel.numpy(), bias.numpy()
    terms = tiny.trained(method, [one])[0]
    np.testing.assert_allclose(kernel, before[0] - 0.1 * (gradients[0] + 0.5 * before[0]), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(bias, before[1] - 0.1 * gradients[1], rtol=1e-4, atol=1e-6)
    of_decay = 0.25 * np.sum(np.square(before[0]))
    assert terms["loss"] == pytest.approx(terms["contrastive"] + terms["probe"] + of_decay, rel=1e-4)


@pytest.mark.parametrize("memory", MEMORY)
def test_equal_images_have_the_loss_of_a_collapse(memory):
    method = tiny.simclr(batch_norm=False, memory=memory, optimizer=SGD(0.0))
    one = tiny.batch()
    one["global"] = tf.tile(one["global"][:1, :1], [8, 2, 1, 1, 1])
    # After two steps no row of the queue is left from the start.
    terms = tiny.trained(method, [one] * 3)[-1]
    expected = 2 * math.log(2 * 8 - 1 + 32 * memory)
    assert dict(method.collapse_values) == {"contrastive": pytest.approx(expected)}
    assert terms["contrastive"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0.0}, "temperature must be positive and finite, got 0"),
        ({"momentum": -0.1}, r"momentum must lie in \[0, 1\], got -0\.1"),
        ({"memory": True, "queue_size": 0}, "size of the queue must be positive"),
        ({"probe_weight_decay": -1.0}, "weight_decay of the probe must be at least 0, got -1"),
        ({"gradient_clip": 0.0}, "gradient_clip must be above 0"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny.simclr(**arguments)


def test_a_memory_needs_both_networks():
    networks = tiny.simclr(memory=True).networks
    for name, missing in (("momentum_encoder", "momentum_head"), ("momentum_head", "momentum_encoder")):
        with pytest.raises(ValueError, match=f"{missing} must be given too"):
            SimCLR(networks["student"], networks["student_head"], **{name: networks[name]})


@pytest.mark.parametrize("views", [(1, 0), (3, 0), (2, 2)])
def test_other_views_than_two_are_refused(views):
    with pytest.raises(ValueError, match=f"compares 2 global views, got {views[0]}, and {views[1]} local ones"):
        tiny.simclr(make=tiny.conv_encoder).loss_terms(tiny.multi_crop_batch(views=views))


def test_a_queue_that_does_not_fit_the_views_is_refused():
    with pytest.raises(ValueError, match="size of the queue must be a multiple of the batch 16, got 24"):
        tiny.trained(tiny.simclr(memory=True, queue_size=24), [tiny.batch(size=8)])


def test_a_batch_cannot_be_cut():
    assert not SimCLR.allows_accumulation


def test_products():
    plain, method = tiny.simclr(), tiny.simclr(memory=True)
    assert plain.encoders == {"student": plain.networks["student"]}
    assert set(plain.heads) == {"student_head"}
    assert plain.memories == {}
    assert method.encoders == {"student": method.networks["student"], "ema": method.networks["momentum_encoder"]}
    assert set(method.heads) == {"student_head", "momentum_head"}
    assert method.memories == {"queue": method.queue}

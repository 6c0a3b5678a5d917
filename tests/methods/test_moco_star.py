"""MoCo-v2*: the official step, one key for many queries, statistics, and the momentum encoder."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.losses import info_nce, unit_rows
from larq_ssl.methods import MoCoStar
from larq_ssl.models.transfer import named_weights
from larq_ssl.optimizers import SGD, Adam
from tests import golden
from tests.comparing import assert_near
from tests.methods import tiny

PAIRS = (("student", "momentum_encoder"), ("student_head", "momentum_head"))


def _official(arrays, alpha):
    """The method around the official head, whose first layer is the encoder; pixels are its inputs."""
    hidden, outputs = arrays["moco_star/init/query/dense2/kernel"].shape
    inputs = arrays["moco_star/views"].shape[-1]

    def encoder(name):
        dense = tf.keras.layers.Dense(hidden, activation="relu", name="dense1")
        return tf.keras.Sequential([tf.keras.Input([1, 1, inputs]), tf.keras.layers.Flatten(), dense], name=name)

    def head(name):
        dense = tf.keras.layers.Dense(outputs, name="dense2")
        return tf.keras.Sequential([tf.keras.Input([hidden]), dense], name=name)

    method = MoCoStar(
        *(encoder("student"), head("student_head"), encoder("momentum_encoder"), head("momentum_head")),
        alpha=alpha,
        queue_size=len(arrays["moco_star/init/queue"]),
        temperature=float(arrays["moco_star/tau"]),
        momentum=float(arrays["moco_star/momentum"]),
    )
    # Unlike ours, the key network of the test starts with weights of its own.
    for names, init in zip(zip(*PAIRS, strict=True), ("query", "key"), strict=True):
        for name in names:
            for key, weight in named_weights(method.networks[name]).items():
                weight.assign(arrays[f"moco_star/init/{init}/{key}"])
    method.queue.keys.assign(arrays["moco_star/init/queue"])
    method.compile(SGD(1.0, momentum=0.0))
    return method


def _official_batch(arrays):
    views = arrays["moco_star/views"].transpose([1, 0, 2])[:, :, None, None, :]
    return {"global": views[:, :2], "local": views[:, 2:], "id": tf.range(len(views), dtype=tf.int64)}


@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize(("weights", "alpha"), [("sslight", 0.4), ("baseline", 1 / 7), ("baseline", None)])
def test_a_step_is_the_official_one(weights, alpha, in_graph):
    arrays = golden.load("l4_losses")
    method = _official(arrays, alpha)
    terms = tiny.trained(method, [_official_batch(arrays)], in_graph)[0]
    assert_near(terms["loss"], arrays[f"moco_star/{weights}/loss"])
    right = np.argmax(arrays["moco_star/logits"], axis=1) == 0
    assert terms["accuracy"] == pytest.approx(right.mean())
    for source, target in PAIRS:
        for key, weight in named_weights(method.networks[source]).items():
            gradient = arrays[f"moco_star/init/query/{key}"] - weight.numpy()
            assert_near(gradient, arrays[f"moco_star/{weights}/d/{key}"], 1e-4, what=key)
        for key, weight in named_weights(method.networks[target]).items():
            assert_near(weight, arrays[f"moco_star/key_encoder_after/{key}"], what=key)
    assert_near(method.queue.keys, arrays["moco_star/queue_after"], what="queue")
    keys = method.queue.keys[: len(arrays["moco_star/key_unit"])]
    assert_near(keys, arrays["moco_star/key_unit"], what="keys")


@pytest.mark.parametrize("local_views", [0, 3])
@pytest.mark.parametrize("alpha", [None, 0.4])
def test_the_loss_is_that_of_each_query_with_the_key_of_its_image(local_views, alpha):
    method = tiny.moco_star(batch_norm=False, alpha=alpha, optimizer=SGD(0.0))
    queue, one = method.queue.keys.numpy(), tiny.multi_crop_batch(views=(2, local_views))
    terms = tiny.trained(method, [one])[0]

    def embed(encoder, head, images):
        return unit_rows(method.networks[head](method.networks[encoder](images)))

    key = embed("momentum_encoder", "momentum_head", one["global"][:, 0])
    images = [one["global"][:, 1], *tf.unstack(one["local"], axis=1)]
    queries = [embed("student", "student_head", view) for view in images]
    losses = [float(tf.reduce_mean(info_nce(query, key, queue))) for query in queries]
    expected = np.mean(losses)
    if alpha is not None and local_views:
        expected = alpha * losses[0] + (1 - alpha) * np.mean(losses[1:])
    assert terms["contrastive"] == terms["loss"] == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(method.queue.keys[: len(key)], key, atol=1e-6)
    np.testing.assert_array_equal(method.queue.keys[len(key) :], queue[len(key) :])


def test_two_global_views_are_enough():
    method = tiny.moco_star(optimizer=SGD(0.5), alpha=0.4)
    one = tiny.multi_crop_batch()
    with_none = tiny.multi_crop_batch(views=(2, 0))
    np.testing.assert_array_equal(with_none["global"], one["global"])
    without = {key: value for key, value in one.items() if key != "local"}
    start = {name: network.get_weights() for name, network in method.networks.items()}
    loss = tiny.trained(method, [without])[0]["loss"]
    other = tiny.moco_star(optimizer=SGD(0.5))
    for name, weights in start.items():
        other.networks[name].set_weights(weights)
    assert loss == tiny.trained(other, [with_none])[0]["loss"]
    with pytest.raises(ValueError, match="two global views"):
        tiny.trained(method, [tiny.multi_crop_batch(views=(1, 3))])


def test_each_network_keeps_the_statistics_of_its_own_images():
    method = tiny.moco_star(optimizer=SGD(0.0))
    one = tiny.multi_crop_batch()
    tiny.trained(method, [one])
    groups = {
        "student": [one["global"][:, 1], tf.concat(tf.unstack(one["local"], axis=1), axis=0)],
        "momentum_encoder": [one["global"][:, 0]],
    }
    for name, images in groups.items():
        network, mean = method.networks[name], np.zeros(8)
        inner = tf.keras.Model(network.input, network.get_layer("conv1").output)
        for group in images:
            mean = 0.9 * mean + 0.1 * np.mean(inner(group), axis=(0, 1, 2))
        np.testing.assert_allclose(network.get_layer("bn1").moving_mean, mean, rtol=1e-4, atol=1e-6)


def test_the_keys_are_made_with_the_statistics_of_their_batch():
    method = tiny.moco_star(optimizer=SGD(0.0))
    one = tiny.multi_crop_batch()
    encoder, head = method.networks["momentum_encoder"], method.networks["momentum_head"]
    expected, other = (unit_rows(head(encoder(one["global"][:, 0], training=mode))) for mode in (True, False))
    tiny.trained(method, [one])
    np.testing.assert_allclose(method.queue.keys[:4], expected, atol=1e-5)
    assert np.abs(expected - other).max() > 0.01


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
def test_the_momentum_network_follows_the_weights_of_the_step_before(momentum):
    method = tiny.moco_star(momentum=momentum, optimizer=SGD(0.5))
    averages = {target: tiny.parameters(method.networks[source]) for source, target in PAIRS}
    for seed in range(3):
        for source, target in PAIRS:
            for key, weights in tiny.parameters(method.networks[source]).items():
                averages[target][key] = momentum * averages[target][key] + (1 - momentum) * weights.astype(np.float64)
        tiny.trained(method, [tiny.multi_crop_batch(seed)])
        for source, target in PAIRS:
            tiny.assert_close(tiny.parameters(method.networks[target]), averages[target], 1e-6)
            tiny.assert_all_differ(tiny.parameters(method.networks[source]), averages[target])


@pytest.mark.parametrize("optimizer", [lambda: SGD(0.5), lambda: Adam(0.01)])
def test_everything_optimised_moves_and_nothing_else(optimizer):
    method = tiny.moco_star(momentum=1.0, optimizer=optimizer(), linear_probe=True)
    before = {name: tiny.parameters(network) for name, network in method.networks.items()}
    tiny.trained(method, [tiny.multi_crop_batch(seed) for seed in range(3)], in_graph=True)
    assert method.variables_without_gradient() == []
    for name, network in method.networks.items():
        compare = tiny.assert_identical if name.startswith("momentum") else tiny.assert_all_differ
        compare(tiny.parameters(network), before[name])


def test_the_probe_learns_from_the_first_query_and_teaches_the_encoder_nothing():
    method = tiny.moco_star(optimizer=SGD(0.0), linear_probe=True)
    one = tiny.multi_crop_batch()
    with tf.GradientTape() as tape:
        terms = method.loss_terms(one)
        probe = tf.reduce_mean(terms["probe"])
    student = method.networks["student"].trainable_variables
    assert tape.gradient(probe, student) == [None] * len(student)
    np.testing.assert_allclose(terms["loss"], terms["contrastive"] + terms["probe"], rtol=1e-5)
    features = method.networks["student"](one["global"][:, 1], training=True)
    logits = method.networks["linear_probe"](features)
    expected = tf.nn.sparse_softmax_cross_entropy_with_logits(one["label"], logits)
    np.testing.assert_allclose(terms["probe"], expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": 1.5}, r"alpha must lie in \[0, 1\] or be None, got 1\.5"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"momentum": -0.1}, r"momentum must lie in \[0, 1\], got -0\.1"),
        ({"queue_size": 0}, "size of the queue must be positive"),
        ({"gradient_clip": 0.0}, "gradient_clip must be above 0"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny.moco_star(**arguments)


def test_a_queue_that_does_not_fit_the_batch_is_refused():
    with pytest.raises(ValueError, match="size of the queue must be a multiple of the batch 4, got 18"):
        tiny.trained(tiny.moco_star(queue_size=18), [tiny.multi_crop_batch()])


def test_products():
    method = tiny.moco_star()
    assert method.encoders == {"student": method.networks["student"], "ema": method.networks["momentum_encoder"]}
    assert set(method.heads) == {"student_head", "momentum_head"}
    assert method.memories == {"queue": method.queue}

"""BYOL: the published step, views one after the other, the momentum network, uniformity."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.losses import mean_uniformity, unit_rows
from larq_ssl.methods import BYOL
from larq_ssl.methods.monitors import embedding_std
from larq_ssl.optimizers import SGD, Adam
from larq_ssl.schedules import WarmupCosine
from tests.methods import tiny

ONLINE = ("student", "student_head", "predictor")
PAIRS = (("student", "momentum_encoder"), ("student_head", "momentum_head"))


def _batch(seed=0, size=4, views=2, side=8):
    return tiny.multi_crop_batch(seed, size, views=(views, 0), sides=(side, 4))


def _twin(method, **arguments):
    """Another method that starts where this one stands."""
    twin = tiny.byol(**arguments)
    for name, network in method.networks.items():
        twin.networks[name].set_weights(network.get_weights())
    return twin


def _step_by_hand(networks, batch, rate, momentum):
    """The algorithm of the paper, retyped; returns the loss."""

    def unit(rows):
        return rows / tf.norm(rows, axis=-1, keepdims=True)

    def through(names, images):
        for name in names:
            images = networks[name](images, training=True)
        return unit(images)

    variables = [variable for name in ONLINE for variable in networks[name].trainable_variables]
    first, second = tf.unstack(batch["global"], axis=1)
    with tf.GradientTape() as tape:
        q1, z1 = through(ONLINE, first), through(("momentum_encoder", "momentum_head"), first)
        q2, z2 = through(ONLINE, second), through(("momentum_encoder", "momentum_head"), second)
        loss = tf.reduce_mean(tf.reduce_sum((q1 - z2) ** 2, axis=-1) + tf.reduce_sum((q2 - z1) ** 2, axis=-1))
    for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
        variable.assign_sub(rate * gradient)
    for source, target in PAIRS:
        pairs = zip(networks[source].trainable_variables, networks[target].trainable_variables, strict=True)
        for online, average in pairs:
            average.assign(momentum * average + (1 - momentum) * online)
    return float(loss)


@pytest.mark.parametrize("in_graph", [False, True])
def test_steps_are_those_of_the_published_algorithm(in_graph):
    momentum = WarmupCosine(0.5, 1.0, total_steps=4)
    method = tiny.byol(momentum=momentum, optimizer=SGD(0.05, momentum=0.0), make=tiny.encoder)
    by_hand = _twin(method, make=tiny.encoder).networks
    batches = [_batch(seed, 8, side=4) for seed in range(3)]
    losses = [_step_by_hand(by_hand, one, 0.05, float(momentum(step))) for step, one in enumerate(batches)]
    history = tiny.trained(method, batches, in_graph)
    assert [terms["byol"] for terms in history] == pytest.approx(losses, rel=1e-4)
    for name, network in by_hand.items():
        tiny.assert_close(tiny.parameters(method.networks[name]), tiny.parameters(network), 1e-4)
        tiny.assert_close(tiny.statistics(method.networks[name]), tiny.statistics(network), 1e-4)


def test_the_momentum_network_starts_as_a_copy():
    method = tiny.byol()
    for source, target in PAIRS:
        tiny.assert_identical(tiny.parameters(method.networks[target]), tiny.parameters(method.networks[source]))


def test_statistics_are_those_of_one_view_after_the_other_in_both_networks():
    method = tiny.byol(optimizer=SGD(0.0))
    one, means = _batch(), {"conv1": 0.0, "dense1": 0.0, "predictor": 0.0}
    student, head, predictor = (method.networks[name] for name in ONLINE)
    inner = tf.keras.Model(student.input, student.get_layer("conv1").output)
    expected = _twin(method)
    for images in tf.unstack(one["global"], axis=1):
        features = expected.networks["student"](images, training=True)
        projection = expected.networks["student_head"](features, training=True)
        new = {
            "conv1": np.mean(inner(images), axis=(0, 1, 2)),
            "dense1": np.mean(head.get_layer("dense1")(features), axis=0),
            "predictor": np.mean(predictor.get_layer("dense1")(projection), axis=0),
        }
        means = {name: 0.9 * mean + 0.1 * new[name] for name, mean in means.items()}
    tiny.trained(method, [one])
    for network in ("student", "momentum_encoder"):
        norm = method.networks[network].get_layer("bn1")
        np.testing.assert_allclose(norm.moving_mean, means["conv1"], rtol=1e-4, atol=1e-6)
    for network in ("student_head", "momentum_head"):
        norm = method.networks[network].get_layer("bn1")
        np.testing.assert_allclose(norm.moving_mean, means["dense1"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(predictor.get_layer("bn1").moving_mean, means["predictor"], rtol=1e-4, atol=1e-6)


def test_each_network_keeps_statistics_of_its_own():
    method = tiny.byol(optimizer=SGD(0.5), momentum=1.0)
    tiny.trained(method, [_batch(seed) for seed in range(2)])
    for source, target in PAIRS:
        online, average = (tiny.statistics(method.networks[name]) for name in (source, target))
        assert not np.allclose(online["bn1/moving_mean"], average["bn1/moving_mean"], rtol=1e-3)


def test_the_momentum_network_follows_the_updated_student_by_the_momentum_of_the_step():
    momentum = WarmupCosine(0.5, 1.0, total_steps=4)
    method = tiny.byol(momentum=momentum, optimizer=SGD(0.5))
    for step in range(3):
        before = {target: tiny.parameters(method.networks[target]) for _, target in PAIRS}
        tiny.trained(method, [_batch(step)])
        m = float(momentum(step))
        for source, target in PAIRS:
            after = tiny.parameters(method.networks[source])
            expected = {key: m * before[target][key] + (1 - m) * after[key] for key in after}
            tiny.assert_close(tiny.parameters(method.networks[target]), expected)
            tiny.assert_all_differ(tiny.parameters(method.networks[target]), after)


@pytest.mark.parametrize("head_norm", ["batch", "layer", "weight", "none"])
@pytest.mark.parametrize("optimizer", [lambda: SGD(0.5), lambda: Adam(0.01)])
def test_everything_optimised_moves_and_nothing_else(optimizer, head_norm):
    method = tiny.byol(momentum=1.0, optimizer=optimizer(), linear_probe=True, head_norm=head_norm)
    before = {name: tiny.parameters(network) for name, network in method.networks.items()}
    tiny.trained(method, [_batch(seed) for seed in range(3)])
    assert method.variables_without_gradient() == []
    for name, network in method.networks.items():
        compare = tiny.assert_identical if name.startswith("momentum") else tiny.assert_all_differ
        compare(tiny.parameters(network), before[name])


def test_uniformity_is_that_of_the_unit_predictions_of_both_views():
    method = tiny.byol(uniformity_weight=0.25, optimizer=SGD(0.0))
    one = _batch(size=8)
    _, online, _ = _twin(method).embed(one)
    expected = float(mean_uniformity(*tf.split(unit_rows(online), 2)))
    terms = tiny.trained(method, [one])[0]
    assert terms["uniformity_loss"] == pytest.approx(expected, rel=1e-4)
    assert terms["loss"] == pytest.approx(terms["byol"] + 0.25 * expected, rel=1e-5)
    assert expected < -0.1


def test_uniformity_keeps_embeddings_apart():
    one, apart = tiny.batch(), []
    for weight in (0.0, 1.0):
        tf.keras.utils.set_random_seed(0)
        method = tiny.byol(uniformity_weight=weight, make=tiny.encoder, optimizer=SGD(0.1), momentum=0.9)
        tiny.trained(method, [one] * 20, in_graph=True)
        _, online, _ = method.embed(one)
        apart.append(float(mean_uniformity(*tf.split(unit_rows(online), 2))))
    assert apart[1] < apart[0] - 0.3


def test_a_batch_in_parts_is_the_whole_where_images_do_not_see_each_other():
    whole = tiny.byol(batch_norm=False, optimizer=SGD(0.5))
    parts = _twin(whole, batch_norm=False, optimizer=SGD(0.5), accumulate=2)
    losses = [tiny.trained(method, [_batch(size=8)])[0]["loss"] for method in (whole, parts)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    for name, network in whole.networks.items():
        tiny.assert_close(tiny.parameters(parts.networks[name]), tiny.parameters(network))
    with pytest.raises(ValueError, match="accumulate must be 1 for BYOL, whose examples see each other"):
        tiny.byol(uniformity_weight=0.1, accumulate=2)


def test_the_probe_teaches_the_encoder_nothing():
    plain = tiny.byol(optimizer=SGD(0.5))
    probed = tiny.byol(optimizer=SGD(0.5), linear_probe=True)
    for name, network in plain.networks.items():
        probed.networks[name].set_weights(network.get_weights())
    terms = [tiny.trained(method, [_batch()])[0] for method in (plain, probed)]
    assert terms[1]["loss"] == pytest.approx(terms[0]["loss"] + terms[1]["probe"], rel=1e-5)
    tiny.assert_close(tiny.parameters(probed.networks["student"]), tiny.parameters(plain.networks["student"]), 1e-6)


@pytest.mark.parametrize("make", [tiny.byol, tiny.msbreg])
def test_probe_and_spread_are_those_of_the_first_view(make):
    method, one = make(optimizer=SGD(0.0), linear_probe=True), _batch()
    features = [method.networks["student"](images, training=True) for images in tf.unstack(one["global"], axis=1)]
    logits = method.networks["linear_probe"](features[0])
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(one["label"], logits)
    terms = tiny.trained(method, [one])[0]
    assert terms["probe"] == pytest.approx(float(tf.reduce_mean(losses)), rel=1e-4)
    assert terms["probe_accuracy"] == pytest.approx(np.mean(np.argmax(logits, axis=1) == one["label"]))
    first, second = (float(embedding_std(of_view)) for of_view in features)
    assert terms["embedding_std"] == pytest.approx(first, rel=1e-4)
    assert second != pytest.approx(first, rel=1e-3)


@pytest.mark.parametrize("views", [1, 3])
def test_other_numbers_of_views_are_refused(views):
    with pytest.raises(ValueError, match=f"BYOL compares two views, got {views}"):
        tiny.trained(tiny.byol(), [_batch(views=views)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"momentum": 1.5}, r"momentum must lie in \[0, 1\], got 1\.5"),
        ({"uniformity_weight": -0.1}, "uniformity_weight must be at least 0, got -0.1"),
        ({"gradient_clip": 0.0}, "gradient_clip must be above 0"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny.byol(**arguments)


def test_products():
    method = tiny.byol()
    assert isinstance(method, BYOL)
    assert method.encoders == {"student": method.networks["student"], "ema": method.networks["momentum_encoder"]}
    assert set(method.heads) == {"student_head", "predictor", "momentum_head"}
    assert method.memories == {}
    assert method.term_names == ("loss", "byol", "embedding_std")

"""MSBReg: a retyped step, BYOL with two views, the random pushes, and what each term needs."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.losses import brownian_loss
from larq_ssl.methods import MSBReg
from larq_ssl.methods.brownian import brownian_directions
from larq_ssl.optimizers import SGD
from tests.methods import tiny

ONLINE = ("student", "student_head", "predictor")
DIM = 3


def _batch(seed=0, size=8, views=4, side=8):
    return tiny.multi_crop_batch(seed, size, views=(views, 0), sides=(side, 4))


def _copy(method, twin):
    """Gives the twin the weights of a method."""
    for name, network in method.networks.items():
        twin.networks[name].set_weights(network.get_weights())
    return twin


def _unit(rows):
    return rows / tf.norm(rows, axis=-1, keepdims=True)


def _step_by_hand(networks, batch, step, rate):
    """All three losses with weights 0.5 and 2, retyped for distinct singular values; returns them."""
    views = tf.unstack(batch["global"], axis=1)
    variables = [variable for name in ONLINE for variable in networks[name].trainable_variables]

    def through(names, images):
        for name in names:
            images = networks[name](images, training=True)
        return _unit(images)

    with tf.GradientTape() as tape:
        q = [through(ONLINE, images) for images in views]
        z = [through(("momentum_encoder", "momentum_head"), images) for images in views]
        distances = [
            2 - 2 * tf.reduce_sum(q[k] * _unit(tf.add_n([z[j] for j in range(len(z)) if j != k])), axis=-1)
            for k in range(len(q))
        ]
        centroid = tf.reduce_mean(distances)
        u = brownian_directions(7, step, batch["id"], 1, DIM)
        brownian = tf.reduce_mean([tf.reduce_sum(rows * u, axis=-1) for rows in q])
        sigma = tf.linalg.svd(_unit(tf.add_n(q)), compute_uv=False)
        singular_values = tf.reduce_sum((sigma * (DIM / q[0].shape[0]) ** 0.5 - 1) ** 2)
        loss = centroid + 0.5 * singular_values + 2 * brownian
    for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
        variable.assign_sub(rate * gradient)
    for source, target in (("student", "momentum_encoder"), ("student_head", "momentum_head")):
        pairs = zip(networks[source].trainable_variables, networks[target].trainable_variables, strict=True)
        for online, average in pairs:
            average.assign(0.5 * average + 0.5 * online)
    terms = {"loss": loss, "centroid": centroid, "brownian": brownian, "singular_values": singular_values}
    return {name: float(value) for name, value in terms.items()}


@pytest.mark.parametrize("in_graph", [False, True])
def test_steps_are_those_of_the_three_losses(in_graph):
    arguments = {"lambda_s": 0.5, "lambda_b": 2.0, "seed": 7, "momentum": 0.5}
    method = tiny.msbreg(optimizer=SGD(0.02, momentum=0.0), make=tiny.encoder, **arguments)
    by_hand = _copy(method, tiny.msbreg(make=tiny.encoder)).networks
    batches = [_batch(seed, side=4) for seed in range(3)]
    expected = [_step_by_hand(by_hand, one, step, 0.02) for step, one in enumerate(batches)]
    history = tiny.trained(method, batches, in_graph)
    for terms, values in zip(history, expected, strict=True):
        assert {name: terms[name] for name in values} == pytest.approx(values, rel=1e-3, abs=1e-5)
    for name, network in by_hand.items():
        tiny.assert_close(tiny.parameters(method.networks[name]), tiny.parameters(network), 1e-4)
        tiny.assert_close(tiny.statistics(method.networks[name]), tiny.statistics(network), 1e-4)


@pytest.mark.parametrize("centroid", ["leave_one_out", "centroid_to_centroid"])
def test_with_two_views_and_no_other_loss_it_is_half_of_byol(centroid):
    byol = tiny.byol(optimizer=SGD(0.1, momentum=0.0), momentum=0.9)
    plain = {"lambda_s": 0.0, "lambda_b": 0.0, "momentum": 0.9, "centroid": centroid}
    method = _copy(byol, tiny.msbreg(optimizer=SGD(0.2, momentum=0.0), **plain))
    batches = [_batch(seed, views=2) for seed in range(3)]
    halves = [terms["byol"] / 2 for terms in tiny.trained(byol, batches)]
    assert [terms["loss"] for terms in tiny.trained(method, batches)] == pytest.approx(halves, rel=1e-4)
    for name, network in byol.networks.items():
        tiny.assert_close(tiny.parameters(method.networks[name]), tiny.parameters(network), 1e-4)


def test_the_pushes_are_fresh_in_every_step_and_those_of_the_images():
    method = tiny.msbreg(optimizer=SGD(0.0), momentum=1.0, lambda_s=0.0, lambda_b=3.0, seed=5)
    one = _batch()
    order = tf.constant([3, 1, 0, 2, 5, 4, 7, 6])
    shuffled = {name: tf.gather(values, order) for name, values in one.items()}
    _, online, target = _copy(method, tiny.msbreg()).embed(one)
    pushes = []
    for step, batch in enumerate([one, one, shuffled]):
        terms = tiny.trained(method, [batch])[0]
        expected = brownian_loss(brownian_directions(5, step, one["id"], 1, DIM), online, 4)
        # Also where the images come in another order, each with its number.
        assert terms["brownian"] == pytest.approx(float(tf.reduce_mean(expected)), abs=1e-5)
        assert terms["loss"] == pytest.approx(terms["centroid"] + 3 * terms["brownian"], rel=1e-4)
        pushes.append(terms["brownian"])
    assert len({round(push, 4) for push in pushes}) == 3
    assert target.shape == online.shape


def test_views_may_have_directions_of_their_own():
    method = tiny.msbreg(optimizer=SGD(0.0), lambda_s=0.0, brownian_per_view=True)
    one = _batch()
    _, online, _ = _copy(method, tiny.msbreg()).embed(one)
    expected = brownian_loss(brownian_directions(0, 0, one["id"], 4, DIM), online, 4)
    assert tiny.trained(method, [one])[0]["brownian"] == pytest.approx(float(tf.reduce_mean(expected)), abs=1e-5)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"centroid": "all", "spectrum": "cov", "head_norm": "layer"},
        {"centroid": "centroid_to_centroid", "spectrum": "nuclear", "rows": "view", "head_norm": "weight"},
        {"brownian_per_view": True, "head_norm": "none"},
    ],
)
def test_everything_optimised_moves_and_nothing_else(arguments):
    method = tiny.msbreg(momentum=1.0, optimizer=SGD(0.1), linear_probe=True, **arguments)
    before = {name: tiny.parameters(network) for name, network in method.networks.items()}
    history = tiny.trained(method, [_batch(seed) for seed in range(3)])
    assert np.isfinite([list(terms.values()) for terms in history]).all()
    assert method.variables_without_gradient() == []
    for name, network in method.networks.items():
        compare = tiny.assert_identical if name.startswith("momentum") else tiny.assert_all_differ
        compare(tiny.parameters(network), before[name])


def test_collapsed_embeddings_have_finite_gradients():
    method = tiny.msbreg(batch_norm=False, optimizer=SGD(0.1), lambda_s=1.0)
    one = _batch()
    same = {**one, "global": tf.repeat(one["global"][:1, :1], 8, axis=0) + tf.zeros([8, 4, 8, 8, 3], tf.uint8)}
    terms = tiny.trained(method, [same] * 3)
    assert terms[0]["singular_values"] > 1.0
    assert np.isfinite([list(values.values()) for values in terms]).all()


def test_a_batch_in_parts_is_the_whole_without_singular_values():
    arguments = {"batch_norm": False, "lambda_s": 0.0, "lambda_b": 2.0}
    whole = tiny.msbreg(optimizer=SGD(0.5), **arguments)
    parts = _copy(whole, tiny.msbreg(optimizer=SGD(0.5), accumulate=2, **arguments))
    losses = [tiny.trained(method, [_batch()])[0]["loss"] for method in (whole, parts)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    for name, network in whole.networks.items():
        tiny.assert_close(tiny.parameters(parts.networks[name]), tiny.parameters(network))
    with pytest.raises(ValueError, match="accumulate must be 1 for MSBReg, whose examples see each other"):
        tiny.msbreg(accumulate=2)


def test_terms_without_weight_are_left_out():
    assert tiny.msbreg().term_names == ("loss", "centroid", "brownian", "singular_values", "embedding_std")
    assert tiny.msbreg(lambda_s=0.0).term_names == ("loss", "centroid", "brownian", "embedding_std")
    assert tiny.msbreg(lambda_b=0.0).term_names == ("loss", "centroid", "singular_values", "embedding_std")
    # Fewer images than dimensions are no hindrance then.
    assert np.isfinite(tiny.trained(tiny.msbreg(lambda_s=0.0), [_batch(size=2)])[0]["loss"])


def test_fewer_images_than_dimensions_are_refused():
    with pytest.raises(ValueError, match="rows must be at least as many as their dimensions, .*, got 2 of 3"):
        tiny.trained(tiny.msbreg(), [_batch(size=2)])
    assert np.isfinite(tiny.trained(tiny.msbreg(rows="view"), [_batch(size=2)])[0]["loss"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"momentum": -0.5}, r"momentum must lie in \[0, 1\], got -0\.5"),
        ({"lambda_s": -1.0}, "lambda_s must be at least 0, got -1.0"),
        ({"lambda_b": -1.0}, "lambda_b must be at least 0, got -1.0"),
        ({"centroid": "mean"}, "centroid must be one of leave_one_out, .*, got 'mean'"),
        ({"spectrum": "rank"}, "spectrum must be one of sv, cov, nuclear, got 'rank'"),
        ({"rows": "batch"}, "rows must be one of image, view, got 'batch'"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny.msbreg(**arguments)


@pytest.mark.parametrize(("views", "centroid"), [(1, "all"), (3, "centroid_to_centroid")])
def test_views_that_make_no_centroid_are_refused(views, centroid):
    with pytest.raises(ValueError, match=f"views must be .*, got {views}"):
        tiny.trained(tiny.msbreg(centroid=centroid), [_batch(views=views)])


def test_products():
    method = tiny.msbreg()
    assert isinstance(method, MSBReg)
    assert set(method.encoders) == {"student", "ema"}
    assert set(method.heads) == {"student_head", "predictor", "momentum_head"}

"""Residual branches dropped in training: for whom, how often, and that nothing else of a network changes."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import models
from larq_ssl.models.transfer import copy_weights, named_weights
from larq_ssl.models.vit_layers import DropPath, SelfAttention, Tokens
from tests.replicas import two_replicas


def _images(batch=2):
    return np.random.default_rng(0).integers(0, 256, (batch, 64, 64, 3)).astype(np.uint8)


def _layers(encoder):
    return [layer for layer in encoder.layers if isinstance(layer, DropPath)]


def test_draws_for_each_example_and_keeps_the_expectation():
    layer = DropPath(0.25)
    x = tf.random.stateless_uniform([4000, 2, 3], [1, 2]) + 1.0
    output = layer(x, training=True).numpy()
    dropped = (output == 0).all((1, 2))
    np.testing.assert_array_equal(output[dropped], 0)
    np.testing.assert_allclose(output[~dropped], x[~dropped] / 0.75, rtol=1e-6)
    assert abs(dropped.mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 4000)
    again = (layer(x, training=True).numpy() == 0).all((1, 2))
    assert abs((again & dropped).mean() - 0.25**2) < 0.02  # other draws every time
    for training in (False, None):
        np.testing.assert_array_equal(layer(x, training=training), x)


def test_no_gradient_through_a_dropped_branch():
    layer, x = DropPath(0.5), tf.ones([64, 3])
    with tf.GradientTape() as tape:
        tape.watch(x)
        output = layer(x, training=True)
    np.testing.assert_array_equal(tape.gradient(output, x), output)


def test_rates_rise_with_the_depth():
    encoder = models.build("vit_tiny_32", binarization="none", drop_path=0.11)
    rates = {layer.name: layer.rate for layer in _layers(encoder)}
    expected = {}
    for number in range(2, 13):  # the first block has the rate 0
        for branch in ("attention", "mlp"):
            expected[f"block{number}/{branch}/drop_path"] = pytest.approx(0.01 * (number - 1))
    assert rates == expected


def test_only_training_is_another():
    plain, dropping = (models.build("vit_tiny_32", binarization="none", drop_path=rate) for rate in (0.0, 0.5))
    report = copy_weights(plain, dropping)
    assert report.tensors == len(plain.weights) == len(named_weights(dropping))
    assert models.encoder_hash(plain) == models.encoder_hash(dropping)
    assert dataclasses.asdict(plain.spec) == dataclasses.asdict(dropping.spec)
    assert _layers(plain) == []
    images = _images()
    np.testing.assert_array_equal(dropping(images), plain(images))
    np.testing.assert_array_equal(plain(images, training=True), plain(images))
    trained = dropping(images, training=True)
    assert np.abs(trained - plain(images)).max() > 0.01
    # Other sizes drop with the same layers.
    assert [id(layer) for layer in _layers(dropping.at(64))] == [id(layer) for layer in _layers(dropping)]


def test_the_seed_decides_and_checkpoints_go_on(tmp_path):
    def draws(layer, count):
        return [layer(tf.ones([16, 1]), training=True).numpy() for _ in range(count)]

    runs = []
    for seed in (7, 7, 8):
        tf.keras.utils.set_random_seed(seed)
        runs.append(draws(DropPath(0.5), 2))
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])

    first, second = (tf.keras.Sequential([tf.keras.Input([1]), DropPath(0.5)]) for _ in range(2))
    assert first.weights == []
    draws(first.layers[0], 3)
    file = tf.train.Checkpoint(model=first).write(str(tmp_path / "checkpoint"))
    expected = draws(first.layers[0], 3)
    tf.train.Checkpoint(model=second).read(file).assert_consumed()
    np.testing.assert_array_equal(draws(second.layers[0], 3), expected)


def test_replicas_draw_by_themselves():
    strategy = two_replicas()
    with strategy.scope():
        layer = DropPath(0.5)
        layer.build([None, 1])
    run = tf.function(lambda: strategy.run(lambda: layer(tf.ones([64, 1]), training=True)))
    first, second = (output.numpy() for output in strategy.experimental_local_results(run()))
    assert not np.array_equal(first, second)
    assert set(np.unique([first, second])) == {0.0, 2.0}


@pytest.mark.parametrize("rate", [-0.1, 1, float("nan")])
def test_mistakes(rate):
    with pytest.raises(ValueError, match="`rate` must be at least 0 and below 1"):
        DropPath(rate)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(DropPath(0.3), [2, 3]), (SelfAttention(2), [2, 5, 12]), (Tokens(3, "ones", "normal"), [2, 3, 3, 4])],
)
def test_layers_round_trip(layer, shape):
    restored = tf.keras.layers.deserialize(tf.keras.layers.serialize(layer))
    assert restored.get_config() == layer.get_config()
    x = tf.random.stateless_normal(shape, [1, 2])
    layer(x)
    restored.build(tf.TensorShape(shape))
    restored.set_weights(layer.get_weights())
    np.testing.assert_array_equal(restored(x), layer(x))

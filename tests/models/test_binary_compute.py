"""The arithmetic of binary networks: the same network in bfloat16, and what `auto` chooses."""

import io

import larq
import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import models
from larq_ssl.models import binary_compute
from larq_ssl.models.binary_compute import Choice, choose
from larq_ssl.models.binary_convolution import Bfloat16BinaryConv2D
from larq_ssl.models.transfer import assign_weights, named_weights
from tests.experiments.commands import add_short_networks

add_short_networks()


def summary(network):
    text = io.StringIO()
    larq.models.summary(network, print_fn=lambda line: text.write(f"{line}\n"))
    return text.getvalue()


@pytest.mark.parametrize("name", ["reactnet_stages", "birealnet_18", "zoo:QuickNetSmall"])
def test_the_network_is_the_same(name):
    """Layers, variables, summary, and features up to rounding."""
    width = {} if name.startswith("zoo:") else {"width": 0.25}
    plain, small = (models.build(name, 32, binary_compute=choice, **width) for choice in ("float32", "bfloat16"))
    assert len(small.binary_layers) == len(plain.binary_layers) > 3
    assert {type(layer) for layer in plain.binary_layers} == {larq.layers.QuantConv2D}
    assert {type(layer) for layer in small.binary_layers} == {Bfloat16BinaryConv2D}
    assert summary(small) == summary(plain)
    assert small.spec == plain.spec
    weights = {key: weight.numpy() for key, weight in named_weights(plain).items()}
    assert list(named_weights(small)) == list(weights)
    assign_weights(small, weights)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.float32)
    # Layer by layer on equal inputs: what is rounded may flip a sign further on.
    for one, other in zip(plain.binary_layers, small.binary_layers, strict=True):
        inner = tf.keras.Model(plain.inputs, one.input)(images)
        wanted = one(inner).numpy()
        assert np.abs(other(inner).numpy() - wanted).max() <= 2**-8 * np.abs(wanted).max()
    again = small.at(48).binary_layers
    assert [id(layer) for layer in again] == [id(layer) for layer in small.binary_layers]


@pytest.mark.parametrize("binarization", ["none", "activations"])
def test_networks_with_real_kernels_are_left_alone(binarization):
    network = models.build("reactnet_stages", None, binarization, width=0.125, binary_compute="bfloat16")
    assert {type(layer) for layer in network.binary_layers} == {larq.layers.QuantConv2D}


def test_a_network_with_fixed_statistics_keeps_its_arithmetic():
    network = models.build("reactnet_stages", None, width=0.125, binary_compute="bfloat16")
    fixed = network.with_fixed_statistics({"stem/bn"})
    assert {type(layer) for layer in fixed.binary_layers} == {Bfloat16BinaryConv2D}


@pytest.mark.parametrize(("ratio", "wanted"), [(1.5, "bfloat16"), (1.04, "float32"), (0.3, "float32")])
def test_auto_takes_what_is_clearly_faster(ratio, wanted, monkeypatch):
    monkeypatch.setattr(binary_compute, "_measured_ratio", lambda: ratio)
    assert choose() == Choice(wanted, ratio)
    assert str(choose()).startswith(
        f"Binary convolutions are computed in {wanted}: in bfloat16 one takes {1 / ratio:.2f}"
    )
    for given in ("float32", "bfloat16"):
        assert choose(given) == Choice(given)
        assert str(choose(given)) == f"Binary convolutions are computed in {given}."


def test_the_trial_measures_both_and_leaves_the_seed_alone():
    tf.keras.utils.set_random_seed(3)
    before = tf.random.normal([2]).numpy()
    tf.keras.utils.set_random_seed(3)
    assert 0.01 < choose().ratio < 100
    np.testing.assert_array_equal(tf.random.normal([2]), before)


def test_another_word_is_refused():
    with pytest.raises(ValueError, match="binary_compute must be one of auto, float32, bfloat16, got 'int8'"):
        choose("int8")
    with pytest.raises(ValueError, match="binary_compute must be one of"):
        models.build("reactnet_stages", binary_compute="int8")


def test_the_shortest_turns_are_compared(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(binary_compute.time, "perf_counter", lambda: now[0])

    def taking(seconds):
        turns = iter(seconds)

        def compute():
            now[0] += next(turns)
            return tf.constant(0.0)

        return compute

    # The first call of each does not count.
    assert binary_compute.times_as_fast(taking([0.1, 7.0, 4.0, 9.0]), taking([0.1, 5.0, 3.0, 2.0]), 3) == 2.0

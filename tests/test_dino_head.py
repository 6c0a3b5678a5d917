"""DINO's head against the official module, in training and in inference mode."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.heads import dino_head
from larq_ssl.models.transfer import named_weights
from tests import golden
from tests.comparing import assert_near

# The official module has no other behaviour in inference mode where it has no batch norm.
RUNS = [
    ("no_bn_norm_last", "train"),
    ("no_bn_free_gain", "train"),
    *((variant, mode) for variant in ("bn_norm_last", "bn_free_gain") for mode in ("train", "eval")),
]


@pytest.fixture(scope="module")
def arrays():
    return {
        key.removeprefix("dino_head/"): value
        for key, value in golden.load("l4_losses").items()
        if key.startswith("dino_head/")
    }


def _official(arrays, variant):
    """Our head with the official weights; a bias that a batch norm subtracts again is in its moving mean."""
    width = arrays["param/dense1/kernel"].shape[1]
    head = dino_head(
        "head",
        arrays["x"].shape[1],
        arrays["param/last_layer/v"].shape[1],
        batch_norm=variant.startswith("bn"),
        free_gain=variant.endswith("free_gain"),
        hidden_dims=(width, arrays["param/dense2/kernel"].shape[1]),
        bottleneck_dim=arrays["param/dense3/kernel"].shape[1],
    )
    for key, weight in named_weights(head).items():
        weight.assign(arrays[f"param/{key}"] - _shift(arrays, key))
    return head


def _shift(arrays, key):
    """What our moving means lack: the bias before the batch norm."""
    layer, name = key.split("/")
    return arrays[f"param/{layer.replace('bn', 'dense')}/bias"] if name == "moving_mean" else 0.0


@pytest.mark.parametrize(("variant", "mode"), RUNS)
def test_outputs_and_gradients_are_the_official_ones(arrays, variant, mode):
    head = _official(arrays, variant)
    x = tf.constant(arrays["x"])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = head(x, training=mode == "train")
    trainable = {id(weight) for weight in head.trainable_weights}
    weights = {key: weight for key, weight in named_weights(head).items() if id(weight) in trainable}
    dx, gradients = tape.gradient(y, [x, weights], arrays["ct"])
    expected = {
        key.removeprefix(f"{variant}/{mode}/"): value
        for key, value in arrays.items()
        if key.startswith(f"{variant}/{mode}/")
    }
    assert_near(y, expected["y"], what="y")
    assert_near(dx, expected["dx"], what="dx")
    absent = {key.removeprefix("d/") for key in expected if key.startswith("d/")} - weights.keys()
    # The gradients of the biases that our head leaves out are rounding noise in training mode.
    assert absent == ({"dense1/bias", "dense2/bias"} if variant.startswith("bn") else set())
    for key, gradient in gradients.items():
        assert_near(gradient, expected[f"d/{key}"], what=key)


@pytest.mark.parametrize("variant", ["bn_norm_last", "bn_free_gain"])
def test_moving_statistics_are_the_official_ones_but_for_the_biased_variance(arrays, variant):
    head = _official(arrays, variant)
    head(arrays["x"], training=True)
    unbiased = len(arrays["x"]) / (len(arrays["x"]) - 1)
    moving = {key: weight for key, weight in named_weights(head).items() if "moving" in key}
    assert len(moving) == 4
    for key, weight in moving.items():
        actual = weight.numpy() + _shift(arrays, key)
        if key.endswith("variance"):
            old = 0.9 * arrays[f"param/{key}"]
            actual = old + unbiased * (actual - old)
        assert_near(actual, arrays[f"{variant}/train/new/{key}"], what=key)
    # In inference mode nothing moves.
    before = {key: weight.numpy() for key, weight in moving.items()}
    head(arrays["x"], training=False)
    for key, weight in moving.items():
        np.testing.assert_array_equal(weight, before[key])

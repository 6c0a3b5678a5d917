"""Projection heads and classifiers."""

import math

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.heads import mlp_head
from larq_ssl.roles import Role, variable_roles


def _weights(model):
    return [weight.name.split(":")[0] for weight in model.trainable_weights]


def test_classifier_of_bssl():
    head = mlp_head("student", 1024, [2000], 2000, batch_norm=True)
    assert _weights(head) == ["dense1/kernel", "bn1/gamma", "bn1/beta", "dense2/kernel", "dense2/bias"]
    # The published head has 2,000 more: the bias before the batch norm.
    assert head.count_params() - 2 * 2000 == 6_056_000 - 2000
    assert head.get_layer("bn1").epsilon == 1e-5
    assert head.get_layer("bn1").momentum == 0.9


def test_projection_head_of_moco():
    head = mlp_head("query", 1024, [1024], 128, batch_norm=False, kernel_initializer="pytorch")
    assert _weights(head) == ["dense1/kernel", "dense1/bias", "dense2/kernel", "dense2/bias"]
    assert head.count_params() == 1_180_800


def test_depth_and_roles():
    head = mlp_head("deep", 8, [6, 7], 5, batch_norm=True)
    assert [layer.name for layer in head.layers] == [*("dense1", "bn1", "relu1", "dense2", "bn2", "relu2", "dense3")]
    assert [role for _, role in variable_roles(head)] == [
        *(Role.KERNEL, Role.NORM, Role.NORM) * 2,
        Role.KERNEL,
        Role.BIAS,
    ]
    assert [layer.name for layer in mlp_head("linear", 8, [], 5, batch_norm=True).layers] == ["dense1"]


def test_is_the_formula():
    head = mlp_head("head", 6, [5], 4, batch_norm=False, kernel_initializer="pytorch")
    kernel1, bias1, kernel2, bias2 = head.get_weights()
    inputs = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)
    expected = np.maximum(inputs @ kernel1 + bias1, 0) @ kernel2 + bias2
    np.testing.assert_allclose(head(inputs), expected, atol=1e-5)


def test_prototypes_are_a_matrix():
    head = mlp_head("prototypes", 6, [], 9, batch_norm=False, output_bias=False)
    inputs = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)
    (kernel,) = head.get_weights()
    np.testing.assert_allclose(head(inputs), inputs @ kernel, atol=1e-5)
    with pytest.raises(ValueError, match="output_bias must be True or False, got 'no'"):
        mlp_head("prototypes", 6, [], 9, batch_norm=False, output_bias="no")


def test_output_does_not_change_with_a_shift_before_the_batch_norm_and_moments_are_as_documented():
    head = mlp_head("head", 6, [5], 4, batch_norm=True)
    inputs = np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32)
    head(inputs, training=True)
    hidden = inputs @ head.get_layer("dense1").kernel.numpy()
    expected = 0.9 + 0.1 * hidden.var(axis=0)
    np.testing.assert_allclose(head.get_layer("bn1").moving_variance, expected, rtol=1e-4)


@pytest.mark.parametrize("synchronized", [False, True])
def test_batch_norm_can_be_synchronized(synchronized):
    head = mlp_head("head", 6, [5], 4, batch_norm=True, synchronized=synchronized)
    assert head.get_layer("bn1").synchronized is synchronized


@pytest.mark.parametrize(
    ("initializer", "kernel_std", "bias_std"),
    [
        ("kaiming", math.sqrt(2 / 400), 0.0),
        ("pytorch", 1 / math.sqrt(3 * 400), 1 / math.sqrt(3 * 400)),
        ("normal_0.01", 0.01, 0.0),
    ],
)
def test_initialisers(initializer, kernel_std, bias_std):
    tf.keras.utils.set_random_seed(0)
    head = mlp_head("head", 400, [400], 400, batch_norm=False, kernel_initializer=initializer)
    for index in (1, 2):
        kernel, bias = head.get_layer(f"dense{index}").get_weights()
        assert kernel.std() == pytest.approx(kernel_std, rel=0.02)
        assert abs(kernel.mean()) < 4 * kernel_std / 400
        assert bias.std() == pytest.approx(bias_std, rel=0.15)
        largest = np.abs(kernel).max() / kernel_std
        # A uniform draw ends at sqrt(3), a truncated normal at 2 deviations.
        assert largest <= math.sqrt(3) + 1e-3 if initializer == "pytorch" else largest > 4
    first, second = (head.get_layer(f"dense{index}").get_weights()[0] for index in (1, 2))
    assert np.abs(first - second).max() > kernel_std


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, [4], 4), "input_dim .* 0"),
        ((4, [4], 0), "output_dim .* 0"),
        ((4, [4, -1], 4), r"hidden_dims .* \(4, -1\)"),
        ((4, [4], 4, "he"), "kernel_initializer .* kaiming, pytorch, normal_0.01, got 'he'"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        mlp_head("head", *arguments[:3], True, *arguments[3:])

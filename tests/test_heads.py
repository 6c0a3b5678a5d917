"""Projection heads and classifiers."""

import functools
import math

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.heads import build_head, byol_head, dino_head, mlp_head, prototypes, simclr_head
from larq_ssl.roles import Role, variable_roles


def _weights(model):
    return [weight.name.split(":")[0] for weight in model.trainable_weights]


def test_classifier_of_bssl():
    head = mlp_head("student", 1024, [2000], 2000, norm="batch")
    assert _weights(head) == ["dense1/kernel", "bn1/gamma", "bn1/beta", "dense2/kernel", "dense2/bias"]
    # The published head has 2,000 more: the bias before the batch norm.
    assert head.count_params() - 2 * 2000 == 6_056_000 - 2000
    assert head.get_layer("bn1").epsilon == 1e-5
    assert head.get_layer("bn1").momentum == 0.9


def test_projection_head_of_moco():
    head = mlp_head("query", 1024, [1024], 128, norm="none", kernel_initializer="pytorch")
    assert _weights(head) == ["dense1/kernel", "dense1/bias", "dense2/kernel", "dense2/bias"]
    assert head.count_params() == 1_180_800


def test_depth_and_roles():
    head = mlp_head("deep", 8, [6, 7], 5, norm="batch")
    assert [layer.name for layer in head.layers] == [*("dense1", "bn1", "relu1", "dense2", "bn2", "relu2", "dense3")]
    assert [role for _, role in variable_roles(head)] == [
        *(Role.KERNEL, Role.NORM, Role.NORM) * 2,
        Role.KERNEL,
        Role.BIAS,
    ]
    assert [layer.name for layer in mlp_head("linear", 8, [], 5, norm="batch").layers] == ["dense1"]


def test_head_of_dino():
    head = dino_head("head", 512, 4096, batch_norm=True)
    assert [layer.name for layer in head.layers] == [
        *("dense1", "bn1", "gelu1", "dense2", "bn2", "gelu2", "dense3", "unit", "last_layer")
    ]
    assert head.output_shape == (None, 4096)
    assert [tuple(weight.shape) for weight in head.trainable_weights] == [
        *((512, 2048), (2048,), (2048,), (2048, 2048), (2048,), (2048,), (2048, 256), (256,), (256, 4096))
    ]
    assert head.get_layer("dense2").kernel.numpy().std() == pytest.approx(0.02, rel=0.01)
    assert not dino_head("head", 8, 6, hidden_dims=(4, 4), bottleneck_dim=3).get_layer("dense3").bias.numpy().any()


@pytest.mark.parametrize("rebuilt", [False, True])
@pytest.mark.parametrize(
    ("make", "roles"),
    [
        (lambda: prototypes("prototypes", 6, 9), [Role.PROTOTYPES]),
        (
            lambda: dino_head("head", 6, 9, hidden_dims=(5,), bottleneck_dim=4),
            [*(Role.KERNEL, Role.BIAS) * 2, Role.LAST_LAYER],
        ),
        (
            lambda: dino_head("head", 6, 9, batch_norm=True, free_gain=True, hidden_dims=(5,), bottleneck_dim=4),
            [Role.KERNEL, Role.NORM, Role.NORM, Role.KERNEL, Role.BIAS, Role.LAST_LAYER, Role.LAST_LAYER],
        ),
    ],
    ids=["prototypes", "dino", "dino_free_gain"],
)
def test_roles_of_what_may_be_frozen(make, roles, rebuilt):
    head = build_head(make().spec) if rebuilt else make()
    assert [role for _, role in variable_roles(head)] == roles


def test_is_the_formula():
    head = mlp_head("head", 6, [5], 4, norm="none", kernel_initializer="pytorch")
    kernel1, bias1, kernel2, bias2 = head.get_weights()
    inputs = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)
    expected = np.maximum(inputs @ kernel1 + bias1, 0) @ kernel2 + bias2
    np.testing.assert_allclose(head(inputs), expected, atol=1e-5)


def test_prototypes_are_a_matrix():
    head = prototypes("prototypes", 6, 9)
    inputs = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)
    (kernel,) = head.get_weights()
    np.testing.assert_allclose(head(inputs), inputs @ kernel, atol=1e-5)
    with pytest.raises(ValueError, match="output_bias must be True or False, got 'no'"):
        mlp_head("prototypes", 6, [], 9, norm="none", output_bias="no")


@pytest.mark.parametrize(
    "make",
    [
        functools.partial(prototypes, "prototypes", 6, 9, "normal_0.01"),
        functools.partial(mlp_head, "head", 6, [5], 9, "batch"),
        functools.partial(mlp_head, "head", 6, [], 9, "none", output_relu=True),
        functools.partial(simclr_head, "head", 6, 9),
    ],
)
def test_nothing_of_a_head_is_rounded_under_any_policy(make):
    inputs = np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32)
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    model = make()
    for head in (model, build_head(model.spec)):
        for training in (False, True):
            outputs = head(inputs, training=training)
            assert outputs.dtype == tf.float32
            assert np.any(tf.cast(tf.cast(outputs, tf.bfloat16), tf.float32) != outputs)
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}


def test_output_does_not_change_with_a_shift_before_the_batch_norm_and_moments_are_as_documented():
    head = mlp_head("head", 6, [5], 4, norm="batch")
    inputs = np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32)
    head(inputs, training=True)
    hidden = inputs @ head.get_layer("dense1").kernel.numpy()
    expected = 0.9 + 0.1 * hidden.var(axis=0)
    np.testing.assert_allclose(head.get_layer("bn1").moving_variance, expected, rtol=1e-4)


@pytest.mark.parametrize(
    "make",
    [
        functools.partial(mlp_head, "head", 6, [5], 4, "batch"),
        functools.partial(dino_head, "head", 6, 4, True, hidden_dims=[5]),
        functools.partial(byol_head, "head", 6, 5, 4),
        functools.partial(simclr_head, "head", 6, 4),
    ],
)
@pytest.mark.parametrize("synchronized", [False, True])
def test_batch_norm_can_be_synchronized(make, synchronized):
    norms = [layer for layer in make(synchronized=synchronized).layers if layer.name.startswith("bn")]
    assert norms
    assert all(layer.synchronized is synchronized for layer in norms)


@pytest.mark.parametrize(
    ("initializer", "kernel_std", "bias_std"),
    [
        ("kaiming", math.sqrt(2 / 400), 0.0),
        ("pytorch", 1 / math.sqrt(3 * 400), 1 / math.sqrt(3 * 400)),
        ("lecun", 1 / math.sqrt(400), 0.0),
        ("normal_0.01", 0.01, 0.0),
        ("normal_0.02", 0.02, 0.0),
    ],
)
def test_initialisers(initializer, kernel_std, bias_std):
    tf.keras.utils.set_random_seed(0)
    head = mlp_head("head", 400, [400], 400, norm="none", kernel_initializer=initializer)
    for index in (1, 2):
        kernel, bias = head.get_layer(f"dense{index}").get_weights()
        # What is left of a normal distribution between -2 and 2 deviations.
        cut = 0.8796 if initializer == "lecun" else 1.0
        assert kernel.std() == pytest.approx(cut * kernel_std, rel=0.02)
        assert abs(kernel.mean()) < 4 * kernel_std / 400
        assert bias.std() == pytest.approx(bias_std, rel=0.15)
        largest = np.abs(kernel).max() / kernel_std
        # A uniform draw ends at sqrt(3), a truncated normal at 2 deviations.
        ends = {"pytorch": math.sqrt(3), "lecun": 2.0}
        assert largest <= ends[initializer] + 1e-3 if initializer in ends else largest > 4
    first, second = (head.get_layer(f"dense{index}").get_weights()[0] for index in (1, 2))
    assert np.abs(first - second).max() > kernel_std


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, [4], 4), "input_dim .* 0"),
        ((4, [4], 0), "output_dim .* 0"),
        ((4, [4, -1], 4), r"hidden_dims .* \(4, -1\)"),
        ((4, [4], 4, "he"), "kernel_initializer .* lecun, normal_0.01, normal_0.02, zeros, got 'he'"),
        ((4, [4], 4, "kaiming", False, False, True, "tanh"), "activation must be one of relu, gelu, got 'tanh'"),
        ((4, [4], 4, "kaiming", False, False, True, "relu", 0), "last_layer must be positive, got 0"),
        ((4, [4], 4, "kaiming", False, False, True, "relu", 3, 1), "free_gain must be True or False, got 1"),
        ((4, [4], 4, "kaiming", False, False, True, "relu", 3, False, "bias"), "output_role .* kernel, prototypes"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        mlp_head("head", *arguments[:3], "batch", *arguments[3:])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"norm": "group"}, "norm must be one of none, batch, layer, weight, got 'group'"),
        ({"norm": True}, "norm must be one of none, batch, layer, weight, got True"),
        ({"output_norm": 1}, "output_norm must be True or False, got 1"),
        ({"hidden_dims": (), "output_dim": None}, "hidden_dims must have a width where output_dim is None"),
        ({"output_dim": None, "output_norm": True}, "output_dim must be a width where something follows"),
        ({"output_dim": None, "last_layer": 3}, "output_dim must be a width where something follows"),
    ],
)
def test_mistakes_about_norms_and_ends_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        mlp_head("head", **{"input_dim": 4, "hidden_dims": [4], "output_dim": 4, "norm": "batch", **arguments})

"""The heads of SimCLR and BYOL against their authors' code, and the first layers of a head."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.heads import byol_head, dino_head, first_layers, linear_classifier, mlp_head, simclr_head
from larq_ssl.roles import Role, variable_roles
from tests import golden
from tests.comparing import assert_near

LEAVES = {"kernel": "dense", "gamma": "bn", "beta": "bn", "moving_mean": "bn", "moving_variance": "bn"}
OF_ARRAYS = {"moving_mean": "moving_mean{}", "moving_variance": "moving_var{}"}


def _variables(head, depth):
    """The variables of SimCLR's head by the names of the arrays."""
    found = {}
    for layer in range(depth):
        for leaf, kind in LEAVES.items():
            variable = getattr(head.get_layer(f"{kind}{layer + 1}"), leaf)
            if variable is not None:
                found[f"l{layer}_{OF_ARRAYS.get(leaf, leaf)}"] = variable
    return found


@pytest.fixture(scope="module")
def arrays():
    loaded = golden.load("s6_simclr")
    return {key.removeprefix("head_"): loaded[key] for key in loaded if key.startswith("head_")}


@pytest.fixture
def official(arrays):
    """SimCLR's head with the weights of the arrays, and its variables."""
    depth = sum(key.endswith("_kernel") and "grad" not in key for key in arrays)
    head = simclr_head("head", arrays["x"].shape[1], arrays["R"].shape[1], depth)
    variables = _variables(head, depth)
    for name, variable in variables.items():
        variable.assign(arrays[name.format(0)])
    return head, variables


def test_head_of_simclr_is_the_official_one(arrays, official):
    head, variables = official
    assert {name for name in arrays if name.endswith(("kernel", "gamma", "beta")) and "grad" not in name} == {
        name for name in variables if "moving" not in name
    }
    np.testing.assert_allclose(
        head(arrays["x"], training=False), arrays["out_eval_before"], rtol=2e-5, atol=2e-5 * np.abs(arrays["x"]).max()
    )
    x = tf.constant(arrays["x"])
    trained = {name: variable for name, variable in variables.items() if "moving" not in name}
    with tf.GradientTape() as tape:
        tape.watch(x)
        z = head(x, training=True)
        objective = tf.reduce_sum(z * arrays["R"])
    of_x, gradients = tape.gradient(objective, [x, trained])
    np.testing.assert_allclose(z, arrays["z_train"], atol=2e-5)
    assert_near(of_x, arrays["grad_x"], what="x", tolerance=1e-4)
    for name, gradient in gradients.items():
        assert_near(gradient, arrays[f"grad_{name}"], what=name, tolerance=1e-4)
    for name, variable in variables.items():
        if "moving" in name:
            np.testing.assert_allclose(variable, arrays[name.format(1)], rtol=2e-5, atol=2e-5, err_msg=name)


def test_layers_from_which_simclr_is_fine_tuned_are_the_official_ones(arrays, official):
    head, _ = official
    head(arrays["x"], training=True)
    for count in range(1, len(head.spec.hidden_dims) + 2):
        part = first_layers(head, count, "part")
        expected = arrays[f"ft_selector{count}_eval"]
        np.testing.assert_allclose(part(arrays["x"], training=False), expected, rtol=2e-5, atol=2e-5)
        assert part.name == part.spec.name == "part"


def test_first_layers_are_a_head_of_its_own():
    head = mlp_head("head", 6, [5, 4], 3, "layer", output_relu=True)
    part = first_layers(head, 2, "part")
    assert [layer.name for layer in part.layers] == ["dense1", "ln1", "relu1", "dense2", "ln2", "relu2"]
    inputs = np.random.default_rng(0).normal(size=(7, 6)).astype(np.float32)
    expected = tf.keras.Model(head.inputs, head.get_layer("relu2").output)(inputs)
    np.testing.assert_array_equal(part(inputs), expected)
    part.get_layer("dense1").kernel.assign_add(tf.ones([6, 5]))
    np.testing.assert_array_equal(tf.keras.Model(head.inputs, head.get_layer("relu2").output)(inputs), expected)
    assert first_layers(head, 3, "whole").spec.output_relu
    for count in (0, 4):
        with pytest.raises(ValueError, match=rf"count must be in \[1, 3\], the layers of head, got {count}"):
            first_layers(head, count, "part")


def test_first_layers_of_a_head_of_dino_end_before_its_unit_rows():
    part = first_layers(dino_head("head", 6, 9, hidden_dims=(5, 4), bottleneck_dim=3), 2, "part")
    assert [layer.name for layer in part.layers] == ["dense1", "gelu1", "dense2", "gelu2"]


def test_head_of_byol_is_the_official_one():
    arrays = {key[4:]: array for key, array in golden.load("s6_byol_msbreg").items() if key.startswith("mlp_")}
    hidden, outputs = arrays["l1_kernel"].shape
    head = byol_head("head", arrays["x"].shape[1], hidden, outputs)
    head.get_layer("dense1").kernel.assign(arrays["l0_kernel"])
    head.get_layer("bn1").gamma.assign(arrays["bn_gamma"].reshape(-1))
    head.get_layer("bn1").beta.assign(arrays["bn_beta"].reshape(-1))
    head.get_layer("dense2").kernel.assign(arrays["l1_kernel"])
    # Its first bias is subtracted again by the norm.
    assert np.any(arrays["l0_bias"])
    np.testing.assert_allclose(head(arrays["x"], training=True), arrays["out_train"], rtol=1e-5, atol=1e-5)


def test_shapes_of_the_published_heads():
    head = simclr_head("head", 2048)
    assert [tuple(weight.shape) for weight in head.trainable_weights] == [
        *((2048, 2048), (2048,), (2048,)) * 2,
        *((2048, 128), (128,)),
    ]
    assert head.get_layer("dense3").kernel.numpy().std() == pytest.approx(0.01, rel=0.02)
    assert len(simclr_head("head", 8, depth=4).layers) == 11
    assert [tuple(weight.shape) for weight in byol_head("head", 2048).trainable_weights] == [
        *((2048, 4096), (4096,), (4096,), (4096, 256))
    ]
    # Haiku's start: a normal distribution cut off at two deviations, which is not scaled up again.
    for layer, inputs in (("dense1", 500), ("dense2", 400)):
        kernel = byol_head("head", 500, 400).get_layer(layer).kernel.numpy()
        assert kernel.std() == pytest.approx(0.8796 * inputs**-0.5, rel=0.02)
        assert np.abs(kernel).max() <= 2 * inputs**-0.5
    with pytest.raises(ValueError, match="depth must be at least 1, got 0"):
        simclr_head("head", 8, depth=0)


@pytest.mark.parametrize("norm", ["batch", "layer", "weight", "none"])
def test_norms_of_heads_are_what_they_are_called(norm):
    head = byol_head("head", 6, 40, 4, norm)
    inputs = np.random.default_rng(0).normal(3.0, 5.0, size=(200, 6)).astype(np.float32)
    hidden = tf.keras.Model(head.inputs, head.get_layer("relu1").input)(inputs, training=True).numpy()
    over_batch = np.allclose(hidden.mean(axis=0), 0, atol=1e-4) and np.allclose(hidden.std(axis=0), 1, atol=1e-3)
    over_units = np.allclose(hidden.mean(axis=1), 0, atol=1e-4) and np.allclose(hidden.std(axis=1), 1, atol=1e-3)
    assert (over_batch, over_units) == (norm == "batch", norm == "layer")
    if norm == "weight":
        dense = head.get_layer("dense1")
        kernel = dense.kernel.numpy()
        standardised = (kernel - kernel.mean(axis=0)) / (np.sqrt(6) * kernel.std(axis=0))
        np.testing.assert_allclose(hidden, inputs @ standardised, rtol=1e-4, atol=1e-4)
        assert [role for _, role in variable_roles(head)] == [Role.NORM, Role.KERNEL, Role.BIAS, Role.KERNEL]
        dense.kernel.assign(3 * dense.kernel + 5.0)
        dense.gain.assign(2 * dense.gain)
        dense.bias.assign(dense.bias + 1.0)
        again = tf.keras.Model(head.inputs, head.get_layer("relu1").input)(inputs).numpy()
        np.testing.assert_allclose(again, 2 * hidden + 1, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("initializer", ["zeros", "pytorch"])
def test_a_classifier_has_the_role_of_a_last_layer(initializer):
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    classifier = linear_classifier("classifier", 300, 7, initializer)
    assert [role for _, role in variable_roles(classifier)] == [Role.LAST_LAYER, Role.BIAS]
    assert classifier(np.ones([2, 300], np.float32)).dtype == tf.float32
    kernel, bias = (weight.numpy() for weight in classifier.weights)
    if initializer == "zeros":
        assert not kernel.any()
        assert not bias.any()
    else:
        assert kernel.std() == pytest.approx((3 * 300) ** -0.5, rel=0.05)
        assert np.abs(bias).max() > 0


def test_first_layers_may_have_statistics_of_all_replicas():
    head = simclr_head("head", 6)
    for count in (1, 3):
        for synchronized in (False, True):
            part = first_layers(head, count, "part", synchronized)
            norms = [layer for layer in part.layers if layer.name.startswith("bn")]
            assert [layer.synchronized for layer in norms] == [synchronized] * count

"""XNOR-ResNet, Bi-Real-Net and ReActNet in the topology of ResNets: their costs, gradients, twins and signs."""

import functools

import larq
import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import models
from larq_ssl.models.birealnet import BIREAL, bireal_block
from larq_ssl.models.encoder import EncoderSpec, LayerStore
from larq_ssl.models.registry import build_blank
from larq_ssl.models.transfer import copy_weights, named_weights
from larq_ssl.models.xnornet import xnor_block
from larq_ssl.roles import variable_roles

BLOCKS = {
    "xnor_18": (4, 4, 4, 4),
    "birealnet_18": (4, 4, 4, 4),
    "birealnet_34": (6, 8, 12, 6),
    "reactnet_34": (6, 8, 12, 6),
}
MODES = ("none", "activations", "full")


def _small(name, binarization="full"):
    return models.build(name, binarization=binarization, stem="cifar", width=0.125, classes=7)


_shared = functools.lru_cache(_small)


def _images(size=32, batch=4):
    return np.random.default_rng(0).integers(0, 256, (batch, size, size, 3)).astype(np.uint8)


def _figures(name):
    """Weights, binary weights, binary and other multiply-accumulates at 224 px, from the networks' definitions."""
    weights, binary_weights = 7 * 7 * 3 * 64 + 2 * 64 + 512 * 1000 + 1000, 0
    float_macs, binary_macs = 112 * 112 * 7 * 7 * 3 * 64 + 512 * 1000, 0
    channels, size = 64, 56
    for stage, convolutions in enumerate(BLOCKS[name]):
        for index in range(convolutions):
            before = channels
            if stage and not index:
                channels, size = 2 * channels, size // 2
                weights += before * channels
                weights += 0 if name == "xnor_18" else 2 * channels  # BatchNorm
                float_macs += size * size * before * channels
            binary_weights += 9 * before * channels
            binary_macs += size * size * 9 * before * channels
            weights += 2 * (before if name == "xnor_18" else channels)  # BatchNorm before or after the convolution
            weights += before + 3 * channels if name == "reactnet_34" else 0  # RSign and RPReLU
    weights += 2 * 512 if name == "xnor_18" else 0
    return weights + binary_weights, binary_weights, binary_macs, float_macs


@pytest.mark.parametrize("name", BLOCKS)
def test_cost(name):
    encoder = build_blank(EncoderSpec(name, image_size=224, classes=1000))
    counts = larq.models.ModelProfile(encoder)
    weights, binary_weights, binary_macs, float_macs = _figures(name)
    assert counts.weight_count() == weights
    assert sum(int(np.prod(weight.shape)) for weight in encoder.trainable_weights) == weights
    assert counts.weight_count(1) == binary_weights
    assert counts.op_count("mac", 1) == binary_macs
    assert counts.op_count("mac", 32) == float_macs == counts.op_count("mac") - binary_macs


@pytest.mark.parametrize(
    ("name", "ops", "megabits"),
    [
        ("xnor_18", 1.67e8, 33.7),
        ("birealnet_18", 1.63e8, 33.6),
        ("birealnet_34", 1.93e8, 43.7),
    ],
)
def test_cost_is_that_of_the_papers(name, ops, megabits):
    """Bi-Real-Net's comparison of memory and operations; of 18 layers also S2-BNN, Table 4. Not all count alike."""
    weights, binary_weights, binary_macs, float_macs = _figures(name)
    assert binary_macs / 64 + float_macs == pytest.approx(ops, rel=0.02)
    assert (binary_weights + 32 * (weights - binary_weights)) / 1e6 == pytest.approx(megabits, rel=0.01)


@pytest.mark.parametrize(
    ("name", "binarization"),
    [
        *[(name, mode) for name in ("xnor_18", "birealnet_18") for mode in MODES],
        *[(name, "full") for name in ("birealnet_34", "reactnet_34")],
        *[(name, "none") for name in ("reactnet_34", "reactnet_a")],
    ],
)
def test_every_optimised_variable_gets_a_real_gradient(name, binarization):
    """Real: above 1e-4 of the median; what rounding leaves of a gradient that is zero by the formula is below 1e-5."""
    encoder = _shared(name, binarization)
    with tf.GradientTape() as tape:
        logits = encoder(_images(), training=True)
        loss = tf.reduce_sum(tf.keras.losses.sparse_categorical_crossentropy([0, 3, 5, 1], logits, from_logits=True))
    variables = [variable for variable, _ in variable_roles(encoder)]
    largest = [float(tf.reduce_max(tf.abs(gradient))) for gradient in tape.gradient(loss, variables)]
    small = [v.name for v, value in zip(variables, largest, strict=True) if not value > 1e-4 * np.median(largest)]
    assert small == []
    left = {id(weight) for weight in encoder.weights} - {id(variable) for variable in variables}
    held = {key.rsplit("/", 1)[1] for key, weight in named_weights(encoder).items() if id(weight) in left}
    thresholds = {"bias"} if binarization == "none" and name.startswith("reactnet") else set()
    assert held == {"moving_mean", "moving_variance"} | thresholds


@pytest.mark.parametrize("name", BLOCKS)
def test_stage_2_inherits_all_of_stage_1(name):
    stage1, stage2 = _shared(name, "activations"), _small(name)
    report = copy_weights(stage1, stage2)
    count = sum(BLOCKS[name])
    assert (report.binary_kernels, report.total_binary_kernels, len(stage2.binary_layers)) == (count, count, count)
    assert report.tensors == report.total_tensors == len(stage1.weights)
    for before, after in zip(named_weights(stage1).items(), named_weights(stage2).items(), strict=True):
        assert before[0] == after[0]
        np.testing.assert_array_equal(before[1], after[1])


@pytest.mark.parametrize("name", BLOCKS)
def test_static_and_dynamic_size_agree(name):
    encoder = _shared(name)
    static = encoder.at(32)
    np.testing.assert_array_equal(static(_images()), encoder(_images()))
    sizes = {key: map_.shape[1] for key, map_ in static.named_outputs.items() if key.startswith("stride")}
    assert sizes == {"stride1": 32, "stride2": 16, "stride4": 8, "stride8": 4}


@pytest.mark.parametrize("name", ["xnor_18", "birealnet_18"])
def test_round_trip(name, tmp_path):
    encoder = _shared(name)
    models.save_encoder(encoder, tmp_path / "encoder")
    restored = models.load_encoder(tmp_path / "encoder")
    assert restored.spec == encoder.spec
    assert models.encoder_hash(restored) == models.encoder_hash(encoder)
    np.testing.assert_array_equal(restored(_images()), encoder(_images()))


def _block_model(make, binarization):
    inputs = tf.keras.Input([8, 8, 8])
    return tf.keras.Model(inputs, make(inputs, binarization))


def _seen_by(model, layer_name, x):
    layer = model.get_layer(layer_name)
    before = tf.keras.Model(model.input, layer.input)(x)
    return before, layer.input_quantizer(before)


@pytest.mark.parametrize("binarization", MODES)
def test_bireal_block(binarization):
    """Sum of BatchNorm(convolution(sign(x))) and x, and nothing behind it."""

    def make(inputs, binarization):
        return bireal_block(inputs, "block", 8, 1, binarization, BIREAL, LayerStore())

    model = _block_model(make, binarization)
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 8, 8, 8)), tf.float32)
    before, seen = _seen_by(model, "block/conv", x)
    np.testing.assert_array_equal(before, x)
    expected = np.clip(x, -1, 1) if binarization == "none" else np.where(x >= 0, 1, -1)
    np.testing.assert_array_equal(seen, expected)
    kernel = model.get_layer("block/conv").kernel.numpy()
    if binarization == "full":
        kernel = np.sign(kernel) * np.abs(kernel).mean((0, 1, 2))
    branch = tf.nn.conv2d(tf.cast(expected, tf.float32), kernel, 1, "SAME") / np.sqrt(1 + 1e-5)
    np.testing.assert_allclose(model(x), branch + x, rtol=1e-4, atol=1e-5)
    assert len(model.layers) == 4  # input, convolution, BatchNorm, sum


@pytest.mark.parametrize("binarization", MODES)
def test_xnor_block(binarization):
    """Each convolution sees the sign of a BatchNorm; the shortcut is the window's centre through a 1x1."""

    def make(inputs, binarization):
        return xnor_block(inputs, "block", 16, 2, binarization, LayerStore())

    model = _block_model(make, binarization)
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 8, 8, 8)), tf.float32)
    model.get_layer("block/bn1").beta.assign(np.linspace(-1, 1, 8))
    before, seen = _seen_by(model, "block/conv1", x)
    normed = np.asarray(x) / np.sqrt(1 + 1e-5) + np.linspace(-1, 1, 8)
    np.testing.assert_allclose(before, normed, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(
        seen, np.maximum(before, 0) if binarization == "none" else np.where(before >= 0, 1, -1)
    )
    shortcut = tf.keras.Model(model.input, model.get_layer("block/shortcut/conv").output)(x)
    kernel = model.get_layer("block/shortcut/conv").kernel.numpy()[0, 0]
    np.testing.assert_allclose(shortcut, np.asarray(x)[:, 1::2, 1::2] @ kernel, rtol=1e-4, atol=1e-5)
    branch = tf.keras.Model(model.input, model.get_layer("block/conv2").output)(x)
    np.testing.assert_allclose(model(x), branch + shortcut, rtol=1e-4, atol=1e-5)


def test_gradient_of_the_kernels():
    """dL/dw = dL/dq times mean|w| within ±1 (Bi-Real-Net), plus 1/n of dL/dq (XNOR-Net)."""
    weights = np.random.default_rng(0).normal(size=(3, 3, 4, 2)).astype(np.float32)
    for name, mean_term in (("birealnet_18", 0.0), ("xnor_18", 1 / 36)):
        quantizer = _shared(name).binary_layers[0].kernel_quantizer
        variable = tf.Variable(weights)
        with tf.GradientTape() as tape:
            quantised = quantizer(variable)
        upstream = np.random.default_rng(1).normal(size=weights.shape).astype(np.float32)
        expected = upstream * (np.abs(weights).mean((0, 1, 2)) * (np.abs(weights) <= 1) + mean_term)
        np.testing.assert_allclose(tape.gradient(quantised, variable, upstream), expected, rtol=1e-4, atol=1e-6)


def test_the_thresholds_of_a_float_twin_are_kept_but_not_trained():
    twin, binary = (_shared("reactnet_34", mode) for mode in ("none", "full"))
    for network, count in ((twin, 0), (binary, 32)):
        trained = {id(weight) for weight in network.trainable_weights}
        thresholds = [weight for key, weight in named_weights(network).items() if key.endswith("/sign/bias")]
        assert len(thresholds) == 32
        assert sum(id(weight) in trained for weight in thresholds) == count

"""MobileNetV2 beyond the golden arrays: sizes, starts, roles and gradients."""

import collections
import functools

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import models
from larq_ssl.models import profile
from larq_ssl.models.encoder import LayerStore
from larq_ssl.models.mobilenet_v2 import inverted_residual
from larq_ssl.roles import Role, variable_roles


@functools.lru_cache
def _shared(width=0.25, stem="cifar"):
    tf.keras.utils.set_random_seed(1)
    return models.build("mobilenet_v2", binarization="none", width=width, stem=stem, classes=7)


def _images(size=32, batch=4):
    return np.random.default_rng(0).integers(0, 256, (batch, size, size, 3)).astype(np.uint8)


def test_size_and_work():
    encoder = models.build("mobilenet_v2", binarization="none")
    assert sum(int(np.prod(weight.shape)) for weight in encoder.trainable_weights) == 2_223_872
    assert encoder.feature_dim == 1280
    sizes = {key: output.shape[1:] for key, output in encoder.at(224).named_outputs.items() if "stride" in key}
    assert sizes == {
        "stride2": (112, 112, 16),
        "stride4": (56, 56, 24),
        "stride8": (28, 28, 32),
        "stride16": (14, 14, 96),
        "stride32": (7, 7, 1280),
    }
    assert profile.cost(encoder, 224) == profile.Cost(0, 299_494_272, 4 * 2_223_872)


def test_stem_for_small_images():
    encoder = _shared().at(32)
    sizes = {key: output.shape[1] for key, output in encoder.named_outputs.items() if "stride" in key}
    assert sizes == {"stride1": 32, "stride2": 16, "stride4": 8, "stride8": 4, "stride16": 2}


def test_roles():
    roles = collections.Counter(role for _, role in variable_roles(_shared()))
    # 1 stem, 16 expansions, 17 projections, 1 head, 1 classifier; 52 BatchNorms.
    assert roles == {Role.KERNEL: 36, Role.DEPTHWISE: 17, Role.NORM: 104, Role.BIAS: 1}


def test_initial_kernels():
    encoder = _shared(width=1.0)
    depthwise = encoder.get_layer("block17/depthwise/conv").depthwise_kernel.numpy()
    assert depthwise.shape == (3, 3, 960, 1)
    np.testing.assert_allclose(depthwise.std(), np.sqrt(2 / (9 * 960)), rtol=0.03)
    assert np.abs(depthwise).max() > 3 * depthwise.std()  # not truncated
    head = encoder.get_layer("head/conv").kernel.numpy()
    np.testing.assert_allclose(head.std(), np.sqrt(2 / 1280), rtol=0.01)


@pytest.mark.parametrize(("filters", "strides", "shortcut"), [(8, 1, True), (8, 2, False), (16, 1, False)])
def test_shortcuts(filters, strides, shortcut):
    """Only where neither the size nor the channels change: with a projection of zeros the block is the identity."""
    inputs = tf.keras.Input([8, 8, 8])
    layers = LayerStore()
    block = tf.keras.Model(inputs, inverted_residual(inputs, "block", filters, strides, 6, layers))
    kernel = block.get_layer("block/project/conv").kernel
    kernel.assign(tf.zeros_like(kernel))
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 8)).astype(np.float32)
    assert block.get_layer("block/expand/conv").filters == 48
    np.testing.assert_array_equal(block(x), x if shortcut else np.zeros((2, 8 // strides, 8 // strides, filters)))


def test_relu_ends_at_6():
    encoder = _shared()
    last = encoder.get_layer("head/bn")
    beta = np.full(last.beta.shape, 9.0)
    kept = last.beta.numpy()
    last.beta.assign(beta)
    assert np.asarray(encoder.with_outputs("pooled")(_images())["pooled"]).max() == 6
    last.beta.assign(kept)


def test_every_variable_gets_a_real_gradient():
    """Real: above 1e-4 of the median. Shifts at the end of a block have none: only linear layers are between them and
    the next BatchNorm, which takes them away."""
    encoder = _shared()
    with tf.GradientTape() as tape:
        logits = encoder(_images(), training=True)
        loss = tf.reduce_sum(tf.keras.losses.sparse_categorical_crossentropy([0, 3, 5, 1], logits, from_logits=True))
    variables = [variable for variable, _ in variable_roles(encoder)]
    largest = [float(tf.reduce_max(tf.abs(gradient))) for gradient in tape.gradient(loss, variables)]
    small = {v.name for v, value in zip(variables, largest, strict=True) if not value > 1e-4 * np.median(largest)}
    assert small == {f"block{number}/project/bn/beta:0" for number in range(1, 18)}


def test_static_and_dynamic_size_agree():
    encoder = _shared()
    np.testing.assert_array_equal(encoder.at(32)(_images()), encoder(_images()))
    assert encoder(_images(37)).shape == (4, 7)


def test_round_trip(tmp_path):
    encoder = _shared()
    models.save_encoder(encoder, tmp_path / "encoder")
    restored = models.load_encoder(tmp_path / "encoder")
    assert restored.spec == encoder.spec
    assert models.encoder_hash(restored) == models.encoder_hash(encoder)
    np.testing.assert_array_equal(restored(_images()), encoder(_images()))

"""Networks in half precision: products are, statistics and softmaxes are not."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import models
from larq_ssl.quantizers import MagnitudeSign
from tests.half_precision import BATCH_NORM, imprecise, nodes, products

NETWORKS = [
    ("resnet_18", "none"),
    ("reactnet_18", "full"),
    ("birealnet_18", "activations"),
    ("xnor_18", "full"),
    ("mobilenet_v2", "none"),
    ("vit_tiny_32", "none"),
    ("simclr_resnet_50_sk", "none"),
    ("zoo:QuickNetSmall", "full"),
]


def _narrow(name):
    return {} if name.startswith(("vit_", "zoo:")) else {"width": 0.125}


@pytest.mark.parametrize(("name", "binarization"), NETWORKS)
def test_statistics_and_softmaxes_are_float32(name, binarization):
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    encoder = models.build(name, binarization=binarization, **_narrow(name))

    @tf.function
    def step(images):
        with tf.GradientTape() as tape:
            features = encoder(images, training=True)
            value = tf.reduce_sum(features)
        return features, tape.gradient(value, encoder.trainable_variables)

    traced = step.get_concrete_function(tf.TensorSpec([2, 64, 64, 3], tf.float32))
    # The gradients of shifts and slopes are sums of bfloat16, which TensorFlow adds in float32; see below.
    assert imprecise(traced).keys() <= {"Sum"}
    assert products(traced) > 0
    features, gradients = traced.structured_outputs
    assert features.dtype == tf.float32
    assert {gradient.dtype for gradient in gradients} == {tf.float32}
    assert {weight.dtype for weight in encoder.weights if weight.dtype.is_floating} == {tf.float32}


def test_sums_of_bfloat16_are_added_in_float32():
    """One by one they would end at 256, where adding 1 changes nothing."""
    maps = tf.ones([64, 8, 8, 3], tf.bfloat16)
    np.testing.assert_array_equal(tf.cast(tf.reduce_sum(maps, [0, 1, 2]), tf.float32), 3 * [4096])


@pytest.mark.parametrize("synchronized", [False, True])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_batch_norm_takes_its_statistics_in_float32(dtype, synchronized):
    """Of vectors and maps; with their mean at 100, bfloat16 could not tell a spread of 0.1."""
    inputs = tf.cast(100.0 + tf.random.stateless_normal([64, 4, 4, 3], [0, 1], stddev=8.0), dtype)
    exact = inputs.numpy().astype(np.float64)
    for rows, axes in ((inputs, (0, 1, 2)), (inputs[:, 0, 0], (0,))):
        layer = tf.keras.layers.BatchNormalization(momentum=0.0, synchronized=synchronized, dtype=f"mixed_{dtype}")
        assert layer(rows, training=True).dtype == dtype
        values = exact if len(axes) == 3 else exact[:, 0, 0]
        np.testing.assert_allclose(layer.moving_mean, values.mean(axes), rtol=1e-6)
        ddof = 1 if len(axes) == 3 and not synchronized else 0
        # A synchronised layer subtracts the squared mean from the mean square, which costs digits even in float32.
        tolerance = 1e-2 if synchronized else 1e-4
        np.testing.assert_allclose(layer.moving_variance, values.var(axes, ddof=ddof), rtol=tolerance)


def test_norms_that_are_fused_are_looked_at():
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    encoder = models.build("resnet_18", binarization="none", width=0.125)
    traced = tf.function(lambda images: encoder(images, training=True)).get_concrete_function(
        tf.TensorSpec([2, 32, 32, 3], tf.float32)
    )
    assert any(node.op in BATCH_NORM for node in nodes(traced))


@pytest.mark.parametrize("quantizer", [MagnitudeSign(), MagnitudeSign(scale_in_grad=True, clip_grad=False)])
def test_half_precision_keeps_every_sign_of_a_kernel(quantizer):
    """And the scale of a filter, but for the rounding of the one number."""
    latent = np.random.default_rng(0).normal(0, 0.02, [3, 3, 64, 8]).astype(np.float32)
    exact = quantizer(latent).numpy()
    for dtype, tolerance in (("bfloat16", 2**-8), ("float16", 2**-10)):
        rounded = tf.cast(quantizer(tf.cast(latent, dtype)), tf.float32).numpy()
        np.testing.assert_array_equal(np.sign(rounded), np.sign(exact))
        np.testing.assert_allclose(rounded, exact, rtol=tolerance)

"""What is exported is the network that was trained, in float32, with constants for binary kernels."""

import larq
import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import export, models
from larq_ssl.export.small_maps import SmallMapConv
from larq_ssl.layers import UnitRows
from tests.export.networks import binary, photos, vary


@pytest.mark.parametrize(("name", "size"), [("reactnet_short", 16), ("reactnet_short", 4), ("reactnet_a_burn", 8)])
def test_a_baked_network_gives_the_same_features(name, size):
    """The last maps of two of them are smaller than the kernels."""
    encoder, images = binary(name), photos(4, size)
    baked = export.bake(export.in_float32(encoder, size))
    assert baked.spec.binarization == "activations"
    assert [layer.name for layer in baked.binary_layers] == [layer.name for layer in encoder.binary_layers]
    for layer in baked.binary_layers:
        assert layer.kernel_quantizer is None
        assert np.ptp(np.abs(layer.kernel.numpy()), axis=(0, 1, 2)).max() == 0
    expected = encoder(images, training=False).numpy()
    assert np.std(expected) > 0.01
    np.testing.assert_allclose(baked(images, training=False), expected, rtol=1e-4, atol=1e-5)


def test_a_network_of_another_precision_is_rebuilt_in_float32():
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    mixed = binary()
    tf.keras.mixed_precision.set_global_policy("float32")
    plain = binary(seed=1)
    models.copy_weights(mixed, plain)
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    rebuilt = export.make_product(mixed, 16)
    assert tf.keras.mixed_precision.global_policy().name == "mixed_bfloat16"
    images = photos(2, 16)
    assert {layer.compute_dtype for layer in mixed.binary_layers} == {"bfloat16"}
    for network in (rebuilt.encoder, rebuilt.reference):
        assert {layer.compute_dtype for layer in network.layers} == {"float32"}
    np.testing.assert_array_equal(rebuilt.classify(images), plain(images, training=False))


@pytest.mark.parametrize(
    ("side", "kernel", "strides", "dilation"),
    [(1, 3, 1, 1), (1, 3, 2, 1), (2, 3, 1, 1), (2, 3, 2, 1), (3, 5, 1, 1), (4, 5, 1, 1), (4, 3, 1, 2), (8, 3, 1, 4)],
)
def test_small_maps_padded_with_ones_give_what_zeros_give(side, kernel, strides, dilation):
    arguments = {"filters": 5, "kernel_size": kernel, "strides": strides, "padding": "same", "use_bias": False}
    arguments["dilation_rate"] = dilation
    plain = larq.layers.QuantConv2D(input_quantizer="approx_sign", **arguments)
    small = SmallMapConv(input_quantizer="approx_sign", **arguments)
    maps = tf.random.normal([3, side, side, 4], seed=1)
    expected = plain(maps)
    small.build(maps.shape)
    small.kernel.assign(plain.kernel)
    small.edge.assign(small.edge_of(plain.kernel.numpy()))
    assert np.abs(small.edge.numpy()).max() > 0.1
    np.testing.assert_allclose(small(maps), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 2), (2, 1), (2, 5)])
def test_small_maps_whose_size_is_known_when_they_are_traced(shape):
    plain = larq.layers.QuantConv2D(4, 3, padding="same", use_bias=False, input_quantizer="approx_sign")
    small = SmallMapConv(4, 3, padding="same", use_bias=False, input_quantizer="approx_sign")
    for layer in (plain, small):
        layer.build([None, None, None, 6])
    small.kernel.assign(plain.kernel)
    maps = tf.random.normal([2, *shape, 6], seed=1)
    traced = tf.function(small).get_concrete_function(tf.TensorSpec(maps.shape))
    np.testing.assert_allclose(traced(maps), plain(maps), atol=1e-5)
    # Padded with ones, which plain zeros would not need.
    assert [operation.type for operation in traced.graph.get_operations() if "Pad" in operation.type] == ["PadV2"]


def test_larger_maps_are_left_to_larq():
    layer = SmallMapConv(4, 3, padding="same", input_quantizer="approx_sign")
    layer.build([None, 3, 3, 2])
    assert layer.edge is None
    assert len(layer.weights) == 2


@pytest.mark.parametrize(
    ("binarization", "reason"), [("activations", "binary activations alone"), ("none", "float network")]
)
def test_what_cannot_be_packed_is_refused_with_the_reason(binarization, reason):
    encoder = binary(binarization=binarization)
    with pytest.raises(ValueError, match=reason):
        export.make_product(encoder, 16)
    product = export.make_product(encoder, 16, allow_float=True)
    assert not product.binary
    images = photos(2, 16)
    np.testing.assert_allclose(product(images), encoder(images, training=False), atol=1e-5)


def test_a_product_knows_what_comes_out():
    encoder = binary()
    head = models.folder.build_head(models.folder.HeadSpec("h", encoder.feature_dim, (7,), 5, "batch"))
    on_unit_rows = tf.keras.Sequential([tf.keras.Input([encoder.feature_dim]), UnitRows(), head])
    product = export.make_product(encoder, 16, on_unit_rows)
    assert (product.classes, product.dense_layers, product.image_size) == (5, 2, 16)
    assert (export.make_product(encoder, 16).classes, export.make_product(encoder, 16).dense_layers) == (None, 0)
    images = photos(3, 16)
    features = encoder(images, training=False)
    np.testing.assert_allclose(product.encode(images), features, atol=1e-5)
    np.testing.assert_allclose(product.classify(images), on_unit_rows(features), atol=1e-5)


def test_mistakes_are_named():
    encoder = binary()
    head = tf.keras.Sequential([tf.keras.Input([3]), tf.keras.layers.Dense(2)])
    with pytest.raises(ValueError, match=f"`head` must take {encoder.feature_dim} features, not 3"):
        export.make_product(encoder, 16, head)
    with pytest.raises(ValueError, match="`pixels` must be one of .*, not 'int4'"):
        export.make_product(encoder, 16, pixels="int4")
    with pytest.raises(ValueError, match="classifier of its own"):
        export.make_product(vary(models.build("reactnet_short", width=0.125, classes=3)), 32, head)

import larq
import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import layers, models
from larq_ssl.quantizers import MagnitudeSign
from tests import golden
from tests.comparing import assert_near


@pytest.fixture(scope="module")
def p1():
    return golden.load("p1_primitives")


def test_rsign(p1):
    layer = layers.ChannelBias()
    x = tf.constant(p1["rsign/x"])
    layer.build(x.shape)
    np.testing.assert_array_equal(layer.bias, 0)
    layer.bias.assign(p1["rsign/bias"].reshape(-1))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = larq.quantizers.get("approx_sign")(layer(x))
    dx, d_bias = tape.gradient(y, [x, layer.bias], p1["rsign/ct"])
    np.testing.assert_array_equal(y, p1["rsign/y"])
    assert_near(dx, p1["rsign/dx"])
    assert_near(d_bias, p1["rsign/d_bias"].reshape(-1))


def test_rprelu(p1):
    layer = layers.RPReLU()
    x = tf.constant(p1["rprelu/x"])
    layer.build(x.shape)
    np.testing.assert_array_equal(layer.slope, 0.25)
    names = ("bias_in", "slope", "bias_out")
    for name in names:
        getattr(layer, name).assign(p1[f"rprelu/{name}"].reshape(-1))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    dx, *gradients = tape.gradient(y, [x, *(getattr(layer, name) for name in names)], p1["rprelu/ct"])
    assert_near(y, p1["rprelu/y"])
    assert_near(dx, p1["rprelu/dx"])
    for name, gradient in zip(names, gradients, strict=True):
        assert_near(gradient, p1[f"rprelu/d_{name}"].reshape(-1), what=name)


@pytest.mark.parametrize(
    ("mode", "low", "high"),
    [
        ("imagenet", -np.array([0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225], [2.2489, 2.4286, 2.64]),
        ("unit", [0, 0, 0], [1, 1, 1]),
        ("zoo", [-1, -1, -1], [1, 1, 1]),
        ("none", [0, 0, 0], [255, 255, 255]),
    ],
)
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_preprocessing(mode, low, high, policy):
    tf.keras.mixed_precision.set_global_policy(policy)
    layer = layers.Preprocessing(mode)
    for dtype in (np.uint8, np.float32):
        y = layer(np.array([[[[0, 0, 0], [255, 255, 255]]]], dtype))
        assert y.dtype == tf.float32
        np.testing.assert_allclose(y[0, 0], [low, high], rtol=1e-4, atol=1e-6)


def test_preprocessing_refuses_other_modes():
    with pytest.raises(ValueError, match=r"`preprocessing` must be one of .*'imagenet'.* not 'caffe'"):
        layers.Preprocessing("caffe")


def test_rotation():
    x = np.arange(2 * 3 * 4 * 2).reshape(2, 3, 4, 2).astype(np.float32)
    np.testing.assert_array_equal(layers.Rotate180()(x), np.rot90(x, 2, axes=(1, 2)))


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize(("height", "width"), [(6, 4), (7, 5), (5, 8)])
def test_window_centres(height, width, static):
    x = np.random.default_rng(0).normal(size=(2, height, width, 1)).astype(np.float32)
    centre = np.zeros((3, 3, 1, 1), np.float32)
    centre[1, 1] = 1
    size = [height, width, 1] if static else [None, None, 1]
    inputs = tf.keras.Input(size)
    model = tf.keras.Model(inputs, layers.WindowCentres()(inputs))
    np.testing.assert_array_equal(model(x), tf.nn.conv2d(x, centre, 2, "SAME"))


def test_batch_norm_is_pytorchs():
    layer = layers.batch_norm("bn")
    x = np.random.default_rng(0).normal(size=(2, 3, 3, 1)).astype(np.float32)
    layer(x, training=True)
    assert layer.epsilon == 1e-5
    np.testing.assert_allclose(layer.moving_mean, [0.1 * x.mean()], rtol=1e-4)
    np.testing.assert_allclose(layer.moving_variance, [0.9 + 0.1 * x.var(ddof=1)], rtol=1e-5)
    assert layers.batch_norm("bn", synchronized=True).synchronized


@pytest.mark.parametrize("layer", [layers.ChannelBias, layers.RPReLU, layers.Rotate180, layers.WindowCentres])
def test_mixed_precision(layer):
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    layer = layer()
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 4, 4, 3)), tf.float32)
    with tf.GradientTape() as tape:
        y = layer(x)
    assert y.dtype == tf.bfloat16
    assert all(weight.dtype == tf.float32 for weight in layer.weights)
    for gradient in tape.gradient(y, layer.trainable_weights):
        assert np.isfinite(gradient).all()


def test_unit_rows_have_length_one_whatever_they_had():
    rows = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32) * [[1e-4], [1], [1e4], [0]]
    units = layers.UnitRows()(tf.constant(rows, tf.float32)).numpy()
    np.testing.assert_allclose(np.linalg.norm(units, axis=1), [1, 1, 1, 0], rtol=1e-5)
    np.testing.assert_allclose(units[1], rows[1] / np.linalg.norm(rows[1]), rtol=1e-5)


@pytest.mark.parametrize("free_gain", [False, True])
def test_weight_norm_dense_is_a_gain_times_a_cosine(free_gain):
    layer = layers.WeightNormDense(7, free_gain)
    random = np.random.default_rng(0)
    x = tf.constant(random.normal(size=(3, 5)), tf.float32)
    layer.build(x.shape)
    assert np.abs(layer.v).max() <= 5**-0.5
    layer.v.assign(random.normal(size=(5, 7)))
    gain = np.ones(7)
    if free_gain:
        np.testing.assert_array_equal(layer.g, gain)
        gain = random.normal(size=7)
        layer.g.assign(gain)
    v = layer.v.numpy()
    np.testing.assert_allclose(layer(x), x @ (gain * v / np.linalg.norm(v, axis=0)), rtol=1e-4, atol=1e-5)
    assert len(layer.trainable_weights) == 1 + free_gain
    layer.v.assign(3 * v)
    np.testing.assert_allclose(layer(x), x @ (gain * v / np.linalg.norm(v, axis=0)), rtol=1e-4, atol=1e-5)


def test_directions_turn_but_are_not_stretched():
    layer = layers.WeightNormDense(7, free_gain=True)
    random = np.random.default_rng(0)
    x, cotangent = (random.normal(size=shape).astype(np.float32) for shape in ((3, 5), (3, 7)))
    layer.build(x.shape)
    with tf.GradientTape() as tape:
        y = layer(x)
    d_v, d_g = tape.gradient(y, [layer.v, layer.g], cotangent)
    along = np.sum(d_v * layer.v, axis=0) / np.linalg.norm(d_v, axis=0) / np.linalg.norm(layer.v, axis=0)
    np.testing.assert_allclose(along, np.zeros(7), atol=1e-5)
    np.testing.assert_allclose(d_g, np.sum(y * cotangent, axis=0), rtol=1e-4)


@pytest.mark.parametrize("layer", [layers.UnitRows(), layers.WeightNormDense(4, free_gain=True)])
def test_what_divides_by_a_length_is_float32_under_any_policy(layer):
    tf.keras.mixed_precision.set_global_policy("mixed_float16")
    layer = type(layer).from_config({**layer.get_config(), "dtype": "mixed_float16"})
    # Squares of such rows are beyond float16.
    y = layer(tf.fill([2, 3], tf.constant(300.0, tf.float16)))
    assert y.dtype == tf.float32
    assert np.isfinite(y).all()
    assert all(weight.dtype == tf.float32 for weight in layer.weights)


SERIALISABLE = [
    layers.ChannelBias(name="bias"),
    layers.RPReLU(name="act"),
    layers.Preprocessing("zoo", name="preprocessing"),
    layers.Rotate180(name="turn"),
    layers.WindowCentres(name="centres"),
    layers.UnitRows(name="unit"),
    layers.WeightNormDense(5, free_gain=True, name="last_layer"),
    MagnitudeSign(scale_in_grad=True, clip_grad=False, name="quantizer"),
    models.build("reactnet_18", 32, "activations", "cifar", 0.25, "unit", 10, True),
]


@pytest.mark.parametrize("thing", SERIALISABLE, ids=lambda thing: type(thing).__name__)
def test_round_trip_of_get_config(thing):
    config = thing.get_config()
    assert type(thing).from_config(config).get_config() == config
    serialised = tf.keras.utils.serialize_keras_object(thing)
    restored = tf.keras.utils.deserialize_keras_object(serialised)
    assert type(restored) is type(thing)
    assert restored.get_config() == config

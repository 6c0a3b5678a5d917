import larq
import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.models.binary_convolution import Bfloat16BinaryConv2D
from larq_ssl.quantizers import MagnitudeSign, QuickApproxSign
from tests import golden
from tests.comparing import assert_near, turned_kernel, turned_maps

FAMILIES = {
    "official": ("approx_sign", dict(scale_in_grad=False, clip_grad=True)),
    "burn": ("ste_sign", dict(scale_in_grad=True, clip_grad=False)),
}


@pytest.fixture(scope="module")
def p1():
    return golden.load("p1_primitives")


@pytest.mark.parametrize("family", FAMILIES)
def test_sign_of_activations(p1, family):
    x = tf.constant(p1["sign/x"])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = larq.quantizers.get(FAMILIES[family][0])(x)
    not_zero = p1["sign/x"] != 0  # PyTorch's sign(0) is 0, Larq's is 1
    np.testing.assert_array_equal(y.numpy()[not_zero], p1["sign/y"][not_zero])
    assert_near(tape.gradient(y, x, p1["sign/ct"]), p1[f"sign/{family}_dx"])


@pytest.mark.parametrize("stage", ["binary", "binary in bfloat16", "step1"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("conv", ["conv3x3s1", "conv3x3s2", "conv1x1"])
def test_convolution(p1, conv, family, stage):
    stage, _, small = stage.partition(" in ")
    # Turned by 180 degrees, "same" pads where PyTorch does.
    arrays = {key.split("/", 1)[1]: array for key, array in p1.items() if key.startswith(f"{conv}/")}
    expected = {key: arrays[f"{family}_{stage}/{key}"] for key in ("y", "dx", "d_kernel")}
    input_quantizer, gradient = FAMILIES[family]
    make = Bfloat16BinaryConv2D if small else larq.layers.QuantConv2D
    layer = make(
        arrays["kernel"].shape[-1],
        arrays["kernel"].shape[0],
        strides=arrays["x"].shape[1] // expected["y"].shape[1],
        padding="same",
        pad_values=0.0,
        use_bias=False,
        input_quantizer=input_quantizer,
        kernel_quantizer=MagnitudeSign(**gradient) if stage == "binary" else None,
    )
    x = tf.constant(turned_maps(arrays["x"]))
    layer.build(x.shape)
    layer.kernel.assign(turned_kernel(arrays["kernel"]))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    dx, d_kernel = tape.gradient(y, [x, layer.kernel], turned_maps(arrays["ct"]))
    assert_near(turned_maps(y), expected["y"], what="y")
    # Forward nothing is lost; what flows back is rounded to 8 bits three times.
    tolerance = 3 * 2**-8 if small else 1e-5
    assert_near(turned_maps(dx), expected["dx"], tolerance, what="dx")
    assert_near(turned_kernel(d_kernel), expected["d_kernel"], tolerance, what="d_kernel")


def test_the_quick_sign_is_the_one_of_larq():
    x = tf.constant(np.concatenate([np.random.default_rng(0).normal(size=500), [0, -0.0, 1, -1, 1e-40, 1e30, -1e30]]))
    for dtype in (tf.float32, tf.bfloat16):
        inputs = tf.cast(x, dtype)
        upstream = tf.cast(tf.random.stateless_normal(x.shape, [1, 2]), dtype)
        found = []
        for quantizer in (larq.quantizers.ApproxSign(dtype=dtype), QuickApproxSign(dtype=dtype)):
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                y = quantizer(inputs)
            found.append((y.numpy(), tape.gradient(y, inputs, upstream).numpy()))
        for one, other in zip(*found, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("scale_in_grad", [False, True])
@pytest.mark.parametrize("clip_grad", [False, True])
@pytest.mark.parametrize("mean_in_grad", [False, True])
def test_parts_of_a_kernel_make_the_kernel(scale_in_grad, clip_grad, mean_in_grad):
    quantizer = MagnitudeSign(scale_in_grad, clip_grad, mean_in_grad)
    weights = 2.0 * tf.random.stateless_normal([3, 3, 4, 5], [1, 2])
    upstream = tf.random.stateless_normal(weights.shape, [3, 4])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(weights)
        whole = quantizer(weights)
        latent, scale = quantizer.in_parts(weights)
    np.testing.assert_array_equal(larq.math.sign(latent) * scale, whole)
    np.testing.assert_array_equal(tape.gradient(latent, weights, upstream), tape.gradient(whole, weights, upstream))


def test_scale_is_the_mean_magnitude_of_each_filter(p1):
    kernel = p1["conv3x3s1/kernel"]
    quantised = MagnitudeSign()(tf.constant(kernel))
    assert_near(np.abs(quantised), np.broadcast_to(p1["conv3x3s1/alpha"].reshape(-1), kernel.shape))
    np.testing.assert_array_equal(np.sign(quantised), np.where(kernel >= 0, 1, -1))


@pytest.mark.parametrize("scale_in_grad", [False, True])
@pytest.mark.parametrize("clip_grad", [False, True])
@pytest.mark.parametrize("mean_in_grad", [False, True])
def test_the_switches_of_the_gradient(scale_in_grad, clip_grad, mean_in_grad):
    weights = tf.constant([[0.5], [-2.0], [1.0]])
    with tf.GradientTape() as tape:
        tape.watch(weights)
        outputs = MagnitudeSign(scale_in_grad, clip_grad, mean_in_grad)(weights)
    scale = 3.5 / 3
    upstream = tf.constant([[3.0], [7.0], [5.0]])
    expected = np.array([[3.0], [0.0 if clip_grad else 7.0], [5.0]]) * (scale if scale_in_grad else 1.0)
    expected += upstream / 3 if mean_in_grad else 0.0
    np.testing.assert_allclose(tape.gradient(outputs, weights, upstream), expected, rtol=1e-6)


def test_binary_even_for_zero_weights():
    assert set(np.sign(MagnitudeSign()(tf.constant([[0.0], [-0.0], [1.0]]))).ravel()) == {1.0}
    np.testing.assert_array_equal(MagnitudeSign()(tf.zeros([3, 2])), np.zeros([3, 2]))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision(dtype):
    weights = np.random.default_rng(0).normal(0, 0.02, (3, 3, 600, 4)).astype(np.float32)
    low = tf.cast(weights, dtype)
    with tf.GradientTape() as tape:
        tape.watch(low)
        outputs = MagnitudeSign(scale_in_grad=True, dtype=dtype)(low)
    gradient = tape.gradient(outputs, low)
    assert outputs.dtype == gradient.dtype == low.dtype
    assert_near(tf.cast(outputs, tf.float32), MagnitudeSign()(tf.cast(low, tf.float32)), tolerance=4e-3)
    assert np.isfinite(tf.cast(gradient, tf.float32)).all()


def test_larq_knows_it():
    assert MagnitudeSign().precision == 1
    config = larq.quantizers.serialize(MagnitudeSign(scale_in_grad=True, clip_grad=False, mean_in_grad=True))
    restored = larq.quantizers.get(config)
    assert isinstance(restored, MagnitudeSign)
    assert (restored.scale_in_grad, restored.clip_grad, restored.mean_in_grad) == (True, False, True)

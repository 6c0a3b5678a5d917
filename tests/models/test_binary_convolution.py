"""Binary convolutions in bfloat16: exact forward, within the stated error backward, their kernels quantised once."""

import concurrent.futures
import contextlib
import functools

import larq
import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.models.binary_convolution import Bfloat16BinaryConv2D, BinaryKernel, same_weights
from larq_ssl.quantizers import MagnitudeSign, QuickApproxSign


def pair(channels, quantizer=None, **arguments):
    """A plain layer and one that computes in bfloat16, with the same weights."""
    shared = dict(
        filters=7,
        kernel_size=3,
        padding="same",
        pad_values=0.0,
        use_bias=False,
        input_quantizer="approx_sign",
        kernel_quantizer=quantizer or MagnitudeSign(),
    )
    layers = [make(**{**shared, **arguments}) for make in (larq.layers.QuantConv2D, Bfloat16BinaryConv2D)]
    for layer in layers:
        layer.build([None, None, None, channels])
    layers[1].kernel.assign(layers[0].kernel)
    return layers


def maps(channels, side=6, seed=0):
    return tf.random.stateless_normal([4, side, side, channels], [seed, 1])


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"strides": 2},
        {"dilation_rate": 2},
        {"padding": "valid"},
        {"pad_values": 1.0},
        {"kernel_size": 1},
        {"quantizer": MagnitudeSign(scale_in_grad=True, clip_grad=False)},
        {"quantizer": MagnitudeSign(scale_in_grad=True, mean_in_grad=True)},
        {"quantizer": "ste_sign"},
        {"quantizer": "magnitude_aware_sign"},
    ],
    ids=lambda arguments: "-".join(map(str, arguments)) or "plain",
)
def test_sums_up_to_256_are_exact(arguments):
    """28 channels of 3x3 cannot have larger ones; all that differs is where float32 multiplies by the scale."""
    plain, small = pair(28, **arguments)
    for layer in (plain, small):  # zero is positive, whatever its sign
        layer.kernel.assign(tf.concat([tf.zeros_like(layer.kernel[..., :1, :]), layer.kernel[..., 1:, :]], axis=2))
    np.testing.assert_allclose(small(maps(28)), plain(maps(28)), rtol=0, atol=4e-6)


def test_larger_sums_are_within_the_stated_error():
    plain, small = pair(200, quantizer="ste_sign")
    plain.kernel.assign(tf.ones_like(plain.kernel))
    small.kernel.assign(plain.kernel)
    inputs = tf.abs(maps(200)) - 0.05
    exact, rounded = plain(inputs).numpy(), small(inputs).numpy()
    assert exact.max() > 1000
    assert np.any(exact != rounded)
    assert np.all(np.abs(rounded - exact) <= 2**-8 * np.abs(exact))
    np.testing.assert_array_equal(rounded[np.abs(exact) <= 256], exact[np.abs(exact) <= 256])


@pytest.mark.parametrize(
    "arguments",
    [
        {"quantizer": MagnitudeSign(True, False)},
        {"quantizer": MagnitudeSign(True, True, True)},
        {"quantizer": "ste_sign"},
        {"strides": 2},
        {"strides": 2, "padding": "valid"},
        {"strides": (2, 1)},
        {"dilation_rate": 2},
        {"pad_values": 1.0},
        {"kernel_size": 1},
        {"kernel_size": (5, 2), "strides": 2},
    ],
    ids=["burn", "xnor", "ste", "strides", "valid", "unequal", "dilated", "padded", "1x1", "5x2"],
)
def test_gradients_are_those_of_float32_but_for_rounding(arguments):
    plain, small = pair(28, **arguments)
    # Some beyond 1, where straight-through estimators stop.
    for layer in (plain, small):
        layer.kernel.assign(2.0 * tf.random.stateless_normal(layer.kernel.shape, [3, 4]))
    inputs = maps(28)
    upstream = tf.random.stateless_normal(plain(inputs).shape, [5, 6])

    def gradients(layer):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            loss = tf.reduce_sum(layer(inputs) * upstream)
        return [gradient.numpy() for gradient in tape.gradient(loss, [inputs, layer.kernel])]

    for wanted, found in zip(gradients(plain), gradients(small), strict=True):
        assert found.dtype == np.float32
        assert np.array_equal(found == 0, wanted == 0)
        scale = np.abs(wanted).max()
        assert scale > 0.1
        # A sum of many terms, each rounded by 2^-8 of its size.
        assert np.abs(found - wanted).max() < 0.02 * scale
        assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.9999
        # Rounding goes both ways.
        assert np.vdot(found, wanted) / np.vdot(wanted, wanted) == pytest.approx(1, abs=2e-3)


def counted_kernels(monkeypatch):
    """A list that grows by one whenever a kernel is quantised."""
    made, of = [], BinaryKernel.of
    monkeypatch.setattr(BinaryKernel, "of", lambda kernel, quantizer: made.append(kernel) or of(kernel, quantizer))
    return made


@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize("quantizer", [MagnitudeSign(), MagnitudeSign(True, True, True)])
def test_a_kernel_of_several_calls_is_quantised_once(quantizer, in_graph, monkeypatch):
    layer = pair(28, quantizer=quantizer)[1]
    layer.kernel.assign(2.0 * tf.random.stateless_normal(layer.kernel.shape, [3, 4]))
    views = [maps(28, side, seed=side) for side in (6, 6, 4)]
    made = counted_kernels(monkeypatch)

    def run(scope):
        with tf.GradientTape() as tape:
            tape.watch(views)
            with scope():
                outputs = [layer(view) for view in views]
            loss = tf.add_n([tf.reduce_sum(tf.square(output)) for output in outputs])
        return outputs, tape.gradient(loss, [layer.kernel, *views])

    def compute(scope):
        made.clear()
        once = functools.partial(run, scope)
        outputs, gradients = tf.function(once, autograph=False)() if in_graph else once()
        return [output.numpy() for output in outputs], [gradient.numpy() for gradient in gradients], len(made)

    plain, (by_kernel, *by_views), times = compute(contextlib.nullcontext)
    assert times == 3
    shared, (shared_by_kernel, *shared_by_views), times = compute(same_weights)
    assert times == 1
    for one, other in zip([*shared, *shared_by_views], [*plain, *by_views], strict=True):
        np.testing.assert_array_equal(one, other)
    # The parts of the views are added up before they go through the quantizer, instead of after it.
    np.testing.assert_allclose(shared_by_kernel, by_kernel, rtol=0, atol=1e-5 * np.abs(by_kernel).max())
    assert np.any(by_kernel)


def test_a_kernel_is_kept_no_longer_than_it_stands_still(monkeypatch):
    layer = pair(3)[1]
    made, seen = counted_kernels(monkeypatch), []
    for value in (1.0, -1.0):
        layer.kernel.assign(value * tf.ones_like(layer.kernel))
        with same_weights():
            seen += [layer(maps(3)).numpy(), layer(maps(3)).numpy()]
        seen.append(layer(maps(3)).numpy())
    assert len(made) == 4
    for place in (1, 2):
        np.testing.assert_array_equal(seen[place], seen[0])
        np.testing.assert_array_equal(seen[place + 3], -seen[0])


def test_a_scope_within_another_ends_alone(monkeypatch):
    layer, made = pair(3)[1], counted_kernels(monkeypatch)
    with same_weights():
        layer(maps(3))
        with same_weights():
            layer(maps(3))
        layer(maps(3))
        assert len(made) == 2
    layer(maps(3))
    assert len(made) == 3


def test_replicas_which_are_threads_make_their_own(monkeypatch):
    """Each has other variables than this thread, which stand still at other times."""
    layer, made = pair(3)[1], counted_kernels(monkeypatch)

    def replica():
        for _ in range(2):
            layer(maps(3))
        with same_weights():
            for _ in range(2):
                layer(maps(3))

    with same_weights(), concurrent.futures.ThreadPoolExecutor(1) as threads:
        layer(maps(3))
        threads.submit(replica).result()
        assert len(made) == 1 + 2 + 1
        layer(maps(3))
        assert len(made) == 4


def test_the_quick_gradient_takes_the_place_of_larqs():
    assert type(pair(3)[1].input_quantizer) is QuickApproxSign
    assert type(pair(3, input_quantizer="ste_sign")[1].input_quantizer) is larq.quantizers.SteSign


def test_what_counts_flipped_signs_goes_on_counting():
    for index in range(2):
        counting = larq.quantizers.ApproxSign(metrics=["flip_ratio"], name="counting")
        layer = pair(3, input_quantizer=counting)[index]
        for side in (1.0, -1.0, -1.0):
            layer(side * tf.ones([4, 6, 6, 3]))
        (ratio,) = layer.metrics
        assert (ratio.name, float(ratio.result())) == ("flip_ratio/counting", 0.5)


def test_a_branch_of_a_graph_makes_its_own(monkeypatch):
    layer = pair(3)[1]
    made = counted_kernels(monkeypatch)

    @tf.function
    def run(first):
        with same_weights():
            either = tf.cond(first, lambda: layer(maps(3)), lambda: layer(maps(3, seed=1)))
            return either, layer(maps(3))

    np.testing.assert_array_equal(*run(tf.constant(True)))
    assert len(made) == 3


def test_a_filter_of_zeros_gives_zeros():
    plain, small = pair(3)
    for layer in (plain, small):
        layer.kernel.assign(tf.zeros_like(layer.kernel))
    np.testing.assert_array_equal(small(maps(3)), plain(maps(3)))
    assert not np.any(small(maps(3)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_quantizer": None}, "`input_quantizer` must be binary to compute in bfloat16, not None"),
        ({"kernel_quantizer": None}, "`kernel_quantizer` must be binary to compute in bfloat16, not None"),
        ({"kernel_quantizer": "ste_heaviside"}, "`kernel_quantizer` must be binary to compute in bfloat16, not <"),
        ({"groups": 2}, "`groups` must be 1 to compute in bfloat16, not 2"),
    ],
)
def test_what_would_be_another_network_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Bfloat16BinaryConv2D(
            4, 3, **{"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign", "pad_values": 0.0, **changes}
        )


def test_it_is_serialised():
    layer = pair(3)[1]
    again = tf.keras.layers.deserialize(tf.keras.layers.serialize(layer))
    assert type(again) is Bfloat16BinaryConv2D
    assert again.get_config() == layer.get_config()

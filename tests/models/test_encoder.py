import functools
import logging

import larq
import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import models
from larq_ssl.models import profile
from larq_ssl.models.encoder import EncoderSpec
from larq_ssl.models.transfer import assign_weights, named_weights

BINARY = ("reactnet_a", "reactnet_a_burn", "reactnet_18", "birealnet_18", "xnor_18")
RESNETS = ("resnet_18", "resnet_34", "resnet_50")


def _small(name, **arguments):
    arguments = {"binarization": "none" if name in RESNETS else "full", "width": 0.125, **arguments}
    return models.build(name, **arguments)


@functools.lru_cache
def _shared(name, binarization=None):
    """A network that several tests look at and none alters: to build one takes a second."""
    binarization = binarization or ("none" if name in RESNETS else "full")
    tf.keras.utils.set_random_seed(1)  # the weights are the same whichever test asks first
    return _small(name, binarization=binarization, classes=7)


def _images(size, batch=2, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (batch, size, size, 3)).astype(np.uint8)


def _parameters(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


@pytest.mark.parametrize(
    ("name", "weights", "binary_macs", "float_macs"),
    [
        ("reactnet_a", 29_343_592, 4_816_896_000, 11_862_016),
        ("reactnet_18", 11_704_424, 1_676_279_808, 137_793_536),
    ],
)
def test_counts_of_the_papers(name, weights, binary_macs, float_macs):
    encoder = models.build(name, image_size=224, classes=1000)
    counts = larq.models.ModelProfile(encoder)
    assert _parameters(encoder) == weights
    # Larq fuses BatchNorm: two numbers per channel instead of four, so its total is the trainable count.
    assert counts.weight_count() == weights
    assert counts.op_count("mac", 1) == binary_macs
    assert counts.op_count("mac") - counts.op_count("mac", 1) == float_macs


@pytest.mark.parametrize(
    ("name", "binarization", "classes", "weights"),
    [
        ("reactnet_a_burn", "activations", None, 29_368_192),
        ("resnet_18", "none", 1000, 11_689_512),
        ("resnet_34", "none", 1000, 21_797_672),
        ("resnet_50", "none", 1000, 25_557_032),
    ],
)
def test_parameters(name, binarization, classes, weights):
    encoder = models.build(name, binarization=binarization, classes=classes)
    assert _parameters(encoder) == weights


@pytest.mark.parametrize("name", BINARY)
def test_twins_have_the_same_names_and_shapes(name):
    twins = [_shared(name, mode) for mode in ("none", "activations", "full")]
    named = [{key: tuple(weight.shape) for key, weight in named_weights(twin).items()} for twin in twins]
    assert named[0] == named[1] == named[2]
    layers = [[layer.name for layer in twin.binary_layers] for twin in twins]
    assert layers[0] == layers[1] == layers[2]
    assert len(layers[0]) == (31 if name.startswith("reactnet_a") else 16)


def test_what_is_binary_in_each_mode():
    images = _images(32)
    for mode, input_is_binary, kernel_is_binary in (
        ("none", False, False),
        ("activations", True, False),
        ("full", True, True),
    ):
        encoder = _shared("reactnet_a", mode)
        layer = encoder.get_layer("block3/conv3x3")
        before = tf.keras.Model(encoder.input, layer.input)(images)
        seen = layer.input_quantizer(before) if layer.input_quantizer else before
        assert (set(np.unique(seen)) == {-1.0, 1.0}) == input_is_binary
        with larq.context.quantized_scope(True):
            kernel = np.abs(tf.convert_to_tensor(layer.kernel))
        assert (np.ptp(kernel[..., 0]) < 1e-7) == kernel_is_binary
        assert layer.kernel_size == (3, 3)


@pytest.mark.parametrize("name", [*BINARY, *RESNETS])
def test_other_sizes_share_the_layers(name):
    dynamic = _shared(name)
    static = dynamic.at(64)
    assert static.spec.image_size == 64
    assert [id(weight) for weight in static.weights] == [id(weight) for weight in dynamic.weights]
    assert dynamic.at(None) is dynamic
    images = _images(64)
    np.testing.assert_array_equal(static(images), dynamic(images))
    assert dynamic(_images(96)).shape == dynamic(images).shape == (2, 7)
    with pytest.raises(ValueError, match="shape"):
        static(_images(96))


def test_images_may_be_bytes_or_floats():
    encoder = _shared("reactnet_18")
    images = _images(32)
    np.testing.assert_array_equal(encoder(images), encoder(images.astype(np.float32)))
    assert encoder.predict(images, verbose=0).shape == (2, 7)


@pytest.mark.parametrize("name", BINARY)
def test_named_outputs(name):
    encoder = _shared(name).at(224)
    expected = {"logits", "stride4", "stride8", "stride16", "stride32", "pooled", "svm"}
    expected |= {"extra_fc"} if name == "reactnet_a_burn" else set()
    expected |= {"stride2"} if name.startswith("reactnet_a") else set()
    assert set(encoder.named_outputs) == expected
    outputs = encoder.with_outputs("stride8", "svm", "pooled")(_images(224, batch=1))
    assert list(outputs) == ["stride8", "svm", "pooled"]
    assert outputs["stride8"].shape[1:3] == (28, 28)
    assert outputs["svm"].shape == (1, 4 * encoder.feature_dim)
    assert "svm" not in _shared(name).named_outputs
    with pytest.raises(ValueError, match="not 'stride64'"):
        encoder.with_outputs("stride64")


def test_the_svm_feature_averages_windows_of_the_last_map():
    encoder = _shared("reactnet_18").at(224)
    outputs = encoder.with_outputs("stride32", "svm")(_images(224, batch=1))
    windows = [np.mean(outputs["stride32"][0, i : i + 6, j : j + 6], (0, 1)) for i in (0, 1) for j in (0, 1)]
    np.testing.assert_allclose(outputs["svm"][0], np.concatenate(windows), rtol=1e-4, atol=1e-5)


def test_rotate_input_turns_images_and_turns_maps_back():
    plain, rotated = (_small("reactnet_18", image_size=192, rotate_input=turn) for turn in (False, True))
    # Equal kernels, which `copy_weights` refuses: with turned images they are to give turned maps.
    assign_weights(rotated, {key: weight.numpy() for key, weight in named_weights(plain).items()})
    images = _images(192, batch=1)
    names = tuple(plain.named_outputs)
    expected = plain.with_outputs(*names)(images[:, ::-1, ::-1])
    actual = rotated.with_outputs(*names)(images)
    np.testing.assert_array_equal(actual["pooled"], expected["pooled"])
    for name in names:
        if name.startswith("stride"):
            np.testing.assert_array_equal(actual[name], expected[name][:, ::-1, ::-1])
    last = np.asarray(actual["stride32"])[0]
    np.testing.assert_allclose(actual["svm"][0], last.mean((0, 1)), rtol=1e-4, atol=1e-5)


def test_logits_leave_the_features_in_place():
    encoder = _shared("reactnet_a_burn")
    outputs = encoder.with_outputs("extra_fc", "logits")(_images(32))
    assert outputs["logits"].shape == (2, 7)
    assert outputs["extra_fc"].shape == (2, encoder.feature_dim)
    assert (outputs["extra_fc"].numpy() >= 0).all()
    np.testing.assert_array_equal(encoder(_images(32)), outputs["logits"])


@pytest.mark.parametrize(("width", "channels"), [(1.0, 32), (0.25, 8), (0.1, 8), (0.4, 16), (1.6, 48), (2, 64)])
def test_width_rounds_the_base_to_multiples_of_8(width, channels):
    assert EncoderSpec("reactnet_a", width=width).channels(32) == channels


def test_each_doubling_is_exact():
    encoder = models.build("reactnet_18", width=0.2)  # 12.8 channels
    widths = [encoder.named_outputs[f"stride{stride}"].shape[-1] for stride in (4, 8, 16, 32)]
    assert widths == [16, 32, 64, 128]


@pytest.mark.parametrize("name", ["reactnet_a", "reactnet_18", "xnor_18", "resnet_18"])
def test_stem_for_small_images(name):
    encoder = _small(name, stem="cifar", image_size=32)
    finest = next(iter(encoder.named_outputs.values()))
    assert finest.shape[1:3] == (32, 32)
    assert encoder.get_layer("stem/conv").kernel_size == (3, 3)
    assert all("stem/pool" not in layer.name for layer in encoder.layers)


@pytest.mark.parametrize("name", [*BINARY, *RESNETS])
def test_mixed_precision(name):
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    encoder = _small(name, classes=5)
    with tf.GradientTape() as tape:
        logits = encoder(_images(64, batch=4), training=True)
        loss = tf.reduce_mean(tf.square(logits))
    assert encoder.output.dtype == encoder.named_outputs["pooled"].dtype == logits.dtype == tf.float32
    assert encoder.get_layer("preprocessing").output.dtype == tf.float32
    assert encoder.named_outputs["stride16"].dtype == tf.bfloat16
    gradients = tape.gradient(loss, encoder.trainable_weights)
    for weight, gradient in zip(encoder.trainable_weights, gradients, strict=True):
        assert weight.dtype == gradient.dtype == tf.float32
        assert np.isfinite(gradient).all(), weight.name
    assert np.isfinite(logits).all()


def test_every_weight_of_a_binary_network_gets_a_gradient():
    encoder = _small("reactnet_18")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(encoder(_images(64, batch=4), training=True)))
    for weight, gradient in zip(encoder.trainable_weights, tape.gradient(loss, encoder.trainable_weights), strict=True):
        assert np.abs(gradient).max() > 0, weight.name


def test_initial_kernels():
    official = _shared("reactnet_a").get_layer("block13/conv3x3").kernel.numpy()
    fan_in = np.prod(official.shape[:3])
    bound = np.sqrt(1 / fan_in)
    assert bound * 0.99 < np.abs(official).max() <= bound * (1 + 1e-6)
    np.testing.assert_allclose(official.std(), bound / np.sqrt(3), rtol=0.01)
    burn = _shared("reactnet_a_burn").get_layer("block13/conv3x3").kernel.numpy()
    np.testing.assert_allclose(burn.std(), np.sqrt(2 / fan_in), rtol=0.01)
    assert np.abs(burn).max() > 4 * burn.std()  # not truncated
    stem = _shared("reactnet_a_burn").get_layer("stem/conv").kernel.numpy()
    assert stem.shape[2] != stem.shape[3]
    np.testing.assert_allclose(stem.std(), np.sqrt(2 / np.prod(stem.shape[:3])), rtol=0.1)
    resnet = _shared("resnet_18").get_layer("stage4/block1/conv1").kernel.numpy()
    np.testing.assert_allclose(resnet.std(), np.sqrt(2 / (9 * resnet.shape[-1])), rtol=0.02)


def test_equal_seeds_give_equal_twins():
    twins = []
    for mode in ("none", "activations", "full"):
        tf.keras.utils.set_random_seed(3)
        twins.append(_small("reactnet_18", binarization=mode))
    for twin in twins[1:]:
        for key, weight in named_weights(twin).items():
            np.testing.assert_array_equal(weight.numpy(), named_weights(twins[0])[key].numpy())


def test_measuring_does_not_disturb_the_seed():
    tf.keras.utils.set_random_seed(3)
    expected = tf.keras.layers.Dense(2)(tf.ones([1, 2]))
    tf.keras.utils.set_random_seed(3)
    profile.cost(_shared("reactnet_18"), 32)
    np.testing.assert_array_equal(tf.keras.layers.Dense(2)(tf.ones([1, 2])), expected)


def test_silences_one_warning_of_larq_only(caplog):
    with caplog.at_level(logging.WARNING):
        _small("reactnet_18")
        assert not caplog.records
        larq.layers.QuantDense(2, kernel_quantizer="ste_sign")
        assert "kernel_constraint" in caplog.text


def test_two_encoders_share_nothing():
    first, second = _shared("reactnet_18"), _shared("reactnet_18", "none")
    assert not {id(weight) for weight in first.weights} & {id(weight) for weight in second.weights}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(name="reactnet"), "`name` must be one of .*'reactnet_a'.* not 'reactnet'"),
        (dict(name="resnet_18"), r"`binarization` of resnet_18 must be one of \['none'\], not 'full'"),
        (dict(binarization="weights"), "`binarization` must be one of .* not 'weights'"),
        (dict(stem="tiny"), "`stem` must be one of .* not 'tiny'"),
        (dict(preprocessing="caffe"), "`preprocessing` must be one of .* not 'caffe'"),
        (dict(width=0), "`width` must be a number above 0 .* not 0"),
        (dict(width=float("nan")), "`width` must be"),
        (dict(width="1"), "`width` must be"),
        (dict(image_size=-1), "`image_size` must be a positive integer or None, not -1"),
        (dict(image_size=32.5), "`image_size` must be"),
        (dict(classes=0), "`classes` must be a positive integer or None, not 0"),
        (dict(rotate_input=1), "`rotate_input` must be True or False, not 1"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(ValueError, match=message):
        models.build(**{"name": "reactnet_a", "width": 0.25, **arguments})

"""Larq Zoo's networks as encoders, against the zoo's own models. One network of each kind is quick, the others slow."""

import functools

import larq
import larq_zoo
import numpy as np
import pytest
import tensorflow as tf
from larq_zoo.literature.real_to_bin_nets import RealToBinNetFPFactory

from larq_ssl import models
from larq_ssl.models.transfer import copy_weights, named_weights
from larq_ssl.optimizers import SGD
from larq_ssl.roles import Role, variable_roles

# Binary layers, and the parameters of the model cards: with BatchNorm as four numbers per channel in those of 2019,
# as the two that are left when it is fused in later ones.
CARDS = {
    "BiRealNet": (16, 11_699_112, "all"),
    "BinaryDenseNet28": (23, 5_150_504, "all"),
    "BinaryDenseNet37": (32, 8_734_120, "all"),
    "BinaryDenseNet37Dilated": (32, 8_734_120, "all"),
    "BinaryDenseNet45": (40, 13_939_240, "all"),
    "BinaryResNetE18": (16, 11_699_368, "all"),
    "MeliusNet22": (34, 6_944_584, "fused"),
    "QuickNet": (16, 13_234_088, "fused"),
    "QuickNetLarge": (32, 23_342_248, "fused"),
    "QuickNetSmall": (16, 12_655_688, "fused"),
    "RealToBinaryNet": (16, 11_995_624, "all"),
}
QUICK = ("MeliusNet22", "QuickNetSmall", "RealToBinaryNet")
ALL = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CARDS]
# By formula without a gradient: only BatchNorms see what they shift; see `larq_ssl.models.zoo`.
ABSORBED = {"RealToBinaryNet": ["batch_normalization_7/beta:0", "batch_normalization_12/beta:0"]}


@functools.lru_cache
def _shared(name, binarization="full"):
    """A network that several tests share, whatever its weights, and what Larq counts in it at 224 pixels."""
    static = models.build(f"zoo:{name}", 224, binarization, preprocessing="zoo", classes=1000)
    counts = _counts(static)
    return static.at(None), counts


def _counts(model):
    """Multiply-accumulates and weights, by precision and over all."""
    profile = larq.models.ModelProfile(model)
    precisions = (1, 32, None)
    return {
        precision: (profile.op_count("mac", precision), profile.weight_count(precision)) for precision in precisions
    }


def _images(size=32, batch=4):
    return np.random.default_rng(0).integers(0, 256, (batch, size, size, 3)).astype(np.uint8)


def _take_weights(ours, theirs):
    assert [weight.shape for weight in ours.weights] == [weight.shape for weight in theirs.weights]
    for weight, value in zip(ours.weights, theirs.weights, strict=True):
        weight.assign(value)


@pytest.mark.parametrize("name", ALL)
def test_it_is_the_zoos_network(name):
    """Equal counts, and equal outputs with equal weights."""
    encoder, counts = _shared(name)
    make = getattr(larq_zoo.sota, name, None) or getattr(larq_zoo.literature, name)
    theirs = make(weights=None)
    assert counts == _counts(theirs)
    assert min(counts[1]) > 0
    binary_layers, parameters, counted = CARDS[name]
    assert (counts[None][1] if counted == "fused" else encoder.count_params()) == parameters
    assert len(encoder.binary_layers) == binary_layers
    if name == "RealToBinaryNet":
        return  # it pools otherwise at a static size: roundings that signs amplify; see its float twin below
    _take_weights(encoder, theirs)
    images = _images(224, batch=1)
    probabilities = tf.nn.softmax(encoder(images))
    np.testing.assert_allclose(probabilities, theirs(images / 127.5 - 1), rtol=0, atol=1e-4)
    assert np.ptp(probabilities) > 1e-4


def test_the_float_twin_of_real_to_binary_net_is_the_zoos():
    encoder, _ = _shared("RealToBinaryNet", "none")
    theirs = RealToBinNetFPFactory(input_shape=(64, 64, 3), num_classes=1000).build()
    _take_weights(encoder, theirs)
    images = _images(64, batch=2)
    probabilities = tf.nn.softmax(encoder(images))
    np.testing.assert_allclose(probabilities, theirs(images / 127.5 - 1), rtol=0, atol=1e-5)
    assert np.ptp(probabilities) > 1e-3


@pytest.mark.parametrize("name", ALL)
def test_every_optimised_variable_gets_a_gradient(name):
    encoder = _shared(name)[0]
    with tf.GradientTape() as tape:
        logits = encoder(_images(), training=True)
        loss = tf.reduce_sum(tf.keras.losses.sparse_categorical_crossentropy([0, 3, 5, 1], logits, from_logits=True))
    variables = [variable for variable, _ in variable_roles(encoder)]
    largest = [float(tf.reduce_max(tf.abs(gradient))) for gradient in tape.gradient(loss, variables)]
    # Scales before ReLU and another BatchNorm have small ones at the start, 6e-5 of the median; rounding has 1e-7.
    small = [v.name for v, value in zip(variables, largest, strict=True) if not value > 1e-5 * np.median(largest)]
    assert small == ABSORBED.get(name, [])
    by_id = dict(zip(map(id, variables), largest, strict=True))
    assert all(by_id[id(layer.kernel)] > 0 for layer in encoder.binary_layers)


@pytest.mark.parametrize("name", ALL)
def test_stage_2_inherits_all_of_stage_1(name):
    stage1, stage2 = (_shared(name, mode)[0] for mode in ("activations", "full"))
    report = copy_weights(stage1, stage2)
    count = CARDS[name][0]
    assert str(report).startswith(f"{count} of {count} binary kernels, ")
    assert report.tensors == report.total_tensors == len(stage1.weights)
    for before, after in zip(stage1.weights, stage2.weights, strict=True):
        np.testing.assert_array_equal(before.read_value(), after.read_value())
    assert all(layer.input_quantizer for layer in (*stage1.binary_layers, *stage2.binary_layers))
    assert not any(layer.kernel_quantizer or layer.kernel_constraint for layer in stage1.binary_layers)
    assert all(layer.kernel_quantizer and layer.kernel_constraint for layer in stage2.binary_layers)
    assert _shared(name, "activations")[1][1] == (0, 0)


@pytest.mark.parametrize("name", ALL)
def test_static_and_dynamic_size_agree(name):
    encoder = _shared(name)[0]
    static = encoder.at(64)
    images = _images(64, batch=2)
    np.testing.assert_array_equal(static(images), encoder(images))
    sizes = {key: map_.shape[1] for key, map_ in static.named_outputs.items() if key.startswith("stride")}
    expected = {"stride4": 16, "stride8": 8, "stride16": 4, "stride32": 2}
    assert list(sizes.items()) == list(expected.items())[: 2 if name == "BinaryDenseNet37Dilated" else 4]
    assert static.named_outputs["pooled"].shape == (None, encoder.feature_dim)
    assert encoder(_images(47, batch=1)).shape == (1, 1000)


@pytest.mark.parametrize("name", ["QuickNetSmall", pytest.param("MeliusNet22", marks=pytest.mark.slow)])
def test_round_trip(name, tmp_path):
    encoder = _shared(name)[0]
    models.save_encoder(encoder, tmp_path / "encoder")
    tf.keras.utils.set_random_seed(3)
    expected = tf.keras.layers.Dense(2)(tf.ones([1, 2]))
    tf.keras.utils.set_random_seed(3)
    restored = models.load_encoder(tmp_path / "encoder")
    np.testing.assert_array_equal(tf.keras.layers.Dense(2)(tf.ones([1, 2])), expected)
    assert restored.spec == encoder.spec
    assert models.encoder_hash(restored) == models.encoder_hash(encoder)
    np.testing.assert_array_equal(restored.predict(_images(), verbose=0), encoder.predict(_images(), verbose=0))


def test_names_are_the_same_every_time_and_in_every_mode():
    networks = [_shared("QuickNetSmall")[0], models.build("zoo:QuickNetSmall", classes=1000)]
    networks.append(_shared("QuickNetSmall", "activations")[0])
    first, *others = [{key: tuple(weight.shape) for key, weight in named_weights(net).items()} for net in networks]
    assert all(other == first for other in others)
    assert [layer.name for layer in networks[0].binary_layers] == [f"quant_conv2d_{n}" for n in range(1, 17)]
    assert networks[0].get_layer("quant_conv2d_16").kernel.name.startswith("quant_conv2d_16/")
    assert not {id(weight) for weight in networks[0].weights} & {id(weight) for weight in networks[1].weights}


def test_roles_and_what_is_never_trained():
    encoder = _shared("QuickNetSmall")[0]
    roles = {variable.name.split(":")[0]: role for variable, role in variable_roles(encoder)}
    assert roles["quant_conv2d_1/kernel"] == roles["conv2d_1/kernel"] == Role.KERNEL
    assert roles["batch_normalization_1/gamma"] == Role.NORM
    blur = {key for key in named_weights(encoder) if key.endswith("depthwise_kernel") and key not in roles}
    assert blur == {f"depthwise_conv2d_{number}/depthwise_kernel" for number in (2, 3, 4)}
    np.testing.assert_allclose(named_weights(encoder)["depthwise_conv2d_2/depthwise_kernel"][:, :, 0, 0] * 16, BLUR)
    assert roles["depthwise_conv2d_1/depthwise_kernel"] == Role.DEPTHWISE
    roles = {variable.name.split(":")[0]: role for variable, role in variable_roles(_shared("RealToBinaryNet")[0])}
    assert (roles["dense_1/kernel"], roles["pre_lu_1/alpha"]) == (Role.KERNEL, Role.SLOPE)


BLUR = [[1, 2, 1], [2, 4, 2], [1, 2, 1]]


def test_latent_kernels_stay_within_the_zoos_bounds():
    layer = models.build("zoo:QuickNetSmall").binary_layers[0]
    optimizer = SGD(1.0)
    optimizer.set_roles([(layer.kernel, Role.KERNEL)])
    optimizer.apply_gradients([(tf.fill(layer.kernel.shape, -9.0), layer.kernel)])
    np.testing.assert_array_equal(layer.kernel.latent_variable, tf.fill(layer.kernel.shape, 1.25))


def test_synchronised_and_mirrored():
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        encoder = models.build("zoo:BiRealNet", synchronized=True)
    norms = [layer for layer in encoder.layers if isinstance(layer, tf.keras.layers.BatchNormalization)]
    assert len(norms) == 20
    assert all(layer.synchronized for layer in norms)
    assert len(encoder.weights[0].values) == 2


def test_mixed_precision():
    _shared("QuickNetSmall")  # a plan made under another policy
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    encoder = models.build("zoo:QuickNetSmall", classes=5)
    logits = encoder(_images())
    assert encoder.named_outputs["stride16"].dtype == tf.bfloat16
    assert logits.dtype == encoder.named_outputs["pooled"].dtype == tf.float32
    assert np.isfinite(logits).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(name="zoo:QuickNetXL"), "`name` must be one of .*'zoo:QuickNet'.* not 'zoo:QuickNetXL'"),
        (dict(name="zoo:BinaryAlexNet"), "not 'zoo:BinaryAlexNet', whose features .* no map to pool"),
        (dict(name="zoo:XNORNet"), "no map to pool"),
        (dict(name="zoo:DoReFaNet"), "no map to pool"),
        (dict(stem="cifar"), "`stem` of zoo:QuickNet must be 'imagenet', as it was published, not 'cifar'"),
        (dict(width=0.5), "`width` of zoo:QuickNet must be 1.0, as it was published, not 0.5"),
        (dict(binarization="none"), r"`binarization` of zoo:QuickNet must be one of .*'full'\], not 'none'"),
        (dict(image_size=16), "`image_size` of zoo:QuickNet must be at least 32 or None, not 16"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(ValueError, match=message):
        models.build(**{"name": "zoo:QuickNet", **arguments})


def test_every_network_of_the_zoo_is_known():
    known = {name.removeprefix("zoo:") for name in (*models.ARCHITECTURES, *models.zoo.REFUSED) if "zoo:" in name}
    assert known == {*larq_zoo.literature.__all__, *larq_zoo.sota.__all__}
    assert known - {name.removeprefix("zoo:") for name in models.zoo.REFUSED} == set(CARDS)

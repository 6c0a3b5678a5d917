"""SimCLR's ResNets against the official code: blocks, whole networks, sizes; and their starts, gradients and files."""

import functools
import math

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import models
from larq_ssl.models import profile
from larq_ssl.models.encoder import Encoder, EncoderSpec, LayerStore
from larq_ssl.models.selective_kernel import StreamsMean, StreamsMixture, selective_conv
from larq_ssl.models.simclr_resnet import basic_block, bottleneck_block, simclr_resnet
from larq_ssl.models.transfer import assign_weights, named_weights
from larq_ssl.roles import Role, variable_roles
from tests import golden
from tests.comparing import assert_near

PLAIN = tuple(f"simclr_resnet_{depth}" for depth in (18, 34, 50, 101, 152, 200))
SELECTIVE = tuple(f"simclr_resnet_{depth}_sk" for depth in (50, 101, 152, 200))
QUICK = ("simclr_resnet_18", "simclr_resnet_50_sk")


@pytest.fixture(scope="module")
def s6():
    return golden.load("s6_simclr")


def _under(arrays, prefix):
    return {key[len(prefix) :]: array for key, array in arrays.items() if key.startswith(prefix)}


@functools.lru_cache
def _shared(name):
    """A network that several tests look at and none alters: to build one takes seconds."""
    tf.keras.utils.set_random_seed(1)  # the weights are the same whichever test asks first
    return models.build(name, binarization="none", width=0.125, classes=7)


def _images(size=32, batch=2):
    return np.random.default_rng(0).integers(0, 256, (batch, size, size, 3)).astype(np.uint8)


def _encoder(depth, sk_ratio, spec, blank=False):
    """The registered network, or the one that nobody registered because nobody trained it."""
    name = f"simclr_resnet_{depth}_sk" if sk_ratio else f"simclr_resnet_{depth}"
    architecture = models.ARCHITECTURES[name] if name in models.ARCHITECTURES else simclr_resnet(depth, sk_ratio)
    return Encoder(architecture, EncoderSpec(name, binarization="none", **spec), LayerStore(blank=blank))


def _block(name, arrays):
    """The block as a model with the weights of the golden file, and its variables in the order of the file."""
    channels, strides, sk_ratio = arrays["cfg"]
    channels, strides = int(channels), int(strides)
    inputs, layers = tf.keras.Input(arrays["x"].shape[1:]), LayerStore(blank=True)
    if name == "sk_conv":
        outputs = selective_conv(inputs, "block", channels, strides, sk_ratio, layers)
    else:
        make = basic_block if name.startswith("basic") else bottleneck_block
        outputs = make(inputs, "block", channels, strides, True, sk_ratio, layers)
    model = tf.keras.Model(inputs, outputs)
    keys = [f"block/{role}" for role in arrays["names"]]
    assign_weights(model, {key: arrays[f"var{index:02d}"] for index, key in enumerate(keys)})
    return model, [named_weights(model)[key] for key in keys]


def _biased(model, key, after, before, batch):
    """A moving variance as the official code moves it: Keras takes n / (n - 1) of the variance of n positions."""
    layer = model.get_layer(key.rsplit("/", 1)[0])
    count = batch * math.prod(layer.output_shape[1:3])
    return 0.9 * before + (after - 0.9 * before) * (count - 1) / count


@pytest.mark.parametrize("name", ["sk_conv", "sk_block_s2", "sk_block_s1", "basic_s2", "bottle_s2"])
def test_block(s6, name):
    arrays = _under(s6, f"{name}_")
    model, variables = _block(name, arrays)
    assert_near(model(arrays["x"], training=False), arrays["out_eval"], 5e-5)
    x = tf.constant(arrays["x"])
    with tf.GradientTape() as tape:
        tape.watch(x)
        out = model(x, training=True)
        loss = tf.reduce_sum(out * arrays["R"])
    assert_near(out, arrays["out_train"], 5e-5)
    gradients = tape.gradient(loss, [x, *variables])
    assert_near(gradients[0], arrays["grad_x"], 1e-3, "x")
    compared = 0
    for index, role in enumerate(arrays["names"]):
        key, variable = f"var{index:02d}", variables[index]
        if not role.rsplit("/", 1)[1].startswith("moving"):
            assert_near(gradients[index + 1], arrays[f"grad_{key}"], 1e-3, role)
            continue
        after = variable.numpy()
        if role.endswith("moving_variance"):
            after = _biased(model, f"block/{role}", after, arrays[key], len(x))
        assert_near(after, arrays[f"after_{key}"], 5e-5, role)
        compared += 1
    assert compared == sum(key.startswith("after_") for key in arrays) > 0


def _weight(role, shape, random):
    """A weight of the whole networks by the rule of the golden file."""
    kind = role.rsplit("/", 1)[1]
    if kind == "kernel":
        array = random.randn(*shape) * np.sqrt(2 / np.prod(shape[:-1]))
    elif kind in ("gamma", "moving_variance"):
        array = random.uniform(0.5, 1.5, shape)
    else:
        array = random.randn(*shape) * 0.2
    return array.astype(np.float32)


def _network_weights(names, shapes, seed):
    return {
        str(role): _weight(role, [side for side in shape if side], np.random.RandomState(seed * 1000 + index))
        for index, (role, shape) in enumerate(zip(names, shapes, strict=True))
    }


@pytest.mark.parametrize("net", ["r18_stem", "r18_cifar", "r50_sk"])
def test_network(s6, net):
    """The images are not turned, and their sides are even: it is the padding of the official code itself."""
    arrays = _under(s6, f"{net}_")
    depth, sk_ratio, cifar, batch, side, seed = (number.item() for number in arrays["cfg"])
    x = np.random.RandomState(int(seed) + 11).uniform(0, 1, (int(batch), int(side), int(side), 3)).astype(np.float32)
    weights = _network_weights(arrays["names"], arrays["shapes"], int(seed))
    np.testing.assert_allclose(x.sum(), arrays["x_sum"], rtol=1e-4)
    total = sum(array.sum(dtype=np.float64) for role, array in weights.items() if "/moving_" not in role)
    np.testing.assert_allclose(total, arrays["weights_sum"], rtol=1e-4)

    spec = {"stem": "cifar" if cifar else "imagenet", "preprocessing": "none"}
    encoder = _encoder(int(depth), sk_ratio, spec, blank=True)
    assert assign_weights(encoder, weights).tensors == len(weights)
    for mode in ("eval", "train"):
        tolerance = 10 * arrays[f"features_{mode}_float32_error"].item()
        features = encoder(x, training=mode == "train")
        np.testing.assert_allclose(features, arrays[f"features_{mode}"], rtol=0, atol=tolerance)


def _assert_counts(row):
    depth, width, sk_ratio, cifar, trainable, moving, tensors, feature_dim, _ = (number.item() for number in row)
    spec = {"stem": "cifar" if cifar else "imagenet", "width": width}
    encoder = _encoder(int(depth), sk_ratio, spec, blank=True)
    sizes = [math.prod(weight.shape) for weight in encoder.trainable_weights]
    assert (sum(sizes), len(sizes), encoder.feature_dim) == (trainable, tensors, feature_dim)
    assert sum(math.prod(weight.shape) for weight in encoder.non_trainable_weights) == moving


def _is_small(row):
    return row[0] <= 50 and row[4] < 40e6


def test_parameters_of_the_small_networks(s6):
    rows = [row for row in s6["param_counts"] if _is_small(row)]
    assert rows
    for row in rows:
        _assert_counts(row)


@pytest.mark.slow
def test_parameters_of_the_large_networks(s6):
    rows = [row for row in s6["param_counts"] if not _is_small(row)]
    assert rows
    for row in rows:
        tf.keras.backend.clear_session()
        _assert_counts(row)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "width", "millions"),
    [
        ("simclr_resnet_50", 1, 24),
        ("simclr_resnet_50_sk", 1, 35),
        ("simclr_resnet_50", 2, 94),
        ("simclr_resnet_50_sk", 2, 140),
        ("simclr_resnet_101", 1, 43),
        ("simclr_resnet_152", 1, 58),
        ("simclr_resnet_152_sk", 3, 795),
    ],
)
def test_parameters_of_the_paper(name, width, millions):
    """SimCLRv2, Table 1."""
    encoder = models.registry.build_blank(EncoderSpec(name, binarization="none", width=width))
    count = sum(math.prod(weight.shape) for weight in encoder.trainable_weights)
    assert round(count / 1e6) == millions


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("simclr_resnet_34", [3, 4, 6, 3]),
        ("simclr_resnet_101_sk", [3, 4, 23, 3]),
        pytest.param("simclr_resnet_152", [3, 8, 36, 3], marks=pytest.mark.slow),
        # No count of its parameters is published.
        pytest.param("simclr_resnet_200", [3, 24, 36, 3], marks=pytest.mark.slow),
    ],
)
def test_deeper_networks_have_more_blocks(name, blocks):
    encoder = models.registry.build_blank(EncoderSpec(name, binarization="none", width=0.125, stem="cifar"))
    ends = [layer.name.split("/") for layer in encoder.layers if layer.name.endswith("/add")]
    assert [sum(stage == f"stage{number}" for stage, *_ in ends) for number in (1, 2, 3, 4)] == blocks


def test_registered_names():
    assert {name for name in models.ARCHITECTURES if name.startswith("simclr_")} == {*PLAIN, *SELECTIVE}


@pytest.mark.parametrize("binarization", ["activations", "full"])
@pytest.mark.parametrize("name", QUICK)
def test_there_are_no_binary_ones(name, binarization):
    message = rf"`binarization` of {name} must be one of \['none'\], not '{binarization}'"
    with pytest.raises(ValueError, match=message):
        models.build(name, binarization=binarization)


@pytest.mark.parametrize("name", ["simclr_resnet_18_sk", "simclr_resnet_26", "simclr_resnet_50_se"])
def test_unknown_names(name):
    with pytest.raises(ValueError, match=f"`name` must be one of .*'simclr_resnet_50_sk'.*, not '{name}'"):
        models.build(name, binarization="none")


def test_no_block_can_be_dropped():
    with pytest.raises(ValueError, match="`drop_path` of simclr_resnet_18 must be 0, not 0.1"):
        models.build("simclr_resnet_18", binarization="none", drop_path=0.1)


@pytest.mark.parametrize("name", QUICK)
def test_other_sizes_share_the_layers(name):
    encoder = _shared(name)
    static = encoder.at(64)
    assert [id(weight) for weight in static.weights] == [id(weight) for weight in encoder.weights]
    np.testing.assert_array_equal(static(_images(64)), encoder(_images(64)))
    assert encoder(_images(37)).shape == (2, 7)
    with pytest.raises(ValueError, match="shape"):
        static(_images(37))


@pytest.mark.parametrize("name", QUICK)
def test_named_outputs(name):
    encoder = _shared(name).at(192)
    expansion = 4 if "50" in name else 1
    shapes = {key: tuple(output.shape[1:]) for key, output in encoder.named_outputs.items()}
    assert shapes == {
        "stride4": (48, 48, 8 * expansion),
        "stride8": (24, 24, 16 * expansion),
        "stride16": (12, 12, 32 * expansion),
        "stride32": (6, 6, 64 * expansion),
        "pooled": (64 * expansion,),
        "logits": (7,),
        "svm": (64 * expansion,),
    }
    outputs = encoder.with_outputs("stride32", "pooled")(_images(192, batch=1))
    np.testing.assert_allclose(np.mean(outputs["stride32"], (1, 2)), outputs["pooled"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", QUICK)
def test_stem_for_small_images(name):
    spec = EncoderSpec(name, image_size=32, binarization="none", stem="cifar", width=0.125)
    encoder = models.registry.build_blank(spec)
    sizes = {key: output.shape[1] for key, output in encoder.named_outputs.items() if "stride" in key}
    assert sizes == {"stride1": 32, "stride2": 16, "stride4": 8, "stride8": 4}
    assert [layer.name for layer in encoder.layers if layer.name.startswith("stem/")] == [
        "stem/conv1",
        "stem/bn1",
        "stem/relu1",
    ]


@pytest.mark.parametrize("name", QUICK)
def test_round_trip(name, tmp_path):
    encoder = _shared(name)
    models.save_encoder(encoder, tmp_path / "encoder")
    restored = models.load_encoder(tmp_path / "encoder")
    assert restored.spec == encoder.spec
    assert models.encoder_hash(restored) == models.encoder_hash(encoder)
    np.testing.assert_array_equal(restored(_images()), encoder(_images()))


@pytest.mark.parametrize(
    ("name", "gates"), [("simclr_resnet_18", 0), ("simclr_resnet_50_sk", 3 * 32 * (3 * 8 + 4 * 16 + 6 * 32 + 3 * 64))]
)
def test_cost(name, gates):
    """Work grows with the area, but for the classifier and, of each of 16 blocks, the 1x1 convolutions of its gate."""
    encoder = _shared(name)
    small, large = profile.cost(encoder, 32), profile.cost(encoder, 64)
    assert 4 * small.float_macs - large.float_macs == 3 * (gates + 7 * encoder.feature_dim)
    assert small.binary_macs == 0
    assert small.size_bytes == 4 * sum(math.prod(weight.shape) for weight in encoder.trainable_weights)


def test_roles():
    roles = [role for _, role in variable_roles(_shared("simclr_resnet_50_sk"))]
    # 3 in the stem, 5 in each of 16 blocks, 4 projections, 1 classifier; 3 + 4 * 16 + 4 BatchNorms.
    assert {role: roles.count(role) for role in set(roles)} == {Role.KERNEL: 88, Role.NORM: 142, Role.BIAS: 1}


def test_mixed_precision():
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    encoder = models.build("simclr_resnet_50_sk", binarization="none", width=0.125)
    with tf.GradientTape() as tape:
        features = encoder(_images(64, batch=4), training=True)
        loss = tf.reduce_mean(tf.square(features))
    assert features.dtype == tf.float32
    assert encoder.named_outputs["stride16"].dtype == tf.bfloat16
    for weight, gradient in zip(encoder.trainable_weights, tape.gradient(loss, encoder.trainable_weights), strict=True):
        assert gradient.dtype == tf.float32
        assert np.isfinite(gradient).all(), weight.name


def test_initial_kernels():
    """Truncated at two deviations of the normal distribution before truncation, as VarianceScaling does by default."""
    encoder = _shared("simclr_resnet_50_sk")
    kernel = encoder.get_layer("stage4/block2/sk2/conv3x3").kernel.numpy()
    deviation = np.sqrt(1 / np.prod(kernel.shape[:3]))
    np.testing.assert_allclose(kernel.std(), deviation, rtol=0.01)
    assert 1.9 < np.abs(kernel).max() * 0.87962566 / deviation <= 2


@pytest.mark.parametrize(("name", "last"), [("simclr_resnet_18", "bn2"), ("simclr_resnet_50_sk", "bn3")])
def test_branches_start_closed(name, last):
    """The scale is 0 of the last BatchNorm of each branch, and of no other."""
    scales = {key: weight.numpy() for key, weight in named_weights(_shared(name)).items() if key.endswith("/gamma")}
    closed = {key for key, scale in scales.items() if not scale.any()}
    blocks = {key.rsplit("/", 2)[0] for key in scales if key.count("/") == 3 and "/bn1/" in key}
    assert len(blocks) == (8 if name == "simclr_resnet_18" else 16)
    assert closed == {f"{block}/{last}/gamma" for block in blocks}
    assert all((scale == 1).all() for key, scale in scales.items() if key not in closed)


@pytest.mark.parametrize("name", QUICK)
def test_closed_branches_wake_up(name):
    """No kernel of a branch has a gradient at first; within three steps of SGD every variable has one."""
    encoder = models.build(name, binarization="none", width=0.125, stem="cifar")
    images = _images(16, batch=8)
    weights = tf.constant(np.random.default_rng(1).normal(size=(8, encoder.feature_dim)), tf.float32)
    optimizer = tf.keras.optimizers.legacy.SGD(0.1)
    variables = encoder.trainable_weights
    steps = []
    for _ in range(3):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(encoder(images, training=True) * weights)
        gradients = tape.gradient(loss, variables)
        steps.append([float(tf.reduce_max(tf.abs(gradient))) for gradient in gradients])
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
    asleep = {variable.name.split("/")[2] for variable, value in zip(variables, steps[0], strict=True) if not value}
    assert asleep == ({"conv1", "bn1", "conv2"} if name == "simclr_resnet_18" else {"conv1", "bn1", "sk2", "conv3"})
    largest = np.max(steps, axis=0)
    # Above what rounding leaves of a gradient that is zero by the formula.
    assert [v.name for v, value in zip(variables, largest, strict=True) if not value > 1e-4 * np.median(largest)] == []


def test_streams():
    maps = tf.constant(np.random.default_rng(0).normal(size=(2, 3, 3, 8)), tf.float32)
    first, second = maps[..., :4], maps[..., 4:]
    np.testing.assert_allclose(StreamsMean()(maps)[:, 0, 0], np.mean(first + second, (1, 2)), rtol=1e-5, atol=1e-6)
    logits = tf.constant(np.random.default_rng(1).normal(size=(2, 1, 1, 8)), tf.float32)
    share = tf.sigmoid(logits[..., :4] - logits[..., 4:])
    np.testing.assert_allclose(StreamsMixture()((maps, logits)), share * first + (1 - share) * second, atol=1e-6)

"""Vision transformers against a slow reference, and their sizes, starts, roles and gradients."""

import functools
import math

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import models
from larq_ssl.models import profile
from larq_ssl.models.transfer import assign_weights, copy_weights, named_weights
from larq_ssl.models.vit_layers import Tokens, bicubic_matrix
from larq_ssl.roles import Role, variable_roles

# Patch size, channels, heads, and parameters: of DINO's paper 5.9, 5.5 and 21.7 million.
NETWORKS = {
    "vit_tiny_32": (32, 192, 3, 5_938_560),
    "vit_tiny_16": (16, 192, 3, 5_524_416),
    "vit_small_16": (16, 384, 6, 21_665_664),
}
# Interpolated by PyTorch 2.13 (bicubic, by the factors (n + 0.1) / 7) from `_grid()` to 4x4 and to 9x5.
PYTORCH = (
    [
        [2.814629, 7.9739685, 7.8886657, 3.7392929],
        [3.5270019, 3.9507813, 5.739148, 5.992061],
        [2.914959, 1.932771, 7.5011115, 3.9889417],
        [9.37182, 8.542557, 6.780707, 6.019749],
    ],
    [
        [0.47810423, 9.049136, 3.7324946, 7.941778, 6.3127236],
        [3.1778944, 6.8902965, 9.093792, 3.9482017, 4.2331185],
        [3.504055, 6.0328445, 5.77976, 4.000807, 5.3191943],
        [2.4185083, 6.9156337, 0.17741476, 5.8993254, 7.8651643],
        [4.2943296, 6.7802243, 7.058025, 2.4495828, 6.5258484],
        [3.4014823, 0.6225879, 8.841485, 5.37838, 4.195698],
        [6.216105, 2.831135, 7.1889763, 5.4378734, 2.565395],
        [9.447915, 8.664649, 6.543254, 5.547448, 4.641306],
        [9.003767, 9.041185, 9.077445, 9.11589, 9.153323],
    ],
)


@functools.lru_cache
def _shared(name="vit_tiny_32"):
    """A network that several tests look at and none alters."""
    tf.keras.utils.set_random_seed(1)
    return models.build(name, binarization="none")


def _images(height=64, width=64, batch=2):
    return np.random.default_rng(0).integers(0, 256, (batch, height, width, 3)).astype(np.uint8)


def _grid():
    i, j = np.mgrid[:7, :7]
    return ((3 * i * i + 5 * j + i * j) % 11).astype(np.float32)


def _interpolated(values, height, width):
    """Cubic interpolation position by position, of each axis by the factor (n + 0.1) / grid."""
    size = len(values)

    def along(position, count):
        place = (position + 0.5) * size / (count + 0.1) - 0.5
        weights = np.zeros(size)
        for neighbour in range(math.floor(place) - 1, math.floor(place) + 3):
            d = abs(place - neighbour)
            weight = 1.25 * d**3 - 2.25 * d**2 + 1 if d <= 1 else -0.75 * (d**3 - 5 * d**2 + 8 * d - 4)
            weights[min(max(neighbour, 0), size - 1)] += weight
        return weights

    rows = np.array([along(row, height) for row in range(height)])
    columns = np.array([along(column, width) for column in range(width)])
    return np.array([[np.einsum("i,j,ijc->c", row, column, values) for column in columns] for row in rows])


def _normed(x, weights, name):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return x * weights[f"{name}/gamma"] + weights[f"{name}/beta"]


def _attended(x, weights, name, heads):
    parts = x @ weights[f"{name}/qkv/kernel"] + weights[f"{name}/qkv/bias"]
    query, key, value = np.split(parts, 3, axis=-1)
    width = x.shape[-1] // heads
    taken = np.zeros_like(query)
    for head in range(heads):
        own = slice(head * width, (head + 1) * width)
        for token in range(len(x)):
            scores = key[:, own] @ query[token, own] / math.sqrt(width)
            shares = np.exp(scores) / np.exp(scores).sum()
            taken[token, own] = sum(share * row for share, row in zip(shares, value[:, own], strict=True))
    return taken @ weights[f"{name}/project/kernel"] + weights[f"{name}/project/bias"]


def _expanded(x, weights, name):
    x = x @ weights[f"{name}/dense1/kernel"] + weights[f"{name}/dense1/bias"]
    x = x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2
    return x @ weights[f"{name}/dense2/kernel"] + weights[f"{name}/dense2/bias"]


def _reference(image, weights, patch, heads):
    """The class tokens of the last four blocks after the last norm, of one image, in double precision."""
    height, width = image.shape[0] // patch, image.shape[1] // patch
    cut = image[: height * patch, : width * patch].reshape(height, patch, width, patch, 3)
    maps = np.einsum("hpwqc,pqcd->hwd", cut, weights["patches/kernel"]) + weights["patches/bias"]
    positions = weights["tokens/position_embedding"][0]
    grid = positions[1:].reshape(224 // patch, 224 // patch, -1)
    if (height, width) != grid.shape[:2]:
        grid = _interpolated(grid, height, width)
    channels = maps.shape[-1]
    first = weights["tokens/class_token"][0] + positions[:1]
    x = np.concatenate([first, (maps + grid).reshape(-1, channels)])
    outputs = {}
    for number in range(1, 13):
        name = f"block{number}"
        x = x + _attended(_normed(x, weights, f"{name}/norm1"), weights, f"{name}/attention", heads)
        x = x + _expanded(_normed(x, weights, f"{name}/norm2"), weights, f"{name}/mlp")
        outputs[name] = _normed(x, weights, "norm")[0]
    return {name: outputs[name] for name in ("block9", "block10", "block11", "block12")}


@functools.lru_cache
def _drawn(name):
    """A network of normalised images, and its weights, of a size that lets every block alter its input."""
    encoder = models.build(name, binarization="none", preprocessing="none")
    rng = np.random.default_rng(3)
    weights = {
        key: rng.normal(key.endswith("gamma"), 0.05, weight.shape).astype(np.float32)
        for key, weight in named_weights(encoder).items()
    }
    assign_weights(encoder, weights)
    return encoder, weights


@pytest.mark.parametrize(
    ("name", "height", "width"),
    [("vit_tiny_32", 224, 224), ("vit_tiny_32", 100, 170), ("vit_tiny_16", 64, 64), ("vit_small_16", 48, 48)],
)
def test_equals_a_slow_reference(name, height, width):
    encoder, weights = _drawn(name)
    images = np.random.default_rng(4).normal(size=(2, height, width, 3)).astype(np.float32)
    patch, _, heads, _ = NETWORKS[name]
    actual = encoder.with_outputs("block9", "block10", "block11", "block12")(images)
    np.testing.assert_array_equal(actual["block12"], encoder(images))
    for index, image in enumerate(images.astype(np.float64)):
        for output, expected in _reference(image, weights, patch, heads).items():
            np.testing.assert_allclose(actual[output][index], expected, rtol=0, atol=2e-5, err_msg=output)


@pytest.mark.parametrize("expected", PYTORCH, ids=["4x4", "9x5"])
def test_positions_are_interpolated_as_by_pytorch(expected):
    height, width = np.shape(expected)
    actual = bicubic_matrix(height, 7) @ _grid() @ tf.transpose(bicubic_matrix(width, 7))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=3e-5)
    np.testing.assert_allclose(_interpolated(_grid()[..., None], height, width)[..., 0], expected, rtol=0, atol=3e-5)


@pytest.mark.parametrize(("height", "width"), [(7, 7), (3, 5), (7, 4), (10, 10)])
def test_maps_of_unknown_size_get_the_same_positions(height, width):
    layer = Tokens(7, "normal", "normal")
    maps = tf.constant(np.random.default_rng(0).normal(size=(2, height, width, 4)), tf.float32)
    expected = layer(maps)
    with tf.GradientTape() as tape:
        unknown = tf.function(layer, input_signature=[tf.TensorSpec([None, None, None, 4])])(maps)
    np.testing.assert_allclose(unknown, expected, rtol=0, atol=1e-6)
    if height == width == 7:
        np.testing.assert_array_equal(expected[:, 1:], tf.reshape(maps, [2, -1, 4]) + layer.position_embedding[:, 1:])
    first = layer.class_token + layer.position_embedding[:, :1]
    np.testing.assert_array_equal(expected[:, 0], tf.tile(first[:, 0], [2, 1]))
    gradient = tf.convert_to_tensor(tape.gradient(unknown, layer.position_embedding))
    # Interpolation weights add up to one, so each position takes one share of each channel.
    np.testing.assert_allclose(tf.reduce_sum(gradient, 1), 2 * (1 + height * width) * tf.ones([1, 4]), rtol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters(name):
    _, channels, _, parameters = NETWORKS[name]
    assert _shared(name).count_params() == parameters
    assert _shared(name).feature_dim == channels


def test_work():
    patches = (96 // 32) ** 2
    tokens, channels = patches + 1, 192
    macs = patches * 3 * 32**2 * channels + 12 * (12 * tokens * channels**2 + 2 * tokens**2 * channels)
    assert profile.cost(_shared(), 96) == profile.Cost(0, macs, 4 * 5_938_560)
    assert "block12/attention/heads" in profile.summary_text(_shared(), 96)


def test_logits_leave_the_features_in_place():
    encoder = models.build("vit_tiny_32", binarization="none", classes=7)
    blocks = ("block9", "block10", "block11", "block12")
    assert set(encoder.named_outputs) == {*blocks, "class_tokens", "pooled", "logits"}
    tokens = encoder.with_outputs("class_tokens", *blocks)(_images())
    np.testing.assert_array_equal(tokens["class_tokens"], np.concatenate([tokens[block] for block in blocks], axis=1))
    outputs = encoder.with_outputs("block9", "block12", "pooled", "logits")(_images())
    np.testing.assert_array_equal(outputs["pooled"], outputs["block12"])
    assert np.abs(outputs["block9"] - outputs["block12"]).max() > 0.01
    np.testing.assert_array_equal(outputs["logits"], encoder(_images()))


def test_roles():
    roles = {variable.name: role for variable, role in variable_roles(_shared())}
    by_leaf = {"kernel": Role.KERNEL, "bias": Role.BIAS, "gamma": Role.NORM, "beta": Role.NORM}
    by_leaf |= {"class_token": Role.KERNEL, "position_embedding": Role.KERNEL}
    assert roles == {name: by_leaf[name.split("/")[-1].removesuffix(":0")] for name in roles}
    assert len(roles) == len(_shared().weights) == 150
    # Weight decay is for what is no vector, as in the published code.
    decayed = {variable.name for variable in _shared().weights if len(variable.shape) > 1}
    assert decayed == {name for name, role in roles.items() if role == Role.KERNEL}


def test_initial_weights():
    named = {key: weight.numpy() for key, weight in named_weights(_shared("vit_tiny_16")).items()}
    bound = (3 * 16 * 16) ** -0.5
    for leaf in ("kernel", "bias"):
        assert 0.9 * bound < np.abs(named.pop(f"patches/{leaf}")).max() <= bound * (1 + 1e-6)
    for key, array in named.items():
        if array.ndim > 1:
            np.testing.assert_allclose(array.std(), 0.02, rtol=0.2 if array.size < 1000 else 0.02, err_msg=key)
            assert not np.isclose(array.ravel()[0], named["tokens/class_token"].ravel()[1])
        else:
            np.testing.assert_array_equal(array, key.endswith("gamma"))
    assert np.abs(named["block1/mlp/dense1/kernel"]).max() > 0.07  # not truncated


def test_every_variable_gets_a_real_gradient():
    """Real: above 1e-4 of the median of all variables."""
    encoder = models.build("vit_tiny_32", binarization="none", classes=7)
    with tf.GradientTape() as tape:
        logits = encoder(_images(96, 96, batch=4), training=True)
        loss = tf.reduce_sum(tf.keras.losses.sparse_categorical_crossentropy([0, 3, 5, 1], logits, from_logits=True))
    gradients = tape.gradient(loss, encoder.trainable_weights)
    largest = [float(tf.reduce_max(tf.abs(gradient))) for gradient in gradients]
    small = [v.name for v, value in zip(encoder.weights, largest, strict=True) if not value > 1e-4 * np.median(largest)]
    assert small == []


def test_static_and_dynamic_size_agree():
    encoder = _shared()
    static = encoder.at(96)
    assert [id(weight) for weight in static.weights] == [id(weight) for weight in encoder.weights]
    np.testing.assert_array_equal(static(_images(96, 96)), encoder(_images(96, 96)))


def test_round_trip(tmp_path):
    encoder = _shared()
    models.save_encoder(encoder, tmp_path / "encoder")
    restored = models.load_encoder(tmp_path / "encoder", image_size=64)
    assert models.encoder_hash(restored) == models.encoder_hash(encoder)
    np.testing.assert_array_equal(restored(_images()), encoder(_images()))


def test_mixed_precision():
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    encoder = models.build("vit_tiny_32", binarization="none")
    tf.keras.mixed_precision.set_global_policy("float32")
    copy_weights(_shared(), encoder)
    assert encoder.get_layer("block3/attention/heads").output.dtype == tf.bfloat16
    outputs = encoder.with_outputs("block9", "pooled")(_images(96, 96))
    expected = _shared().with_outputs("block9", "pooled")(_images(96, 96))
    for name, output in outputs.items():
        assert output.dtype == tf.float32
        np.testing.assert_allclose(output, expected[name], rtol=0, atol=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(rotate_input=True), "`rotate_input` of vit_tiny_32 must be False, as it pads nothing, not True"),
        (dict(stem="cifar"), "`stem` of vit_tiny_32 must be 'imagenet'"),
        (dict(width=0.5), "`width` of vit_tiny_32 must be 1.0"),
        (dict(image_size=31), "`image_size` of vit_tiny_32 must be at least 32 or None, not 31"),
        (dict(binarization="full"), r"`binarization` of vit_tiny_32 must be one of \['none'\], not 'full'"),
        (dict(drop_path=1.0), "`drop_path` of vit_tiny_32 must be at least 0 and below 1, not 1.0"),
        (dict(drop_path=float("nan")), "`drop_path` of vit_tiny_32 must be at least 0 and below 1, not nan"),
        (dict(name="resnet_18", drop_path=0.1), "`drop_path` of resnet_18 must be 0, not 0.1"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(ValueError, match=message):
        models.build(**{"name": "vit_tiny_32", "binarization": "none", **arguments})

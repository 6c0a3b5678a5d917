"""The encoder as a backbone: levels and strides, what is trained and what stays as it is, what is refused."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import models
from larq_ssl.evaluation.detection.backbone import LEVELS, DetectionBackbone, RawPixels
from larq_ssl.models.transfer import assign_weights, named_weights
from larq_ssl.optimizers import SGD
from larq_ssl.roles import variable_roles
from tests.experiments.commands import add_short_networks

add_short_networks()


def encoder(name="reactnet_stages", binarization="full", **arguments):
    return models.build(name, None, binarization, width=0.125, **arguments)


def pixels(height=64, width=96, batch=2, seed=0):
    return np.random.default_rng(seed).normal(size=(batch, height, width, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "binarization"),
    [
        *(("reactnet_stages", mode) for mode in ("none", "activations", "full")),
        *(pytest.param(name, "none", marks=pytest.mark.slow) for name in ("mobilenet_v2", "resnet_50", "reactnet_a")),
    ],
)
def test_levels_have_their_strides_at_any_size(name, binarization):
    source = encoder(name, binarization)
    backbone = DetectionBackbone(source)
    for height, width in ((64, 96), (128, 64)):
        maps = backbone(pixels(height, width))
        assert list(maps) == ["2", "3", "4", "5"]
        for level, map_ in maps.items():
            assert map_.shape[1:3] == (height // 2 ** int(level), width // 2 ** int(level))
            assert map_.shape[-1] == backbone.output_specs[level][-1]
    assert set(DetectionBackbone(source, min_level=4).output_specs) == {"4", "5"}


@pytest.mark.parametrize("preprocessing", ["imagenet", "unit"])
def test_maps_are_those_of_the_encoder_for_raw_pixels(preprocessing):
    """What the parsers do to pixels is undone, whatever the encoder does to them."""
    source = encoder(preprocessing=preprocessing)
    raw = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    normalised = (raw / np.float32(255) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    back = RawPixels()(normalised.astype(np.float32))
    np.testing.assert_allclose(back, raw, atol=1e-3)
    # On equal pixels: a rounding near zero would flip a sign.
    wanted = source.with_outputs(*LEVELS.values())(back)
    found = DetectionBackbone(source)(normalised.astype(np.float32))
    for level, name in LEVELS.items():
        np.testing.assert_allclose(found[str(level)], wanted[name], rtol=1e-5, atol=1e-5)


def step(backbone, learning_rate=0.1):
    """One update of what is trained; returns the gradients by name."""
    variables = backbone.trained_variables
    roles = {id(variable): role for variable, role in variable_roles(backbone)}
    optimizer = SGD(learning_rate)
    optimizer.set_roles((variable, roles[id(variable)]) for variable in variables)
    with tf.GradientTape() as tape:
        maps = backbone(pixels(batch=4), training=True)
        noise = np.random.default_rng(1)
        loss = tf.add_n(
            [tf.reduce_mean(noise.normal(size=map_.shape).astype(np.float32) * map_) for map_ in maps.values()]
        )
    gradients = tape.gradient(loss, variables)
    optimizer.apply_gradients(zip(gradients, variables, strict=True))
    return dict(zip([variable.name for variable in variables], gradients, strict=True))


@pytest.mark.parametrize("binarization", ["none", "activations", "full"])
def test_every_variable_gets_a_gradient(binarization):
    backbone = DetectionBackbone(encoder(binarization=binarization))
    without = [name for name, gradient in step(backbone).items() if gradient is None or not np.any(gradient)]
    assert without == []
    assert backbone.frozen_variables == []


@pytest.mark.parametrize(("stages", "batch_norm"), [(0, "frozen"), (1, "train"), (3, "frozen"), (4, "train")])
def test_what_is_frozen_stays_and_the_rest_moves(stages, batch_norm):
    source = encoder()
    backbone = DetectionBackbone(source, freeze_stages=stages, batch_norm=batch_norm)
    before = {name: weight.numpy() for name, weight in named_weights(source).items()}
    if backbone.trained_variables:
        step(backbone)
    else:
        backbone(pixels(batch=4), training=True)
    moved = {
        name for name, weight in named_weights(source).items() if weight.numpy().tobytes() != before[name].tobytes()
    }
    ends = [source.named_outputs[name] for name in list(LEVELS.values())[:stages]]
    below = {layer.name for end in ends for layer in tf.keras.Model(source.inputs, end).layers}
    norms = {layer.name for layer in source.layers if isinstance(layer, tf.keras.layers.BatchNormalization)}
    frozen = below | (norms if batch_norm == "frozen" else set())
    layer_of = {name: name.rpartition("/")[0] for name in before}
    assert not [name for name in moved if layer_of[name] in frozen]
    assert moved == {name for name in before if layer_of[name] not in frozen}
    assert (not moved) == (stages == 4)


def test_frozen_statistics_are_those_that_are_used():
    source = encoder()
    for name, weight in named_weights(source).items():
        if name.endswith("moving_mean"):
            weight.assign(np.random.default_rng(0).normal(size=weight.shape))
    frozen = DetectionBackbone(source, batch_norm="frozen")
    trained = DetectionBackbone(source)
    images = pixels()
    for level, map_ in frozen(images, training=True).items():
        np.testing.assert_array_equal(map_, trained(images, training=False)[level])
    assert not np.allclose(frozen(images, training=True)["5"], trained(images, training=True)["5"])


def test_a_network_that_turns_its_images_gives_upright_maps():
    """As one that does not, of images and maps that are turned by hand."""
    plain, turned = encoder(), encoder(rotate_input=True)
    assign_weights(turned, {name: weight.numpy() for name, weight in named_weights(plain).items()})
    images = pixels()
    wanted = DetectionBackbone(plain)(images[:, ::-1, ::-1])
    for level, map_ in DetectionBackbone(turned)(images).items():
        np.testing.assert_allclose(map_, wanted[level][:, ::-1, ::-1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (lambda: models.build("vit_tiny_16", 64, "none"), {}, "vit_tiny_16 has no feature maps, only vectors"),
        (
            lambda: encoder(stem="cifar"),
            {},
            "A detector needs feature maps at strides 4, 8, 16 and 32, and reactnet_stages has none at stride16 "
            "because of stem='cifar'",
        ),
        (encoder, {"min_level": 6}, r"min_level must be one of \[2, 3, 4, 5\], got 6"),
        (encoder, {"freeze_stages": 5}, "freeze_stages must be 0 to 4, got 5"),
        (encoder, {"batch_norm": "off"}, r"batch_norm must be one of \['train', 'frozen'\], got 'off'"),
    ],
)
def test_what_cannot_be_a_backbone_is_told(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        DetectionBackbone(make(), **arguments)

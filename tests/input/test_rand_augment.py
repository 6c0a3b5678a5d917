"""RandAugment: each op is Pillow's, with the published strength; who draws which op, eagerly and inside `tf.data`."""

import math

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from larq_ssl.data import augment, rng
from larq_ssl.data.rand_augment import FILL, OPS, RandAugment, draw, level, rand_augment
from larq_ssl.data.rng import Op
from tests import golden

NOTHING = len(OPS)
BILINEAR = Image.Resampling.BILINEAR


def affine(*rows):
    return lambda image, _: image.transform(
        image.size, Image.Transform.AFFINE, rows, BILINEAR, fillcolor=tuple(int(x) for x in FILL)
    )


def moved(make):
    """Pillow's transform by a matrix that depends on image and number."""
    return lambda image, number: affine(*make(image, number))(image, number)


# Pillow's, the numbers that are tried, and the largest and mean difference in grey levels.
PILLOW = {
    "AutoContrast": (lambda image, _: ImageOps.autocontrast(image), (0,), (0, 0)),
    "Equalize": (lambda image, _: ImageOps.equalize(image), (0,), (0, 0)),
    "Invert": (lambda image, _: ImageOps.invert(image), (0,), (0, 0)),
    "Rotate": (lambda image, x: image.rotate(x, BILINEAR, fillcolor=(124, 116, 104)), (0, 30, -30, 11.7), (1, 0.05)),
    "PosterizeTpu": (lambda image, x: ImageOps.posterize(image, x), (1, 2, 3, 4), (0, 0)),
    "Solarize": (lambda image, x: ImageOps.solarize(image, x), (0, 77, 128, 255, 256), (0, 0)),
    "SolarizeAdd": (
        lambda image, x: image.point(lambda value: min(255, value + x) if value < 128 else value),
        (0, 37, 110),
        (0, 0),
    ),
    "Color": (lambda image, x: ImageEnhance.Color(image).enhance(x), (0.1, 0.7, 1, 1.9), (1, 1)),
    "Contrast": (lambda image, x: ImageEnhance.Contrast(image).enhance(x), (0.1, 0.7, 1, 1.9), (1, 1)),
    "Brightness": (lambda image, x: ImageEnhance.Brightness(image).enhance(x), (0.1, 0.7, 1, 1.9), (1, 1)),
    "Sharpness": (lambda image, x: ImageEnhance.Sharpness(image).enhance(x), (0.1, 0.7, 1, 1.9), (0, 0)),
    "ShearX": (moved(lambda _, x: (1, x, 0, 0, 1, 0)), (0, 0.3, -0.3, 0.123), (1, 0.05)),
    "ShearY": (moved(lambda _, x: (1, 0, 0, x, 1, 0)), (0, 0.3, -0.3, 0.123), (1, 0.05)),
    "TranslateXRel": (moved(lambda image, x: (1, 0, x * image.width, 0, 1, 0)), (0, 0.45, -0.45, 0.123), (1, 0.05)),
    "TranslateYRel": (moved(lambda image, x: (1, 0, 0, 0, 1, x * image.height)), (0, 0.45, -0.45, 0.123), (1, 0.05)),
}
MOVING = ("Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel")


@pytest.fixture(scope="module")
def images():
    arrays = golden.load("a7_augment")
    plain = np.full((9, 12, 3), 77, np.uint8)
    palette = np.repeat(arrays["palette"], 3, axis=0)
    return {"photograph": arrays["im0_image"], "odd": arrays["im1_image"], "palette": palette, "plain": plain}


def done(pixels, op, numbers):
    """Images uint8 `[len(numbers), height, width, 3]`: one with the op of each number."""
    planes = augment.to_planes(tf.constant(np.repeat(pixels[None], len(numbers), axis=0)))
    ops, numbers = tf.fill([len(numbers), 1], op), tf.constant(numbers, tf.float32)[:, None]
    return augment.from_planes(rand_augment(planes, ops, numbers)).numpy()


def test_the_ops_are_those_of_the_released_code():
    assert list(OPS) == list(PILLOW)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("name", ["photograph", "odd", "palette", "plain"])
def test_an_op_is_that_of_pillow(op, name, images):
    reference, numbers, (largest, mean) = PILLOW[op]
    image = Image.fromarray(images[name])
    for actual, number in zip(done(images[name], OPS.index(op), numbers), numbers, strict=True):
        expected = np.asarray(reference(image, number)).astype(int)
        difference = np.abs(actual.astype(int) - expected)
        assert difference.max() <= largest, (number, difference.max(), difference.mean())
        assert difference.mean() <= mean, (number, difference.max(), difference.mean())


@pytest.mark.parametrize("op", MOVING)
def test_what_comes_from_beyond_the_image_has_the_mean_colour(op, images):
    _, numbers, _ = PILLOW[op]
    white = np.full_like(images["photograph"], 255)
    unmoved, *others = done(white, OPS.index(op), numbers)
    np.testing.assert_array_equal(unmoved, white)
    for view in others:
        colours = {tuple(pixel) for pixel in view.reshape(-1, 3)}
        assert colours == {(255, 255, 255), (124, 116, 104)}


# The magnitudes 0, 2.5, 9.99 and 10.
LEVELS = {
    **dict.fromkeys(("AutoContrast", "Equalize", "Invert"), (0, 0, 0, 0)),
    "Rotate": (0, 7.5, 29.97, 30),
    "PosterizeTpu": (0, 1, 3, 4),
    "Solarize": (0, 64, 255, 256),
    "SolarizeAdd": (0, 27, 109, 110),
    **dict.fromkeys(("Color", "Contrast", "Brightness", "Sharpness"), (0.1, 0.55, 1.8982, 1.9)),
    **dict.fromkeys(("ShearX", "ShearY"), (0, 0.075, 0.2997, 0.3)),
    **dict.fromkeys(("TranslateXRel", "TranslateYRel"), (0, 0.1125, 0.44955, 0.45)),
}


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("negative", [False, True])
def test_strengths(op, negative):
    magnitudes = tf.constant([0.0, 2.5, 9.99, 10.0], tf.float64)
    numbers = level(tf.fill([4], OPS.index(op)), magnitudes, tf.fill([4], negative))
    assert numbers.dtype == tf.float32
    sign = -1 if negative and op in MOVING else 1
    np.testing.assert_allclose(numbers, sign * np.array(LEVELS[op]), rtol=1e-6)


def draws(settings, count):
    columns = settings.columns
    return rng.view_uniforms(3, np.zeros(count, np.int64), np.arange(count), (0, 1), columns)


def test_draws_have_the_published_distribution():
    count, settings = 20_000, RandAugment()
    uniforms = draws(settings, count)
    op, number = (part.numpy() for part in draw(tf.constant(uniforms), settings))
    assert op.shape == number.shape == (count, 2, 2)
    # Half of all do nothing; the others are any op alike, also twice the same.
    share = np.bincount(op.ravel(), minlength=NOTHING + 1) / op.size
    expected = np.array([0.5 / NOTHING] * NOTHING + [0.5])
    assert (np.abs(share - expected) < 6 * np.sqrt(expected / op.size)).all()
    twice = np.mean((op[..., 0] == op[..., 1]) & (op[..., 0] < NOTHING))
    assert abs(twice - 0.25 / NOTHING) < 6 * np.sqrt(0.25 / NOTHING / (2 * count))
    # Magnitudes: half of the normal distribution lies beyond 10.
    angles = number[op == OPS.index("Rotate")]
    magnitude = np.abs(angles) / 3
    many = 6 * 0.5 / np.sqrt(len(angles))
    assert abs(np.mean(angles > 0) - 0.5) < many
    assert abs(np.mean(magnitude == 10) - 0.5) < many
    assert abs(np.mean(magnitude < 9.5) - 0.1587) < many
    assert abs(np.mean(magnitude < 9) - 0.0228) < many
    assert len(np.unique(magnitude)) > 0.45 * len(angles)


def test_no_draw_depends_on_another():
    count, settings = 20_000, RandAugment(magnitude=5.0, deviation=1.0, probability=1.0)
    op, number = draw(tf.constant(draws(settings, count)), settings)
    known = np.array(list(LEVELS.values()))[:, -1]
    strength = np.abs(number) / np.where(known == 0, 1, known)[op]
    table = np.concatenate([op, strength, np.sign(number)], axis=2).reshape(count, -1)
    # Within a place the strength depends on the op by the table; between places and views nothing does.
    correlation = np.corrcoef(table.T)
    place = np.tile([0, 1], 6) + np.repeat([0, 2], 6)
    other = place[:, None] != place[None, :]
    assert np.abs(correlation[other]).max() < 5.5 / math.sqrt(count)


def test_settings_are_what_is_drawn():
    settings = RandAugment(ops=3, magnitude=4.0, deviation=0.0, probability=1.0)
    assert settings.columns == tuple((Op.RAND_AUGMENT, number) for number in range(15))
    op, number = (part.numpy() for part in draw(tf.constant(draws(settings, 500)), settings))
    assert op.shape == (500, 2, 3)
    assert sorted(np.unique(op)) == list(range(NOTHING))
    np.testing.assert_allclose(number[op == OPS.index("Brightness")], 0.82, rtol=1e-6)
    nothing = RandAugment(probability=0.0)
    assert np.all(draw(tf.constant(draws(nothing, 50)), nothing)[0] == NOTHING)


def test_each_example_gets_its_ops_whatever_the_batch():
    """Together, one by one, and in a map of `tf.data` whose batch size is not known: the same to the bit."""
    random, settings = np.random.default_rng(0), RandAugment()
    pixels = random.integers(0, 256, (48, 10, 14, 3), np.uint8)
    op, number = (part[:, 0] for part in draw(tf.constant(draws(settings, 48)), settings))
    planes = augment.to_planes(tf.constant(pixels))
    together = rand_augment(planes, op, number).numpy()
    stream = tf.data.Dataset.from_tensor_slices((pixels, op, number)).batch(7)
    mapped = stream.map(lambda x, *rest: augment.from_planes(rand_augment(augment.to_planes(x), *rest)))
    np.testing.assert_array_equal(np.concatenate(list(mapped)), augment.from_planes(together))
    single = tf.data.Dataset.from_tensor_slices((pixels, op, number)).batch(1, drop_remainder=True)
    single = single.map(lambda x, *rest: augment.from_planes(rand_augment(augment.to_planes(x), *rest)))
    np.testing.assert_array_equal(np.concatenate(list(single)), augment.from_planes(together))
    for place in range(48):
        alone = planes[:, place : place + 1]
        for one, value in zip(op[place].numpy(), number[place].numpy(), strict=True):
            if one < NOTHING:
                alone = augment.to_planes(done(augment.from_planes(alone)[0].numpy(), one, [value]))
        np.testing.assert_array_equal(together[:, place : place + 1], alone, err_msg=str(op[place]))
    untouched = np.all(op == NOTHING, axis=1)
    assert 4 < untouched.sum() < 24
    np.testing.assert_array_equal(together[:, untouched], planes.numpy()[:, untouched])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ops": 0}, "ops is 0: it must be at least 1"),
        ({"magnitude": 10.5}, r"magnitude is 10\.5: it must lie in \[0, 10\.0\]"),
        ({"deviation": -0.1}, r"deviation is -0\.1: it must be finite and at least 0"),
        ({"probability": 1.5}, r"probability is 1\.5: it must lie in \[0, 1\]"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        RandAugment(**arguments)

"""Ops of SimCLR and BYOL against what their released code gave, eagerly and inside a `tf.data` map."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from larq_ssl.data import augment, augment_tf, resize_tf
from larq_ssl.data.reader import cut, evaluation_image
from tests import golden
from tests.input.test_augment import in_tf_data

# Of numbers in [0, 1].
CLOSE, BYOL_COLOUR = 1e-5, 1e-4


@pytest.fixture(scope="module")
def arrays():
    return golden.load("a7_augment")


def on_images(op):
    """An op on planes as one on images `[n, h, w, 3]`."""
    return lambda images, *rest: tf.transpose(op(tf.transpose(images, [3, 0, 1, 2]), *rest), [1, 2, 3, 0])


def check(op, arguments, expected, tolerance=CLOSE):
    eager = on_images(op)(*(tf.constant(a) for a in arguments)).numpy()
    np.testing.assert_array_equal(in_tf_data(on_images(op), *arguments), eager)
    assert (eager.shape, eager.dtype) == (expected.shape, np.float32)
    np.testing.assert_allclose(eager, expected, rtol=0, atol=tolerance)


def repeated(arrays, count):
    return np.repeat(arrays["float_image"][None], count, axis=0)


@pytest.mark.parametrize("op", ["brightness", "contrast", "saturation", "hue"])
def test_simclr_colour_op(arrays, op):
    factors, expected = arrays[f"{op}_factors"].astype(np.float32), arrays[f"simclr_{op}_unclipped"]
    check(getattr(augment_tf, op), (repeated(arrays, len(factors)), factors), expected)


@pytest.mark.parametrize("op", ["contrast", "saturation", "hue"])
def test_byol_colour_op(arrays, op):
    factors = arrays[f"{op}_factors"].astype(np.float32)
    tolerance = CLOSE if op == "contrast" else BYOL_COLOUR
    check(getattr(augment_tf, op), (repeated(arrays, len(factors)), factors), arrays[f"byol_{op}"], tolerance)


def test_byol_brightness_is_added(arrays):
    deltas = arrays["byol_brightness_deltas"]
    check(augment_tf.added_brightness, (repeated(arrays, len(deltas)), deltas), arrays["byol_brightness"])


def test_grey_and_solarise(arrays):
    image = repeated(arrays, 1)
    check(augment_tf.grey, (image,), arrays["simclr_grey"][None])
    check(augment_tf.grey, (image,), arrays["byol_grey"][None])
    check(augment_tf.solarise, (image,), arrays["byol_solarise"][None])


@pytest.mark.parametrize("together", [True, False])
def test_simclr_jitter(arrays, together):
    numbers = [key[len("simclr_jitter") : -len("_own_order")] for key in arrays if key.endswith("_own_order")]
    assert numbers
    orders, factors, expected = [], [], []
    for number in numbers:
        for name, order in (("own_order", arrays[f"jitter{number}_order"]), ("order_bcsh", np.arange(4))):
            orders.append(order.astype(np.int32))
            factors.append(arrays[f"jitter{number}_factors_bcsh"].astype(np.float32))
            expected.append(arrays[f"simclr_jitter{number}_{name}"])
    columns = (repeated(arrays, len(orders)), np.stack(orders), np.stack(factors))
    expected, rows = np.stack(expected), [slice(None)] if together else [slice(i, i + 1) for i in range(len(orders))]

    def op(planes, order, factors):
        mask = tf.ones(tf.shape(order)[0], tf.bool)
        return augment_tf.jitter(planes, order, factors, mask, with_hue=True, ops=augment_tf.SIMCLR)

    for row in rows:
        check(op, [column[row] for column in columns], expected[row])


@pytest.mark.parametrize("ops", [augment_tf.SIMCLR, augment_tf.BYOL])
@pytest.mark.parametrize("with_hue", [True, False])
def test_jitter_treats_each_by_itself_and_leaves_the_masked_alone(ops, with_hue):
    rng = np.random.default_rng(0)
    planes, mask = tf.constant(rng.random((3, 24, 9, 11)), tf.float32), rng.random(24) < 0.6
    factors = rng.uniform(-0.4, 0.4, (24, 4)).astype(np.float32)
    factors[:, 1:3] += 1.0
    factors[:, 0] += ops is augment_tf.SIMCLR
    together = augment_tf.jitter(planes, augment.ORDERS, factors, mask, with_hue, ops).numpy()
    changed = set()
    for i, order in enumerate(augment.ORDERS):
        rows = slice(i, i + 1)
        alone = augment_tf.jitter(planes[:, rows], order[None], factors[rows], mask[rows], with_hue, ops)
        np.testing.assert_array_equal(together[:, rows], alone)
        x = planes[:, rows]
        for op in order if mask[i] else ():
            x = tf.clip_by_value(ops[op](x, factors[rows, op]), 0.0, 1.0) if with_hue or op != augment.HUE else x
        np.testing.assert_array_equal(alone, x)
        changed.add((bool(mask[i]), bool((x != planes[:, rows]).numpy().any())))
    assert changed == {(True, True), (False, False)}


def test_blur(arrays):
    sigmas = arrays["blur_sigmas"].astype(np.float32)

    def op(taps):
        return lambda planes, sigma: augment_tf.gaussian_blur(planes, sigma, taps)

    check(op(23), (repeated(arrays, len(sigmas)), sigmas), arrays["simclr_blur_k23"])
    check(op(23), (repeated(arrays, len(sigmas)), sigmas), arrays["byol_blur_k23"])
    image = arrays["float_image"]
    both = np.stack([image, 1 - image])
    check(op(9), (both, np.full(2, 0.7, np.float32)), arrays["simclr_blur_batch_k9"])
    # Its sigma is one of the others or 1, which is not stored.
    even = [on_images(op(22))(image[None], tf.constant([s])) - arrays["simclr_blur_even_arg_k22"] for s in (*sigmas, 1)]
    assert min(np.abs(difference).max() for difference in even) < CLOSE


def test_blur_has_a_black_border_and_a_tenth_of_the_side():
    white = tf.ones([3, 2, 40, 50])
    blurred = augment_tf.gaussian_blur(white, tf.constant([0.1, 1.5]), augment_tf.blur_taps(40)).numpy()
    np.testing.assert_array_equal(blurred[:, 0], white[:, 0])
    np.testing.assert_allclose(blurred[:, 1, 5:-5, 5:-5], 1.0, atol=1e-6)
    assert (blurred[:, 1, 0, 0] < blurred[:, 1, 0, 20]).all()
    assert (blurred[:, 1, 0, 20] < 0.7).all()
    assert [augment_tf.blur_taps(size) for size in (224, 96, 32, 16)] == [23, 9, 3, 1]
    for sigma, taps in ((0.0, 23), (2.0, 1)):
        np.testing.assert_array_equal(augment_tf.gaussian_blur(white, tf.constant([sigma] * 2), taps), white)


def test_bytes_there_and_back():
    levels = tf.reshape(tf.range(256.0), [1, 1, 16, 16])
    np.testing.assert_array_equal(augment_tf.to_bytes(augment_tf.from_bytes(levels)), levels)
    np.testing.assert_array_equal(augment_tf.to_bytes(tf.constant([-0.2, 0.4981, 1.2])), [0, 127, 255])


IMAGES = ("im0", "im1")


@pytest.mark.parametrize("image", IMAGES)
def test_crop_and_resize(arrays, image):
    """In bytes: by TensorFlow of images of any sides, and by matrices."""
    boxes = arrays[f"{image}_boxes_top_left_height_width"]
    expected, pixels = arrays[f"{image}_simclr_crop_bicubic"], arrays[f"{image}_image"]
    size, flips = expected.shape[1], np.zeros((1, len(boxes)), bool)

    def by_matrices(images, boxes):
        return augment.from_planes(resize_tf.crop_resize(images, boxes[None], tf.constant(flips), size))

    eager = by_matrices(tf.constant(pixels[None]), tf.constant(boxes)).numpy()
    np.testing.assert_array_equal(in_tf_data(by_matrices, pixels[None], boxes), eager)
    one_by_one = cut([Image.fromarray(pixels)], boxes[None], flips, size, "bicubic", antialias=False)[0]
    for found in (eager, one_by_one):
        assert np.abs(found - 255.0 * expected).max() < 0.5 + 255.0 * CLOSE
    flipped = resize_tf.crop_resize(pixels[None], boxes[None], tf.constant(~flips), size)
    np.testing.assert_array_equal(augment.from_planes(flipped), eager[:, :, ::-1])


@pytest.mark.parametrize(("length", "out_size"), [(50, 20), (17, 32), (32, 32), (1, 5), (40, 40)])
def test_matrices_are_those_of_tensorflow(length, out_size):
    start, rows = 3, np.random.default_rng(0).random((50, 1, 1), np.float32)
    matrix = resize_tf.resize_weights(tf.constant([start], tf.float32), tf.constant([length], tf.float32), 60, out_size)
    assert matrix.shape == (1, out_size, 60)
    inside = rows[:length]
    # (An image that has the size already would not be touched.)
    wide = np.tile(inside, (1, 2, 1))
    expected = tf.image.resize(wide, (out_size, 3), "bicubic")[:, 0, 0]
    np.testing.assert_allclose(matrix[0, :, start : start + length] @ inside[:, 0], expected[:, None], atol=CLOSE)
    np.testing.assert_array_equal(matrix[0, :, :start], 0)
    np.testing.assert_array_equal(matrix[0, :, start + length :], 0)


@pytest.mark.parametrize("image", IMAGES)
def test_evaluation_image(arrays, image):
    expected, pixels = arrays[f"{image}_simclr_eval_crop"], Image.fromarray(arrays[f"{image}_image"])
    found = evaluation_image(pixels, expected.shape[0], "simclr")
    assert found.dtype == np.uint8
    assert np.abs(found - 255.0 * expected).max() < 0.5 + 255.0 * CLOSE


def test_small_images_are_evaluated_whole():
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    np.testing.assert_array_equal(evaluation_image(Image.fromarray(pixels), 32, "simclr"), pixels)
    larger = tf.image.resize(pixels, (40, 40), "bicubic").numpy()
    assert np.abs(evaluation_image(Image.fromarray(pixels), 40, "simclr") - np.clip(larger, 0, 255)).max() <= 0.5
    with pytest.raises(ValueError, match=r"protocol is 'byol'.*simclr"):
        evaluation_image(Image.fromarray(pixels), 32, "byol")

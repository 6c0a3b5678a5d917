import dataclasses

import numpy as np
import pytest

from larq_ssl.data import datasets, pipeline
from larq_ssl.evaluation.corruptions import CORRUPTIONS, PRESETS, SEVERITIES, corrupt, corrupted
from larq_ssl.evaluation.pictures import corruption_sheet, robustness_curves

SIDES = {"imagenet_c": 224, "cifar_c": 32}
COUNTS = {"imagenet_c": 12, "cifar_c": 96}


def picture(side, seed=0):
    """Smooth waves with two edges and some texture: every corruption alters it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    a, b, c, d = rng.uniform(2, 8, 4)
    waves = np.stack([np.sin(a * x + b * y), np.cos(c * y), np.sin(d * x * y + 1)], axis=-1)
    edges = (x > rng.uniform(0.2, 0.8)) ^ (y > rng.uniform(0.2, 0.8))
    image = 110 + 70 * waves + 60 * edges[..., None] + rng.normal(0, 9, (side, side, 3))
    return np.clip(image, 0, 255).astype(np.uint8)


def distance(first, second):
    return float(np.mean((first.astype(float) - second.astype(float)) ** 2))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_each_severity_takes_images_farther_away(kind, preset):
    # The mean over many: where the pixels of `pixelate` meet an edge, fewer of them may fit a single image better.
    images = [picture(SIDES[preset], seed) for seed in range(COUNTS[preset])]
    kept = [image.copy() for image in images]
    distances = []
    for severity in SEVERITIES:
        changed = [corrupt(image, kind, severity, PRESETS[preset]) for image in images]
        assert all(part.dtype == np.uint8 and part.shape == images[0].shape for part in changed)
        distances.append(np.mean([distance(*pair) for pair in zip(images, changed, strict=True)]))
    assert distances[0] > 0
    assert distances == sorted(set(distances))
    np.testing.assert_array_equal(images, kept)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_every_corruption_has_a_number_for_each_severity(preset):
    assert set(CORRUPTIONS) == {field.name for field in dataclasses.fields(preset)} - {"name", "sides"}
    assert all(len(getattr(preset, kind)) == len(SEVERITIES) for kind in CORRUPTIONS)


# As Hendrycks and Dietterich's scripts generate ImageNet-C and CIFAR-10-C.
PUBLISHED = {
    "imagenet_c": {
        "gaussian_noise": (0.08, 0.12, 0.18, 0.26, 0.38),
        "gaussian_blur": (1, 2, 3, 4, 6),
        "jpeg": (25, 18, 15, 10, 7),
        "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),
        "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
        "pixelate": (0.6, 0.5, 0.4, 0.3, 0.25),
    },
    "cifar_c": {
        "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.1),
        "gaussian_blur": (0.4, 0.6, 0.7, 0.8, 1),
        "jpeg": (80, 65, 58, 50, 40),
        "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
        "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
        "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),
    },
}


def test_severities_are_the_published_ones():
    assert {name: {kind: getattr(PRESETS[name], kind) for kind in CORRUPTIONS} for name in PRESETS} == PUBLISHED


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_an_image_is_corrupted_the_same_way_each_time(kind):
    image = picture(32)
    first = corrupt(image, kind, 3, PRESETS["cifar_c"], seed=1, example=7)
    np.testing.assert_array_equal(first, corrupt(image, kind, 3, PRESETS["cifar_c"], seed=1, example=7))


def test_noise_differs_by_image_and_seed_and_is_as_strong_as_said():
    grey = np.full((64, 64, 3), 128, np.uint8)
    preset = PRESETS["cifar_c"]
    first, other, reseeded = (
        corrupt(grey, "gaussian_noise", 5, preset, seed, example) for seed, example in ((0, 1), (0, 2), (1, 1))
    )
    assert distance(first, other) > 1
    assert distance(first, reseeded) > 1
    added = first.astype(float) - 128
    assert added.std() == pytest.approx(255 * preset.gaussian_noise[-1], rel=0.03)
    assert abs(added.mean()) < 1
    # The same draws in each severity: only stronger.
    weaker = corrupt(grey, "gaussian_noise", 1, preset, 0, 1).astype(float) - 128
    np.testing.assert_allclose(weaker, added * preset.gaussian_noise[0] / preset.gaussian_noise[-1], atol=1.0)


def test_values_made_by_hand():
    image = np.zeros((2, 2, 3), np.uint8)
    image[0, 0] = (100, 50, 0)
    preset = PRESETS["imagenet_c"]
    bright = corrupt(image, "brightness", 5, preset)
    # Half of the range is added to the largest channel; hue and saturation stay, and black turns grey.
    np.testing.assert_allclose(bright[0, 0], [227.5, 113.75, 0], atol=0.5)
    np.testing.assert_allclose(bright[1, 1], [127.5] * 3, atol=0.5)
    # The mean of the first channel is 25: 25 + 0.4 * 75 and 25 - 0.4 * 25.
    flat = corrupt(image, "contrast", 1, preset)
    assert (flat[0, 0, 0], flat[1, 1, 0]) == (55, 15)
    # A quarter of two pixels is one: the mean.
    pixel = np.broadcast_to([25.0, 12.5, 0.0], (2, 2, 3))
    np.testing.assert_allclose(corrupt(image, "pixelate", 5, preset), pixel, atol=0.5)


def test_a_corrupted_data_set_has_the_pixels_the_probe_sees_and_its_labels():
    digits = datasets.load_dataset("digits", "val").subset(np.arange(40), "few")
    preset = PRESETS["cifar_c"]
    changed = corrupted(digits, "gaussian_noise", 2, preset, 16, seed=3)
    clean, found = (next(iter(pipeline.image_batches(part, 16, 64))) for part in (digits, changed))
    np.testing.assert_array_equal(clean["label"], found["label"])
    np.testing.assert_array_equal(clean["id"], found["id"])
    for row in (0, 17, 39):
        expected = corrupt(clean["image"][row].numpy(), "gaussian_noise", 2, preset, 3, row)
        np.testing.assert_array_equal(found["image"][row], expected)


def test_pixels_do_not_depend_on_the_batch():
    digits = datasets.load_dataset("digits", "val").subset(np.arange(50), "few")
    changed = corrupted(digits, "jpeg", 4, PRESETS["cifar_c"], 16)
    parts = [np.concatenate([b["image"] for b in pipeline.image_batches(changed, 16, size)]) for size in (7, 50)]
    np.testing.assert_array_equal(*parts)


def test_the_fingerprint_tells_corruptions_apart():
    digits = datasets.load_dataset("digits", "val")
    preset = PRESETS["cifar_c"]
    prints = {
        corrupted(digits, kind, severity, preset, size, seed).fingerprint
        for kind, severity, size, seed in (
            *(("jpeg", 1, 16, 0), ("jpeg", 2, 16, 0), ("contrast", 1, 16, 0), ("jpeg", 1, 24, 0), ("jpeg", 1, 16, 1)),
        )
    }
    assert len(prints | {digits.fingerprint}) == 6


def test_mistakes_are_named():
    image = picture(32)
    with pytest.raises(ValueError, match=r"`kind` must be one of \['brightness'.*got 'fog'"):
        corrupt(image, "fog", 1, PRESETS["cifar_c"])
    with pytest.raises(ValueError, match="`severity` must be one of.*got 6"):
        corrupt(image, "jpeg", 6, PRESETS["cifar_c"])
    with pytest.raises(ValueError, match="uint8"):
        corrupt(image.astype(np.float32), "jpeg", 1, PRESETS["cifar_c"])
    with pytest.raises(
        ValueError, match="'cifar_c' is for images of 8 to 64 pixels, these have 224; take 'imagenet_c'"
    ):
        PRESETS["cifar_c"].check(224)
    with pytest.raises(ValueError, match="'imagenet_c' is for images of 65.*these have 32; take 'cifar_c'"):
        PRESETS["imagenet_c"].check(32)


def test_pictures_show_every_corruption_in_every_severity(tmp_path):
    kinds = ["jpeg", "contrast"]
    figure = corruption_sheet(tmp_path / "sheet.png", picture(32), kinds, PRESETS["cifar_c"])
    assert len(figure.axes) == 2 * 6
    np.testing.assert_array_equal(
        figure.axes[11].images[0].get_array(), corrupt(picture(32), "contrast", 5, PRESETS["cifar_c"])
    )
    found = {f"{kind}/{s}/knn_top1": 0.9 - 0.1 * s for kind in kinds for s in SEVERITIES} | {"clean/0/knn_top1": 0.95}
    figure = robustness_curves(tmp_path / "curves.png", found, kinds, ["knn"])
    line = figure.axes[0].lines[0]
    np.testing.assert_allclose(line.get_ydata(), [0.95, 0.8, 0.7, 0.6, 0.5, 0.4])
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == kinds

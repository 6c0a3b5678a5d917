"""Classifiers of new views in each epoch: the same training as on features of those views, resumable."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import models
from larq_ssl.data import pipeline
from larq_ssl.data.datasets import ImageDataset
from larq_ssl.evaluation import calibrate_batch_norm
from larq_ssl.evaluation import linear_augmented as module
from larq_ssl.evaluation.features import extract, frozen
from larq_ssl.evaluation.linear_augmented import linear_augmented
from larq_ssl.evaluation.linear_settings import LinearPreset
from larq_ssl.evaluation.linear_sweep import Sweep

SIZE, CLASSES = 16, 3
PRESET = LinearPreset("test", (0.01, 1.0), batch_size=12, epochs=3, drops=(0.6,))


@pytest.fixture(scope="module")
def encoder():
    tf.keras.utils.set_random_seed(1)
    network = models.build("resnet_18", binarization="none", stem="cifar", width=0.125)
    return calibrate_batch_norm(network, pipeline.image_batches(images(), SIZE, 40))


def images(count=40, seed=0, labels=None):
    """Of which the class is the brightness."""
    rng = np.random.default_rng(seed)
    classes = np.arange(count) % CLASSES
    noise = rng.integers(0, 100, (count, SIZE, SIZE, 3))
    return ImageDataset(
        name="made",
        split="train",
        size=count,
        classes=CLASSES,
        class_names=tuple("abc"),
        fingerprint=f"made {seed}",
        targets=(classes if labels is None else labels).astype(np.int64),
        images=(noise + 70 * classes[:, None, None, None]).astype(np.uint8),
    )


def measure(encoder, preset=PRESET, train=None, seed=4, **others):
    test = extract(encoder, images(30, seed=1), SIZE, output=preset.output(encoder))
    return linear_augmented(encoder, train or images(), test, SIZE, preset, seed, **others)


def test_it_trains_on_the_views_of_each_epoch_in_batches(encoder, monkeypatch):
    """As a sweep that is fed by hand does, whose batches are not the groups in which views are made."""
    monkeypatch.setattr(module, "_GROUP", 8)
    found = measure(encoder)
    encode = frozen(encoder, SIZE)
    sweep = Sweep(PRESET, encoder.feature_dim, CLASSES, seed=4)
    views = iter(pipeline.view_batches(images(), PRESET.policy(SIZE), 8, seed=4))
    pixels = []
    for epoch in range(3):
        groups = [next(views) for _ in range(5)]
        features = np.concatenate([encode(group["global"][:, 0]) for group in groups])
        labels = np.concatenate([group["label"] for group in groups]).astype(np.int32)
        ids = np.concatenate([group["id"] for group in groups])
        assert sorted(ids) == list(range(40))
        pixels.append(groups[0]["global"].numpy()[np.argsort(groups[0]["id"])])
        rates = PRESET.rates_of(epoch, 4)
        for step in range(4):
            part = slice(12 * step, 12 * step + 12)
            sweep.train_batch(tf.constant(features[part]), tf.constant(labels[part]), tf.constant(rates[step]))
    assert not np.array_equal(pixels[0], pixels[1])
    test = extract(encoder, images(30, seed=1), SIZE)
    accuracies = sweep.accuracies(tf.constant(test.features), tf.constant(test.labels)).numpy()
    for rate, accuracy in zip(("0.01", "1"), accuracies, strict=True):
        assert found.metrics[f"lr_{rate}/last/top1"] == pytest.approx(accuracy[0])
    chosen = PRESET.learning_rates.index(found.learning_rate)
    np.testing.assert_array_equal(found.predictions, sweep.predictions(tf.constant(test.features), chosen))
    assert found.metrics["last/top1"] > 0.5
    assert {"best/top1", "best/epoch", "last/top5", "lr_1/diverged"} <= found.metrics.keys()


def test_neither_batches_of_the_encoder_nor_the_sweep_alter_a_rate(encoder):
    whole, parts = measure(encoder), measure(encoder, batch_size=5)
    assert whole.metrics == pytest.approx(parts.metrics, abs=0.04)  # rounding, at most one image
    alone = measure(encoder, LinearPreset("test", (1.0,), batch_size=12, epochs=3, drops=(0.6,)))
    assert alone.metrics["last/top1"] == pytest.approx(whole.metrics["lr_1/last/top1"], abs=0.04)


@pytest.mark.parametrize("normalise", [False, True])
def test_features_of_views_have_length_one_where_the_preset_says_so(normalise):
    rows = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32) * 7
    parts = ((tf.constant(rows[i : i + 10]), tf.zeros(10, tf.int32)) for i in (0, 10, 20))
    batches = list(module._batches(parts, LinearPreset("test", (1.0,), batch_size=12, normalise=normalise)))
    assert [len(labels) for _, labels in batches] == [12, 12, 6]
    found = np.concatenate([features for features, _ in batches])
    lengths = np.linalg.norm(rows, axis=1, keepdims=True) if normalise else 1.0
    np.testing.assert_allclose(found, rows / lengths, rtol=1e-6)


class Stopped(Exception):  # noqa: N818
    pass


def test_it_goes_on_where_it_was_stopped(encoder, tmp_path):
    file, told = tmp_path / "probe" / "progress.npz", []

    def stop(done, total):
        told.append((done, total))
        if done > 80:  # in the last of three epochs of 36 images
            raise Stopped

    with pytest.raises(Stopped):
        measure(encoder, progress_file=file, progress=stop)
    assert file.is_file()
    assert told[0] == (12, 108)
    resumed = []
    second = measure(encoder, progress_file=file, progress=lambda *done: resumed.append(done))
    whole = measure(encoder)
    assert resumed[0] == (84, 108)
    assert resumed[-1] == (108, 108)
    assert second.metrics == whole.metrics
    np.testing.assert_array_equal(second.predictions, whole.predictions)
    # What is finished is only told.
    third = measure(encoder, progress_file=file, progress=lambda *_: pytest.fail("trained again"))
    assert third.metrics == whole.metrics


def test_the_progress_of_another_measurement_is_refused(encoder, tmp_path):
    file = tmp_path / "progress.npz"
    preset = LinearPreset("test", (1.0,), batch_size=40, epochs=1)
    measure(encoder, preset, progress_file=file)
    before = file.read_bytes()
    for changes in ({"preset": PRESET}, {"train": images(seed=2)}, {"seed": 5}):
        with pytest.raises(ValueError, match=r"progress\.npz is of another measurement"):
            measure(encoder, **{"preset": preset, **changes}, progress_file=file)
    assert file.read_bytes() == before
    file.write_bytes(before[:100])
    with pytest.raises(ValueError, match=r"progress\.npz is unusable.*begin anew"):
        measure(encoder, preset, progress_file=file)


def test_features_of_a_transformer_are_four_class_tokens():
    tf.keras.utils.set_random_seed(1)
    vit = models.build("vit_tiny_32", binarization="none")
    preset = LinearPreset("test", (0.1,), batch_size=8, epochs=1, class_tokens=True)
    data = images(8)
    large = ImageDataset(**{**vars(data), "images": data.images.repeat(2, 1).repeat(2, 2)})
    test = extract(vit, large, 32, output=preset.output(vit))
    assert test.features.shape == (8, 4 * 192)
    np.testing.assert_allclose(test.features[:, -192:], extract(vit, large, 32).features, atol=1e-5)
    assert 0 <= linear_augmented(vit, large, test, 32, preset).metrics["last/top1"] <= 1


def test_mistakes_are_named(encoder):
    missing = images(labels=np.where(np.arange(40) == 7, -1, np.arange(40) % CLASSES))
    with pytest.raises(ValueError, match="`train` must have a label in 0..2"):
        measure(encoder, train=missing)
    with pytest.raises(ValueError, match="all diverged"):
        measure(encoder, LinearPreset("test", (1e38,), batch_size=12, epochs=3))

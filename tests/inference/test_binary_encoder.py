"""The transformer for scikit-learn: its own checks, and training in one call."""

import numpy as np
import pytest
import sklearn.datasets
import tensorflow as tf
from PIL import Image
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from larq_ssl import models
from larq_ssl.data.datasets import load_dataset
from larq_ssl.evaluation.features import extract
from larq_ssl.inference import BinaryEncoder, FrozenEncoder, pretraining
from tests.experiments.commands import SHORT, SHORT_FLOAT, add_short_networks

add_short_networks()
TINY = {"network": SHORT[1].partition("=")[2], "width": 0.125, "image_size": 8, "views": "digits", "epochs": 2}


@pytest.fixture(scope="module")
def ready() -> FrozenEncoder:
    tf.keras.utils.set_random_seed(0)
    return FrozenEncoder(models.build("reactnet_short", None, "full", "cifar", 0.125), 8)


# The checks make tables of numbers. Each row is taken as an image that is one pixel high; all else is as for images.
# None of the checks is left out. (That of array API objects skips itself where SCIPY_ARRAY_API is not set.)
@parametrize_with_checks([BinaryEncoder(image_shape=(1, -1), random_state=0)])
def test_scikit_learns_checks(estimator, check, ready):
    check(estimator.set_params(encoder=ready))


@pytest.mark.slow
@parametrize_with_checks([BinaryEncoder(image_shape=(1, -1), random_state=0, binarization="activations")])
def test_scikit_learns_checks_where_every_fit_trains(estimator, check):
    check(estimator.set_params(**TINY))


@pytest.fixture(scope="module")
def digits():
    return sklearn.datasets.load_digits()


def test_a_binary_network_is_trained_in_two_stages(digits, monkeypatch):
    copied = []
    copy_weights = pretraining.copy_weights

    def spy(source, target):
        copied.append([getattr(model.spec, "binarization", model.name) for model in (source, target)])
        return copy_weights(source, target)

    monkeypatch.setattr(pretraining, "copy_weights", spy)
    encoder = BinaryEncoder(**TINY, batch_size=64, random_state=0)
    features = encoder.fit_transform(digits.data[:150])
    network = encoder.encoder_.encoder
    assert network.spec.binarization == "full"
    assert copied == [["activations", "full"], ["student_head", "student_head"]]
    assert features.shape == (150, network.feature_dim)
    assert features.dtype == np.float32
    assert features.std(axis=0).min() > 0
    assert encoder.pixel_range_ == (0, 16)


@pytest.mark.parametrize("method", ["simclr", "byol"])
def test_training_moves_all_weights_repeats_itself_and_leaves_generators_alone(method, digits):
    np.random.seed(5)
    expected = np.random.RandomState(5).rand()
    rows, settings = digits.data[:100], {**TINY, "method": method, "binarization": "activations", "random_state": 0}
    moved = BinaryEncoder(**settings, learning_rate=1e-2).fit(rows)
    stayed = BinaryEncoder(**settings, learning_rate=1e-12).fit(rows)
    assert np.random.rand() == expected
    for after, before in zip(*(one.encoder_.encoder.trainable_weights for one in (moved, stayed)), strict=True):
        assert np.abs(after - before).max() > 1e-4, after.name
    if method == "simclr":
        np.testing.assert_allclose(clone(moved).fit_transform(rows), moved.transform(rows), rtol=1e-5, atol=1e-6)


def test_rows_are_images_with_levels_from_black_to_white(digits, ready):
    images = load_dataset("digits", "train")
    rows = images.images[:20, :, :, 0].reshape(20, 64)
    expected = extract(ready.encoder, images.subset(np.arange(20), "first"), 8).features
    for given in (rows, rows.astype(float) / 255, images.images[:20], list(images.images[:20])):
        fitted = BinaryEncoder(ready).fit(given)
        np.testing.assert_allclose(fitted.transform(given), expected, rtol=1e-4, atol=1e-5)
    colours = images.images[:20].reshape(20, -1)
    fitted = BinaryEncoder(ready, image_shape=(8, -1, 3)).fit(colours)
    np.testing.assert_allclose(fitted.transform(colours), expected, rtol=1e-4, atol=1e-5)
    assert fitted.n_features_in_ == 192
    assert fitted.get_feature_names_out()[0] == "binaryencoder0"
    beyond = 2 * rows / 255 - 0.5
    fitted = BinaryEncoder(ready).fit(rows / 255)
    np.testing.assert_array_equal(fitted.transform(beyond), fitted.transform(np.clip(beyond, 0, 1)))
    assert not np.allclose(fitted.transform(beyond), fitted.transform(rows / 255))


def test_files_go_through_a_pipeline(tmp_path, digits, ready):
    ready.save(tmp_path / "encoder")
    for number in range(30):
        level = (digits.images[number] * 15).astype(np.uint8)
        Image.fromarray(level).save(tmp_path / f"{number:02d}.png")
    files = sorted(tmp_path.glob("*.png"))
    steps = make_pipeline(BinaryEncoder(str(tmp_path / "encoder")), LogisticRegression(max_iter=500))
    labels = digits.target[:30]
    assert steps.fit(files, labels).score(files, labels) > 0.9
    assert steps.predict(f"{tmp_path}/*.png").tolist() == steps.predict(files).tolist()


@pytest.mark.parametrize(
    ("arguments", "rows", "message"),
    [
        ({"method": "pixels"}, (4, 64), "`method` must be one of simclr, byol, got 'pixels'"),
        ({"binarization": "half"}, (4, 64), "`binarization` must be one of none, activations, full, got 'half'"),
        ({"epochs": 0}, (4, 64), "`epochs` must be a whole number of at least 1, got 0"),
        ({"epochs": 1.5}, (4, 64), "`epochs` must be a whole number of at least 1, got 1.5"),
        ({"batch_size": 1.5}, (4, 64), "`batch_size` must be a whole number of at least 1, got 1.5"),
        ({"views": "infomin_jigsaw"}, (4, 64), "without local ones and patches, got 'infomin_jigsaw'"),
        ({}, (4, 63), r"`image_shape` must be \(height, width\) .* with 63 features, .*; got None"),
        ({"image_shape": (8, 9)}, (4, 64), r"`image_shape` must be .*; got \(8, 9\)"),
        ({"image_shape": (-1, -1)}, (4, 64), r"`image_shape` must be .*; got \(-1, -1\)"),
        ({"image_shape": (4, 4, 4)}, (4, 64), r"`image_shape` must be .*; got \(4, 4, 4\)"),
        ({}, (1, 64), "Training needs at least 2 images, got 1 sample"),
        ({"encoder": "nowhere"}, (4, 64), "'nowhere' is neither a finished run nor the folder of an encoder"),
    ],
)
def test_mistakes_are_named(arguments, rows, message):
    with pytest.raises(ValueError, match=message):
        BinaryEncoder(**arguments).fit(np.zeros(rows))


def test_a_stream_can_be_transformed_but_not_trained_on(ready):
    images = load_dataset("digits", "val").images[:6]
    stream = tf.data.Dataset.from_tensor_slices(images)
    with pytest.raises(ValueError, match=r"got a tf\.data\.Dataset"):
        BinaryEncoder(**TINY).fit(stream)
    fitted = BinaryEncoder(ready).fit(images)
    np.testing.assert_allclose(fitted.transform(stream), fitted.transform(images), rtol=1e-5, atol=1e-6)


def test_levels_are_rounded_and_bytes_are_kept(ready):
    rows = np.linspace(0.0, 1.0, 640).reshape(10, 64)
    as_bytes = np.floor(rows * 255 + 0.5).astype(np.uint8)
    expected = ready.encode(as_bytes.reshape(10, 8, 8, 1))
    np.testing.assert_allclose(BinaryEncoder(ready).fit_transform(rows), expected, rtol=1e-5, atol=1e-6)
    dark = as_bytes // 4
    expected = ready.encode(dark.reshape(10, 8, 8, 1))
    for given in (dark, list(dark)):
        fitted = BinaryEncoder(ready).fit(given)
        assert fitted.pixel_range_ == (0, 255)
        np.testing.assert_allclose(fitted.transform(given), expected, rtol=1e-5, atol=1e-6)


def test_a_refit_on_images_forgets_the_length_of_rows(ready):
    fitted = BinaryEncoder(ready).fit(np.zeros((3, 64)))
    assert fitted.n_features_in_ == 64
    fitted.fit(np.zeros((3, 8, 8, 3), np.uint8))
    assert not hasattr(fitted, "n_features_in_")


def test_images_per_step_of_transform(ready, monkeypatch):
    seen, encode = [], FrozenEncoder.encode
    monkeypatch.setattr(FrozenEncoder, "encode", lambda self, *given: seen.append(given[1]) or encode(self, *given))
    BinaryEncoder(ready, batch_size=2).fit_transform(np.zeros((3, 64)))
    assert seen == [2]


def test_the_seed_is_that_of_the_random_state(monkeypatch, ready):
    seeds = []
    monkeypatch.setattr(
        "larq_ssl.inference.binary_encoder.pretrain",
        lambda images, settings, seed, _: seeds.append(seed) or ready.encoder,
    )
    for state in (0, 0, 1):
        BinaryEncoder(random_state=state, image_size=8).fit(np.zeros((3, 64)))
    assert seeds[0] == seeds[1] != seeds[2]


def test_what_goes_wrong_while_it_trains_is_a_sentence(tmp_path, digits):
    rows = digits.data[:32]
    settings = {**TINY, "network": SHORT_FLOAT[1].partition("=")[2], "binarization": "none", "epochs": 6}
    with pytest.raises(ValueError, match="is not finite.* A lower `learning_rate` may help"):
        BinaryEncoder(
            **{**TINY, "network": SHORT_FLOAT[1].partition("=")[2], "epochs": 6},
            batch_size=8,
            learning_rate=1e30,
            binarization="none",
        ).fit(rows)
    for number in range(4):
        Image.fromarray(np.full((8, 8), number * 60, np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "broken.png").write_bytes(b"none")
    with pytest.raises(ValueError, match=r"1 of 5 images cannot be decoded.*broken\.png"):
        BinaryEncoder(**settings, batch_size=5).fit(tmp_path)

"""Names of classes, sizes and choices, on the way through folders and pickles."""

import pickle

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import models
from larq_ssl.data.datasets import load_dataset
from larq_ssl.inference import FrozenEncoder, load_encoder
from larq_ssl.models.folder import save_encoder
from tests.inference.test_frozen_encoder import SIZE, run_folder

NAMES = list("abcdefghij")


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits", "train").subset(np.arange(20), "some")


@pytest.fixture(scope="module")
def network():
    tf.keras.utils.set_random_seed(3)
    return models.build("resnet_18", None, "none", "cifar", 0.125)


@pytest.fixture(scope="module")
def classifying():
    tf.keras.utils.set_random_seed(4)
    return models.build("resnet_18", None, "none", "cifar", 0.125, classes=10)


def test_names_of_a_network_that_ends_in_classes_are_kept(classifying, digits, tmp_path):
    given = FrozenEncoder(classifying, SIZE, classes=NAMES)
    given.save(tmp_path / "saved")
    for again in (load_encoder(tmp_path / "saved"), pickle.loads(pickle.dumps(given))):  # noqa: S301
        assert again.classes.tolist() == NAMES
        np.testing.assert_array_equal(again.predict(digits), given.predict(digits))


def test_a_pickle_of_a_run_has_its_head_and_names(network, digits, tmp_path):
    loaded = load_encoder(run_folder(tmp_path / "run", network, NAMES))
    again = pickle.loads(pickle.dumps(loaded))  # noqa: S301  what we have just written
    assert again.classes.tolist() == NAMES
    np.testing.assert_allclose(again.predict_proba(digits), loaded.predict_proba(digits), rtol=1e-5, atol=1e-6)


def test_the_classifier_is_the_students(network, tmp_path):
    run = run_folder(tmp_path / "run", network, NAMES)
    save_encoder(network, run / "encoders" / "ema")
    assert load_encoder(run).classes.tolist() == NAMES
    for of_ema in (load_encoder(run, "ema"), load_encoder(run / "encoders" / "ema")):
        assert of_ema.classes is None
    with pytest.raises(ValueError, match="`which` must be None for the folder of an encoder, .* got 'ema'"):
        load_encoder(run / "encoders" / "ema", "ema")


def test_the_size_of_a_run_gives_way_to_a_given_one(network, tmp_path):
    run = run_folder(tmp_path / "run", network)
    assert load_encoder(run).image_size == SIZE
    assert load_encoder(run, image_size=24).image_size == 24
    with pytest.raises(ValueError, match="`image_size` must be a whole number of at least 1, got 0"):
        load_encoder(run, image_size=0)


@pytest.mark.parametrize("of_heads", [True, False])
def test_probabilities_come_in_batches_and_tell_of_progress(of_heads, network, classifying, digits, tmp_path):
    using = load_encoder(run_folder(tmp_path / "run", network, NAMES)) if of_heads else FrozenEncoder(classifying, SIZE)
    seen = []
    using.predict_proba(digits, 8, lambda *numbers: seen.append(numbers))
    using.predict(digits, 16, lambda *numbers: seen.append(numbers))
    assert seen == [(8, 20), (16, 20), (20, 20), (16, 20), (20, 20)]
    with pytest.raises(ValueError, match="`images` holds no image"):
        using.predict(tf.data.Dataset.from_tensor_slices(digits.images).take(0))


def test_features_are_those_behind_the_further_layer(digits):
    using = FrozenEncoder(models.build("reactnet_a_burn", None, "full", "cifar", 0.125, classes=3), 32)
    outputs = using.encoder.at(32).with_outputs("extra_fc")
    pixels = digits.images[:2].repeat(4, axis=1).repeat(4, axis=2)
    expected = outputs(pixels, training=False)["extra_fc"]
    np.testing.assert_allclose(using.encode(pixels), expected, rtol=1e-4, atol=1e-5)


def test_a_file_that_is_no_image_stops_encoding_unless_it_may_be_left_out(network, tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"none")
    using = FrozenEncoder(network, SIZE)
    with pytest.raises(ValueError, match="cannot be decoded, more than max_bad_images = 0.0"):
        using.encode(tmp_path)
    assert list(using.encode_batches(tmp_path, max_bad_images=1.0)) == []


def test_arguments_are_checked(network, digits):
    with pytest.raises(ValueError, match="`image_size` must be a whole number of at least 1, got 0"):
        FrozenEncoder(network, 0)
    using = FrozenEncoder(network, SIZE)
    with pytest.raises(ValueError, match="`batch_size` must be a whole number of at least 1, got 0"):
        using.encode(digits, 0)
    with pytest.raises(ValueError, match="`labels` must be numbers or texts, got datetime64"):
        using.with_classifier(digits, np.arange(20).astype("datetime64[D]"))

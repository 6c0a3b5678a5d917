"""Encoders in use: features, classes, files, and what is in a run folder."""

import json
import pickle

import numpy as np
import pytest
import tensorflow as tf
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import larq_ssl
from larq_ssl import models
from larq_ssl.data.datasets import load_dataset
from larq_ssl.evaluation.features import extract
from larq_ssl.heads import linear_classifier, mlp_head
from larq_ssl.inference import FrozenEncoder, load_encoder
from larq_ssl.models.folder import encoder_hash, save_encoder, save_head

SIZE = 16


@pytest.fixture(scope="module")
def network():
    tf.keras.utils.set_random_seed(3)
    return models.build("resnet_18", None, "none", "cifar", 0.125)


@pytest.fixture(scope="module")
def digits():
    whole = load_dataset("digits", "train")
    return whole.subset(np.arange(90), "some")


@pytest.fixture(scope="module")
def encoder(network):
    return FrozenEncoder(network, SIZE)


@pytest.fixture(scope="module")
def with_names(encoder, digits):
    return encoder.with_classifier(digits, np.array(["zero", "one", "more"])[np.minimum(digits.labels(), 2)])


def run_folder(folder, network, classes=None, image_size=SIZE):
    """What a finished run leaves behind, as far as it matters here."""
    save_encoder(network, folder / "encoders" / "student")
    (folder / "flags.txt").write_text(f"--image_size={image_size}\n")
    (folder / "results.json").write_text("{}")
    if classes is not None:
        save_head(mlp_head("student_head", network.feature_dim, [], 6, norm="batch"), folder / "heads" / "student_head")
        save_head(linear_classifier("classifier", 6, len(classes)), folder / "heads" / "classifier")
        (folder / "classes.json").write_text(json.dumps(classes))
    return folder


def test_features_are_those_that_probes_measure(encoder, network, digits):
    expected = extract(network, digits, SIZE, batch_size=32)
    seen = []
    features = encoder.encode(digits, 32, lambda done, total: seen.append((done, total)))
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected.features, rtol=1e-5, atol=1e-6)
    assert seen == [(32, 90), (64, 90), (90, 90)]
    np.testing.assert_allclose(encoder.encode(digits.images[:3]), features[:3], rtol=1e-4, atol=1e-5)


def test_a_stream_of_unknown_length(encoder, digits):
    stream = tf.data.Dataset.from_tensor_slices(digits.images[:5]).filter(lambda image: True)
    seen = []
    features = encoder.encode(stream, progress=lambda *numbers: seen.append(numbers))
    np.testing.assert_allclose(features, encoder.encode(digits.images[:5]), rtol=1e-5, atol=1e-6)
    assert seen == []
    with pytest.raises(ValueError, match="`images` holds no image"):
        encoder.encode(stream.take(0))


def test_a_fitted_classifier_is_that_of_scikit_learn(encoder, with_names, digits):
    features, names = encoder.encode(digits), np.array(["zero", "one", "more"])[np.minimum(digits.labels(), 2)]
    regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features, names)
    assert with_names.classes.tolist() == ["more", "one", "zero"]
    np.testing.assert_allclose(with_names.predict_proba(digits), regression.predict_proba(features), atol=1e-4)
    assert (with_names.predict(digits) == names).mean() > 0.9
    assert encoder.classes is None


def test_two_classes_are_told_apart_like_more(encoder, digits):
    names = np.where(digits.labels() < 5, 7, -3)
    fitted = encoder.with_classifier(digits, names)
    assert fitted.classes.tolist() == [-3, 7]
    assert fitted.predict_proba(digits).shape == (90, 2)
    assert (fitted.predict(digits) == names).mean() > 0.8


def test_what_is_saved_is_loaded_with_its_size_and_classes(with_names, network, digits, tmp_path):
    with_names.save(tmp_path / "saved")
    loaded = larq_ssl.load_encoder(tmp_path / "saved")
    assert isinstance(loaded, larq_ssl.FrozenEncoder)
    assert repr(loaded) == repr(with_names) == "FrozenEncoder(resnet_18, none, 16 px, 64 features, 3 classes)"
    np.testing.assert_array_equal(loaded.predict(digits), with_names.predict(digits))
    np.testing.assert_allclose(loaded.encode(digits), with_names.encode(digits), rtol=1e-5, atol=1e-6)
    # It is an encoder folder like every other.
    assert encoder_hash(models.load_encoder(tmp_path / "saved")) == encoder_hash(network)
    smaller = load_encoder(tmp_path / "saved", image_size=8)
    np.testing.assert_allclose(smaller.encode(digits), FrozenEncoder(network, 8).encode(digits), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="exists already"):
        with_names.save(tmp_path / "saved")


def test_a_run_gives_size_head_classifier_and_names(network, digits, tmp_path):
    classes = list("abcdefghij")
    run = run_folder(tmp_path / "run", network, classes)
    loaded = load_encoder(run)
    assert loaded.image_size == SIZE
    logits = loaded.encode(digits)
    for part in ("student_head", "classifier"):
        logits = models.load_head(run / "heads" / part)(logits, training=False)
    np.testing.assert_allclose(loaded.predict_proba(digits), tf.nn.softmax(logits), rtol=1e-4, atol=1e-6)
    assert set(loaded.predict(digits)) <= set(classes)
    again = load_encoder(run / "encoders" / "student")
    assert repr(again) == repr(loaded)
    loaded.save(tmp_path / "saved")
    np.testing.assert_array_equal(load_encoder(tmp_path / "saved").predict(digits), loaded.predict(digits))


def test_a_network_with_classes_has_features_before_them(digits, tmp_path):
    network = models.build("resnet_18", None, "none", "cifar", 0.125, classes=10)
    run = run_folder(tmp_path / "run", network)
    loaded = load_encoder(run)
    logits = network(digits.images[:4].repeat(2, axis=1).repeat(2, axis=2), training=False)
    assert loaded.encode(digits.images[:4]).shape == (4, 64)
    assert loaded.predict_proba(digits.images[:4]).shape == logits.shape == (4, 10)
    np.testing.assert_array_equal(loaded.classes, np.arange(10))
    features = loaded.encode(digits.images[:4])
    expected = tf.nn.softmax(network.get_layer("fc")(features))
    np.testing.assert_allclose(loaded.predict_proba(digits.images[:4]), expected, rtol=1e-4, atol=1e-6)


def test_pickles_are_data(with_names, digits):
    text = pickle.dumps(with_names)
    again = pickle.loads(text)  # noqa: S301  what we have just written
    np.testing.assert_allclose(again.predict_proba(digits), with_names.predict_proba(digits), rtol=1e-5, atol=1e-6)
    assert b"keras" not in text


def test_mistakes_are_named(encoder, network, digits, tmp_path):
    with pytest.raises(ValueError, match="There is no classifier"):
        encoder.predict(digits)
    with pytest.raises(ValueError, match=r"`labels` must be one per image \(90\), got shape \(3,\)"):
        encoder.with_classifier(digits, [1, 2, 3])
    with pytest.raises(ValueError, match="`classifier` takes vectors of length 5, and is given some of 64"):
        FrozenEncoder(network, SIZE, linear_classifier("classifier", 5, 2))
    with pytest.raises(ValueError, match="`classes` must be 2, one for each output, got 3"):
        FrozenEncoder(network, SIZE, linear_classifier("classifier", 64, 2), classes=["a", "b", "c"])
    with pytest.raises(ValueError, match="is neither a finished run nor the folder of an encoder"):
        load_encoder(tmp_path)
    save_encoder(network, tmp_path / "bare")
    with pytest.raises(ValueError, match="`image_size` is missing: nothing in"):
        load_encoder(tmp_path / "bare")
    assert load_encoder(tmp_path / "bare", image_size=8).image_size == 8
    run = run_folder(tmp_path / "run", network)
    with pytest.raises(ValueError, match="`which` must be one of student for the run .* got 'ema'"):
        load_encoder(run, "ema")
    (run / "results.json").unlink()
    with pytest.raises(ValueError, match="is an unfinished run"):
        load_encoder(run)

"""Features that are other outputs of an encoder, in other views of the images."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.data import pipeline
from larq_ssl.data.datasets import ImageDataset
from larq_ssl.evaluation.features import extract
from larq_ssl.evaluation.outputs import named_output
from larq_ssl.models.encoder import Architecture, Encoder, EncoderSpec
from larq_ssl.models.folder import encoder_hash
from tests import golden


def trunk(images, spec, layers):
    """Two maps, of strides 4 and 8."""
    maps, x = {}, images
    for stride in (4, 8):
        x = layers(
            tf.keras.layers.Conv2D, f"conv{stride}", filters=6, kernel_size=3, strides=stride // 4, padding="same"
        )(x)
        x = layers(tf.keras.layers.BatchNormalization, f"bn{stride}")(x)
        if stride == 4:
            x = layers(tf.keras.layers.AveragePooling2D, "pool4", pool_size=4, padding="same")(x)
        maps[f"stride{stride}"] = x
    return maps


def tokens(images, spec, layers):
    pooled = layers(tf.keras.layers.GlobalAveragePooling2D, "tokens")(images)
    return {"block11": pooled, "block12": pooled}


def tiny(of=trunk, maps=True):
    return Encoder(Architecture(of, maps=maps), EncoderSpec("tiny", binarization="none"))


def dataset(count=5):
    images = np.random.default_rng(0).integers(0, 256, (count, 60, 80, 3), np.uint8)
    labels = np.zeros(count, np.int64)
    return ImageDataset("made", "val", count, 1, ("a",), "abc", targets=labels, images=images)


def test_windows_of_the_last_map_and_the_encoder_stays_as_it_is(tmp_path):
    encoder = tiny()
    # As after training: what a probe in training mode would alter.
    for variable in encoder.non_trainable_weights:
        variable.assign(np.random.default_rng(1).uniform(0.5, 1.5, variable.shape))
    before = [variable.numpy() for variable in encoder.weights]
    data, size = dataset(), 56
    svm = {"output": "svm", "view": "voc07"}
    found = extract(encoder, data, size, 2, tmp_path, **svm).features
    (batch,) = pipeline.image_batches(data, size, 8, protocol="voc07")
    last = encoder.at(size).with_outputs("stride8")(batch["image"])["stride8"].numpy()
    assert last.shape == (5, 7, 7, 6)
    windows = [last[:, i : i + 6, j : j + 6].mean(axis=(1, 2)) for i in (0, 1) for j in (0, 1)]
    assert found.shape == (5, 4 * encoder.feature_dim)
    np.testing.assert_allclose(found, np.concatenate(windows, axis=1), rtol=1e-4, atol=1e-4)
    # Weights and statistics of BatchNorm, to the byte.
    for old, variable in zip(before, encoder.weights, strict=True):
        assert old.tobytes() == variable.numpy().tobytes()
    # Each output and view has a file of its own in the cache.
    whole = extract(encoder, data, size, 2, tmp_path, view="voc07").features
    cropped = extract(encoder, data, size, 2, tmp_path).features
    assert len(list(tmp_path.iterdir())) == 3
    assert whole.shape == cropped.shape == (5, encoder.feature_dim)
    assert not np.array_equal(whole, cropped)
    np.testing.assert_array_equal(extract(encoder, data, size, 2, tmp_path, **svm).features, found)


@pytest.mark.parametrize("output", ["svm", None])
def test_features_do_not_depend_on_the_batch_size(output):
    encoder = tiny()
    one, other = (extract(encoder, dataset(), 56, size, output=output).features for size in (1, 5))
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * np.abs(other).max())


def test_pooling_is_the_official_one():
    official = golden.load("q8_probes")
    network = named_output(tiny(), 56, "svm")
    pooled = network.get_layer("svm/pool")(official["pool_x_nhwc"]).numpy()
    np.testing.assert_allclose(pooled, official["pool_out_nhwc"], rtol=0, atol=1e-5)
    flat = network.get_layer("svm/flatten")(pooled).numpy()
    # Official vectors have the channels first: another order of the same numbers.
    channels_first = flat.reshape(pooled.shape).transpose(0, 3, 1, 2).reshape(len(flat), -1)
    np.testing.assert_allclose(channels_first, official["pool_flat_official_chw_order"], rtol=0, atol=1e-5)


def test_what_an_encoder_has_not_is_named():
    encoder = tiny()
    with pytest.raises(ValueError, match="of 40 pixels tiny makes a smaller one: the size must be at least 41"):
        named_output(encoder, 40, "svm")
    assert named_output(encoder, 41, "svm").output_shape == (None, encoder.feature_dim)
    with pytest.raises(ValueError, match="`output` must be one of.*'stride8'.*got 'stride64'"):
        named_output(encoder, 40, "stride64")
    with pytest.raises(ValueError, match="`output` must be one of.*'block12'.*got 'svm'"):
        named_output(tiny(tokens, maps=False), 64, "svm")
    assert encoder_hash(encoder) == encoder_hash(encoder.at(41))
    assert dataclasses.replace(encoder.spec, image_size=41) == encoder.at(41).spec

"""Mean average precision on images held out: of the model as it is, difficult ones left out."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import callbacks
from larq_ssl.checkpoints import NotFiniteError
from larq_ssl.data import datasets, pipeline
from larq_ssl.evaluation.average_precision import average_precision
from tests import voc
from tests.methods import tiny


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    return datasets.load_dataset("voc_folder", "val", str(voc.pets(tmp_path_factory.mktemp("voc") / "pets")))


class Fixed(tf.keras.Model):
    """Scores that each image has by its pixels."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = factor

    def classify(self, images):
        pixels = tf.cast(images, tf.float32)
        means = tf.reduce_mean(pixels, axis=[1, 2])
        return self.factor * tf.stack([tf.sin(means[:, 0] * 37), tf.cos(means[:, 1] * 41)], axis=1)


@pytest.mark.parametrize("batch_size", [4, 256])
def test_it_is_the_mean_of_the_precisions_of_the_classes(pets, batch_size):
    callback = callbacks.MultiLabelValidation(pets, 16, batch_size=batch_size)
    callback.set_model(Fixed())
    (batch,) = pipeline.image_batches(pets, 16, 20)
    scores, presence = Fixed().classify(batch["image"]).numpy(), pets.presence
    assert (presence == -1).sum() == 1
    expected = {
        f"val_{name}": np.mean([average_precision(presence[:, c], scores[:, c], method) for c in range(2)])
        for name, method in (("map", "area"), ("map_eleven_points", "eleven_points"))
    }
    assert callback.measured() == pytest.approx(expected)
    assert 0.2 < expected["val_map"] < 0.999


def test_it_is_added_to_the_logs_of_whole_epochs(pets):
    rows = []
    spy = tf.keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: rows.append(dict(logs)))
    method = tiny.multi_label(classes=2)
    stream = tf.data.Dataset.from_tensors(tiny.several_batch(classes=2)).repeat()
    validation = callbacks.MultiLabelValidation(pets, 4, every=2)
    method.fit(stream, epochs=3, steps_per_epoch=1, verbose=0, callbacks=[validation, spy])
    assert ["val_map" in row for row in rows] == [False, True, True]
    assert rows[-1]["val_map"] == validation.measured()["val_map"]
    assert not any("top" in name for row in rows for name in row)


def test_logits_that_are_not_finite_are_told(pets):
    callback = callbacks.MultiLabelValidation(pets, 16)
    callback.set_model(Fixed(float("inf")))
    with pytest.raises(NotFiniteError, match="logits of images held out are not finite"):
        callback.measured()


def test_mistakes_are_named(pets):
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        callbacks.MultiLabelValidation(pets, 8, every=0)
    with pytest.raises(ValueError, match="The class 'cat' is in none of the 2 test images"):
        callbacks.MultiLabelValidation(pets.subset(np.flatnonzero(pets.presence[:, 0] == 0)[:2], "dogs"), 8)

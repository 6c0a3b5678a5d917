"""Accuracy on images held out: of the model as it is, after whole epochs, every so often and at the end."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import callbacks
from larq_ssl.data import pipeline
from larq_ssl.data.datasets import load_dataset
from tests.methods import tiny


@pytest.fixture
def digits():
    return load_dataset("digits", "val", limit=70)


def stream():
    return tf.data.Dataset.from_tensors(tiny.one_view_batch()).repeat()


class Spy(tf.keras.callbacks.Callback):
    """Keeps the logs of each epoch."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def on_epoch_end(self, epoch, logs=None):
        self.rows.append(dict(logs))


def labels_of(dataset):
    """The classes 0 to 3 alone, which the tiny method has."""
    return dataset.relabelled(lambda ids, labels: labels % 4, ("0", "1", "2", "3"))


def test_the_accuracies_are_those_of_the_model_after_the_epoch(digits):
    dataset, method, spy = labels_of(digits), tiny.supervised(), Spy()
    method.fit(
        stream(),
        epochs=5,
        steps_per_epoch=2,
        verbose=0,
        callbacks=[callbacks.Validation(dataset, 4, every=2, batch_size=32), spy],
    )
    assert ["val_top1" in row for row in spy.rows] == [False, True, False, True, True]
    (batch,) = pipeline.image_batches(dataset, 4, 70)
    logits = method.classify(batch["image"]).numpy()
    assert spy.rows[-1]["val_top1"] == np.mean(np.argmax(logits, axis=1) == batch["label"].numpy())
    # Of four classes, the label is always among the first five.
    assert spy.rows[-1]["val_top5"] == 1


def test_top_5_counts_five_classes(digits):
    class Fixed(tf.keras.Model):
        def classify(self, images):
            return tf.tile(tf.range(10.0)[None], [tf.shape(images)[0], 1])

    callback = callbacks.Validation(digits, 8)
    callback.set_model(Fixed())
    assert callback.accuracies() == {
        1: np.mean(digits.labels() == 9),
        5: np.mean(digits.labels() >= 5),
    }


def test_an_epoch_that_was_cut_short_is_not_measured(digits):
    class Stop(tf.keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = True

    spy = Spy()
    tiny_callbacks = [Stop(), callbacks.Validation(labels_of(digits), 4), spy]
    tiny.supervised().fit(stream(), epochs=1, steps_per_epoch=3, verbose=0, callbacks=tiny_callbacks)
    assert len(spy.rows) == 1
    assert "val_top1" not in spy.rows[0]


def test_mistakes_are_named(digits):
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        callbacks.Validation(digits, 8, every=0)
    with pytest.raises(ValueError, match="has no labels"):
        callbacks.Validation(dataclasses.replace(digits, classes=None), 8)
    with pytest.raises(ValueError, match="`dataset` must have a label"):
        callbacks.Validation(digits.relabelled(lambda ids, labels: np.where(ids == 3, -1, labels)), 8)

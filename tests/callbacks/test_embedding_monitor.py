"""Rank, alignment and uniformity of embeddings, and when they are looked at."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import models
from larq_ssl.callbacks import EmbeddingMonitor
from larq_ssl.callbacks.embedding_monitor import effective_rank
from larq_ssl.checkpoints import NotFiniteError
from larq_ssl.heads import mlp_head

NUMBERS = ["embedding_rank", "alignment", "uniformity"]
OF_HEAD = ["projection_rank", "projection_alignment", "projection_uniformity"]


def views(count=6, of_each=2):
    return np.random.default_rng(0).integers(0, 256, (count, of_each, 1, 1, 3)).astype(np.uint8)


def pixels():
    """An encoder whose features are the pixels less their middle."""
    image = tf.keras.Input([1, 1, 3])
    return tf.keras.Model(image, tf.cast(tf.reshape(image, [-1, 3]), tf.float32) - 127.5)


def logged(callback, epochs=1, steps=1, reached=1):
    callback.set_params({"epochs": epochs, "steps": steps})
    every = []
    for epoch in range(epochs):
        logs = {"loss": 1.0}
        for batch in range(reached):
            callback.on_train_batch_end(batch)
        callback.on_epoch_end(epoch, logs)
        every.append(logs)
    return every


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def slow_numbers(first, second):
    """Retyped with loops."""
    first, second = unit(first), unit(second)
    aligned = np.mean([np.sum((a - b) ** 2) for a, b in zip(first, second, strict=True)])

    def uniform(rows):
        pairs = [(i, j) for i in range(len(rows)) for j in range(i)]
        return np.log(np.mean([np.exp(-2 * np.sum((rows[i] - rows[j]) ** 2)) for i, j in pairs]))

    return [effective_rank(first), aligned, (uniform(first) + uniform(second)) / 2]


def test_numbers_are_those_of_unit_embeddings_of_encoder_and_head():
    images, head = views(7), mlp_head("student_head", 3, [5], 4, "none")
    (logs,) = logged(EmbeddingMonitor(pixels(), head, images, batch_size=3))
    features = images.reshape(7, 2, 3).astype(np.float64) - 127.5
    assert [logs[name] for name in NUMBERS] == pytest.approx(slow_numbers(features[:, 0], features[:, 1]), rel=1e-4)
    projected = [head(features[:, view].astype(np.float32)).numpy().astype(np.float64) for view in (0, 1)]
    assert [logs[name] for name in OF_HEAD] == pytest.approx(slow_numbers(*projected), rel=1e-4)
    assert set(logs) == {"loss", *NUMBERS, *OF_HEAD}


def test_views_that_are_one_are_aligned_and_images_that_are_one_have_collapsed():
    same = np.repeat(views(6, 1), 2, axis=1)
    (logs,) = logged(EmbeddingMonitor(pixels(), None, same))
    assert logs["alignment"] == pytest.approx(0, abs=1e-6)
    assert logs["embedding_rank"] > 2
    assert logs["uniformity"] < -0.5
    (logs,) = logged(EmbeddingMonitor(pixels(), None, np.repeat(views(1), 6, axis=0)))
    assert logs["embedding_rank"] == pytest.approx(1, abs=1e-3)
    assert logs["uniformity"] == pytest.approx(0, abs=1e-5)
    assert logs["alignment"] > 0.1


def test_of_one_view_there_is_no_alignment_and_of_many_two_count():
    (one,) = logged(EmbeddingMonitor(pixels(), None, views(6, 1)))
    assert set(one) == {"loss", "embedding_rank", "uniformity"}
    three = views(6, 3)
    assert logged(EmbeddingMonitor(pixels(), None, three)) == logged(EmbeddingMonitor(pixels(), None, three[:, :2]))


@pytest.mark.parametrize(("every", "epochs", "expected"), [(3, 7, [3, 6, 7]), (1, 2, [1, 2]), (5, 2, [2])])
def test_every_so_many_epochs_and_after_the_last(every, epochs, expected):
    found = logged(EmbeddingMonitor(pixels(), None, views(), every), epochs)
    assert [epoch for epoch, logs in enumerate(found, 1) if "embedding_rank" in logs] == expected


def test_an_epoch_that_is_stopped_in_its_middle_is_not_looked_at():
    assert logged(EmbeddingMonitor(pixels(), None, views()), steps=2) == [{"loss": 1.0}]


def test_nothing_learns_or_drifts_while_it_is_watched():
    encoder = models.build("reactnet_18", None, "full", width=0.125, stem="cifar")
    head = mlp_head("student_head", encoder.feature_dim, [8], 4, "batch")
    before = [weight.numpy() for weight in (*encoder.weights, *head.weights)]
    images = np.random.default_rng(0).integers(0, 256, (5, 2, 8, 8, 3)).astype(np.uint8)
    first, second = logged(EmbeddingMonitor(encoder, head, images), epochs=2)
    assert first == second
    for weight, kept in zip((*encoder.weights, *head.weights), before, strict=True):
        np.testing.assert_array_equal(weight, kept)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every": 0}, "every must be at least 1, got 0"),
        ({"views": views(1)}, r"views must be .* of two images or more, got \(1, 2, 1, 1, 3\)"),
        ({"views": views()[:, 0]}, r"views must be .*, got \(6, 1, 1, 3\)"),
        ({"views": views()[:, :0]}, "views must be"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        EmbeddingMonitor(**{"encoder": pixels(), "head": None, "views": views(), **arguments})


class TestEffectiveRank:
    def test_independent_directions_count(self):
        assert effective_rank(np.eye(7)) == pytest.approx(7)
        assert effective_rank(np.concatenate([np.eye(7)[:3]] * 4)) == pytest.approx(3)

    def test_directions_count_by_their_singular_values(self):
        # Four images in one direction, one in another: singular values 2 and 1, shares 2/3 and 1/3.
        unequal = np.eye(3)[[0, 0, 0, 0, 1]]
        assert effective_rank(unequal) == pytest.approx(3 / 2 ** (2 / 3))
        # Not by their lengths.
        lengths = np.array([[3.0], [0.1], [7.0], [1.0], [50.0]])
        assert effective_rank(lengths * unequal) == pytest.approx(effective_rank(unequal))

    def test_one_direction_is_rank_one_whatever_its_length(self):
        assert effective_rank(np.outer([1.0, 2, 30], [1, 2, 3, 4])) == pytest.approx(1)

    def test_zeros_do_no_harm(self):
        assert np.isfinite(effective_rank(np.zeros([3, 4])))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_no_numbers_end_the_training(bad):
    image = tf.keras.Input([1, 1, 3])
    broken = tf.keras.Model(image, tf.cast(tf.reshape(image, [-1, 3]), tf.float32) * bad, name="student")
    with pytest.raises(NotFiniteError, match="After epoch 1 the features of student are not finite"):
        logged(EmbeddingMonitor(broken, None, views()))

"""Linear classifiers with a sigmoid per class: the training by the textbook, mean average precision, mistakes."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import models
from larq_ssl.data import datasets, pipeline
from larq_ssl.evaluation import linear_augmented as augmented
from larq_ssl.evaluation import linear_results
from larq_ssl.evaluation.average_precision import average_precisions
from larq_ssl.evaluation.examples import Examples, examples
from larq_ssl.evaluation.features import Features, extract, frozen
from larq_ssl.evaluation.linear import LinearPreset, linear
from larq_ssl.evaluation.linear_augmented import linear_augmented
from larq_ssl.evaluation.linear_multi_label import MultiLabelSweep
from larq_ssl.losses import sigmoid_cross_entropy
from tests import voc

NAMES = ("ant", "bee", "cow")


def made(count, seed, noise=1.0, dim=8):
    """Features in which each class has its direction; some classes are difficult."""
    directions = np.random.default_rng(9).normal(size=(len(NAMES), dim))
    rng = np.random.default_rng(seed)
    there = rng.random((count, len(NAMES))) < 0.4
    features = there @ directions + noise * rng.normal(size=(count, dim))
    presence = np.where(rng.random(there.shape) < 0.15, -1, there).astype(np.int8)
    return Examples(features.astype(np.float32), presence, NAMES)


def trained_by_hand(train, preset, seed):
    """Kernel and bias by gradients of the loss itself."""
    kernel = tf.Variable(
        np.random.default_rng((seed, 0)).normal(0.0, preset.init_std, (train.features.shape[1], 3)).astype(np.float32)
    )
    bias = tf.Variable(tf.zeros(3))
    optimizer = tf.keras.optimizers.legacy.SGD(preset.learning_rates[0], momentum=preset.momentum)
    for epoch in range(preset.epochs):
        rows = np.random.default_rng((seed, 1, epoch)).permutation(len(train.features))
        for start in range(0, len(rows), preset.batch_size):
            part = rows[start : start + preset.batch_size]
            with tf.GradientTape() as tape:
                logits = tf.constant(train.features[part]) @ kernel + bias
                loss = tf.reduce_mean(sigmoid_cross_entropy(train.presence[part], logits))
            optimizer.apply_gradients(zip(tape.gradient(loss, [kernel, bias]), [kernel, bias], strict=True))
    return kernel.numpy(), bias.numpy()


def test_it_equals_training_by_the_loss():
    train, test = made(70, 0), made(200, 1)
    preset = LinearPreset("test", (0.5,), batch_size=16, epochs=3, drops=())
    found = linear(train, test, 3, preset, seed=3)
    kernel, bias = trained_by_hand(train, preset, 3)
    logits = test.features @ kernel + bias
    np.testing.assert_array_equal(found.predictions, logits > 0)
    assert found.predictions.shape == (200, 3)
    for name, method in (("map", "area"), ("map_eleven_points", "eleven_points")):
        expected = average_precisions(test.presence, logits, method).mean()
        assert found.metrics[f"last/{name}"] == pytest.approx(expected, abs=1e-4)
    assert 0.6 < found.metrics["last/map"] < 0.99


def test_a_sweep_equals_its_runs_one_by_one_and_the_best_rate_is_chosen():
    train, test = made(100, 0, noise=2.0), made(200, 1, noise=2.0)
    options, rates = {"batch_size": 32, "epochs": 4}, (0.001, 0.3, 5.0)
    swept = linear(train, test, 3, LinearPreset("test", rates, **options)).metrics
    for rate in rates:
        alone = linear(train, test, 3, LinearPreset("test", (rate,), **options)).metrics
        for name in ("last/map", "last/map_eleven_points", "best/map", "best/map_eleven_points", "best/epoch"):
            assert swept[f"lr_{rate:g}/{name}"] == pytest.approx(alone[name], abs=1e-6)
    assert len({swept[f"lr_{rate:g}/last/map"] for rate in rates}) == 3
    assert swept["last/map"] == max(swept[f"lr_{rate:g}/last/map"] for rate in rates)
    assert {name for name in swept if "/lr" not in name and "lr_" not in name} == {
        *("last/map", "last/map_eleven_points", "best/map", "best/map_eleven_points", "best/epoch", "learning_rate")
    }


def test_difficult_classes_take_no_part():
    train, test = made(60, 0), made(90, 1)
    preset = LinearPreset("test", (0.5,), batch_size=16, epochs=2)
    # An image of which nothing is known: whatever its features are.
    train.presence[7] = -1
    other = Examples(train.features.copy(), train.presence, NAMES)
    other.features[7] = 100.0
    assert linear(train, test, 3, preset).metrics == linear(other, test, 3, preset).metrics


def test_a_diverged_rate_is_zero_flagged_and_never_chosen():
    train, test = made(60, 0), made(60, 1)
    metrics = linear(train, test, 3, LinearPreset("test", (0.1, 3e38), epochs=5, batch_size=16)).metrics
    assert metrics["lr_3e+38/diverged"] == 1.0
    assert metrics["lr_3e+38/best/map"] == metrics["lr_3e+38/last/map_eleven_points"] == 0.0
    assert metrics["learning_rate"] == 0.1
    assert metrics["last/map"] > 0.5


def test_validation_chooses_by_its_precision():
    train, test = made(150, 0), made(90, 1)
    turned = Examples(test.features, np.where(test.presence < 0, -1, 1 - test.presence).astype(np.int8), NAMES)
    preset = LinearPreset("test", (1e-6, 1.0), epochs=5, batch_size=16)
    found = linear(train, turned, 3, preset, validation=made(80, 2))
    assert found.learning_rate == 1.0
    assert found.metrics["validation/last/map"] > 0.7 > found.metrics["last/map"]
    assert linear(train, turned, 3, preset).learning_rate == 1e-6


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    root = str(voc.pets(tmp_path_factory.mktemp("voc") / "pets"))
    return [datasets.load_dataset("voc_folder", split, root) for split in ("train", "val")]


@pytest.fixture(scope="module")
def encoder():
    tf.keras.utils.set_random_seed(1)
    return models.build("resnet_18", binarization="none", stem="cifar", width=0.125)


def test_new_views_are_learned_with_what_is_in_their_images(pets, encoder, tmp_path):
    preset = LinearPreset("test", (0.01, 0.5), batch_size=9, epochs=2, drops=(0.6,))
    test = examples(extract(encoder, pets[1], 16), pets[1])
    file = tmp_path / "progress.npz"
    found = linear_augmented(encoder, pets[0], test, 16, preset, seed=4, progress_file=file)
    sweep = MultiLabelSweep(preset, encoder.feature_dim, 2, seed=4)
    views, encode = iter(pipeline.view_batches(pets[0], preset.policy(16), 9, seed=4)), frozen(encoder, 16)
    for epoch in range(2):
        for step, rates in enumerate(preset.rates_of(epoch, 2)):
            batch = next(views)
            presence = pets[0].presence[batch["id"].numpy()]
            assert presence.any(), step
            sweep.train_batch(encode(batch["global"][:, 0]), tf.constant(presence, tf.float32), tf.constant(rates))
    measured = sweep.accuracies(tf.constant(test.features), tf.constant(test.presence, tf.float32)).numpy()
    for rate, (area, points) in zip(("0.01", "0.5"), measured, strict=True):
        assert found.metrics[f"lr_{rate}/last/map"] == pytest.approx(area)
        assert found.metrics[f"lr_{rate}/last/map_eleven_points"] == pytest.approx(points)
    # What is finished is only told.
    again = linear_augmented(
        encoder, pets[0], test, 16, preset, seed=4, progress_file=file, progress=lambda *_: pytest.fail("trained again")
    )
    assert again.metrics == found.metrics
    with pytest.raises(
        ValueError, match="`test` must have the labels of what is trained on, .*got one label per image"
    ):
        linear_augmented(encoder, pets[0], extract(encoder, pets[1], 16), 16, preset)
    assert augmented.MultiLabelSweep is MultiLabelSweep


def test_mistakes_are_named():
    train, test = made(20, 0), made(20, 1)
    one = Features(test.features, np.zeros(20, np.int64), np.arange(20))
    preset = LinearPreset("test", (1.0,), epochs=1)
    with pytest.raises(
        ValueError, match="`test` must have the labels of what is trained on, .*got one label per image"
    ):
        linear(train, one, 3, preset)
    with pytest.raises(ValueError, match="`test` must have the labels of what is trained on, one per image, got"):
        linear(one, test, 3, preset)
    with pytest.raises(ValueError, match="`classes` must be the number of those of `train`, 3, got 4"):
        linear(train, test, 4, preset)
    with pytest.raises(ValueError, match="`test` must have the labels of what"):
        linear(train, Examples(test.features, test.presence, ("ant", "bee", "doe")), 3, preset)
    with pytest.raises(ValueError, match="`test` must have features of size 8.*got 4"):
        linear(train, Examples(test.features[:, :4], test.presence, NAMES), 3, preset)
    with pytest.raises(ValueError, match="The class 'cow' is in none of the 20 test images"):
        linear(train, Examples(test.features, np.minimum(test.presence, [1, 1, 0]).astype(np.int8), NAMES), 3, preset)


def test_measures_name_the_numbers():
    table = np.linspace(0, 1, 8).reshape(2, 2, 2)
    preset = LinearPreset("test", (2.0, 1.0))
    metrics, number = linear_results._metrics(preset, table, table, np.zeros(2, bool), ("map", "map_eleven_points"))
    assert (number, metrics["last/map"], metrics["last/map_eleven_points"]) == (1, table[1, 1, 0], table[1, 1, 1])

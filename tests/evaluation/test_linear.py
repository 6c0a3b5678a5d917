import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.evaluation import linear_results, linear_sweep
from larq_ssl.evaluation.features import Features, holdout
from larq_ssl.evaluation.linear import LinearPreset, linear, linear_preset


def blobs(count, classes=6, dim=10, noise=0.1, seed=0):
    centres = np.random.default_rng(99).normal(size=(classes, dim))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    features = (centres[labels] + noise * rng.normal(size=(count, dim))).astype(np.float32)
    return Features(features, labels.astype(np.int64), np.arange(count, dtype=np.int64))


def start(seed, dim, classes, std=0.01):
    return np.random.default_rng((seed, 0)).normal(0.0, std, (dim, classes)).astype(np.float32)


def order(seed, epoch, count):
    return np.random.default_rng((seed, 1, epoch)).permutation(count)


def logits_accuracy(logits, labels):
    return np.mean(np.argmax(logits, -1) == labels)


def test_separable_data_are_separated():
    train, test = blobs(400), blobs(150, seed=1)
    done = []
    preset = linear_preset("bssl", epochs=20, batch_size=64)
    result = linear(train, test, 6, preset, progress=lambda *p: done.append(p))
    assert result.metrics["last/top1"] == result.metrics["best/top1"] == result.metrics["last/top5"] == 1.0
    np.testing.assert_array_equal(result.predictions, test.labels)
    assert result.metrics["learning_rate"] == result.learning_rate
    # Rates that are as good are told apart by size: the smallest is taken.
    perfect = [r for r in preset.learning_rates if result.metrics[f"lr_{r:g}/last/top1"] == 1.0]
    assert result.learning_rate == min(perfect)
    assert done[-1] == (20, 20)
    assert set(result.metrics) == {
        *(f"{when}/{top}" for when in ("last", "best") for top in ("top1", "top5")),
        "best/epoch",
        "learning_rate",
        *(
            f"lr_{rate}/{name}"
            for rate in ("0.001", "0.01", "0.1", "1", "10", "30")
            for name in ("last/top1", "last/top5", "best/top1", "best/top5", "best/epoch", "diverged")
        ),
    }


def test_it_equals_a_plain_dense_layer_trained_on_the_same_batches():
    train, test = blobs(70, noise=2.0), blobs(300, noise=2.0, seed=1)
    preset = LinearPreset("test", (0.5,), batch_size=16, epochs=2, drops=())
    result = linear(train, test, 6, preset, seed=3)
    dense = tf.keras.layers.Dense(6)
    dense.build((None, 10))
    dense.set_weights([start(3, 10, 6), np.zeros(6)])
    optimizer = tf.keras.optimizers.legacy.SGD(0.5, momentum=0.9)
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    history = []
    for epoch in range(2):
        rows = order(3, epoch, 70)
        for i in range(0, 70, 16):
            with tf.GradientTape() as tape:
                value = loss(train.labels[rows[i : i + 16]], dense(train.features[rows[i : i + 16]]))
            optimizer.apply_gradients(
                zip(tape.gradient(value, dense.trainable_weights), dense.trainable_weights, strict=True)
            )
        history.append(logits_accuracy(dense(test.features), test.labels))
    np.testing.assert_array_equal(result.predictions, np.argmax(dense(test.features), -1))
    assert result.metrics["last/top1"] == pytest.approx(history[-1])
    assert result.metrics["best/top1"] == pytest.approx(max(history))
    assert result.metrics["best/epoch"] == 1 + np.argmax(history)
    assert 0.2 < history[-1] < 0.95


def reference(train, preset, seed, classes):
    """Kernel and bias after training, by the textbook, in float64."""
    kernel, bias = start(seed, train.features.shape[1], classes).astype(np.float64), np.zeros(classes)
    velocities = [0.0, 0.0]
    steps = -(-len(train) // preset.batch_size)
    for epoch in range(preset.epochs):
        rows = order(seed, epoch, len(train))
        for step in range(steps):
            part = rows[step * preset.batch_size : (step + 1) * preset.batch_size]
            x, y = train.features[part], train.labels[part]
            z = x @ kernel + bias
            p = np.exp(z - z.max(-1, keepdims=True))
            delta = (p / p.sum(-1, keepdims=True) - np.eye(classes)[y]) / len(y)
            lars, momentum = preset.optimizer == "lars", preset.momentum
            gradients = [
                x.T @ delta + preset.weight_decay * kernel,
                delta.sum(0) + (0 if lars else preset.weight_decay) * bias,
            ]
            if lars:
                gradients[0] *= 0.001 * np.linalg.norm(kernel) / np.linalg.norm(gradients[0])
            velocities = [momentum * v + g for v, g in zip(velocities, gradients, strict=True)]
            moves = velocities
            if preset.optimizer == "nesterov":
                moves = [g + momentum * v for v, g in zip(velocities, gradients, strict=True)]
            rate = textbook_rate(preset, epoch, step / steps)
            kernel, bias = kernel - rate * moves[0], bias - rate * moves[1]
    return kernel, bias


def textbook_rate(preset, epoch, within):
    rate = preset.learning_rates[0] * (preset.batch_size / preset.scaled_to if preset.scaled_to else 1)
    if preset.schedule == "steps":
        return rate * preset.drop_factor ** sum(epoch + 1e-9 >= drop * preset.epochs for drop in preset.drops)
    done = (epoch + (within if preset.schedule == "cosine" else 0)) / preset.epochs
    return preset.min_learning_rate + (rate - preset.min_learning_rate) * 0.5 * (1 + np.cos(np.pi * done))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"drops": (0.6, 0.8)},
        {"weight_decay": 0.05},
        {"schedule": "epoch_cosine", "min_learning_rate": 0.01},
        {"schedule": "cosine", "scaled_to": 8, "batch_size": 12},
        {"optimizer": "nesterov", "weight_decay": 0.05},
        {"optimizer": "lars", "weight_decay": 0.05, "learning_rates": (1.0,)},
    ],
    ids=str,
)
def test_weights_equal_those_of_the_textbook(changes, monkeypatch):
    sweeps = []
    original = linear_sweep.Sweep.__init__

    def spy(self, *arguments):
        original(self, *arguments)
        sweeps.append(self)

    monkeypatch.setattr(linear_sweep.Sweep, "__init__", spy)
    train = blobs(50, noise=1.0)
    settings = {"learning_rates": (0.3,), "batch_size": 16, "epochs": 5, "drops": (), **changes}
    preset = LinearPreset("test", **settings)
    linear(train, train, 6, preset, seed=1)
    kernel, bias = reference(train, preset, 1, 6)
    np.testing.assert_allclose(sweeps[0].kernel.numpy(), kernel, atol=1e-5)
    np.testing.assert_allclose(sweeps[0].bias.numpy(), bias, atol=1e-5)
    assert np.abs(kernel - start(1, 10, 6)).max() > 0.001


@pytest.mark.parametrize("optimizer", ["sgd", "nesterov", "lars"])
def test_a_sweep_equals_its_runs_one_by_one(optimizer):
    train, test = blobs(100, noise=2.0), blobs(500, noise=2.0, seed=1)
    rates = (0.5, 20.0, 300.0) if optimizer == "lars" else (0.01, 0.3, 2.0)
    options = {"batch_size": 32, "epochs": 4, "optimizer": optimizer}
    sweep = linear(train, test, 6, LinearPreset("test", rates, **options)).metrics
    for rate in rates:
        alone = linear(train, test, 6, LinearPreset("test", (rate,), **options)).metrics
        for name in ("last/top1", "last/top5", "best/top1", "best/top5", "best/epoch"):
            assert sweep[f"lr_{rate:g}/{name}"] == pytest.approx(alone[name], abs=1e-6)
    assert len({sweep[f"lr_{rate:g}/last/top1"] for rate in rates}) == 3
    assert sweep["last/top1"] == max(sweep[f"lr_{rate:g}/last/top1"] for rate in rates)


def test_top5_counts_the_five_best():
    train, test = blobs(200, classes=12, noise=2.0), blobs(400, classes=12, noise=2.0, seed=1)
    preset = LinearPreset("test", (0.1,), epochs=3)
    metrics = linear(train, test, 12, preset).metrics
    kernel, bias = reference(train, preset, 0, 12)
    best = np.argsort(-(test.features @ kernel + bias), -1)[:, :5]
    assert metrics["last/top5"] == pytest.approx(np.mean((best == test.labels[:, None]).any(-1)), abs=1e-6)
    assert metrics["last/top1"] < metrics["last/top5"] < 1.0


def test_it_repeats_with_its_seed_and_differs_with_another():
    train, test = blobs(100, noise=3.0), blobs(400, noise=3.0, seed=1)
    preset = linear_preset("bssl", epochs=3, batch_size=16)
    first, second = (linear(train, test, 6, preset, seed=5) for _ in range(2))
    assert first.metrics == second.metrics
    np.testing.assert_array_equal(first.predictions, second.predictions)
    assert linear(train, test, 6, preset, seed=6).metrics != first.metrics


def test_a_diverged_rate_is_zero_flagged_and_never_chosen():
    train, test = blobs(60), blobs(60, seed=1)
    metrics = linear(train, test, 6, LinearPreset("test", (0.1, 1e38), epochs=5, batch_size=16)).metrics
    assert metrics["lr_1e+38/diverged"] == 1.0
    assert metrics["lr_0.1/diverged"] == 0.0
    assert metrics["lr_1e+38/best/top1"] == metrics["lr_1e+38/last/top5"] == 0.0
    assert metrics["learning_rate"] == 0.1
    assert metrics["last/top1"] > 0.9
    assert all(np.isfinite(value) for value in metrics.values())
    with pytest.raises(ValueError, match="all diverged"):
        linear(train, test, 6, LinearPreset("test", (1e38,), epochs=5, batch_size=16))


def test_large_rates_on_large_features_stay_finite():
    train, test = blobs(200), blobs(100, seed=1)
    train, test = (Features(part.features * 100, part.labels, part.ids) for part in (train, test))
    metrics = linear(train, test, 6, linear_preset("moco", epochs=10)).metrics
    assert metrics["lr_30/diverged"] == 0.0
    assert metrics["last/top1"] > 0.9


@pytest.mark.parametrize("normalise", [False, True])
def test_the_classifier_is_that_of_the_chosen_rate(normalise):
    train, test = blobs(70, noise=2.0), blobs(300, noise=2.0, seed=1)
    # The best of these rates stands between two others.
    preset = LinearPreset("test", (1e-4, 0.5, 1e-3), batch_size=16, epochs=3, drops=(), normalise=normalise)
    result = linear(train, test, 6, preset)
    assert result.learning_rate == 0.5
    head = result.classifier()
    assert np.abs(head.get_weights()[1]).max() > 0.01
    inputs = test.features / np.linalg.norm(test.features, axis=1, keepdims=True) if normalise else test.features
    logits = head(inputs).numpy()
    np.testing.assert_array_equal(logits.argmax(axis=1), result.predictions)
    assert logits_accuracy(logits, test.labels) == pytest.approx(result.metrics["last/top1"])


def test_normalised_features_have_no_length():
    train, test = blobs(100, noise=1.0), blobs(200, noise=1.0, seed=1)
    scaled = Features(train.features * np.linspace(1, 9, 100, dtype=np.float32)[:, None], train.labels, train.ids)
    preset = linear_preset("bssl", epochs=3, normalise=True)
    assert linear(train, test, 6, preset).metrics == linear(scaled, test, 6, preset).metrics


@pytest.mark.parametrize(
    ("epochs", "chosen"),
    [
        # Top 1 of three rates in two epochs: the last epoch decides, then the best one, then the smaller rate.
        ([(0.9, 0.7, 0.2), (0.5, 0.6, 0.3)], 1.0),
        ([(0.9, 0.7, 0.2), (0.6, 0.6, 0.6)], 2.0),
        ([(0.7, 0.7, 0.7), (0.6, 0.6, 0.6)], 0.5),
    ],
)
def test_the_last_epoch_chooses_the_rate_then_the_best_one(epochs, chosen):
    accuracies = np.stack([np.array(epochs), np.full((2, 3), 0.95)], axis=-1)
    preset = LinearPreset("test", (2.0, 1.0, 0.5))
    metrics, number = linear_results._metrics(preset, accuracies, accuracies, np.zeros(3, bool))
    assert (preset.learning_rates[number], metrics["learning_rate"]) == (chosen, chosen)
    assert metrics["best/epoch"] == 1 + np.argmax(accuracies[:, number, 0])


def test_validation_decides_and_the_test_set_is_only_reported():
    # The labels of the test set are turned round: there, not to learn at all would win.
    train, test = blobs(300, classes=2), blobs(100, classes=2, seed=1)
    train, validation = holdout(train, 50)
    turned = Features(test.features, 1 - test.labels, test.ids)
    preset = LinearPreset("test", (1e-9, 1.0), epochs=3)
    chosen = linear(train, turned, 2, preset, validation=validation)
    assert chosen.learning_rate == 1.0
    assert chosen.metrics["last/top1"] == 0.0
    assert linear(train, turned, 2, preset).learning_rate == 1e-9


def test_accuracies_on_images_held_out_are_those_of_a_test_set_of_them():
    train, test = blobs(200, noise=1.5), blobs(100, noise=1.5, seed=1)
    train, validation = holdout(train, 10)
    preset = LinearPreset("test", (0.01, 1.0), epochs=6)
    told = linear(train, test, 6, preset, validation=validation).metrics
    alone = linear(train, validation, 6, preset, validation=validation).metrics
    names = [f"{epoch}/top{top}" for epoch in ("last", "best") for top in (1, 5)]
    assert {name: told[f"validation/{name}"] for name in names} == {name: alone[name] for name in names}
    assert told["last/top1"] != told["validation/last/top1"]
    assert not any(name.startswith("validation/") for name in linear(train, test, 6, preset).metrics)


def test_mistakes_are_named():
    train = blobs(20)
    with pytest.raises(ValueError, match="`preset` must be one of.*'bsll'"):
        linear(train, train, 6, "bsll")
    with pytest.raises(ValueError, match="no field 'epoch'"):
        linear_preset("bssl", epoch=3)
    with pytest.raises(ValueError, match="`learning_rates`"):
        linear_preset("bssl", learning_rates=(0.1, -1.0))
    with pytest.raises(ValueError, match="`train` must have a label in 0..3"):
        linear(train, train, 4)
    with pytest.raises(ValueError, match="`test` must have features of size 10.*got 4"):
        linear(train, Features(train.features[:, :4], train.labels, train.ids), 6)

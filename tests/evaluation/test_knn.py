import numpy as np
import pytest

from larq_ssl.evaluation import neighbours
from larq_ssl.evaluation.features import Features
from larq_ssl.evaluation.knn import PRESETS, class_scores, knn, knn_leave_one_out, knn_preset
from tests import golden


def make(features, labels):
    features = np.asarray(features, np.float32)
    return Features(features, np.asarray(labels, np.int64), np.arange(len(features), dtype=np.int64))


def random_sets(train=120, test=50, dim=8, classes=7, seed=0):
    rng = np.random.default_rng(seed)
    return [make(rng.normal(size=(n, dim)), rng.integers(0, classes, n)) for n in (train, test)]


@pytest.fixture
def official():
    return golden.load("q8_probes")


def official_sets(arrays):
    return [make(arrays[f"knn_{n}_features"], arrays[f"knn_{n}_labels"]) for n in ("train", "test")]


@pytest.mark.parametrize(("queries", "numbers"), [(neighbours._QUERIES, neighbours._NUMBERS), (50, 5000)])
def test_the_official_classifier(official, monkeypatch, queries, numbers):
    monkeypatch.setattr(neighbours, "_QUERIES", queries)
    monkeypatch.setattr(neighbours, "_NUMBERS", numbers)
    train, test = official_sets(official)
    classes, ks = int(official["knn_num_classes"]), [int(k) for k in official["knn_k"]]
    temperature = float(official["knn_temperature"])
    scores = class_scores(train, test, classes, ks, temperature)
    np.testing.assert_allclose(scores, official["knn_class_scores_float64"], rtol=1e-4)
    np.testing.assert_array_equal(scores.argmax(-1), official["knn_predictions_official"])
    metrics = knn(train, test, classes, ks, temperature)
    for k, of_k, (top1, top5) in zip(ks, scores, official["knn_top1_top5_percent"], strict=True):
        assert 100 * metrics[f"{k}/top1"] == pytest.approx(float(top1))
        # The official top 5 counts only k classes for a k below 5, and counts classes without a vote.
        order = np.argsort(-of_k, axis=-1, kind="stable")[:, : min(5, k)]
        hits = (order == test.labels[:, None]) & (np.take_along_axis(of_k, order, -1) > 0)
        assert 100 * metrics[f"{k}/top5"] == pytest.approx(100 * hits.any(-1).mean())
        assert 100 * metrics[f"{k}/top5"] <= float(top5) + 1e-3


def test_scores_equal_a_loop():
    train, test = random_sets()
    scores = class_scores(train, test, 7, (1, 4, 120), temperature=0.5)
    bank = train.features / np.linalg.norm(train.features, axis=1, keepdims=True)
    for row, query in enumerate(test.features / np.linalg.norm(test.features, axis=1, keepdims=True)):
        similarity = bank @ query
        order = np.argsort(-similarity)
        for i, k in enumerate((1, 4, 120)):
            expected = np.zeros(7)
            for j in order[:k]:
                expected[train.labels[j]] += np.exp(similarity[j] / 0.5)
            np.testing.assert_allclose(scores[i, row], expected, rtol=1e-5)


def test_length_and_rotation_of_the_features_do_not_matter():
    train, test = random_sets()
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(8, 8)))[0]
    scales = np.random.default_rng(2).uniform(0.1, 10, (120, 1))
    turned = [make(part.features @ rotation, part.labels) for part in (train, test)]
    turned[0] = make(turned[0].features * scales, train.labels)
    assert knn(train, test, 7, ks=(5, 20)) == knn(*turned, 7, ks=(5, 20))


def test_top5_is_honest():
    train = make([[1, 0], [0.9, 0.1], [0, 1]], [6, 6, 3])
    test = make([[1, 0.01], [1, 0.01], [1, 0.01]], [6, 3, 0])
    assert knn(train, test, 7, ks=(1,)) == {"1/top1": pytest.approx(1 / 3), "1/top5": pytest.approx(1 / 3)}
    # Class 0 never gets a vote: it is no top-5 hit, though only two classes of seven got any.
    assert knn(train, test, 7, ks=(3,)) == {"3/top1": pytest.approx(1 / 3), "3/top5": pytest.approx(2 / 3)}


def test_fewer_classes_than_five_and_zero_features():
    train = make([[1, 0], [0, 1], [0, 0]], [0, 1, 1])
    metrics = knn(train, make([[2, 0], [0, 0]], [0, 1]), 2, ks=(3,))
    assert metrics == {"3/top1": 1.0, "3/top5": 1.0}


def test_default_ks_are_those_that_fit():
    assert list(knn(*random_sets(train=25), 7)) == ["10/top1", "10/top5", "20/top1", "20/top5"]
    assert list(knn(*random_sets(train=6), 7)) == ["6/top1", "6/top5"]
    assert len(knn(*random_sets(train=200), 7)) == 8


def test_presets_are_the_published_ones():
    assert {name: preset.ks for name, preset in PRESETS.items()} == {
        "dino": (10, 20, 100, 200),
        "msbreg": (20, 200),
        "sslight_monitor": (20,),
    }
    assert {preset.temperature for preset in PRESETS.values()} == {0.07}
    assert [name for name, preset in PRESETS.items() if preset.leave_one_out] == ["sslight_monitor"]
    assert knn_preset("msbreg", temperature=0.5).temperature == 0.5
    with pytest.raises(ValueError, match="`preset` must be one of.*'instdisc'"):
        knn_preset("instdisc")


def test_the_monitor_leaves_each_image_out_and_takes_no_other_set():
    images, _ = random_sets(train=40)
    found = knn_leave_one_out(images, 7, ks=(3, 12), temperature=0.3)
    unit = images.features / np.linalg.norm(images.features, axis=1, keepdims=True)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    for k in (3, 12):
        order = np.argsort(-similarity, axis=1)[:, :k]
        weights = np.exp(np.take_along_axis(similarity, order, 1) / 0.3)
        votes = np.stack([np.where(images.labels[order] == c, weights, 0).sum(1) for c in range(7)], axis=1)
        assert found[f"{k}/top1"] == pytest.approx(np.mean(votes.argmax(1) == images.labels))
    # Looked up among all of them, an image finds itself first.
    assert knn(images, images, 7, ks=(1,))["1/top1"] == 1.0 > knn_leave_one_out(images, 7, ks=(1,))["1/top1"]
    assert list(knn_leave_one_out(images, 7)) == ["20/top1", "20/top5"]
    assert list(knn_leave_one_out(images.select(np.arange(9)), 7)) == ["8/top1", "8/top5"]
    with pytest.raises(ValueError, match="40 neighbours.*39 images"):
        knn_leave_one_out(images, 7, ks=(40,))


def test_mistakes_are_named():
    train, test = random_sets(train=25)
    with pytest.raises(ValueError, match="200 neighbours.*25 images"):
        knn(train, test, 7, ks=(10, 200))
    with pytest.raises(ValueError, match="`ks`"):
        knn(train, test, 7, ks=(0,))
    with pytest.raises(ValueError, match="`temperature`"):
        knn(train, test, 7, temperature=0.0)
    with pytest.raises(ValueError, match="`test` must have a label in 0..6.*-1"):
        knn(train, make(test.features, np.full(50, -1)), 7)
    with pytest.raises(ValueError, match="equal size, got 8 and 3"):
        knn(train, make(test.features[:, :3], test.labels), 7)

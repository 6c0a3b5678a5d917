import itertools

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from larq_ssl.evaluation import retrieval as module
from larq_ssl.evaluation.features import Features
from larq_ssl.evaluation.retrieval import PRESETS, RetrievalPreset, average_precision, expected_recall, retrieval

AT = (1, 2, 4, 8)


def make(features, labels):
    features = np.asarray(features, np.float32)
    return Features(features, np.asarray(labels, np.int64), np.arange(len(features), dtype=np.int64))


def random_set(count, classes=5, dim=6, seed=0):
    rng = np.random.default_rng(seed)
    return make(rng.normal(size=(count, dim)), rng.integers(0, classes, count))


def on_the_circle(degrees, labels):
    angles = np.radians(degrees)
    return make(np.stack([np.cos(angles), np.sin(angles)], axis=1), labels)


def by_hand(queries, gallery, ks):
    """Recall and average precision of each query, image by image; only for features without equal similarities."""
    images = queries if gallery is None else gallery
    bank, rows = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (images.features, queries.features))
    recalls, precisions = [], []
    for number, (row, label) in enumerate(zip(rows, queries.labels, strict=True)):
        order = [j for j in np.argsort(-(bank @ row)) if gallery is not None or j != number]
        hits = [images.labels[j] == label for j in order]
        if not any(hits):
            continue
        recalls.append([any(hits[:k]) for k in ks])
        at_hits = [sum(hits[: place + 1]) / (place + 1) for place, hit in enumerate(hits) if hit]
        precisions.append(sum(at_hits) / sum(hits))
    return np.mean(recalls, axis=0), np.mean(precisions)


@pytest.mark.parametrize("chunk", [module._CHUNK, 200])
@pytest.mark.parametrize("with_gallery", [False, True])
def test_it_equals_a_loop(monkeypatch, chunk, with_gallery):
    monkeypatch.setattr(module, "_CHUNK", chunk)
    queries, gallery = random_set(60), random_set(90, seed=1) if with_gallery else None
    found = retrieval(queries, gallery, 5)
    recall, precision = by_hand(queries, gallery, AT)
    assert [found[f"recall_at_{k}"] for k in AT] == pytest.approx(list(recall))
    assert found["map"] == pytest.approx(precision)
    assert (found["queries"], found["without_match"]) == (60, 0)


def test_an_example_made_by_hand():
    # From 0 degrees: class 1 at 10, own class at 20, own class at 60. Precision 1/2 and 2/3.
    images = on_the_circle([0, 10, 20, 60], [0, 1, 0, 0])
    query = on_the_circle([0], [0])
    found = retrieval(query, on_the_circle([10, 20, 60], [1, 0, 0]), 2, RetrievalPreset("own", (1, 2)))
    assert (found["recall_at_1"], found["recall_at_2"]) == (0.0, 1.0)
    assert found["map"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    # Among each other: the one of class 1 has none of its class; the others find 20, 0 and 20 first or second.
    among = retrieval(images, None, 2)
    assert (among["queries"], among["without_match"]) == (3, 1)
    # Of 0: 10 comes first. Of 20: 10 comes first. Of 60: 20 comes first.
    assert among["recall_at_1"] == pytest.approx(1 / 3)
    assert among["recall_at_2"] == 1.0


def test_a_query_never_finds_itself():
    # Two copies of each image: with itself a query would find its own class at once.
    images = on_the_circle([0, 5, 100, 105], [0, 1, 0, 1])
    assert retrieval(images, None, 2)["recall_at_1"] == 0.0
    assert retrieval(images, images, 2)["recall_at_1"] == 1.0


def test_recall_at_ties_is_the_mean_over_all_orders():
    similarity = np.array([[0.9, 0.5, 0.5, 0.5, 0.1]])
    for relevant in itertools.product([False, True], repeat=5):
        if not any(relevant):
            continue
        mask = np.array([relevant])
        for k in range(1, 6):
            hits = []
            for tied in itertools.permutations(range(1, 4)):
                order = [0, *tied, 4]
                hits.append(any(relevant[j] for j in order[:k]))
            assert expected_recall(similarity, mask, k)[0] == pytest.approx(np.mean(hits)), (relevant, k)


def test_average_precision_is_that_of_scikit_learn_also_with_ties():
    rng = np.random.default_rng(0)
    similarity = np.round(rng.normal(size=(40, 30)), 1)
    relevant = rng.random((40, 30)) < 0.3
    relevant[:, 0] = True
    expected = [average_precision_score(*pair) for pair in zip(relevant, similarity, strict=True)]
    np.testing.assert_allclose(average_precision(similarity, relevant), expected)


@pytest.mark.parametrize("order", [np.arange(40), np.random.default_rng(0).permutation(40)])
def test_a_collapsed_encoder_gets_chance_however_images_are_sorted(order):
    labels = np.repeat([0, 1, 2, 3], 10)[order]
    found = retrieval(make(np.ones((40, 3)), labels), None, 4)
    assert found["recall_at_1"] == pytest.approx(9 / 39)
    # Behind the last of all that are equal; the query itself lies beyond them.
    assert found["map"] == pytest.approx(9 / 39)
    # Of one direction and any length: the roundings of their cosines are no order.
    rng = np.random.default_rng(0)
    assert retrieval(make(rng.uniform(1, 9, (40, 1)) * rng.normal(size=50), labels), None, 4) == pytest.approx(found)


def test_neither_length_nor_rotation_nor_chunks_matter(monkeypatch):
    queries = random_set(50)
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0]
    scales = np.random.default_rng(2).uniform(0.1, 10, (50, 1))
    turned = make(queries.features @ rotation * scales, queries.labels)
    found = retrieval(queries, None, 5)
    assert retrieval(turned, None, 5) == pytest.approx(found)
    monkeypatch.setattr(module, "_CHUNK", 130)
    assert retrieval(queries, None, 5) == found


def test_progress_counts_queries(monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 400)
    seen = []
    retrieval(random_set(20), None, 5, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(20, 20)]
    seen.clear()
    retrieval(random_set(50), None, 5, progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == [*range(8, 49, 8), 50]


def test_mistakes_are_named():
    queries = random_set(20)
    with pytest.raises(ValueError, match="No query of `queries` has another image of its class"):
        retrieval(make(np.eye(3), [0, 1, 2]), None, 3)
    with pytest.raises(ValueError, match="`gallery` must have a label in 0..4.*-1"):
        retrieval(queries, make(queries.features, np.full(20, -1)), 5)
    with pytest.raises(ValueError, match="equal size, got 6 and 2"):
        retrieval(queries, make(queries.features[:, :2], queries.labels), 5)
    with pytest.raises(ValueError, match="`preset` must be one of.*got 'other'"):
        retrieval(queries, None, 5, preset="other")
    with pytest.raises(ValueError, match="`ks` must be different numbers of at least 1"):
        RetrievalPreset("x", (0, 1))
    assert PRESETS["metric_learning"].ks == AT

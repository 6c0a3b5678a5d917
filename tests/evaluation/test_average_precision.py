import numpy as np
import pytest

from larq_ssl.evaluation.average_precision import average_precision, average_precisions
from tests import golden


@pytest.fixture(scope="module")
def official():
    return golden.load("q8_probes")


def test_the_official_numbers(official):
    precisions = average_precisions(official["ap_labels"], official["ap_scores"])
    np.testing.assert_allclose(precisions, official["ap_per_class"], rtol=0, atol=1e-9)
    assert precisions.mean() == pytest.approx(float(official["ap_mean"]), abs=1e-9)


def test_ties_are_the_worst_of_the_official_orders(official):
    precisions = average_precisions(official["ap_labels"], official["ap_ties_scores"])
    assert (precisions >= official["ap_ties_min"] - 1e-9).all()
    assert (precisions <= official["ap_ties_max"] + 1e-9).all()
    order = np.random.default_rng(0).permutation(len(official["ap_labels"]))
    shuffled = average_precisions(official["ap_labels"][order], official["ap_ties_scores"][order])
    np.testing.assert_allclose(shuffled, precisions, rtol=0, atol=1e-12)


def test_the_example_of_the_spec(official):
    presence, scores = np.array([1, 0, 1, 0, 0, 1]), np.array([0.9, 0.8, 0.7, 0.4, 0.3, 0.1])
    assert average_precision(presence, scores) == pytest.approx(float(official["ap_spec_example"]), abs=1e-12)
    # Precision is 1 up to a recall of 1/3, 2/3 up to 2/3, then 1/2: at 4, 3 and 4 of the eleven points.
    assert average_precision(presence, scores, "eleven_points") == pytest.approx((4 + 3 * 2 / 3 + 4 / 2) / 11)


def by_definition(presence, scores, method):
    """By a threshold at each score, without sorting anything."""
    points = []
    for threshold in scores[presence >= 0]:
        above = scores >= threshold
        hits = np.sum(above & (presence == 1))
        points.append((hits / np.sum(presence == 1), hits / np.sum(above & (presence >= 0))))
    best = {r: max(p for other, p in points if other >= r) for r, _ in points}
    if method == "eleven_points":
        return np.mean([max((p for r, p in points if r >= i / 10 - 1e-9), default=0.0) for i in range(11)])
    recalls = sorted(best)
    return sum((r - before) * best[r] for before, r in zip([0.0, *recalls], recalls, strict=False))


@pytest.mark.parametrize("method", ["area", "eleven_points"])
@pytest.mark.parametrize("seed", range(4))
def test_by_definition_with_ties_and_difficult_images(method, seed):
    rng = np.random.default_rng(seed)
    presence = rng.choice([1, 0, -1], 60, p=[0.3, 0.5, 0.2])
    scores = rng.integers(0, 12, 60) / 4
    assert average_precision(presence, scores, method) == pytest.approx(by_definition(presence, scores, method))


@pytest.mark.parametrize("method", ["area", "eleven_points"])
def test_properties(method):
    rng = np.random.default_rng(0)
    presence, scores = rng.choice([1, 0, -1], 80), rng.normal(size=80)
    value = average_precision(presence, scores, method)
    assert 0.0 < value < 1.0
    for monotone in (lambda x: 3 * x - 7, np.exp, np.arctan):
        assert average_precision(presence, monotone(scores), method) == pytest.approx(value, abs=1e-12)
    # Difficult images might as well not be there.
    there = presence >= 0
    assert average_precision(presence[there], scores[there], method) == pytest.approx(value, abs=1e-12)
    moved = np.where(there, scores, rng.normal(size=80) * 10)
    assert average_precision(presence, moved, method) == pytest.approx(value, abs=1e-12)
    assert average_precision(presence, np.where(presence == 1, 1.0, scores - 9.0), method) == pytest.approx(1.0)
    # Without any knowledge it is the share of positives.
    share = np.mean(presence[there] == 1)
    assert average_precision(presence, np.zeros(80), method) == pytest.approx(share)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="4 images without it"):
        average_precision(np.array([0, -1, 0, 0]), np.arange(4.0))
    with pytest.raises(ValueError, match=r"one per image, got shapes \(4,\), \(3,\)"):
        average_precision(np.ones(4, int), np.arange(3.0))
    with pytest.raises(ValueError, match="`method` must be one of"):
        average_precision(np.ones(4, int), np.arange(4.0), "auc")

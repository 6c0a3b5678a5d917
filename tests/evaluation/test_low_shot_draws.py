import numpy as np
import pytest

from larq_ssl.evaluation.low_shot_draws import check_low_shot, draw, drawn_ids, fitting_ks
from tests import golden


def test_counts_of_a_draw_are_those_of_voc():
    official = golden.load("q8_probes")
    for k, positives, negatives, total in official["low_voc_counts_k_pos_neg_total"].tolist():
        presence = np.zeros((2200, 20), np.int8)
        for number in range(20):
            presence[number * 100 : number * 100 + 100, number] = 1
            presence[number * 100 + 150 : number * 100 + 160, number] = -1
        drawn = draw(presence, k, seed=0, sample=0)
        for number in range(20):
            rows, wanted = drawn.of_class(number)
            assert (np.sum(wanted == 1), np.sum(wanted == -1), len(rows)) == (positives, negatives, total)
            assert len(np.unique(rows)) == total
            assert (np.diff(rows) > 0).all()
            np.testing.assert_array_equal(presence[rows, number], (wanted + 1) // 2)


def test_draws_are_seeded_and_independent():
    presence = np.random.default_rng(0).choice([1, 0, -1], (200, 3), p=[0.4, 0.5, 0.1])
    first = draw(presence, 8, seed=1, sample=2)
    again = draw(presence, 8, seed=1, sample=2)
    np.testing.assert_array_equal(first.positives, again.positives)
    np.testing.assert_array_equal(first.negatives, again.negatives)
    for other in (draw(presence, 8, 0, 2), draw(presence, 8, 1, 3)):
        assert not np.array_equal(first.positives, other.positives)
        assert not np.array_equal(first.negatives, other.negatives)
    ids = np.arange(len(presence)) * 10
    recorded = drawn_ids(presence, ids, (2, 8), 3, seed=1)
    assert len(recorded) == 12
    np.testing.assert_array_equal(recorded["k8/sample2/positives"], first.positives * 10)
    np.testing.assert_array_equal(recorded["k8/sample2/negatives"], first.negatives * 10)


def test_where_there_are_few_images_without_a_class_all_are_taken():
    presence = np.ones((30, 3), np.int8)
    presence[[3, 4, 5], 0] = 0
    presence[6, 0] = -1
    presence[10:, 1] = 0
    presence[:20, 2] = 0
    notes = check_low_shot(presence, ("a", "b", "c"), (1, 2, 4))
    assert len(notes) == 1
    assert "Without the class 'a' there are only 3 images: from k = 2 on" in notes[0]
    drawn = draw(presence, 4, 0, 0)
    rows, wanted = drawn.of_class(0)
    assert sorted(rows[wanted == -1]) == [3, 4, 5]
    assert len(rows) == 7
    assert drawn_ids(presence, np.arange(30), (4,), 1, 0)["k4/sample0/negatives"][0].tolist().count(-1) == 5
    assert fitting_ks(presence) == (1, 2, 4, 8)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="`names` must be at least 2 classes"):
        check_low_shot(np.ones((9, 1), np.int8), ("a",), (1,))
    with pytest.raises(ValueError, match="'a' is in all training images"):
        check_low_shot(np.ones((9, 2), np.int8), ("a", "b"), (1,))

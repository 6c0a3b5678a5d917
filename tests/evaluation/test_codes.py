"""Binary codes: packed signs, exact search among them, and what votes and rankings make of it."""

import numpy as np
import pytest

from larq_ssl.evaluation import codes as codes_module
from larq_ssl.evaluation.codes import (
    CENTRES,
    HammingSearch,
    code_centre,
    coded,
    codes,
    hamming_distances,
    nearest_codes,
)
from larq_ssl.evaluation.features import Features
from larq_ssl.evaluation.knn import knn
from larq_ssl.evaluation.retrieval import retrieval


def _features(count, dim, seed, classes=3):
    rng = np.random.default_rng(seed)
    rows = rng.normal(0.3, 1.0, (count, dim)).astype(np.float32)
    return Features(rows, rng.integers(0, classes, count), np.arange(count))


def _slow_search(bank, queries, k):
    """Bit by bit; of equal distances the first row comes first."""
    distances = (np.unpackbits(queries, axis=1)[:, None] != np.unpackbits(bank, axis=1)[None]).sum(axis=2)
    rows = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, rows, axis=1), rows


@pytest.fixture
def small_blocks(monkeypatch):
    """Searches in several chunks and blocks, the last of each smaller."""
    monkeypatch.setattr(codes_module, "_QUERIES", 4)
    monkeypatch.setattr(codes_module, "_WORDS", 4 * 7)


def test_packed_bits_are_the_signs_of_centred_features():
    features = np.array([[1.0, -1, 0.5, 2, 0, 0, 0, 3, 9], [-1.0, 1, 0.5, 0, 9, 9, 9, 9, -9]], np.float32)
    centre = np.array([0, 0, 0.5, 1, 1, 1, 1, 1, 0], np.float32)
    expected = [[0b10010001, 0b10000000], [0b01001111, 0]]  # what equals the centre is 0
    assert codes(features, centre).tolist() == expected


@pytest.mark.parametrize("kind", CENTRES)
def test_centres(kind):
    rows = np.random.default_rng(0).exponential(size=(101, 5)).astype(np.float32) + np.arange(5, dtype=np.float32)
    centre = code_centre(rows, kind)
    assert centre.dtype == np.float32
    bits = np.unpackbits(codes(rows, centre), axis=1)[:, :5].mean(axis=0)
    if kind == "zero":
        assert not centre.any()
        assert (bits == 1).all()
    else:
        np.testing.assert_allclose(centre, getattr(np, kind)(rows, axis=0), rtol=1e-6)
    if kind == "median":
        np.testing.assert_allclose(bits, 50 / 101)


@pytest.mark.parametrize("dim", [1, 8, 70, 128])
@pytest.mark.parametrize("k", [1, 5, 23])
def test_search_is_exact_and_ties_come_in_their_order(dim, k, small_blocks):
    bank, queries = (codes(_features(count, dim, count).features, np.zeros(dim)) for count in (23, 10))
    distances, rows = _slow_search(bank, queries, k)
    found = list(nearest_codes(bank, queries, k))
    assert [part.stop for part, _, _ in found] == [4, 8, 10]
    np.testing.assert_array_equal(np.concatenate([part for _, part, _ in found]), distances)
    np.testing.assert_array_equal(np.concatenate([part for _, _, part in found]), rows)
    every = _slow_search(bank, queries, 23)
    np.testing.assert_array_equal(np.take_along_axis(hamming_distances(queries, bank), every[1], axis=1), every[0])


def test_there_are_ties():
    """Without them, the test above would say nothing about their order."""
    bank = codes(_features(23, 8, 23).features, np.zeros(8))
    (_, distances, rows), *_ = nearest_codes(bank, bank[:4], 23)
    equal = distances[:, 1:] == distances[:, :-1]
    assert equal.sum() > 40
    assert (np.diff(rows, axis=1)[equal] > 0).all()


def test_votes_and_rankings_are_those_of_vectors_of_signs(small_blocks):
    """The cosine of vectors of -1 and +1 is what Hamming distance says; of 16 numbers it is exact, ties included."""
    train, test = _features(40, 16, 0), _features(15, 16, 1)
    centre = code_centre(train.features)
    bank, queries = coded(train, centre), coded(test, centre)
    signs = [
        Features(np.where(part.features > centre, 1, -1).astype(np.float32), part.labels, part.ids)
        for part in (train, test)
    ]
    search = HammingSearch(16)
    assert bank.features.shape == (40, 2)
    assert knn(bank, queries, 3, (1, 7), search=search.nearest) == pytest.approx(knn(*signs, 3, (1, 7)))
    measured = retrieval(queries, bank, 3, similarities=search.similarities)
    assert measured == pytest.approx(retrieval(signs[1], signs[0], 3))
    alone = retrieval(queries, None, 3, similarities=search.similarities)
    assert alone == pytest.approx(retrieval(signs[1], None, 3))
    assert alone != pytest.approx(measured)


@pytest.mark.parametrize("dim", [5, 13, 70])
def test_bits_that_fill_up_a_byte_do_not_count(dim):
    """The similarity to the opposite code is -1, and that to one of which a bit differs 1 - 2 / D."""
    row = np.where(np.random.default_rng(0).random(dim) < 0.5, -1.0, 1.0)
    near = row * np.where(np.arange(dim) == 3, -1, 1)
    bank, search = codes(np.stack([row, near, -row]), np.zeros(dim)), HammingSearch(dim)
    expected = np.array([[1, 1 - 2 / dim, -1]], np.float32)
    np.testing.assert_allclose(search.similarities(bank[:1], bank), expected, rtol=1e-6)
    ((_, found, rows),) = search.nearest(bank, bank[:1], 3)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert rows.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_order_of_arrays_in_memory_does_not_matter(order):
    features = _features(23, 128, 0).features
    expected = codes(features, np.zeros(128))
    found = codes(np.asarray(features, order=order), np.zeros(128))
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, expected)
    given = np.asarray(expected, order=order)
    np.testing.assert_array_equal(hamming_distances(given, given), hamming_distances(expected, expected))
    every_second = np.repeat(expected, 2, axis=1)[:, ::2]
    np.testing.assert_array_equal(hamming_distances(every_second, given), hamming_distances(expected, expected))


def test_images_of_a_class_are_found_by_their_codes():
    rng = np.random.default_rng(0)
    means = rng.normal(size=(5, 64))
    labels = np.tile(np.arange(5), 30)
    rows = (means[labels] + 0.3 * rng.normal(size=(150, 64))).astype(np.float32)
    train, test = (Features(rows[part], labels[part], np.arange(75)) for part in (slice(75), slice(75, None)))
    centre = code_centre(train.features)
    found = knn(coded(train, centre), coded(test, centre), 5, (5,), search=HammingSearch(64).nearest)
    assert found["5/top1"] == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: code_centre(np.ones((2, 3)), "mode"), "`kind` must be one of mean, median, zero, got 'mode'"),
        (lambda: code_centre(np.ones((0, 3))), r"`features` must be \[images, dim\] of at least one image, got"),
        (
            lambda: codes(np.ones((2, 3)), np.ones(4)),
            r"`centre` must have a number for each feature .* \(4,\) and \(2, 3\)",
        ),
        (
            lambda: hamming_distances(np.ones((2, 3), np.uint8), np.ones((2, 4), np.uint8)),
            r"codes, uint8 \[images, bytes\] of one length, got uint8 \[2, 3\] and uint8 \[2, 4\]",
        ),
        (lambda: hamming_distances(np.ones((2, 3)), np.ones((2, 3))), r"got float64 \[2, 3\]"),
        (
            lambda: next(nearest_codes(np.ones((2, 3), np.uint8), np.ones((2, 3), np.uint8), 3)),
            "`k` must be at least 1 and at most the number of codes in `bank`, 2, got 3",
        ),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()

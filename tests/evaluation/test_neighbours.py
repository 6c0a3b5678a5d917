"""The search for neighbours is exact in blocks of any size, and its memory is what the formula says."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.evaluation import neighbours
from larq_ssl.evaluation.neighbours import chunk_sizes, nearest, working_bytes

GIB = 2**30


def rows(count, dim=6, seed=0):
    return np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize(("queries", "numbers"), [(512, 2**23), (7, 7 * 11), (1, 6), (13, 13 * 50)])
def test_blocks_of_any_size_find_the_same(monkeypatch, queries, numbers):
    monkeypatch.setattr(neighbours, "_QUERIES", queries)
    monkeypatch.setattr(neighbours, "_NUMBERS", numbers)
    bank, asked = rows(60) * np.linspace(0.1, 9, 60, dtype=np.float32)[:, None], rows(20, seed=1)
    similarity = unit(asked.astype(np.float64)) @ unit(bank.astype(np.float64)).T
    expected = np.argsort(-similarity, axis=1)[:, :17]
    covered = []
    for part, values, found in nearest(bank, asked, 17):
        np.testing.assert_array_equal(found, expected[part])
        np.testing.assert_allclose(values, np.take_along_axis(similarity, expected, 1)[part], atol=1e-6)
        covered += range(20)[part]
    assert covered == list(range(20))


@pytest.mark.parametrize("numbers", [2**23, 6 * 5])
def test_of_equal_ones_the_first_are_found(monkeypatch, numbers):
    monkeypatch.setattr(neighbours, "_NUMBERS", numbers)
    bank = np.tile(rows(1), (23, 1))
    ((_, values, found),) = nearest(bank, bank[:1], 9)
    np.testing.assert_array_equal(found, [range(9)])
    np.testing.assert_allclose(values, 1, rtol=1e-6)


def test_similarities_are_products_of_whole_float32(monkeypatch):
    seen, original = [], neighbours._closer

    def closer(*arguments):
        seen.append(tf.config.experimental.tensor_float_32_execution_enabled())
        return original(*arguments)

    monkeypatch.setattr(neighbours, "_closer", closer)
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    list(nearest(rows(20), rows(3), 5))
    assert seen == [False]
    assert tf.config.experimental.tensor_float_32_execution_enabled() == before


@pytest.mark.parametrize("dim", [128, 512, 1024])
def test_a_million_images_fit_into_four_gibibytes(dim):
    images, queries, classes = 10**6, 50_000, 1000
    features = 4 * images * dim
    assert features + working_bytes(images, queries, dim, k=200, classes=classes) < 4 * GIB
    # And the formula counts what the blocks are.
    at_once, block = chunk_sizes(images, queries, dim)
    similarities, part = 4 * at_once * block, 4 * block * dim
    assert working_bytes(images, queries, dim, 200) > similarities + part
    assert similarities <= 2**25
    assert part <= 2**25


def test_memory_does_not_grow_with_the_queries_and_hardly_with_the_bank():
    small, large = (working_bytes(images, 10**6, 512, 200, 1000) for images in (10**6, 2 * 10**6))
    assert large - small == 4 * 10**6  # one length per image
    assert working_bytes(10**6, 10**7, 512, 200) == working_bytes(10**6, 10**4, 512, 200)


@pytest.mark.slow
def test_memory_as_measured_is_within_the_formula():
    code = """
import resource
import numpy as np
from larq_ssl.evaluation.features import Features
from larq_ssl.evaluation.knn import knn
from larq_ssl.evaluation.neighbours import working_bytes

def features(images, dim=512):
    rng = np.random.default_rng(images)
    return Features(rng.standard_normal((images, dim), np.float32), rng.integers(0, 10, images), np.arange(images))

bank, queries = features(200_000), features(1_500)
knn(features(300), features(300), 10)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
knn(bank, queries, 10)
print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before), working_bytes(200_000, 1_500, 512, 200, 10))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    taken, allowed = map(int, done.stdout.split())
    # A copy of the bank would take 390 MiB more.
    assert 2**20 < taken < allowed + 2**25

"""Stateless draws: MurmurHash3 itself, the same in NumPy and TensorFlow, and fit for statistics."""

import struct

import numpy as np
import pytest
import tensorflow as tf
from sklearn.utils import murmurhash3_32

from larq_ssl.data import rng
from larq_ssl.data.rng import Op

CASES = [
    (0, 0, 0, 0, 0, 0),
    (1, 2, 3, 4, 5, 6),
    (2**63 - 1, 2**32 - 1, 2**63 - 1, 7, 8, 2**32 - 1),
    (-1, 100, 1_281_166, 1, 3, 5),
    (2**40 + 5, 3, 2**40 + 9, 0, 1, 21),
]


@pytest.mark.parametrize("case", CASES)
def test_bits_are_murmurhash3(case):
    seed, epoch, example, *rest = case
    words = [seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF, epoch, example & 0xFFFFFFFF, example >> 32, *rest]
    expected = murmurhash3_32(struct.pack("<8I", *words), positive=True)
    assert rng.bits(*case) == expected
    arrays = [np.array([x]) for x in case[1:]]
    assert rng.bits(seed, *arrays)[0] == expected
    tensors = [tf.constant([x], tf.int64) for x in case[1:]]
    assert rng.bits(seed, *tensors)[0] == expected
    (mapped,) = tf.data.Dataset.from_tensors(tuple(tensors)).map(lambda *t: rng.bits(seed, *t))
    assert mapped[0] == expected


def test_op_numbers_never_change():
    assert {op.name: op.value for op in Op} == {
        "ORDER": 0,
        "CROP": 1,
        "FLIP": 2,
        "JITTER": 3,
        "GREY": 4,
        "BLUR": 5,
        "SOLARISE": 6,
        "REPLACEMENT": 7,
        "SUBSET": 8,
        "RAND_AUGMENT": 9,
        "JIGSAW": 10,
        "BROWNIAN": 64,
    }


def test_numpy_and_tensorflow_draw_the_same():
    ids, epochs = np.arange(50), np.arange(50) // 20
    columns = [(op, draw) for op in Op for draw in range(4)]
    expected = rng.view_uniforms(17, epochs, ids, (0, 1, 5), columns)
    drawn = rng.view_uniforms(17, tf.constant(epochs), tf.constant(ids), (0, 1, 5), columns)
    np.testing.assert_array_equal(drawn, expected)
    assert expected.shape == (50, 3, len(columns))
    np.testing.assert_array_equal(expected * 2**24 % 1, 0)
    np.testing.assert_array_equal(rng.uniform(17, 1, ids[30:31], 5, int(Op.BLUR), 2), expected[30, 2, [22]])


def test_draws_are_uniform_and_independent():
    columns = [(Op.CROP, 0), (Op.CROP, 1), (Op.FLIP, 0), (Op.JITTER, 0)]
    n = 20_000
    u = np.stack(
        [rng.view_uniforms(s, np.full(n, e), np.arange(n), (0, 1), columns) for s in (0, 1) for e in (0, 1)], axis=1
    ).reshape(n, -1)
    assert u.min() >= 0.0
    assert u.max() < 1.0
    # Chi-square with 63 degrees of freedom: mean 63, standard deviation 11.2.
    counts = np.stack([np.bincount((column * 64).astype(int), minlength=64) for column in u.T])
    chi2 = ((counts - n / 64) ** 2 / (n / 64)).sum(1)
    assert chi2.max() < 63 + 6 * 11.2
    # Seed, epoch, view, op and draw: no column knows another, none knows its neighbour.
    correlations = np.corrcoef(np.concatenate([u[:-1], u[1:]], axis=1).T)
    assert np.abs(correlations - np.eye(len(correlations))).max() < 6 / np.sqrt(n)


@pytest.mark.parametrize("size", [2, 7, 1000])
def test_shuffled_is_a_permutation_another_each_epoch_and_seed(size):
    index = tf.range(size, dtype=tf.int64)
    orders = [rng.shuffled(index, seed, tf.fill([size], tf.constant(epoch, tf.int64)), size).numpy()
              for seed in (0, 1) for epoch in (0, 1, 2)]  # fmt: skip
    for order in orders:
        assert sorted(order) == list(range(size))
    if size == 1000:
        for i, order in enumerate(orders):
            assert abs(np.corrcoef(order, np.arange(size))[0, 1]) < 0.2
            assert all(np.mean(order == other) < 0.02 for other in orders[:i])
    mixed = rng.shuffled(index[:2], 0, tf.constant([1, 2], tf.int64), size)
    assert mixed.numpy().tolist() == [orders[1][0], orders[2][1]]

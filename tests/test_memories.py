"""Memories on disk: written whole, read strictly."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.memories import load_memory, save_memory
from larq_ssl.queue import EmbeddingQueue, KeyQueue
from tests.replicas import two_replicas


@pytest.fixture
def saved(tmp_path):
    queue = KeyQueue(6, 3, seed=1)
    queue.enqueue(tf.ones([2, 3]))
    save_memory(queue, tmp_path / "run" / "queue.npz")
    return queue, tmp_path / "run" / "queue.npz"


def test_round_trip(saved):
    queue, file = saved
    other = KeyQueue(6, 3, seed=2, name="negatives")
    load_memory(other, file)
    np.testing.assert_array_equal(other.keys, queue.keys)
    assert int(other.pointer) == 2


def test_round_trip_of_embeddings(tmp_path):
    queue = EmbeddingQueue(2, 4, 3)
    queue.enqueue(tf.random.stateless_normal([2, 4, 3], [0, 1]))
    save_memory(queue, tmp_path / "queue.npz")
    other = EmbeddingQueue(2, 4, 3)
    load_memory(other, tmp_path / "queue.npz")
    np.testing.assert_array_equal(other.embeddings, queue.embeddings)
    with pytest.raises(ValueError, match=r"embeddings must be float32 \[2, 8, 3\], not float32 \[2, 4, 3\]"):
        load_memory(EmbeddingQueue(2, 8, 3), tmp_path / "queue.npz")


def test_replicas_get_the_same(saved):
    queue, file = saved
    with two_replicas().scope():
        mirrored = KeyQueue(6, 3, seed=2)
        load_memory(mirrored, file)
    for replica in two_replicas().experimental_local_results(mirrored.keys):
        np.testing.assert_array_equal(replica, queue.keys)
    assert [int(pointer) for pointer in two_replicas().experimental_local_results(mirrored.pointer)] == [2, 2]


def test_nothing_is_overwritten(saved):
    queue, file = saved
    before = file.read_bytes()
    with pytest.raises(ValueError, match="exists already"):
        save_memory(queue, file)
    assert file.read_bytes() == before


KEYS = np.zeros((6, 3), np.float32)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"keys": KEYS}, r"pointer must be int64 \[\], not absent"),
        ({"keys": KEYS[:4], "pointer": np.int64(0)}, r"keys must be float32 \[6, 3\], not float32 \[4, 3\]"),
        ({"keys": KEYS.astype(np.float64), "pointer": np.int64(0)}, "keys must be float32 .*, not float64"),
        ({"keys": KEYS, "pointer": np.int64(0), "size": KEYS}, r"size must be absent, not float32 \[6, 3\]"),
        ({"keys": KEYS + np.nan, "pointer": np.int64(0)}, "keys must be finite"),
        ({"keys": np.array([None]), "pointer": np.int64(0)}, "is not a readable file"),
    ],
)
def test_another_memory_is_refused_and_nothing_is_read(arrays, message, tmp_path):
    np.savez(tmp_path / "other.npz", **arrays)
    queue = KeyQueue(6, 3)
    before = queue.keys.numpy()
    with pytest.raises(ValueError, match=message):
        load_memory(queue, tmp_path / "other.npz")
    np.testing.assert_array_equal(queue.keys, before)


def test_a_truncated_file_is_refused(saved):
    _, file = saved
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(ValueError, match="is not a readable file"):
        load_memory(KeyQueue(6, 3), file)

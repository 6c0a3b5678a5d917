"""The queues of keys and of embeddings: order, wrapping, replicas, saving."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.queue import EmbeddingQueue, KeyQueue
from tests import golden
from tests.replicas import two_replicas


def _rows(value, batch, dim):
    return tf.fill([batch, dim], float(value))


def test_starts_with_unit_rows_that_the_seed_decides():
    queue = KeyQueue(12, 8, seed=3)
    np.testing.assert_allclose(np.linalg.norm(queue.keys, axis=1), np.ones(12), rtol=1e-5)
    np.testing.assert_array_equal(queue.keys, KeyQueue(12, 8, seed=3).keys)
    assert np.abs(queue.keys - KeyQueue(12, 8, seed=4).keys).max() > 0.1
    assert not queue.trainable_weights


@pytest.mark.parametrize("in_graph", [False, True])
def test_order_is_the_official_one(in_graph):
    arrays = golden.load("l4_losses")
    queue = KeyQueue(*arrays["moco/init/queue"].shape)
    queue.keys.assign(arrays["moco/init/queue"])
    queue.pointer.assign(arrays["moco/init/pointer"])
    enqueue = tf.function(queue.enqueue) if in_graph else queue.enqueue
    before = arrays["moco/init/queue"]
    for step in range(3):
        after = arrays[f"moco/step{step}/queue_after"]
        start, batch = int(queue.pointer), len(arrays[f"moco/step{step}/x_key"])
        enqueue(after[start : start + batch])
        np.testing.assert_array_equal(queue.keys, after)
        assert int(queue.pointer) == arrays[f"moco/step{step}/pointer_after"]
        changed = np.flatnonzero(np.any(before != after, axis=1))
        assert changed.tolist() == list(range(start, start + batch))
        before = after


def test_unknown_batch_wraps_too():
    queue = KeyQueue(6, 3)
    enqueue = tf.function(queue.enqueue, input_signature=[tf.TensorSpec([None, 3])])
    for step in range(5):
        enqueue(_rows(step, 2, 3))
    assert queue.keys[:, 0].numpy().tolist() == [3, 3, 4, 4, 2, 2]
    assert int(queue.pointer) == 4
    with pytest.raises(tf.errors.InvalidArgumentError, match="size of the queue"):
        enqueue(_rows(9, 4, 3))
    assert queue.keys[:, 0].numpy().tolist() == [3, 3, 4, 4, 2, 2]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (tf.zeros([5, 3]), "multiple of the batch 5, got 12"),
        (tf.zeros([24, 3]), "multiple of the batch 24, got 12"),
        (tf.zeros([0, 3]), "multiple of the batch 0"),
        (tf.zeros([4, 2]), r"keys must have shape \[batch, 3\], got \(4, 2\)"),
        (tf.zeros([3]), "keys must have shape"),
    ],
)
def test_keys_that_do_not_fit_are_refused(keys, message):
    queue = KeyQueue(12, 3)
    before = queue.keys.numpy()
    with pytest.raises(ValueError, match=message):
        queue.enqueue(keys)
    np.testing.assert_array_equal(queue.keys, before)


@pytest.mark.parametrize(("arguments", "message"), [((0, 3), "size .* 0"), ((4, -1), "dim .* -1")])
def test_sizes_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        KeyQueue(*arguments)


def test_two_replicas_hold_the_same_keys_as_one():
    strategy = two_replicas()
    with strategy.scope():
        queue = KeyQueue(8, 3, seed=1)
    single = KeyQueue(8, 3, seed=1)
    rows = np.random.default_rng(0).normal(size=(3, 4, 3)).astype(np.float32)

    @tf.function
    def step(keys):
        context = tf.distribute.get_replica_context()
        # What a method does: each replica has its own keys, all put in those of all.
        part = keys[2 * context.replica_id_in_sync_group :][:2]
        queue.enqueue(context.all_gather(part, axis=0))

    for keys in rows:
        strategy.run(step, args=(tf.constant(keys),))
        single.enqueue(keys)
        for replica in strategy.experimental_local_results(queue.keys):
            np.testing.assert_array_equal(replica, single.keys)
        for replica in strategy.experimental_local_results(queue.pointer):
            assert int(replica) == int(single.pointer)


def test_is_float32_under_mixed_precision_and_saved_with_its_owner(tmp_path):
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    owner = tf.keras.Model()
    owner.queue = KeyQueue(4, 2)
    owner.queue.enqueue(tf.cast(_rows(0.3, 2, 2), tf.bfloat16))
    assert owner.queue.keys.dtype == tf.float32
    path = tf.train.Checkpoint(model=owner).write(str(tmp_path / "checkpoint"))
    again = tf.keras.Model()
    again.queue = KeyQueue(4, 2, seed=9)
    tf.train.Checkpoint(model=again).read(path).assert_consumed()
    np.testing.assert_array_equal(again.queue.keys, owner.queue.keys)
    assert int(again.queue.pointer) == 2


def test_round_trip_of_the_configuration():
    queue = KeyQueue(6, 2, seed=5, name="negatives")
    again = KeyQueue.from_config(queue.get_config())
    assert again.get_config() == queue.get_config()
    np.testing.assert_array_equal(again.keys, queue.keys)


@pytest.mark.parametrize("case", ["queue", "queue_empty"])
@pytest.mark.parametrize("in_graph", [False, True])
def test_embeddings_are_ordered_as_the_official_ones(case, in_graph):
    arrays = golden.load("l4_losses")
    before = arrays["swav/queue_before"]
    queue = EmbeddingQueue(*before.shape)
    queue.embeddings.assign(before if case == "queue" else np.zeros_like(before))
    assert bool(queue.is_full()) == (case == "queue")
    enqueue = tf.function(queue.enqueue) if in_graph else queue.enqueue
    enqueue(arrays["swav/embeddings"][:8].reshape(2, 4, 8))
    np.testing.assert_allclose(queue.embeddings, arrays[f"swav/{case}/queue_after"], atol=1e-6)


def test_embeddings_fill_up_from_the_newest_on_and_the_oldest_are_dropped():
    queue = EmbeddingQueue(2, 5, 3)
    full = []
    for step in range(1, 4):
        queue.enqueue(tf.stack([_rows(step, 2, 3), _rows(-step, 2, 3)]))
        full.append(bool(queue.is_full()))
    assert queue.embeddings[:, :, 0].numpy().tolist() == [[3, 3, 2, 2, 1], [-3, -3, -2, -2, -1]]
    assert full == [False, False, True]


def test_embeddings_are_left_out_while_the_condition_does_not_hold():
    queue = EmbeddingQueue(1, 4, 2)
    enqueue = tf.function(queue.enqueue)
    for step in range(3):
        enqueue(tf.fill([1, 2, 2], float(step + 1)), tf.constant(step >= 1))
    assert queue.embeddings[0, :, 0].numpy().tolist() == [3, 3, 2, 2]


def test_two_replicas_hold_the_same_embeddings_as_one():
    strategy = two_replicas()
    with strategy.scope():
        queue = EmbeddingQueue(2, 6, 3)
    single = EmbeddingQueue(2, 6, 3)
    rows = np.random.default_rng(0).normal(size=(3, 4, 2, 3)).astype(np.float32)

    @tf.function
    def step(images, number):
        context = tf.distribute.get_replica_context()
        part = images[2 * context.replica_id_in_sync_group :][:2]
        queue.enqueue(tf.transpose(context.all_gather(part, axis=0), [1, 0, 2]), number >= 1)

    for number, images in enumerate(rows):
        strategy.run(step, args=(tf.constant(images), tf.constant(number)))
        single.enqueue(images.transpose(1, 0, 2), number >= 1)
    assert bool(single.is_full())
    for replica in strategy.experimental_local_results(queue.embeddings):
        np.testing.assert_array_equal(replica, single.embeddings)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 7, 3), "size of the queue must be at least the batch 7, got 6"),
        ((1, 4, 3), r"embeddings must have shape \[2, batch, 3\], got \(1, 4, 3\)"),
        ((8, 3), "embeddings must have shape"),
    ],
)
def test_embeddings_that_do_not_fit_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        EmbeddingQueue(2, 6, 3).enqueue(tf.ones(shape))


def test_sizes_of_a_queue_of_embeddings_are_checked():
    for place, argument in enumerate(("views", "size", "dim")):
        with pytest.raises(ValueError, match=f"{argument} of the queue must be positive, got 0"):
            EmbeddingQueue(*(0 if index == place else 2 for index in range(3)))


def test_round_trip_of_the_configuration_of_a_queue_of_embeddings():
    queue = EmbeddingQueue(2, 6, 3, name="past")
    assert EmbeddingQueue.from_config(queue.get_config()).get_config() == queue.get_config()

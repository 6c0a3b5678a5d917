"""The centre of DINO: its average, replicas, saving."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.center import Center
from larq_ssl.memories import load_memory, save_memory
from tests.replicas import two_replicas

ROWS = np.random.default_rng(0).normal(1.0, size=(3, 6, 4)).astype(np.float32)


def _expected(momentum):
    center = np.zeros(ROWS.shape[-1])
    for rows in ROWS:
        center = momentum * center + (1 - momentum) * rows.mean(axis=0)
    return center


def _update(center, rows):
    center.follow(center.mean_of(rows))


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
@pytest.mark.parametrize("in_graph", [False, True])
def test_follows_the_mean_of_the_rows(momentum, in_graph):
    center = Center(4, momentum)
    np.testing.assert_array_equal(center.mean, np.zeros(4))
    step = tf.function(_update) if in_graph else _update
    for rows in ROWS:
        step(center, tf.constant(rows))
    np.testing.assert_allclose(center.mean, _expected(momentum), atol=1e-6)
    assert not center.trainable_weights


def test_two_replicas_hold_the_centre_of_one():
    strategy = two_replicas()
    with strategy.scope():
        center = Center(4, 0.7)

    @tf.function
    def step(rows):
        _update(center, rows[3 * tf.distribute.get_replica_context().replica_id_in_sync_group :][:3])

    for rows in ROWS:
        strategy.run(step, args=(tf.constant(rows),))
    replicas = strategy.experimental_local_results(center.mean)
    assert len(replicas) == 2
    for replica in replicas:
        np.testing.assert_allclose(replica, _expected(0.7), atol=1e-6)


def test_is_float32_under_mixed_precision():
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    center = Center(4, 0.0)
    _update(center, tf.cast(ROWS[0], tf.bfloat16))
    assert center.mean.dtype == tf.float32
    np.testing.assert_allclose(center.mean, ROWS[0].mean(axis=0), rtol=0.01)


def test_round_trip_of_the_configuration_and_of_the_file(tmp_path):
    center = Center(4, 0.8, name="middle")
    again = Center.from_config(center.get_config())
    assert again.get_config() == center.get_config() == {"name": "middle", "dim": 4, "momentum": 0.8}
    _update(center, tf.constant(ROWS[0]))
    save_memory(center, tmp_path / "center.npz")
    load_memory(again, tmp_path / "center.npz")
    np.testing.assert_array_equal(again.mean, center.mean)
    assert np.any(again.mean)
    with pytest.raises(ValueError, match=r"mean must be float32 \[5\], not float32 \[4\]"):
        load_memory(Center(5), tmp_path / "center.npz")


def test_is_saved_with_its_owner(tmp_path):
    owner, again = tf.keras.Model(), tf.keras.Model()
    owner.center, again.center = Center(4), Center(4)
    _update(owner.center, tf.constant(ROWS[0]))
    path = tf.train.Checkpoint(model=owner).write(str(tmp_path / "checkpoint"))
    tf.train.Checkpoint(model=again).read(path).assert_consumed()
    np.testing.assert_array_equal(again.center.mean, owner.center.mean)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0,), "dim .* 0"), ((4, 1.5), r"momentum .* \[0, 1\], got 1\.5"), ((4, -0.1), r"momentum .* got -0\.1")],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Center(*arguments)

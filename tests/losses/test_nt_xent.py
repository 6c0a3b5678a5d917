"""SimCLR's contrastive loss, against the official one, also on two replicas, and against a slow one."""

import math
import re

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.losses import NTXent, between_views, nt_xent, nt_xent_logits, unit_rows
from larq_ssl.methods.monitors import target_entropy
from tests import golden
from tests.comparing import assert_near
from tests.losses.gradients import central_differences, value_and_gradients
from tests.replicas import two_replicas

ARRAYS = golden.load("s6_simclr")
CASES = sorted(match[1] for match in (re.fullmatch(r"(nt\d+|nt_identical)_hidden", key) for key in ARRAYS) if match)


def _unit(seed, *shape):
    rows = np.random.default_rng(seed).normal(size=shape)
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def _case(case):
    """The arrays of one case, without its name, and the temperature."""
    arrays = {key.removeprefix(f"{case}_"): value for key, value in ARRAYS.items() if key.startswith(f"{case}_")}
    return arrays, float(arrays["temperature"])


def _mean_of_hidden(hidden, temperature):
    return tf.reduce_mean(nt_xent(*tf.split(unit_rows(hidden), 2), temperature))


def _plain(first, second, temperature, keys=None, queue=()):
    """The loss of each image by its definition, one sum after the other."""
    views = [np.asarray(rows, np.float64) for rows in (first, second)]
    keys = views if keys is None else [np.asarray(rows, np.float64) for rows in keys]
    losses = np.zeros(len(views[0]))
    for image in range(len(losses)):
        for view in range(2):
            query = views[view][image]
            total = sum(np.exp(query @ key / temperature) for key in queue)
            for other_view in range(2):
                for other in range(len(keys[0])):
                    if (other_view, other) != (view, image):
                        total += np.exp(query @ keys[other_view][other] / temperature)
            losses[image] -= np.log(np.exp(query @ keys[1 - view][image] / temperature) / total)
    return losses


def test_there_are_cases():
    assert {"nt_identical", "nt0", "nt1"} <= set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_value_and_gradient_are_the_official_ones(case):
    arrays, temperature = _case(case)
    loss, (gradient,) = value_and_gradients(lambda hidden: _mean_of_hidden(hidden, temperature), arrays["hidden"])
    np.testing.assert_allclose(loss, arrays["loss"], rtol=1e-5)
    np.testing.assert_allclose(gradient, arrays["grad_hidden"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_the_gradient_of_unit_rows_is_the_official_one(case):
    arrays, temperature = _case(case)
    rows = arrays["hidden"] / np.linalg.norm(arrays["hidden"], axis=1, keepdims=True)
    loss, (gradient,) = value_and_gradients(
        lambda rows: tf.reduce_mean(nt_xent(*tf.split(rows, 2), temperature)), rows.astype(np.float32)
    )
    np.testing.assert_allclose(loss, arrays["loss_nonorm"], rtol=1e-5)
    np.testing.assert_allclose(gradient, arrays["grad_z_nonorm"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_what_is_watched_is_the_official_block(case):
    arrays, temperature = _case(case)
    compared, own = between_views(nt_xent_logits(*tf.split(unit_rows(arrays["hidden"]), 2), temperature))
    assert_near(compared, arrays["logits_ab"])
    assert own.numpy().tolist() == list(range(len(compared)))
    # The released code adds 1e-8 to each probability.
    assert float(target_entropy(compared, 1.0)) == pytest.approx(float(arrays["contrast_entropy"]), rel=1e-5, abs=2e-6)
    if case != "nt_identical":  # where all answers are as good
        accuracy = np.mean(np.argmax(compared, axis=1) == own)
        assert accuracy == pytest.approx(float(arrays["contrast_acc"]))


def test_two_replicas_have_the_official_losses_and_gradients():
    hidden = ARRAYS["nt2_two_replica_hidden"]
    temperature = float(ARRAYS["nt2_temperature"])

    @tf.function
    def of_replica():
        mine = tf.constant(hidden)[tf.distribute.get_replica_context().replica_id_in_sync_group]
        with tf.GradientTape() as tape:
            tape.watch(mine)
            first, second = tf.split(unit_rows(mine), 2)
            loss = tf.reduce_mean(nt_xent(first, second, temperature))
            share = loss / len(hidden)
        compared, own = between_views(nt_xent_logits(first, second, temperature))
        return loss, tape.gradient(share, mine), compared, own

    results = [two_replicas().experimental_local_results(part) for part in two_replicas().run(of_replica)]
    losses, gradients, compared, own = (np.array(part) for part in results)
    np.testing.assert_allclose(losses, ARRAYS["nt2_two_replica_loss"], rtol=1e-5)
    assert losses.mean() == pytest.approx(float(ARRAYS["nt2_loss"]), rel=1e-5)
    np.testing.assert_allclose(gradients, ARRAYS["nt2_two_replica_grad_hidden"], rtol=0, atol=1e-6)
    assert_near(compared, ARRAYS["nt2_two_replica_logits_ab"])
    assert own.ravel().tolist() == list(range(own.size))
    # Replica by replica there, view by view here.
    of_views = gradients.reshape(len(hidden), 2, -1, hidden.shape[-1]).swapaxes(0, 1)
    of_one = ARRAYS["nt2_grad_hidden"]
    np.testing.assert_allclose(of_views.reshape(of_one.shape), of_one, rtol=0, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.07, 0.5])
@pytest.mark.parametrize("kind", ["plain", "keys", "keys_and_queue"])
def test_value_and_gradients_are_the_definition(kind, temperature):
    first, second, queue = _unit(0, 5, 7), _unit(1, 5, 7), _unit(2, 6, 7)
    keys = None if kind == "plain" else (_unit(3, 5, 7), _unit(4, 5, 7))
    queue = queue if kind == "keys_and_queue" else None
    arguments = (temperature, keys, queue if queue is not None else ())
    loss, gradients = value_and_gradients(
        lambda f, s: tf.reduce_sum(nt_xent(f, s, temperature, keys, queue)), first, second
    )
    expected = _plain(first, second, *arguments)
    np.testing.assert_allclose(nt_xent(first, second, temperature, keys, queue), expected, rtol=1e-4)
    assert loss == pytest.approx(expected.sum(), rel=1e-4)
    references = central_differences(lambda f, s: _plain(f, s, *arguments).sum(), first, second)
    for gradient, reference in zip(gradients, references, strict=True):
        np.testing.assert_allclose(gradient, reference, rtol=1e-3, atol=1e-3)


def test_no_gradient_flows_into_other_keys_and_the_queue():
    rows = [_unit(seed, 5, 7) for seed in range(5)]
    _, gradients = value_and_gradients(lambda f, s, k, o, q: tf.reduce_sum(nt_xent(f, s, 0.2, (k, o), q)), *rows)
    assert [gradient is None for gradient in gradients] == [False, False, True, True, True]


def test_keys_and_queue_of_two_replicas():
    first, second, keys, queue = _unit(0, 6, 7), _unit(1, 6, 7), (_unit(2, 6, 7), _unit(3, 6, 7)), _unit(4, 3, 7)
    expected = nt_xent(first, second, 0.2, keys, queue)

    @tf.function
    def of_replica():
        start = 3 * tf.distribute.get_replica_context().replica_id_in_sync_group
        mine = [tf.ensure_shape(tf.constant(rows)[start : start + 3], [3, 7]) for rows in (first, second)]
        return nt_xent(*mine, 0.2, keys, queue)

    parts = two_replicas().experimental_local_results(two_replicas().run(of_replica))
    np.testing.assert_allclose(tf.concat(parts, axis=0), expected, rtol=1e-5)


@pytest.mark.parametrize("images", [2, 3, 9])
@pytest.mark.parametrize("queue", [None, 4])
def test_equal_embeddings_have_the_loss_of_a_collapse(images, queue):
    rows = np.tile(_unit(0, 1, 7), [images, 1])
    of_queue = None if queue is None else np.tile(rows[:1], [queue, 1])
    loss = nt_xent(rows, rows, 0.1, queue=of_queue)
    np.testing.assert_allclose(loss, 2 * math.log(2 * images - 1 + (queue or 0)), rtol=1e-5)


def test_orders_and_rotations_do_not_count():
    first, second, queue = _unit(0, 6, 7), _unit(1, 6, 7), _unit(2, 4, 7)
    loss = nt_xent(first, second, queue=queue).numpy()
    order = np.random.default_rng(0).permutation(6)
    np.testing.assert_allclose(nt_xent(first[order], second[order], queue=queue), loss[order], rtol=1e-5)
    np.testing.assert_allclose(nt_xent(second, first, queue=queue[::-1]), loss, rtol=1e-5)
    rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(7, 7)))[0].astype(np.float32)
    np.testing.assert_allclose(nt_xent(first @ rotation, second @ rotation, queue=queue @ rotation), loss, rtol=1e-4)
    assert np.abs(nt_xent(first[order], second, queue=queue) - loss).max() > 0.1


def test_a_small_temperature_is_finite():
    loss, gradients = value_and_gradients(
        lambda f, s: tf.reduce_sum(nt_xent(f, s, 1e-6)), _unit(0, 5, 7), _unit(1, 5, 7)
    )
    assert np.isfinite(loss)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_is_computed_in_float32(dtype):
    first, second = (tf.cast(_unit(seed, 5, 7), dtype) for seed in (0, 1))
    loss = nt_xent(first, second)
    assert loss.dtype == tf.float32
    np.testing.assert_array_equal(loss, nt_xent(tf.cast(first, tf.float32), tf.cast(second, tf.float32)))


def test_the_keras_loss_is_the_mean():
    first, second = _unit(0, 5, 7), _unit(1, 5, 7)
    assert float(NTXent(0.3)(first, second)) == pytest.approx(np.mean(nt_xent(first, second, 0.3)), rel=1e-6)


def test_the_temperature_is_that_of_imagenet_unless_it_is_given():
    first, second = _unit(0, 5, 7), _unit(1, 5, 7)
    np.testing.assert_array_equal(nt_xent_logits(first, second), nt_xent_logits(first, second, 0.1))
    np.testing.assert_array_equal(nt_xent(first, second), nt_xent(first, second, 0.1))
    assert NTXent().temperature == 0.1


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(5, 7), (4, 7), (5, 7), (5, 7), (3, 7)], "first and second must have one shape"),
        ([(5, 7), (5, 7), (5, 6), (5, 7), (3, 7)], r"keys must have shape \[5, 7\], got \(5, 6\)"),
        ([(5, 7), (5, 7), (5, 7), (4, 7), (3, 7)], r"keys must have shape \[5, 7\], got \(4, 7\)"),
        ([(5, 7), (5, 7), (5, 7), (5, 7), (3, 6)], r"queue must have shape \[rows, 7\], got \(3, 6\)"),
        ([(5, 7), (5, 7), (5, 7), (5, 7), (3,)], r"queue must have shape \[rows, dim\]"),
    ],
)
def test_shapes_that_do_not_fit_are_named(shapes, message):
    first, second, *keys, queue = (tf.zeros(shape) for shape in shapes)
    with pytest.raises(ValueError, match=message):
        nt_xent(first, second, 0.1, tuple(keys), queue)


def test_what_is_no_float_or_no_temperature_is_refused():
    with pytest.raises(TypeError, match="second must be a float tensor"):
        nt_xent(tf.zeros([3, 2]), tf.zeros([3, 2], tf.int32))
    with pytest.raises(ValueError, match="temperature must be positive and finite, got 0"):
        NTXent(0)

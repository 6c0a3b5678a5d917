"""DINO: views, centre, momentum network, and what is frozen."""

import math

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.callbacks import FreezeRoles
from larq_ssl.losses.dino import dino_cross_entropy
from larq_ssl.losses.view_pairs import pair_weights
from larq_ssl.methods import DINO
from larq_ssl.optimizers import SGD, Adam
from larq_ssl.roles import Role
from larq_ssl.schedules import EpochRamp, WarmupCosine
from tests.methods import tiny

CLASSES = 7


def _step(method, seed=0, **arguments):
    one = tiny.multi_crop_batch(seed, **arguments)
    return one, tiny.trained(method, [one])[0]


def test_the_loss_is_that_of_the_networks_on_their_views():
    method = tiny.dino(alpha=0.4, teacher_temperature=0.05, student_temperature=0.2, optimizer=SGD(0.0))
    method.center.mean.assign(np.linspace(-0.3, 0.3, CLASSES))
    center = method.center.mean.numpy()
    one, terms = _step(method)
    student, head = method.networks["student"], method.networks["student_head"]
    groups = [tf.concat(tf.unstack(one[key], axis=1), axis=0) for key in ("global", "local")]
    features = tf.concat([student(group, training=True) for group in groups], axis=0)
    teacher = method.networks["momentum_head"](
        method.networks["momentum_encoder"](groups[0], training=True), training=True
    )
    losses = dino_cross_entropy(teacher, head(features, training=True), center, pair_weights(2, 3, 0.4), 0.05, 0.2)
    assert terms["loss"] == pytest.approx(float(tf.reduce_mean(losses)), rel=1e-5)
    assert terms["loss"] == terms["dino"]


def test_statistics_are_those_of_each_size_and_of_all_views_in_the_head():
    method = tiny.dino(batch_norm=True, optimizer=SGD(0.0))
    student, head = method.networks["student"], method.networks["student_head"]
    one, _ = _step(method)
    groups = [tf.concat(tf.unstack(one[key], axis=1), axis=0) for key in ("global", "local")]
    inner = tf.keras.Model(student.input, student.get_layer("conv1").output)
    mean = np.zeros(8)
    for group in groups:
        mean = 0.9 * mean + 0.1 * np.mean(inner(group), axis=(0, 1, 2))
    np.testing.assert_allclose(student.get_layer("bn1").moving_mean, mean, rtol=1e-4, atol=1e-6)
    features = tf.concat([student(group, training=True) for group in groups], axis=0)
    hidden = head.get_layer("dense1")(features)
    np.testing.assert_allclose(head.get_layer("bn1").moving_mean, 0.1 * np.mean(hidden, axis=0), rtol=1e-4, atol=1e-6)


def test_the_momentum_network_sees_global_views_alone_in_training_mode_and_keeps_its_own_statistics():
    method = tiny.dino(optimizer=SGD(0.0))
    encoder = method.networks["momentum_encoder"]
    one, _ = _step(method)
    images = tf.concat(tf.unstack(one["global"], axis=1), axis=0)
    inner = tf.keras.Model(encoder.input, encoder.get_layer("conv1").output)
    expected = 0.1 * np.mean(inner(images), axis=(0, 1, 2))
    np.testing.assert_allclose(encoder.get_layer("bn1").moving_mean, expected, rtol=1e-4, atol=1e-6)
    student = tiny.statistics(method.networks["student"])
    assert not np.allclose(student["bn1/moving_mean"], encoder.get_layer("bn1").moving_mean)


def test_the_momentum_network_follows_the_updated_student_by_the_momentum_of_the_step():
    momentum = WarmupCosine(0.5, 1.0, total_steps=4)
    method = tiny.dino(momentum=momentum, optimizer=SGD(0.5))
    for step in range(3):
        before = {name: tiny.parameters(method.networks[name]) for name in ("momentum_encoder", "momentum_head")}
        _step(method, step)
        m = float(momentum(step))
        for name, source in (("momentum_encoder", "student"), ("momentum_head", "student_head")):
            after = tiny.parameters(method.networks[source])
            expected = {key: m * before[name][key] + (1 - m) * after[key] for key in after}
            tiny.assert_close(tiny.parameters(method.networks[name]), expected)
            tiny.assert_all_differ(tiny.parameters(method.networks[name]), after)


def test_the_centre_follows_the_raw_logits_and_is_used_a_step_later():
    method = tiny.dino(center_momentum=0.8, optimizer=SGD(0.0), momentum=1.0)
    center = np.zeros(CLASSES)
    for step in range(2):
        one = tiny.multi_crop_batch(step)
        images = tf.concat(tf.unstack(one["global"], axis=1), axis=0)
        logits = method.networks["momentum_head"](
            method.networks["momentum_encoder"](images, training=True), training=True
        )
        terms = tiny.trained(method, [one])[0]
        groups = [tf.concat(tf.unstack(one[key], axis=1), axis=0) for key in ("global", "local")]
        features = tf.concat([method.networks["student"](group, training=True) for group in groups], axis=0)
        losses = dino_cross_entropy(
            logits,
            method.networks["student_head"](features, training=True),
            center.astype(np.float32),
            pair_weights(2, 3),
        )
        assert terms["loss"] == pytest.approx(float(tf.reduce_mean(losses)), rel=1e-4)
        center = 0.8 * center + 0.2 * np.mean(logits, axis=0)
        np.testing.assert_allclose(method.center.mean, center, rtol=1e-4, atol=1e-6)


def test_the_temperature_of_the_teacher_changes_with_the_epoch():
    ramp = EpochRamp(0.04, 0.4, epochs=2, steps_per_epoch=1)
    scheduled, hot = (tiny.dino(teacher_temperature=value, optimizer=SGD(0.0)) for value in (ramp, 0.4))
    for name, network in scheduled.networks.items():
        hot.networks[name].set_weights(network.get_weights())
    first, second = (tiny.trained(scheduled, [tiny.multi_crop_batch(seed)])[0] for seed in (0, 1))
    hot.center.mean.assign(np.zeros(CLASSES))
    constant = tiny.trained(hot, [tiny.multi_crop_batch(seed) for seed in (0, 1)])
    assert first["target_entropy"] < constant[0]["target_entropy"] - 0.01
    assert second["target_entropy"] == pytest.approx(constant[1]["target_entropy"], rel=1e-4)


def test_everything_optimised_moves_and_nothing_else():
    method = tiny.dino(momentum=1.0, optimizer=SGD(0.5), linear_probe=True)
    before = {name: tiny.parameters(network) for name, network in method.networks.items()}
    tiny.trained(method, [tiny.multi_crop_batch(seed) for seed in range(3)])
    assert method.variables_without_gradient() == []
    for name, network in method.networks.items():
        compare = tiny.assert_identical if name.startswith("momentum") else tiny.assert_all_differ
        compare(tiny.parameters(network), before[name])


@pytest.mark.parametrize("optimizer", [lambda: SGD(0.5, momentum=0.9, weight_decay=0.1), lambda: Adam(0.1, 0.1)])
def test_the_last_layer_is_untouched_while_it_is_frozen(optimizer):
    method = tiny.dino(optimizer=optimizer(), momentum=0.9)
    last, ema = (method.networks[name].get_layer("last_layer") for name in ("student_head", "momentum_head"))
    start, hidden = last.v.numpy(), method.networks["student_head"].get_layer("dense1").kernel.numpy()
    data = tf.data.Dataset.from_tensors(tiny.multi_crop_batch()).repeat()
    freeze = FreezeRoles([Role.LAST_LAYER], updates=3)
    method.fit(data, epochs=1, steps_per_epoch=3, callbacks=[freeze], verbose=0)
    assert last.v.numpy().tobytes() == start.tobytes() == ema.v.numpy().tobytes()
    for name in method.optimizer.get_slot_names():
        assert not np.any(method.optimizer.get_slot(last.v, name))
    assert not np.array_equal(method.networks["student_head"].get_layer("dense1").kernel, hidden)
    assert method.variables_without_gradient() == []
    method.fit(data, epochs=2, steps_per_epoch=3, callbacks=[freeze], verbose=0)
    assert not np.array_equal(last.v, start)


def test_freezing_ends_within_an_epoch():
    method = tiny.dino(optimizer=SGD(0.5))
    last = method.networks["student_head"].get_layer("last_layer")
    seen = []
    watch = tf.keras.callbacks.LambdaCallback(on_train_batch_end=lambda *_: seen.append(last.v.numpy()))
    start = last.v.numpy()
    data = tf.data.Dataset.from_tensors(tiny.multi_crop_batch()).repeat()
    method.fit(data, epochs=1, steps_per_epoch=4, callbacks=[FreezeRoles(["last_layer"], 2), watch], verbose=0)
    assert [np.array_equal(value, start) for value in seen] == [True, True, False, False]


def test_undecided_networks_have_the_loss_of_a_collapse():
    method = tiny.dino(optimizer=SGD(0.0), alpha=0.4)
    for name in ("student_head", "momentum_head"):
        method.networks[name].get_layer("last_layer").v.assign(
            tf.ones_like(method.networks[name].get_layer("last_layer").v)
        )
    _, terms = _step(method)
    assert terms["dino"] == pytest.approx(math.log(CLASSES), rel=1e-5)
    assert method.collapse_values == {"dino": math.log(CLASSES)}


def test_the_probe_teaches_the_encoder_nothing():
    steps = {}
    for probed in (False, True):
        method = tiny.dino(optimizer=SGD(0.5), linear_probe=probed)
        if probed:
            for name, network in method.networks.items():
                if name != "linear_probe":
                    network.set_weights(steps["start"][name])
        else:
            steps["start"] = {name: network.get_weights() for name, network in method.networks.items()}
        _, terms = _step(method)
        steps[probed] = tiny.parameters(method.networks["student"])
    tiny.assert_close(steps[True], steps[False], 1e-6)
    assert terms["loss"] == pytest.approx(terms["dino"] + terms["probe"], rel=1e-5)


def test_images_without_a_label_do_not_count_for_the_probe():
    method = tiny.dino(optimizer=SGD(0.5), linear_probe=True)
    one = tiny.multi_crop_batch()
    before = tiny.parameters(method.networks["linear_probe"])
    terms = tiny.trained(method, [{**one, "label": -tf.ones_like(one["label"])}])[0]
    assert terms["probe"] == terms["probe_accuracy"] == 0
    tiny.assert_identical(tiny.parameters(method.networks["linear_probe"]), before)


def test_global_views_alone_are_enough():
    method = tiny.dino(optimizer=SGD(0.5), alpha=0.4)
    one = tiny.multi_crop_batch()
    terms = tiny.trained(method, [{key: value for key, value in one.items() if key != "local"}])[0]
    assert np.isfinite(terms["loss"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": 1.5}, "alpha must lie in"),
        ({"student_temperature": 0.0}, "student_temperature must be above 0"),
        ({"teacher_temperature": 0.0}, "teacher_temperature must be above 0"),
        ({"momentum": 1.5}, r"momentum must lie in \[0, 1\], got 1\.5"),
        ({"center_momentum": 1.5}, "momentum of the centre"),
        ({"clip_norm": "layer"}, "clip_norm must be one of global, variable"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny.dino(**arguments)


def test_products():
    method = tiny.dino()
    assert isinstance(method, DINO)
    assert set(method.encoders) == {"student", "ema"}
    assert set(method.heads) == {"student_head", "momentum_head"}
    assert method.memories["center"] is method.center

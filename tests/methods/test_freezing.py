"""Roles that are left alone for a while, and gradients that are shortened."""

from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.callbacks import FreezeRoles
from larq_ssl.checkpoints import Checkpoints
from larq_ssl.methods.clipping import clip
from larq_ssl.models.transfer import copy_weights, named_weights
from larq_ssl.optimizers import LARS, SGD, Adam
from larq_ssl.roles import Role, variable_roles
from tests.methods import tiny

STEPS = 6
OPTIMIZERS = {
    "sgd": lambda: SGD(0.5, momentum=0.9, weight_decay=0.1),
    "adamw": lambda: Adam(0.1, 0.1, decoupled=True),
    "lars": lambda: LARS.preset("sslight", 1.0, weight_decay=0.1),
}


def _twins(**arguments):
    """A method, and one of the same weights with other arguments."""
    first, second = tiny.dino(optimizer=SGD(1.0, momentum=0.0)), tiny.dino(**arguments)
    for name, network in first.networks.items():
        copy_weights(network, second.networks[name])
    return first, second


def _gradients(method, batch):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(method.loss_terms(batch)["loss"])
    return [gradient.numpy() for gradient in tape.gradient(loss, method.optimized_variables)]


def _of_role(method, role):
    pairs = [pair for name in method.optimized for pair in variable_roles(method.networks[name])]
    return [variable for variable, its_role in pairs if its_role == role]


def _stream(start=0):
    """Batches of the steps from `start` on, all different."""
    batches = [tiny.multi_crop_batch(seed) for seed in range(STEPS)]
    whole = {key: tf.stack([one[key] for one in batches]) for key in batches[0]}
    return tf.data.Dataset.from_tensor_slices(whole).skip(start)


@pytest.mark.parametrize("limit", [0.01, 1e9, None])
def test_each_gradient_is_shortened_alone(limit):
    gradients = [np.float32([[3.0, 4.0]]), np.float32([0.006, 0.008]), np.zeros(3, np.float32)]
    lengths = [5.0, 0.01, 0.0]
    for gradient, length, clipped in zip(gradients, lengths, clip(gradients, limit, "variable"), strict=True):
        factor = 1.0 if limit is None or length <= limit else limit / length
        np.testing.assert_allclose(clipped, factor * gradient, rtol=1e-5)


@pytest.mark.parametrize("clip_norm", ["variable", "global"])
def test_a_step_clips_each_variable_or_all_together(clip_norm):
    twin, method = _twins(optimizer=SGD(1.0, momentum=0.0), gradient_clip=1.0, clip_norm=clip_norm)
    batch = tiny.multi_crop_batch()
    gradients = _gradients(twin, batch)
    norms = np.array([np.linalg.norm(gradient) for gradient in gradients])
    method.gradient_clip = limit = float(np.median(norms))
    lengths = norms if clip_norm == "variable" else np.full_like(norms, np.linalg.norm(norms))
    before = [variable.numpy() for variable in method.optimized_variables]
    terms = tiny.trained(method, [batch])[0]
    steps = [start - variable.numpy() for start, variable in zip(before, method.optimized_variables, strict=True)]
    for step, gradient, length in zip(steps, gradients, lengths, strict=True):
        np.testing.assert_allclose(step, min(1.0, limit / length) * gradient, atol=1e-4 * limit)
    of_head = norms[-len(_head_variables(method)) :]
    assert terms["gradient_norm/head"] == pytest.approx(np.linalg.norm(of_head), rel=1e-3)


def _head_variables(method):
    return method.networks["student_head"].trainable_variables


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("role", [Role.LAST_LAYER, Role.NORM, Role.BIAS])
def test_neither_decay_nor_momentum_moves_what_is_frozen(optimizer, role):
    method = tiny.dino(optimizer=OPTIMIZERS[optimizer]())
    tiny.trained(method, [tiny.multi_crop_batch()])  # from now on the slots would move everything
    method.freeze([role])
    frozen = _of_role(method, role)
    slots = [method.optimizer.get_slot(one, slot) for slot in method.optimizer.get_slot_names() for one in frozen]
    kept = [*frozen, *slots]
    before = [variable.numpy() for variable in kept]
    others = [variable for variable in method.optimized_variables if all(variable is not one for one in frozen)]
    start = [variable.numpy() for variable in others]
    tiny.trained(method, [tiny.multi_crop_batch(1)])
    assert frozen
    assert others
    for variable, value in zip(kept, before, strict=True):
        assert variable.numpy().tobytes() == value.tobytes(), variable.name
    for variable, value in zip(others, start, strict=True):
        assert not np.array_equal(variable, value), variable.name
    method.freeze([])
    tiny.trained(method, [tiny.multi_crop_batch(2)])
    for variable, value in zip(frozen, before, strict=False):
        assert not np.array_equal(variable, value), variable.name


def test_gradients_of_what_is_frozen_are_not_computed():
    method = tiny.dino()
    method.freeze(["last_layer"])
    with mock.patch.object(method, "_terms_and_gradients", wraps=method._terms_and_gradients) as asked:
        tiny.trained(method, [tiny.multi_crop_batch()])
    variables = asked.call_args.args[1]
    last = method.networks["student_head"].get_layer("last_layer").v
    assert len(variables) == len(method.optimized_variables) - 1
    assert all(variable is not last for variable in variables)


def test_what_is_frozen_has_no_gradient_norm_and_is_not_missed():
    twin, method = _twins()
    method.freeze([Role.LAST_LAYER])
    batch = tiny.multi_crop_batch()
    terms = tiny.trained(method, [batch])[0]
    gradients = _gradients(twin, batch)
    of_head = gradients[-len(_head_variables(method)) : -1]
    assert _head_variables(method)[-1] is method.networks["student_head"].get_layer("last_layer").v
    expected = np.linalg.norm([np.linalg.norm(gradient) for gradient in of_head])
    assert terms["gradient_norm/head"] == pytest.approx(expected, rel=1e-4)
    norms = method.gradient_norms(method.optimized_variables)
    assert np.flatnonzero(norms == 0).tolist() == [len(norms) - 1]
    assert method.variables_without_gradient() == []
    method.freeze([])
    assert method.variables_without_gradient() == ["student_head/last_layer/v:0"]


def _method(seed):
    tf.keras.utils.set_random_seed(seed)
    return tiny.dino(optimizer=SGD(0.5, momentum=0.9, weight_decay=0.1), momentum=0.9)


def _state(method):
    """Everything that a run consists of, by name."""
    state = {
        f"{name}/{key}": weight.numpy()
        for name, network in method.networks.items()
        for key, weight in named_weights(network).items()
    }
    slots = {f"optimizer/{number}": value.numpy() for number, value in enumerate(method.optimizer.variables())}
    return {**state, **slots, "center": method.center.mean.numpy()}


@pytest.mark.parametrize("stop", [2, 4, 5], ids=["while_frozen", "at_the_end_of_it", "after_it"])
def test_a_run_that_goes_on_in_the_middle_is_the_same_to_the_bit(tmp_path, stop):
    whole, stopped, resumed = _method(0), _method(0), _method(1)

    def fit(method, epochs, steps, start):
        freeze = FreezeRoles([Role.LAST_LAYER], updates=4)
        method.fit(_stream(start), epochs=epochs, steps_per_epoch=steps, callbacks=[freeze], verbose=0)

    fit(whole, 1, STEPS, 0)
    fit(stopped, 1, stop, 0)
    Checkpoints(tmp_path, method=stopped, optimizer=stopped.optimizer).save(stop)
    assert Checkpoints(tmp_path, method=resumed, optimizer=resumed.optimizer).restore() == stop
    last = resumed.networks["student_head"].get_layer("last_layer").v
    start = last.numpy()
    fit(resumed, 1, STEPS, stop)
    tiny.assert_identical(_state(resumed), _state(whole))
    assert not np.array_equal(last, start)
    never = _method(0)
    never.fit(_stream(), epochs=1, steps_per_epoch=STEPS, verbose=0)
    assert not np.array_equal(never.networks["student_head"].get_layer("last_layer").v, last)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((["kernels"], 3), "'kernels' is not a valid Role"), ((["last_layer"], -1), "updates must be at least 0, got -1")],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        FreezeRoles(*arguments)


def test_no_updates_freeze_nothing():
    method = tiny.dino(optimizer=SGD(0.5))
    before = method.networks["student_head"].get_layer("last_layer").v.numpy()
    method.fit(_stream(), epochs=1, steps_per_epoch=1, callbacks=[FreezeRoles(["last_layer"], 0)], verbose=0)
    assert not np.array_equal(method.networks["student_head"].get_layer("last_layer").v, before)

"""Half precision, method by method: what must be float32 is, and float16 learns although steps overflow."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.checkpoints import Checkpoints
from larq_ssl.methods.base import NOT_FINITE
from larq_ssl.models.transfer import named_weights
from larq_ssl.optimizers import SGD, Adam
from tests.half_precision import imprecise, products
from tests.methods import tiny
from tests.replicas import two_replicas

METHODS = {
    "bssl": (tiny.bssl, tiny.batch),
    "bssl_released": (functools.partial(tiny.bssl, "released"), tiny.batch),
    "moco": (functools.partial(tiny.moco, batch_norm_groups=2), tiny.batch),
    "s2bnn": (functools.partial(tiny.s2bnn, "contrastive_guided"), tiny.batch),
    "simclr": (functools.partial(tiny.simclr, memory=True, linear_probe=True), tiny.labelled_batch),
    "byol": (functools.partial(tiny.byol, uniformity_weight=0.5), tiny.batch),
    "msbreg": (tiny.msbreg, tiny.batch),
    "dino": (functools.partial(tiny.dino, linear_probe=True), tiny.multi_crop_batch),
    "swav": (functools.partial(tiny.swav, queue_size=4), tiny.multi_crop_batch),
    "moco_star": (tiny.moco_star, tiny.multi_crop_batch),
    "infomin": (functools.partial(tiny.infomin, jigsaw=True), tiny.jigsaw_batch),
    "supervised": (functools.partial(tiny.supervised, classifier_decay=0.1), tiny.one_view_batch),
    "distill": (functools.partial(tiny.distill, alpha=0.5), tiny.one_view_batch),
    "multi_label": (tiny.multi_label, tiny.several_batch),
}


def _step(method):
    return tf.function(method.train_step, autograph=False)


def _numbers(terms):
    return {name: float(value) for name, value in terms.items()}


@pytest.mark.parametrize("name", METHODS)
def test_a_step_in_bfloat16_keeps_what_must_be_precise(name):
    make, make_batch = METHODS[name]
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    method, batch = make(), make_batch()
    step = _step(method)
    traced = step.get_concrete_function(batch)
    assert imprecise(traced) == {}
    assert products(traced) > 0
    assert np.isfinite(list(_numbers(step(batch)).values())).all()
    assert {weight.dtype for weight in method.optimized_variables} == {tf.float32}
    assert not {weight.dtype for weight in method.variables} & {tf.float16, tf.bfloat16}
    assert np.isfinite(method.gradient_seen).all()
    assert method.variables_without_gradient() == []


def _float16(make, scale, optimizer=Adam, **arguments):
    tf.keras.mixed_precision.set_global_policy("mixed_float16")
    scaled = tf.keras.mixed_precision.LossScaleOptimizer(optimizer(1e-2), initial_scale=scale, **arguments)
    return make(optimizer=scaled)


def _slots(method):
    optimizer = method.optimizer.inner_optimizer
    return [weight.numpy() for weight in optimizer.weights if weight is not optimizer.iterations]


@pytest.mark.parametrize("name", ["bssl", "moco", "dino"])
def test_float16_leaves_out_updates_until_the_scale_fits_and_then_learns(name):
    make, make_batch = METHODS[name]
    method = _float16(make, 2.0**30)
    step, batches = _step(method), [make_batch(seed) for seed in range(40)]
    start, slots = [tiny.parameters(method.networks[part]) for part in method.optimized], _slots(method)
    left_out = 0
    for batch in batches:
        scale = float(method.optimizer.loss_scale)
        assert np.isfinite(list(_numbers(step(batch)).values())).all()
        if float(method.optimizer.loss_scale) == scale:
            break
        left_out += 1
        assert float(method.optimizer.loss_scale) == scale / 2
        assert int(method.optimizer.iterations) == left_out
        for part, before in zip(method.optimized, start, strict=True):
            tiny.assert_identical(tiny.parameters(method.networks[part]), before)
        for slot, before in zip(_slots(method), slots, strict=True):
            np.testing.assert_array_equal(slot, before)
    assert 0 < left_out < 30
    for batch in batches[left_out + 1 : left_out + 5]:
        terms = _numbers(step(batch))
        assert np.isfinite(list(terms.values())).all()
    for part, before in zip(method.optimized, start, strict=True):
        tiny.assert_all_differ(tiny.parameters(method.networks[part]), before)
    for network in method.networks.values():
        assert all(np.isfinite(weight).all() for weight in named_weights(network).values())


def test_a_restored_run_goes_on_with_its_scale(tmp_path):
    """Two updates were left out, and one more step without overflow would double the scale."""

    def made():
        return _float16(tiny.bssl, 2.0**18, dynamic_growth_steps=4)

    def saved(method):
        return Checkpoints(tmp_path, method=method, optimizer=method.optimizer)

    whole, batches = made(), [tiny.batch(seed) for seed in range(12)]
    step, scales = _step(whole), []
    for number, batch in enumerate(batches):
        step(batch)
        scales.append(float(whole.optimizer.loss_scale))
        if number == 7:
            saved(whole).save(8)
    # Both have to be restored, the scale and the steps since it was altered.
    assert scales[7] < 2.0**18
    assert scales[7] != scales[11]
    resumed = made()
    assert saved(resumed).restore() == 8
    step = _step(resumed)
    again = []
    for batch in batches[8:]:
        step(batch)
        again.append(float(resumed.optimizer.loss_scale))
    assert again == scales[8:]
    for part in whole.optimized:
        tiny.assert_identical(tiny.parameters(resumed.networks[part]), tiny.parameters(whole.networks[part]))


def test_what_follows_from_the_forward_pass_goes_on_where_an_update_is_left_out():
    dino, moco = (_float16(METHODS[name][0], 2.0**34) for name in ("dino", "moco"))
    statistics = tiny.statistics(dino.networks["student"])
    # Apart from the student, so that it has something to follow.
    for variable in dino.networks["momentum_encoder"].trainable_variables:
        variable.assign_add(tf.ones_like(variable))
    momentum = tiny.parameters(dino.networks["momentum_encoder"])
    dino.train_step(tiny.multi_crop_batch())
    moco.train_step(tiny.batch())
    for method in (dino, moco):
        assert float(method.optimizer.loss_scale) == 2.0**33
    tiny.assert_all_differ(tiny.statistics(dino.networks["student"]), statistics)
    tiny.assert_all_differ(tiny.parameters(dino.networks["momentum_encoder"]), momentum)
    assert np.isfinite(dino.center.mean).all()
    assert np.any(dino.center.mean)
    assert int(moco.queue.pointer) == 8
    assert np.isfinite(moco.queue.keys).all()


@pytest.mark.parametrize("scaling", [{"scale": 1.0}, {"scale": 2.0**40, "dynamic": False}])
def test_gradients_that_no_smaller_scale_mends_stop_the_run(scaling):
    method = _float16(tiny.bssl, optimizer=SGD, **scaling)
    before = tiny.parameters(method.networks["student"])
    loss_terms = method.loss_terms
    # The loss itself is finite in float32, its gradient is beyond float16.
    factor = 1e9 if scaling["scale"] == 1 else 1.0
    method.loss_terms = lambda batch: {name: factor * value for name, value in loss_terms(batch).items()}
    with pytest.raises(tf.errors.InvalidArgumentError, match=NOT_FINITE):
        method.train_step(tiny.batch())
    tiny.assert_identical(tiny.parameters(method.networks["student"]), before)


@pytest.mark.parametrize(("name", "policy"), [("dino", "mixed_bfloat16"), ("bssl", "mixed_float16")])
def test_two_replicas_in_half_precision(name, policy):
    make, make_batch = METHODS[name]
    tf.keras.mixed_precision.set_global_policy(policy)
    with two_replicas().scope():
        # Two steps that overflow, and others after them.
        method = _float16(make, 2.0**20) if policy == "mixed_float16" else make()
    start = tiny.parameters(method.networks["student"])
    data = tf.data.Dataset.from_tensor_slices(make_batch(size=8)).repeat().batch(8, drop_remainder=True)
    history = method.fit(data, epochs=1, steps_per_epoch=12, verbose=0).history
    assert np.isfinite(list(history.values())).all()
    tiny.assert_all_differ(tiny.parameters(method.networks["student"]), start)
    for variable in method.optimized_variables:
        first, second = two_replicas().experimental_local_results(variable)
        assert first.dtype == tf.float32
        np.testing.assert_array_equal(first, second, err_msg=variable.name)
    if policy == "mixed_float16":
        assert float(method.optimizer.loss_scale) < 2.0**20

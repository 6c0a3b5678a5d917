"""Mixed precision: steps run, losses and features stay float32, infinite scaled gradients are skipped."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import models
from larq_ssl.methods.base import NOT_FINITE
from larq_ssl.methods.bssl import BSSL, default_heads
from larq_ssl.optimizers import SGD
from tests.methods import tiny


def _optimizer(policy, **arguments):
    if policy != "mixed_float16":
        return SGD(0.01)
    return tf.keras.mixed_precision.LossScaleOptimizer(SGD(0.01), **arguments)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_networks_train(policy):
    tf.keras.mixed_precision.set_global_policy(policy)
    teacher, student = (
        models.build(name, binarization=binarization, stem="cifar", width=0.125)
        for name, binarization in (("resnet_18", "none"), ("reactnet_18", "full"))
    )
    method = BSSL(teacher, student, default_heads(teacher, student, classes=8, hidden_dim=16))
    method.compile(_optimizer(policy, initial_scale=128))
    batches = [tiny.batch(seed, 4, image=(16, 16, 3)) for seed in range(2)]
    for encoder in (teacher, student):
        assert encoder.compute_dtype == policy.removeprefix("mixed_")
        assert encoder(batches[0]["global"][:, 0], training=True).dtype == tf.float32
    before = tiny.parameters(student)
    for terms in tiny.trained(method, batches):
        assert np.isfinite(list(terms.values())).all()
    assert method.encode(batches[0]["global"][:, 0]).dtype == tf.float32
    assert int(method.optimizer.iterations) == 2
    assert method.variables_without_gradient() == []
    after = tiny.parameters(student)
    assert {array.dtype for array in after.values()} == {np.dtype(np.float32)}
    tiny.assert_all_differ(after, before)


def _s2bnn(**arguments):
    return tiny.s2bnn("contrastive_guided", **arguments)


def _simclr(**arguments):
    # At 0.1 the gradients of the head, whose first kernels are small, are beyond float16 with this scale.
    return tiny.simclr(temperature=0.5, **arguments)


def _byol(**arguments):
    return tiny.byol(make=tiny.encoder, **arguments)


def _msbreg(**arguments):
    return tiny.msbreg(make=tiny.encoder, **arguments)


@pytest.mark.parametrize(
    ("make", "policy"),
    [
        (tiny.bssl, "mixed_float16"),
        (tiny.moco, "mixed_bfloat16"),
        (_s2bnn, "mixed_bfloat16"),
        (_simclr, "mixed_float16"),
        (_byol, "mixed_float16"),
        (_msbreg, "mixed_bfloat16"),
    ],
)
def test_methods_train_in_a_graph_as_in_float32(make, policy):
    float32 = tiny.trained(make(optimizer=SGD(0.01)), [tiny.batch()])[0]
    tf.keras.utils.set_random_seed(0)
    tf.keras.mixed_precision.set_global_policy(policy)
    method = make(optimizer=_optimizer(policy, initial_scale=128))
    terms = tiny.trained(method, [tiny.batch(), tiny.batch(1)], in_graph=True)
    for name, value in float32.items():
        assert terms[0][name] == pytest.approx(value, rel=0.1, abs=0.1), name
    assert np.isfinite(list(terms[1].values())).all()


@pytest.mark.parametrize("make", [tiny.bssl, tiny.moco])
def test_updates_do_not_depend_on_the_loss_scale(make):
    steps = []
    for scale in (1.0, 1024.0):
        tf.keras.utils.set_random_seed(0)
        method = make(optimizer=_optimizer("mixed_float16", initial_scale=scale), gradient_clip=0.1)
        before = [variable.numpy() for variable in method.optimized_variables]
        tiny.trained(method, [tiny.batch()])
        steps.append([old - new.numpy() for old, new in zip(before, method.optimized_variables, strict=True)])
    for one, other in zip(*steps, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("in_graph", [False, True])
def test_scaled_gradients_that_overflow_are_skipped(in_graph):
    tf.keras.mixed_precision.set_global_policy("mixed_float16")
    method = tiny.bssl(optimizer=_optimizer("mixed_float16", initial_scale=2.0**30))
    before = {name: tiny.parameters(network) for name, network in method.networks.items()}
    terms = tiny.trained(method, [tiny.batch()], in_graph)[0]
    # The step counts, so that the stream of batches and the schedules go on.
    assert int(method.optimizer.iterations) == 1
    assert float(method.optimizer.loss_scale) == 2.0**29
    for name, network in method.networks.items():
        tiny.assert_identical(tiny.parameters(network), before[name])
    # An ordinary event, which must not spoil the means of an epoch or a checkpoint, nor look like no gradient.
    assert np.isfinite(list(terms.values())).all(), terms
    assert np.isfinite(method.gradient_seen).all()
    assert method.variables_without_gradient() == []


def test_a_loss_that_is_not_finite_stops_the_run_all_the_same():
    tf.keras.mixed_precision.set_global_policy("mixed_float16")
    method = tiny.bssl(optimizer=_optimizer("mixed_float16"))
    batch = {"global": np.nan * tf.cast(tiny.batch()["global"], tf.float32)}
    with pytest.raises(tf.errors.InvalidArgumentError, match=NOT_FINITE):
        tiny.trained(method, [batch])


def test_keras_wraps_the_optimizer_itself_in_float16():
    tf.keras.mixed_precision.set_global_policy("mixed_float16")
    method = tiny.moco(optimizer=SGD(0.01))
    assert isinstance(method.optimizer, tf.keras.mixed_precision.LossScaleOptimizer)
    one = tf.data.Dataset.from_tensors(tiny.batch()).repeat()
    history = method.fit(one, epochs=1, steps_per_epoch=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("make", [tiny.supervised, tiny.distill])
def test_classifiers_train_in_a_graph_as_in_float32(make, policy):
    batches = [tiny.one_view_batch(seed, unlabelled=[seed]) for seed in range(2)]
    float32 = tiny.trained(make(optimizer=SGD(0.01), classifier_rate=2.0), batches)
    tf.keras.utils.set_random_seed(0)
    tf.keras.mixed_precision.set_global_policy(policy)
    method = make(optimizer=_optimizer(policy, initial_scale=128), classifier_rate=2.0)
    for ours, theirs in zip(tiny.trained(method, batches, in_graph=True), float32, strict=True):
        for name in ("loss", "gradient_norm/classifier"):
            assert ours[name] == pytest.approx(theirs[name], rel=0.1, abs=0.1), name
    assert method.classify(batches[0]["global"][:, 0]).dtype == tf.float32
    assert method.variables_without_gradient() == []

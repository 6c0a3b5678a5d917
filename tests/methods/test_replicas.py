"""Two replicas take the step that one takes on the whole batch."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import distribute, models
from larq_ssl.heads import mlp_head
from larq_ssl.methods.base import NOT_FINITE
from larq_ssl.methods.bssl import BSSL
from larq_ssl.methods.moco import MoCo
from larq_ssl.models.folder import encoder_hash
from larq_ssl.models.transfer import copy_weights
from larq_ssl.optimizers import SGD
from tests.methods import tiny
from tests.replicas import two_replicas

SIZE = 8
# Of half a batch on each replica; the others are of the whole batch, or a mean over its images.
PER_REPLICA = {"embedding_std"}


def _both(make):
    """A method on one device and on two, of the same weights."""
    single = make()
    with two_replicas().scope():
        mirrored = make()
        for name, network in single.networks.items():
            copy_weights(network, mirrored.networks[name])
    return single, mirrored


def _metrics_of_both(single, mirrored, batches):
    """The means of the metrics over the steps: of one replica step by step, of two by `fit`."""
    history = tiny.trained(single, batches)
    means = {name: np.mean([terms[name] for terms in history]) for name in history[0]}
    return means, {name: values[0] for name, values in _fit(mirrored, batches).items()}


def _fit(method, batches):
    size = len(batches[0]["id"])
    images = {key: tf.concat([one[key] for one in batches], 0) for key in batches[0]}
    data = tf.data.Dataset.from_tensor_slices(images).batch(size, drop_remainder=True)
    return method.fit(data, epochs=1, steps_per_epoch=len(batches), verbose=0).history


def _assert_equal(single, mirrored, tolerance=1e-5):
    for name, network in single.networks.items():
        tiny.assert_close(tiny.parameters(mirrored.networks[name]), tiny.parameters(network), tolerance)
        tiny.assert_close(tiny.statistics(mirrored.networks[name]), tiny.statistics(network), tolerance)
    for variable in mirrored.optimized_variables:
        first, second = two_replicas().experimental_local_results(variable)
        np.testing.assert_array_equal(first, second, err_msg=variable.name)


def _assert_equal_metrics(single, mirrored, besides=PER_REPLICA, near=1e-4):
    assert set(single) == set(mirrored)
    for name in set(single) - besides:
        assert mirrored[name] == pytest.approx(single[name], rel=near), name


@pytest.mark.parametrize(
    ("preset", "arguments"),
    [("paper", {"gradient_clip": 0.1}), ("released", {"accumulate": 2, "batch_norm": False})],
)
def test_bssl_takes_the_same_step(preset, arguments):
    single, mirrored = _both(
        lambda: tiny.bssl(preset, synchronized=True, optimizer=SGD(0.1, momentum=0.9), **arguments)
    )
    before = {name: tiny.parameters(network) for name, network in single.networks.items()}
    batches = [tiny.batch(size=SIZE)]
    # Each replica cuts its own images into parts, so the parts are others.
    besides = PER_REPLICA | ({"class_usage"} if "accumulate" in arguments else set())
    _assert_equal_metrics(*_metrics_of_both(single, mirrored, batches), besides)
    _assert_equal(single, mirrored)
    tiny.assert_all_differ(tiny.parameters(single.networks["student_head"]), before["student_head"])
    np.testing.assert_allclose(mirrored.gradient_seen, single.gradient_seen, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    "arguments",
    [
        {"synchronized": True},
        # What keys are shuffled for: without synchronised statistics, in groups within replicas.
        {"batch_norm": False, "batch_norm_groups": 2},
    ],
)
def test_moco_takes_the_same_steps(arguments):
    single, mirrored = _both(lambda: tiny.moco(optimizer=SGD(0.1), momentum=0.5, **arguments))
    batches = [tiny.batch(seed, SIZE) for seed in range(3)]
    _assert_equal_metrics(*_metrics_of_both(single, mirrored, batches))
    _assert_equal(single, mirrored)
    assert mirrored.queue.pointer.numpy() == single.queue.pointer.numpy() == 3 * SIZE % 16
    for replica in two_replicas().experimental_local_results(mirrored.queue.keys):
        np.testing.assert_allclose(replica, single.queue.keys, atol=1e-5)


@pytest.mark.parametrize(
    "arguments",
    [
        {"jigsaw": True, "synchronized": True},
        {"jigsaw": True, "batch_norm": False, "batch_norm_groups": 2},
        {"synchronized": True},
    ],
)
def test_infomin_takes_the_same_steps(arguments):
    single, mirrored = _both(lambda: tiny.infomin(optimizer=SGD(0.1), momentum=0.5, **arguments))
    before = {name: tiny.parameters(network) for name, network in single.networks.items()}
    make = tiny.jigsaw_batch if "jigsaw" in arguments else tiny.batch
    batches = [make(seed, SIZE) for seed in range(3)]
    _assert_equal_metrics(*_metrics_of_both(single, mirrored, batches))
    _assert_equal(single, mirrored)
    for name, network in single.networks.items():
        tiny.assert_all_differ(tiny.parameters(network), before[name])
    assert mirrored.queue.pointer.numpy() == single.queue.pointer.numpy() == 3 * SIZE % 16
    for replica in two_replicas().experimental_local_results(mirrored.queue.keys):
        np.testing.assert_allclose(replica, single.queue.keys, atol=1e-5)


@pytest.mark.parametrize("scheme", ["contrastive_guided", "guided"])
def test_s2bnn_takes_the_same_steps(scheme):
    arguments = {} if scheme == "guided" else {"momentum": 0.5}
    single, mirrored = _both(lambda: tiny.s2bnn(scheme, synchronized=True, **arguments))
    before = {name: tiny.parameters(network) for name, network in single.networks.items()}
    batches = [tiny.batch(seed, SIZE) for seed in range(3)]
    _assert_equal_metrics(*_metrics_of_both(single, mirrored, batches))
    _assert_equal(single, mirrored)
    for name in ("student", "student_head"):
        tiny.assert_all_differ(tiny.parameters(single.networks[name]), before[name])
    for name, memory in single.memories.items():
        assert mirrored.memories[name].pointer.numpy() == memory.pointer.numpy() == 3 * SIZE % 16
        for replica in two_replicas().experimental_local_results(mirrored.memories[name].keys):
            np.testing.assert_allclose(replica, memory.keys, atol=1e-5)


@pytest.mark.parametrize("arguments", [{}, {"linear_probe": True, "gradient_clip": 0.05, "alpha": 0.4}])
def test_dino_takes_the_same_steps(arguments):
    single, mirrored = _both(lambda: tiny.dino(synchronized=True, momentum=0.5, **arguments))
    before = {name: tiny.parameters(network) for name, network in single.networks.items()}
    batches = [tiny.multi_crop_batch(seed, SIZE) for seed in range(3)]
    # Labels of some images, not as many on each replica.
    known = np.arange(SIZE) % 3 > 0
    batches = [{**one, "label": tf.where(known, one["label"], -1)} for one in batches]
    _assert_equal_metrics(*_metrics_of_both(single, mirrored, batches), PER_REPLICA | {"class_usage"})
    _assert_equal(single, mirrored)
    for network in single.networks.values():
        tiny.assert_all_differ(tiny.parameters(network), before[network.name])
    for replica in two_replicas().experimental_local_results(mirrored.center.mean):
        np.testing.assert_allclose(replica, single.center.mean, atol=1e-5)
    assert np.abs(single.center.mean).max() > 1e-3


def test_moco_star_takes_the_same_steps():
    single, mirrored = _both(lambda: tiny.moco_star(synchronized=True, momentum=0.5, alpha=0.4, linear_probe=True))
    before = {name: tiny.parameters(network) for name, network in single.networks.items()}
    batches = [tiny.multi_crop_batch(seed, SIZE) for seed in range(3)]
    _assert_equal_metrics(*_metrics_of_both(single, mirrored, batches))
    _assert_equal(single, mirrored)
    for network in single.networks.values():
        tiny.assert_all_differ(tiny.parameters(network), before[network.name])
    assert mirrored.queue.pointer.numpy() == single.queue.pointer.numpy() == 3 * SIZE % 16
    for replica in two_replicas().experimental_local_results(mirrored.queue.keys):
        np.testing.assert_allclose(replica, single.queue.keys, atol=1e-5)


@pytest.mark.parametrize("memory", [False, True])
def test_simclr_takes_the_same_steps(memory):
    arguments = {"memory": memory, "linear_probe": True, "probe_weight_decay": 0.1, "temperature": 0.5}
    arguments |= {"momentum": 0.5} if memory else {}
    single, mirrored = _both(lambda: tiny.simclr(synchronized=True, optimizer=SGD(0.02), **arguments))
    before = {name: tiny.parameters(network) for name, network in single.networks.items()}
    batches = [tiny.labelled_batch(seed, SIZE) for seed in range(3)]
    # Labels of some images, not as many on each replica.
    known = np.arange(SIZE) % 3 > 0
    batches = [{**one, "label": tf.where(known, one["label"], -1)} for one in batches]
    _assert_equal_metrics(*_metrics_of_both(single, mirrored, batches))
    _assert_equal(single, mirrored)
    for name, network in single.networks.items():
        tiny.assert_all_differ(tiny.parameters(network), before[name])
    # That of a batch of all replicas.
    assert dict(mirrored.collapse_values) == dict(single.collapse_values)
    if memory:
        assert mirrored.queue.pointer.numpy() == single.queue.pointer.numpy() == 3 * 2 * SIZE % 32
        for replica in two_replicas().experimental_local_results(mirrored.queue.keys):
            np.testing.assert_allclose(replica, single.queue.keys, atol=1e-4)


def test_swav_takes_the_same_steps():
    # The queue is full, and used, in the third step.
    arguments = {"queue_size": 16, "alpha": 0.4, "linear_probe": True, "synchronized": True}
    single, mirrored = _both(lambda: tiny.swav(optimizer=SGD(0.02, momentum=0.9), **arguments))
    before = {name: tiny.parameters(network) for name, network in single.networks.items()}
    batches = [tiny.multi_crop_batch(seed, SIZE) for seed in range(3)]
    _assert_equal_metrics(*_metrics_of_both(single, mirrored, batches))
    _assert_equal(single, mirrored)
    for name, network in single.networks.items():
        tiny.assert_all_differ(tiny.parameters(network), before[name])
    assert bool(single.queue.is_full())
    for replica in two_replicas().experimental_local_results(mirrored.queue.embeddings):
        # Features of noise differ little, which the batch norm of the head enlarges, rounding too.
        np.testing.assert_allclose(replica, single.queue.embeddings, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "views", "arguments"),
    [
        (tiny.byol, 2, {"uniformity_weight": 0.5, "linear_probe": True}),
        (tiny.byol, 2, {"accumulate": 2, "batch_norm": False}),
        # Each image is pushed in its own direction, wherever it is.
        (tiny.msbreg, 3, {"lambda_s": 0.5, "lambda_b": 2.0, "linear_probe": True}),
        (tiny.msbreg, 2, {"lambda_s": 0.5, "rows": "view", "spectrum": "cov", "brownian_per_view": True}),
    ],
)
def test_byol_and_msbreg_take_the_same_steps(make, views, arguments):
    # Of all pixels, not their means, which differ little: batch norm enlarges differences, and those of rounding too.
    encoder = functools.partial(tiny.encoder, batch_norm=arguments.get("batch_norm", True), synchronized=True)
    single, mirrored = _both(
        lambda: make(make=encoder, synchronized=True, momentum=0.5, optimizer=SGD(0.02), **arguments)
    )
    before = {name: tiny.parameters(network) for name, network in single.networks.items()}
    batches = [tiny.multi_crop_batch(seed, SIZE, views=(views, 0), sides=(4, 4)) for seed in range(2)]
    _assert_equal_metrics(*_metrics_of_both(single, mirrored, batches))
    _assert_equal(single, mirrored, 2e-5)
    for name, network in single.networks.items():
        tiny.assert_all_differ(tiny.parameters(network), before[name])


@pytest.mark.parametrize("arguments", [{}, {"label_smoothing": 0.1, "classifier_decay": 0.1, "classifier_rate": 3.0}])
def test_supervised_takes_the_same_steps(arguments):
    single, mirrored = _both(lambda: tiny.supervised(synchronized=True, optimizer=SGD(0.1, momentum=0.9), **arguments))
    before = {name: tiny.parameters(network) for name, network in single.networks.items()}
    # Labels of some images, not as many on each replica.
    batches = [tiny.one_view_batch(seed, SIZE, unlabelled=[0, 2, 5]) for seed in range(3)]
    _assert_equal_metrics(*_metrics_of_both(single, mirrored, batches))
    _assert_equal(single, mirrored)
    for name, network in single.networks.items():
        tiny.assert_all_differ(tiny.parameters(network), before[name])


def test_several_labels_are_learned_in_the_same_steps():
    single, mirrored = _both(lambda: tiny.multi_label(synchronized=True, optimizer=SGD(0.1, momentum=0.9)))
    before = {name: tiny.parameters(network) for name, network in single.networks.items()}
    batches = [tiny.several_batch(seed, SIZE) for seed in range(3)]
    _assert_equal_metrics(*_metrics_of_both(single, mirrored, batches))
    _assert_equal(single, mirrored)
    for name, network in single.networks.items():
        tiny.assert_all_differ(tiny.parameters(network), before[name])


@pytest.mark.parametrize("alpha", [1.0, 0.4])
def test_distill_takes_the_same_steps(alpha):
    single, mirrored = _both(lambda: tiny.distill(synchronized=True, alpha=alpha, temperature=0.5))
    before = {name: tiny.parameters(network) for name, network in single.networks.items()}
    # In the last batch, one replica has no label at all.
    batches = [tiny.one_view_batch(seed, SIZE, unlabelled) for seed, unlabelled in enumerate([[0], [1, 6], range(4)])]
    _assert_equal_metrics(*_metrics_of_both(single, mirrored, batches))
    _assert_equal(single, mirrored)
    for name, network in single.networks.items():
        moved = tiny.assert_identical if name.startswith("teacher") else tiny.assert_all_differ
        moved(tiny.parameters(network), before[name])


def test_keys_of_replicas_are_shuffled_between_them():
    single, mirrored = _both(lambda: tiny.moco(optimizer=SGD(0.0, momentum=0.0)))
    batches = [tiny.batch(size=SIZE)]
    _fit(mirrored, batches)
    images = batches[0]["global"][:, 1]
    encoder, head = single.networks["momentum_encoder"], single.networks["momentum_head"]
    halves = [head(encoder(part, training=True)) for part in tf.split(images, 2)]
    unshuffled = tf.math.l2_normalize(tf.concat(halves, 0), axis=1)
    # BatchNorm saw other halves than those that share a replica as queries.
    assert np.abs(mirrored.queue.keys[:SIZE] - unshuffled).max() > 0.01


def _best_batch(encoder):
    """Of several batches, the one in which what is to be binarised is the furthest from a flip by rounding."""
    candidates = [tiny.batch(seed, size=4) for seed in range(6)]
    twin = tiny.binary_encoder("twin", synchronized=True)
    copy_weights(encoder, twin)
    before_signs = tf.keras.Model(twin.input, [twin.get_layer(f"block1/sign{index}").output for index in (1, 2)])

    def margin(batch):
        views = [before_signs(batch["global"][:, view], training=True) for view in range(2)]
        return min(float(tf.reduce_min(tf.abs(values))) for view in views for values in view)

    best = max(candidates, key=margin)
    assert margin(best) > 1e-5
    return best


def _binary_bssl(encoder):
    heads = {"projector": mlp_head("projector", 8, [], 6, norm="none")}
    for name in ("teacher_head", "student_head"):
        heads[name] = mlp_head(name, 6, [7], 4, norm="batch", synchronized=True)
    method = BSSL(tiny.encoder("teacher", 6), encoder("student"), heads)
    method.compile(SGD(0.1))
    return method


def _binary_moco(encoder):
    networks = []
    for name, head in (("student", "student_head"), ("momentum_encoder", "momentum_head")):
        networks += [encoder(name), mlp_head(head, 8, [7], 5, norm="none")]
    method = MoCo(*networks, queue_size=16)
    method.compile(SGD(0.1))
    return method


def _binary_s2bnn(encoder):
    return tiny.s2bnn("contrastive_guided", make=encoder, dims=(8, 6))


@pytest.mark.parametrize("make", [_binary_bssl, _binary_moco, pytest.param(_binary_s2bnn, marks=pytest.mark.slow)])
@pytest.mark.parametrize("compute", tiny.NEAR)
def test_binary_networks_take_the_same_step_where_no_sign_is_near_its_flip(make, compute):
    encoder = functools.partial(tiny.binary_encoder, synchronized=True, binary_compute=compute)
    single, mirrored = _both(lambda: make(encoder))
    batches = [_best_batch(single.networks["student"])]
    before = [variable.numpy() for variable in single.optimized_variables]
    # Norms of gradients are among them.
    _assert_equal_metrics(*_metrics_of_both(single, mirrored, batches), near=tiny.NEAR[compute] / 10)
    assert single.variables_without_gradient() == mirrored.variables_without_gradient() == []
    for start, one, other in zip(before, single.optimized_variables, mirrored.optimized_variables, strict=True):
        step = one.numpy() - start
        near = tiny.NEAR[compute] * np.abs(step).max()
        np.testing.assert_allclose(other.numpy() - start, step, atol=near, err_msg=one.name)


def test_encoders_are_synchronised_in_training_only():
    plain, synchronised = (
        models.build("reactnet_18", stem="cifar", width=0.125, synchronized=flag) for flag in (False, True)
    )
    for encoder, expected in ((plain, False), (synchronised, True), (synchronised.at(32), True)):
        norms = [layer for layer in encoder.layers if isinstance(layer, tf.keras.layers.BatchNormalization)]
        assert len(norms) == 20
        assert {layer.synchronized for layer in norms} == {expected}
    assert synchronised.spec == plain.spec
    copy_weights(plain, synchronised)
    assert encoder_hash(synchronised) == encoder_hash(plain)


def test_gathering_carries_what_collectives_refuse():
    values = tf.range(256, dtype=tf.int32)
    for dtype in (tf.uint8, tf.bool, tf.bfloat16, tf.float32, tf.int64):
        expected = tf.cast(values, dtype)

        def gathered(whole):
            part = distribute.replica_slice(whole)
            tf.debugging.assert_equal(tf.size(part), 128)
            return distribute.all_gather(part)

        results = two_replicas().run(tf.function(gathered), args=(expected,))
        for result in two_replicas().experimental_local_results(results):
            assert result.dtype == dtype
            np.testing.assert_array_equal(result, expected)


def test_strategies_have_names():
    assert distribute.strategy("single") is tf.distribute.get_strategy()
    assert distribute.replicas() == 1
    with pytest.raises(ValueError, match="strategy must be one of single, mirrored, multi_worker, tpu, got 'many'"):
        distribute.strategy("many")


def test_what_is_not_finite_on_one_replica_is_applied_on_none():
    with two_replicas().scope():
        method = tiny.moco(batch_norm=False)
    before = [variable.numpy() for variable in (*method.optimized_variables, method.queue.keys)]
    images = tf.cast(tiny.batch(size=SIZE)["global"], tf.float32)
    bad = tf.tensor_scatter_nd_update(images, [[SIZE - 1, 0, 0, 0, 0]], [np.nan])
    with pytest.raises(tf.errors.InvalidArgumentError, match=NOT_FINITE):
        _fit(method, [{**tiny.batch(size=SIZE), "global": bad}])
    for variable, value in zip((*method.optimized_variables, method.queue.keys), before, strict=True):
        np.testing.assert_array_equal(variable, value)

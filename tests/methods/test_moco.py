"""MoCo: the official steps, the momentum encoder, and groups of BatchNorm with shuffled keys."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.heads import mlp_head
from larq_ssl.losses import info_nce, unit_rows
from larq_ssl.methods.moco import MoCo
from larq_ssl.models.transfer import assign_weights, copy_weights, named_weights
from larq_ssl.optimizers import SGD
from tests import golden
from tests.comparing import assert_near
from tests.methods import tiny


def _official(arrays):
    """MoCo around the official two-layer network, whose first layer is the encoder and whose second the head."""
    (inputs, hidden), outputs = arrays["moco/init/dense1/kernel"].shape, len(arrays["moco/init/dense2/bias"])

    def encoder(name):
        dense = tf.keras.layers.Dense(hidden, activation="relu", name="dense1")
        return tf.keras.Sequential([tf.keras.Input([inputs]), dense], name=name)

    def head(name):
        dense = tf.keras.layers.Dense(outputs, name="dense2")
        return tf.keras.Sequential([tf.keras.Input([hidden]), dense], name=name)

    student, student_head = encoder("student"), head("student_head")
    for network in (student, student_head):
        for key, weight in named_weights(network).items():
            weight.assign(arrays[f"moco/init/{key}"])
    method = MoCo(
        student,
        student_head,
        encoder("momentum_encoder"),
        head("momentum_head"),
        queue_size=len(arrays["moco/init/queue"]),
        temperature=float(arrays["moco/tau"]),
        momentum=float(arrays["moco/momentum"]),
    )
    method.queue.keys.assign(arrays["moco/init/queue"])
    method.queue.pointer.assign(arrays["moco/init/pointer"])
    method.compile(SGD(float(arrays["moco/sgd_lr"]), momentum=0.0))
    return method


@pytest.mark.parametrize("in_graph", [False, True])
def test_steps_are_the_official_ones(in_graph):
    arrays = golden.load("l4_losses")
    method = _official(arrays)
    steps = sum(key.startswith("moco/step") and key.endswith("/loss") for key in arrays)
    assert steps
    step = tf.function(method.train_step, autograph=False) if in_graph else method.train_step
    for index in range(steps):
        expected = {
            key.removeprefix(f"moco/step{index}/"): value for key, value in arrays.items() if f"step{index}/" in key
        }
        pointer = int(method.queue.pointer)
        views = tf.stack([expected["x_query"], expected["x_key"]], axis=1)
        method.reset_metrics()
        terms = step({"global": views, "id": tf.range(len(views), dtype=tf.int64)})
        assert_near(terms["loss"], expected["loss"])
        right = np.argmax(expected["logits"], axis=1) == 0
        assert float(terms["accuracy"]) == pytest.approx(right.mean())
        # The official positive logit is the similarity of the key that has just entered the queue.
        keys = method.queue.keys.numpy()[pointer : pointer + len(views)]
        queries = expected["query_raw"] / np.linalg.norm(expected["query_raw"], axis=1, keepdims=True)
        positive = np.sum(queries * keys, axis=1) / arrays["moco/tau"]
        assert_near(positive, expected["logits"][:, 0], 1e-4)
        assert_near(method.queue.keys, expected["queue_after"], what="queue")
        assert int(method.queue.pointer) == expected["pointer_after"]
        for prefix, networks in (
            ("query_encoder_after", ("student", "student_head")),
            ("key_encoder", ("momentum_encoder", "momentum_head")),
        ):
            for name in networks:
                for key, weight in named_weights(method.networks[name]).items():
                    assert_near(weight, expected[f"{prefix}/{key}"], what=f"{index} {prefix}/{key}")


def test_momentum_encoder_starts_as_a_copy():
    method = tiny.moco()
    for source, target in (("student", "momentum_encoder"), ("student_head", "momentum_head")):
        source, target = (named_weights(method.networks[name]) for name in (source, target))
        tiny.assert_identical(
            {key: weight.numpy() for key, weight in target.items()},
            {key: weight.numpy() for key, weight in source.items()},
        )
        assert not {id(weight) for weight in source.values()} & {id(weight) for weight in target.values()}


@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.999, 1.0])
def test_momentum_encoder_follows_the_weights_of_the_step_before(momentum):
    method = tiny.moco(momentum=momentum, optimizer=SGD(0.5))
    pairs = [("student", "momentum_encoder"), ("student_head", "momentum_head")]
    averages = {target: tiny.parameters(method.networks[source]) for source, target in pairs}
    start = {target: dict(averages[target]) for _, target in pairs}
    for seed in range(3):
        for source, target in pairs:
            for key, weights in tiny.parameters(method.networks[source]).items():
                averages[target][key] = momentum * averages[target][key] + (1 - momentum) * weights.astype(np.float64)
        tiny.trained(method, [tiny.batch(seed)])
        for _, target in pairs:
            tiny.assert_close(tiny.parameters(method.networks[target]), averages[target], 1e-6)
    for source, target in pairs:
        now = tiny.parameters(method.networks[target])
        if momentum == 1.0:
            tiny.assert_identical(now, start[target])
        else:
            tiny.assert_all_differ(now, start[target])
        tiny.assert_all_differ(tiny.parameters(method.networks[source]), start[target])


def test_each_network_keeps_the_batch_norm_statistics_of_its_own_images():
    method, batch = tiny.moco(momentum=0.5), tiny.batch()
    initial = {key: weight.numpy() for key, weight in named_weights(method.networks["student"]).items()}
    tiny.trained(method, [batch])
    moving = {}
    for view, name in enumerate(("student", "momentum_encoder")):
        alone = tiny.encoder("alone")
        assign_weights(alone, initial)
        # Before the first update both networks have the same weights: the views make the difference.
        alone(batch["global"][:, view], training=True)
        moving[name] = tiny.statistics(method.networks[name])
        tiny.assert_close(moving[name], tiny.statistics(alone))
        tiny.assert_all_differ(moving[name], {key: initial[key] for key in moving[name]})
    tiny.assert_all_differ(moving["student"], moving["momentum_encoder"])


def test_queue_holds_the_keys_in_the_order_of_the_images():
    method, size = tiny.moco(batch_norm=False, queue_size=16), 4
    method.queue.pointer.assign(8)
    batches = [tiny.batch(seed, size) for seed in range(3)]
    expected = method.queue.keys.numpy()
    for index, batch in enumerate(batches):
        tiny.trained(method, [batch])
        keys = method.networks["momentum_head"](method.networks["momentum_encoder"](batch["global"][:, 1]))
        start = (8 + index * size) % 16
        expected[start : start + size] = tf.math.l2_normalize(keys, axis=1)
        np.testing.assert_allclose(method.queue.keys, expected, atol=1e-5)
        assert int(method.queue.pointer) == (start + size) % 16


@pytest.mark.parametrize("in_graph", [False, True])
def test_groups_and_their_shuffling_change_nothing_without_batch_norm(in_graph):
    whole, grouped = tiny.moco(batch_norm=False), tiny.moco(batch_norm=False, batch_norm_groups=4)
    for name, network in whole.networks.items():
        copy_weights(network, grouped.networks[name])
    batches = [tiny.batch(seed) for seed in range(3)]
    expected, actual = (tiny.trained(method, batches, in_graph) for method in (whole, grouped))
    for one, other in zip(actual, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-4)
    np.testing.assert_allclose(grouped.queue.keys, whole.queue.keys, atol=1e-5)
    for name, network in whole.networks.items():
        tiny.assert_close(tiny.parameters(grouped.networks[name]), tiny.parameters(network))


def test_groups_have_batch_norm_statistics_of_their_own():
    method, batch = tiny.moco(batch_norm_groups=4), tiny.batch(size=8)
    student = method.networks["student"]
    parts = [student(batch["global"][2 * group : 2 * group + 2, 0], training=True) for group in range(4)]
    whole = student(batch["global"][:, 0], training=True)
    grouped = method.contrast.query(batch["global"][:, 0])
    np.testing.assert_allclose(grouped, tf.concat(parts, 0), atol=1e-5)
    assert np.abs(grouped - whole).max() > 0.01


def test_keys_are_shuffled_between_the_groups_anew_in_each_step():
    method, images = tiny.moco(batch_norm_groups=4, seed=3), tiny.batch(size=8)["global"][:, 1]

    def keys_of(method, step):
        """What enters the queue."""
        start = int(method.queue.pointer)
        method.contrast.loss(tf.zeros([8, 5]), images, tf.constant(step, tf.int64))
        method.contrast.enqueue()
        return method.queue.keys.numpy()[start : start + 8]

    # The student has the weights of the momentum encoder.
    features = method.contrast.query(images)
    in_order = tf.math.l2_normalize(method.networks["momentum_head"](features), axis=1).numpy()
    first = keys_of(method, 0)
    np.testing.assert_array_equal(keys_of(method, 0), first)
    other = tiny.moco(batch_norm_groups=4, seed=4)
    for name in ("momentum_encoder", "momentum_head"):
        copy_weights(method.networks[name], other.networks[name])
    # Each image has keys that depend on whom it shares a group with; no two shufflings are alike.
    for keys in (in_order, keys_of(method, 1), keys_of(other, 0)):
        assert np.abs(keys - first).max() > 0.01
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), np.ones(8), rtol=1e-5)


def test_the_temperature_is_that_of_the_softmax():
    method, batch = tiny.moco(temperature=0.3), tiny.batch()
    embeddings = []
    for view, (encoder, head) in enumerate((("student", "student_head"), ("momentum_encoder", "momentum_head"))):
        features = method.networks[encoder](batch["global"][:, view], training=True)
        embeddings.append(unit_rows(method.networks[head](features, training=True)))
    expected = info_nce(*embeddings, method.queue.keys, 0.3)
    np.testing.assert_allclose(method.loss_terms(batch)["loss"], expected, rtol=1e-5)


def test_no_gradient_reaches_the_keys():
    method = tiny.moco()
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(method.loss_terms(tiny.batch())["loss"])
    targets = [method.networks[name].trainable_variables for name in ("momentum_encoder", "momentum_head")]
    assert tape.gradient(loss, targets) == [[None] * len(variables) for variables in targets]
    optimised = {id(variable) for variable in method.optimized_variables}
    assert not optimised & {id(variable) for variables in targets for variable in variables}


def test_an_embedding_of_zeros_does_not_blow_the_gradient_up():
    method = tiny.moco()
    for weight in method.networks["student_head"].get_layer("dense2").weights:
        weight.assign(tf.zeros_like(weight))
    terms = tiny.trained(method, [tiny.batch()])[0]
    assert terms["loss"] == pytest.approx(np.log(1 + 16), rel=1e-5)
    assert terms["gradient_norm/head"] < 100


def test_products_and_heads():
    method = tiny.moco()
    assert method.encoders == {
        "student": method.networks["student"],
        "ema": method.networks["momentum_encoder"],
    }
    assert set(method.heads) == {"student_head", "momentum_head"}
    assert method.memories == {"queue": method.queue}
    assert method.queue.keys.shape == (16, 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0.0}, r"temperature must be above 0, got 0\.0"),
        ({"momentum": 1.1}, r"momentum must lie in \[0, 1\], got 1\.1"),
        ({"momentum": -0.1}, r"momentum must lie in \[0, 1\], got -0\.1"),
        ({"batch_norm_groups": 0}, "batch_norm_groups must be at least 1, got 0"),
        ({"queue_size": 0}, "size of the queue must be positive, got 0"),
        ({"gradient_clip": -1.0}, r"gradient_clip must be above 0 or None, got -1\.0"),
        ({"accumulate": 2}, "accumulate must be 1 for MoCo, whose examples see each other .*, got 2"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny.moco(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_norm_groups": 3}, r"batch_norm_groups must divide the batch size per replica \(8\), got 3"),
        ({"queue_size": 12}, "size of the queue must be a multiple of the batch 8, got 12"),
    ],
)
def test_batches_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny.trained(tiny.moco(**arguments), [tiny.batch(size=8)])


def test_momentum_networks_of_another_architecture_are_refused():
    networks = [
        tiny.encoder("student"),
        mlp_head("student_head", 6, [7], 5, norm="none"),
        tiny.encoder("momentum_encoder", batch_norm=False),
        mlp_head("momentum_head", 6, [7], 5, norm="none"),
    ]
    with pytest.raises(ValueError, match="The weight .* of `momentum_encoder` is missing"):
        MoCo(*networks, queue_size=16)

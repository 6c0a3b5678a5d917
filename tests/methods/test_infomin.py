"""InfoMin: its step typed anew, the jigsaw branch, and a momentum encoder that follows after the update."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.heads import mlp_head
from larq_ssl.losses import info_nce, unit_rows
from larq_ssl.methods import InfoMin
from larq_ssl.models.transfer import named_weights
from larq_ssl.optimizers import SGD, Adam
from tests.comparing import assert_near
from tests.methods import tiny

PAIRS = (("student", "momentum_encoder"), ("student_head", "momentum_head"))


def _dense(name):
    """Takes views and patches of one size."""
    return tiny.encoder(name, 6, batch_norm=False)


def _retyped(weights, batch, queue, tau, momentum, rate, jigsaw):
    """A step in float64, image by image: loss, weights afterwards, and keys.

    # Arguments
        weights: By network and name; the momentum networks' are those of before the step.
    """
    weights = {
        network: {key: tf.Variable(array, dtype=tf.float64) for key, array in arrays.items()}
        for network, arrays in weights.items()
    }

    def layers(network, x):
        arrays = weights[network]
        for number in range(1, 1 + len(arrays) // 2):
            if number > 1:
                x = tf.maximum(x, 0.0)
            x = tf.linalg.matvec(arrays[f"dense{number}/kernel"], x, transpose_a=True) + arrays[f"dense{number}/bias"]
        return x

    def features(network, image):
        return layers(network, tf.reshape(tf.cast(image, tf.float64), [-1]) / 255.0)

    def unit(x):
        return x / tf.sqrt(tf.reduce_sum(x**2))

    def contrast(query, key):
        logits = tf.concat([[tf.reduce_sum(query * key)], tf.linalg.matvec(queue.astype(np.float64), query)], 0) / tau
        return tf.math.log(tf.reduce_sum(tf.exp(logits))) - logits[0]

    learning = [name for name in weights if not name.startswith("momentum")]
    variables = [variable for name in learning for variable in weights[name].values()]
    with tf.GradientTape() as tape:
        losses, keys = [], []
        for number in range(len(batch["id"])):
            first, second = batch["global"][number]
            keys.append(tf.stop_gradient(unit(layers("momentum_head", features("momentum_encoder", second)))))
            loss = contrast(unit(layers("student_head", features("student", first))), keys[-1])
            if jigsaw:
                parts = [layers("patch_head", features("student", patch)) for patch in batch["patches"][number]]
                query = unit(layers("jigsaw_head", tf.concat(parts, 0)))
                loss = 0.5 * loss + 0.5 * contrast(query, keys[-1])
            losses.append(loss)
        total = tf.add_n(losses) / len(losses)
    for variable, gradient in zip(variables, tape.gradient(total, variables), strict=True):
        variable.assign_sub(rate * gradient)
    # After the update: the new weights count.
    for source, target in PAIRS:
        for key, variable in weights[target].items():
            variable.assign(momentum * variable + (1.0 - momentum) * weights[source][key])
    return float(total), weights, np.array(keys)


@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize("jigsaw", [False, True])
def test_a_step_is_the_algorithm(jigsaw, in_graph):
    method = tiny.infomin(
        *(False, False, SGD(0.5, momentum=0.0)), jigsaw=jigsaw, make=_dense, momentum=0.7, temperature=0.3
    )
    for seed in range(3):
        one = {**tiny.batch(seed, 4), **({"patches": tiny.jigsaw_batch(seed)["patches"]} if jigsaw else {})}
        before = {
            name: {key: weight.numpy() for key, weight in named_weights(network).items()}
            for name, network in method.networks.items()
        }
        queue, start = method.queue.keys.numpy(), int(method.queue.pointer)
        loss, after, keys = _retyped(before, one, queue, 0.3, 0.7, 0.5, jigsaw)
        terms = tiny.trained(method, [one], in_graph)[0]
        assert terms["loss"] == pytest.approx(loss, rel=1e-5)
        for name, network in method.networks.items():
            for key, weight in named_weights(network).items():
                assert_near(weight, after[name][key], 1e-4, what=f"{name}/{key}")
                if not name.startswith("momentum"):
                    assert np.abs(weight - before[name][key]).max() > 1e-6, f"{name}/{key}"
        queue[start : start + 4] = keys
        assert_near(method.queue.keys, queue, what="queue")
        assert int(method.queue.pointer) == (start + 4) % 16


def test_without_patches_the_loss_is_that_of_moco():
    method, moco = tiny.infomin(make=tiny.encoder, seed=3), tiny.moco(temperature=0.15, seed=3)
    for name, network in moco.networks.items():
        method.networks[name].set_weights(network.get_weights())
    assert method.contrast.temperature == 0.15
    # Of the first step: momentum networks are copies, whenever they follow.
    expected, actual = (tiny.trained(one, [tiny.batch()])[0] for one in (moco, method))
    for name in ("loss", "accuracy", "embedding_std"):
        assert actual[name] == pytest.approx(expected[name], rel=1e-6)
    for name in ("student", "student_head"):
        tiny.assert_close(tiny.parameters(method.networks[name]), tiny.parameters(moco.networks[name]))
    np.testing.assert_allclose(method.queue.keys, moco.queue.keys, atol=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
def test_the_momentum_networks_follow_the_weights_of_the_same_step(momentum):
    method = tiny.infomin(momentum=momentum, optimizer=SGD(0.5), jigsaw=True)
    averages = {target: tiny.parameters(method.networks[target]) for _, target in PAIRS}
    for seed in range(3):
        tiny.trained(method, [tiny.jigsaw_batch(seed)])
        for source, target in PAIRS:
            for key, weights in tiny.parameters(method.networks[source]).items():
                averages[target][key] = momentum * averages[target][key] + (1 - momentum) * weights.astype(np.float64)
            tiny.assert_close(tiny.parameters(method.networks[target]), averages[target], 1e-6)
    if momentum == 0.0:
        for source, target in PAIRS:
            tiny.assert_identical(*(tiny.parameters(method.networks[name]) for name in (target, source)))


@pytest.mark.parametrize("jigsaw", [False, True])
@pytest.mark.parametrize("optimizer", [lambda: SGD(0.5), lambda: Adam(0.01)])
def test_everything_optimised_moves_and_nothing_else(optimizer, jigsaw):
    method = tiny.infomin(momentum=1.0, optimizer=optimizer(), jigsaw=jigsaw)
    before = {name: tiny.parameters(network) for name, network in method.networks.items()}
    make = tiny.jigsaw_batch if jigsaw else tiny.batch
    tiny.trained(method, [make(seed) for seed in range(3)], in_graph=True)
    assert method.variables_without_gradient() == []
    assert len(before) == (6 if jigsaw else 4)
    for name, network in method.networks.items():
        compare = tiny.assert_identical if name.startswith("momentum") else tiny.assert_all_differ
        compare(tiny.parameters(network), before[name])


def _jigsaw_queries(method, patches):
    """By hand, in the modes of training."""
    count = len(patches)
    features = method.networks["student"](tf.reshape(patches, [-1, *patches.shape[2:]]), training=True)
    parts = method.networks["patch_head"](features, training=True)
    return unit_rows(method.networks["jigsaw_head"](tf.reshape(parts, [count, -1]), training=True))


def test_both_queries_share_key_and_queue_and_count_alike():
    method, one = tiny.infomin(jigsaw=True, optimizer=SGD(0.0)), tiny.jigsaw_batch()
    queue = method.queue.keys.numpy()
    network = method.networks
    key = unit_rows(network["momentum_head"](network["momentum_encoder"](one["global"][:, 1], training=True)))
    view = unit_rows(network["student_head"](network["student"](one["global"][:, 0], training=True)))
    expected = [info_nce(query, key, queue, 0.15) for query in (view, _jigsaw_queries(method, one["patches"]))]
    terms = method.loss_terms(one)
    np.testing.assert_allclose(terms["contrastive"], expected[0], rtol=1e-4)
    np.testing.assert_allclose(terms["jigsaw"], expected[1], rtol=1e-4)
    np.testing.assert_allclose(terms["loss"], 0.5 * expected[0] + 0.5 * expected[1], rtol=1e-4)
    assert np.abs(expected[0] - expected[1]).max() > 0.01


def test_the_order_of_patches_is_the_order_of_their_embeddings():
    method, one = tiny.infomin(jigsaw=True, batch_norm=False, optimizer=SGD(0.0)), tiny.jigsaw_batch()
    order = [3, 1, 8, 0, 2, 7, 6, 4, 5]
    patches = one["patches"]
    first, other = (method.loss_terms({**one, "patches": p}) for p in (patches, tf.gather(patches, order, axis=1)))
    np.testing.assert_allclose(other["contrastive"], first["contrastive"], rtol=1e-6)
    assert np.abs(other["jigsaw"] - first["jigsaw"]).max() > 1e-4
    # The kernel of the jigsaw head moved along with them undoes it.
    kernel = method.networks["jigsaw_head"].get_layer("dense1").kernel
    kernel.assign(tf.reshape(tf.gather(tf.reshape(kernel, [9, 3, 5]), order), [27, 5]))
    undone = method.loss_terms({**one, "patches": tf.gather(patches, order, axis=1)})
    np.testing.assert_allclose(undone["jigsaw"], first["jigsaw"], rtol=1e-5)


def test_each_network_keeps_the_statistics_of_its_own_images():
    method, one = tiny.infomin(jigsaw=True, optimizer=SGD(0.0)), tiny.jigsaw_batch()
    tiny.trained(method, [one])
    patches = tf.reshape(one["patches"], [-1, *one["patches"].shape[2:]])
    # The student sees views and patches apart, one after the other.
    for name, groups in (("student", [one["global"][:, 0], patches]), ("momentum_encoder", [one["global"][:, 1]])):
        network, mean = method.networks[name], np.zeros(8)
        inner = tf.keras.Model(network.input, network.get_layer("conv1").output)
        for group in groups:
            mean = 0.9 * mean + 0.1 * np.mean(inner(group), axis=(0, 1, 2))
        np.testing.assert_allclose(network.get_layer("bn1").moving_mean, mean, rtol=1e-4, atol=1e-6)


def test_a_group_of_batch_norm_holds_all_patches_of_its_images():
    method, one = tiny.infomin(jigsaw=True, batch_norm_groups=2, optimizer=SGD(0.0)), tiny.jigsaw_batch()
    halves = [_jigsaw_queries(method, half) for half in tf.split(one["patches"], 2)]
    whole = _jigsaw_queries(method, one["patches"])
    actual = method._jigsaw_query(one["patches"])
    np.testing.assert_allclose(actual, tf.concat(halves, 0), atol=1e-5)
    assert np.abs(actual - whole).max() > 1e-3


def test_no_gradient_reaches_the_keys():
    method = tiny.infomin(jigsaw=True)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(method.loss_terms(tiny.jigsaw_batch())["loss"])
    targets = [method.networks[target].trainable_variables for _, target in PAIRS]
    assert tape.gradient(loss, targets) == [[None] * len(variables) for variables in targets]


@pytest.mark.parametrize("jigsaw", [False, True])
def test_products(jigsaw):
    method = tiny.infomin(jigsaw=jigsaw)
    assert method.encoders == {"student": method.networks["student"], "ema": method.networks["momentum_encoder"]}
    assert list(method.heads) == ["student_head", "momentum_head", *(["patch_head", "jigsaw_head"] if jigsaw else [])]
    assert method.memories == {"queue": method.queue}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0.0}, r"temperature must be above 0, got 0\.0"),
        ({"momentum": 1.1}, r"momentum must lie in \[0, 1\], got 1\.1"),
        ({"batch_norm_groups": 0}, "batch_norm_groups must be at least 1, got 0"),
        ({"queue_size": 0}, "size of the queue must be positive, got 0"),
        ({"gradient_clip": -1.0}, r"gradient_clip must be above 0 or None, got -1\.0"),
        ({"patch_head": mlp_head("p", 6, [4], 3, norm="none")}, "jigsaw_head must be given too"),
        ({"jigsaw_head": mlp_head("j", 27, [], 5, norm="none")}, "patch_head must be given too"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny.infomin(**arguments)


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        (28, 5, "jigsaw_head must take a multiple of what patch_head gives, 3 numbers, got 28"),
        (27, 4, "jigsaw_head must give as many numbers as student_head, 5, got 4"),
    ],
)
def test_heads_that_do_not_fit_are_refused(inputs, outputs, message):
    networks = [tiny.conv_encoder("student"), mlp_head("student_head", 6, [7], 5, norm="none")]
    networks += [tiny.conv_encoder("momentum_encoder"), mlp_head("momentum_head", 6, [7], 5, norm="none")]
    heads = mlp_head("p", 6, [4], 3, norm="none"), mlp_head("j", inputs, [], outputs, norm="none")
    with pytest.raises(ValueError, match=message):
        InfoMin(*networks, *heads, queue_size=16)


@pytest.mark.parametrize(
    ("jigsaw", "make", "message"),
    [(False, tiny.jigsaw_batch, "The batch has patches, .* no jigsaw"), (True, tiny.batch, "The batch has no patches")],
)
def test_patches_and_branch_come_together(jigsaw, make, message):
    with pytest.raises(ValueError, match=message):
        tiny.trained(tiny.infomin(jigsaw=jigsaw), [make()])

"""S2-BNN: its three schemes by their parts, what a scheme has and has not, and what stays frozen."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.heads import mlp_head
from larq_ssl.losses import distillation_cross_entropy, info_nce, unit_rows
from larq_ssl.methods.s2bnn import S2BNN, SCHEMES
from larq_ssl.models.transfer import copy_weights, named_weights
from larq_ssl.optimizers import SGD, Adam
from tests import golden
from tests.comparing import assert_near
from tests.methods import tiny

CONTRASTIVE = {"contrastive", "accuracy"}
GUIDED = {"distillation", "distillation_kl", "target_entropy"}
TERMS = {
    "contrastive": {"loss", "embedding_std"} | CONTRASTIVE,
    "contrastive_guided": {"loss", "embedding_std"} | CONTRASTIVE | GUIDED,
    "guided": {"loss", "embedding_std"} | GUIDED,
}


def _twin(scheme, of, **arguments):
    """Another method with the weights of the networks that both have."""
    method = tiny.s2bnn(scheme, **arguments)
    for name in method.networks.keys() & of.networks.keys():
        copy_weights(of.networks[name], method.networks[name])
    return method


def _part(name, width, first):
    """A network that returns the first or second half of its input: golden arrays pass through it untouched."""
    inputs = tf.keras.Input([2 * width])
    return tf.keras.Model(inputs, inputs[:, :width] if first else inputs[:, width:], name=name)


def _identity(name, width):
    return tf.keras.Sequential([tf.keras.Input([width]), tf.keras.layers.Activation("linear")], name=name)


@pytest.mark.parametrize("in_graph", [False, True])
def test_guided_is_the_official_loss(in_graph):
    arrays = golden.load("l4_losses")
    teacher, student = arrays["s2bnn/teacher_raw"], arrays["s2bnn/student_raw"]
    width = student.shape[1]
    method = S2BNN(
        _part("student", width, False),
        _identity("student_head", width),
        "guided",
        _part("teacher", width, True),
        _identity("teacher_head", width),
        temperature=float(arrays["s2bnn/tau"]),
    )

    def loss_and_gradient(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            terms = method.loss_terms({"global": images})
            loss = tf.reduce_mean(terms["loss"])
        return loss, tape.gradient(loss, images), terms

    images = tf.constant(np.concatenate([teacher, student], axis=1)[:, None])
    loss, gradient, terms = (tf.function(loss_and_gradient) if in_graph else loss_and_gradient)(images)
    assert_near(loss, arrays["s2bnn/loss"])
    assert_near(gradient[:, 0, width:], arrays["s2bnn/d_student_raw"])
    np.testing.assert_array_equal(gradient[:, 0, :width], np.zeros_like(teacher))
    entropy = np.mean(distillation_cross_entropy(unit_rows(teacher), unit_rows(teacher)))
    assert float(terms["target_entropy"]) == pytest.approx(entropy, rel=1e-5)
    assert np.mean(terms["distillation_kl"]) == pytest.approx(arrays["s2bnn/loss"] - entropy, abs=1e-5)


@pytest.mark.parametrize("batch_norm_groups", [1, 2])
def test_contrastive_is_moco(batch_norm_groups):
    arguments = {"momentum": 0.5, "batch_norm_groups": batch_norm_groups, "seed": 3}
    moco = tiny.moco(**arguments)
    method = _twin("contrastive", moco, **arguments)
    batches = [tiny.batch(seed) for seed in range(3)]
    for ours, theirs in zip(tiny.trained(method, batches), tiny.trained(moco, batches), strict=True):
        assert ours["contrastive"] == ours["loss"]
        assert {name: ours[name] for name in theirs} == theirs
    for name, network in moco.networks.items():
        tiny.assert_identical(tiny.parameters(method.networks[name]), tiny.parameters(network))
        tiny.assert_identical(tiny.statistics(method.networks[name]), tiny.statistics(network))
    np.testing.assert_array_equal(method.queue.keys, moco.queue.keys)


def test_both_terms_count_alike_and_have_the_same_query():
    both = tiny.s2bnn("contrastive_guided")
    batch = tiny.batch()
    parts = {scheme: _twin(scheme, both) for scheme in ("contrastive", "guided")}
    terms = {scheme: tiny.trained(method, [batch])[0] for scheme, method in {"both": both, **parts}.items()}
    assert terms["both"]["contrastive"] == pytest.approx(terms["contrastive"]["loss"], rel=1e-6)
    assert terms["both"]["distillation"] == pytest.approx(terms["guided"]["loss"], rel=1e-6)
    assert terms["both"]["loss"] == pytest.approx(terms["contrastive"]["loss"] + terms["guided"]["loss"], rel=1e-6)
    # One forward pass of the student: its statistics moved once, by view 1.
    moved = {scheme: tiny.statistics(method.networks["student"]) for scheme, method in {"both": both, **parts}.items()}
    tiny.assert_identical(moved["both"], moved["guided"])
    tiny.assert_identical(moved["both"], moved["contrastive"])


def test_gradients_of_both_terms_add_up():
    both = tiny.s2bnn("contrastive_guided", optimizer=SGD(1.0, momentum=0.0))
    parts = [_twin(scheme, both, optimizer=SGD(1.0, momentum=0.0)) for scheme in ("contrastive", "guided")]
    steps = []
    for method in (both, *parts):
        before = tiny.parameters(method.networks["student"])
        tiny.trained(method, [tiny.batch()])
        after = tiny.parameters(method.networks["student"])
        steps.append({key: before[key] - after[key] for key in before})
    tiny.assert_close(steps[0], {key: steps[1][key] + steps[2][key] for key in steps[0]})
    assert max(np.abs(step).max() for step in steps[1].values()) > 1e-3
    assert max(np.abs(step).max() for step in steps[2].values()) > 1e-3


@pytest.mark.parametrize("scheme", ["guided", "contrastive_guided"])
def test_the_teacher_sees_the_first_view_alone(scheme):
    method = tiny.s2bnn(scheme)
    first, second = tiny.batch(0), tiny.batch(1)
    views = tf.stack([first["global"][:, 0], second["global"][:, 1]], axis=1)
    one, other = (method.loss_terms({**first, "global": pixels}) for pixels in (first["global"], views))
    np.testing.assert_allclose(one["distillation"], other["distillation"], rtol=1e-5)
    teacher, head = method.networks["teacher"], method.networks["teacher_head"]
    target = unit_rows(head(teacher(first["global"][:, 0], training=False)))
    student, student_head = method.networks["student"], method.networks["student_head"]
    query = unit_rows(student_head(student(first["global"][:, 0], training=True)))
    np.testing.assert_allclose(one["distillation"], distillation_cross_entropy(target, query), rtol=1e-5)


def test_guided_trains_on_batches_of_one_view():
    method, whole = tiny.s2bnn("guided"), tiny.batch()
    twin = _twin("guided", method)
    one = tiny.trained(method, [{**whole, "global": whole["global"][:, :1]}])
    assert one == tiny.trained(twin, [whole])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_scheme_has_what_it_uses_and_nothing_else(scheme, tmp_path):
    method = tiny.s2bnn(scheme)
    assert set(method.networks) == {"student", "student_head", *SCHEMES[scheme]}
    assert set(tiny.trained(method, [tiny.batch()])[0]) == TERMS[scheme] | {
        "gradient_norm/feature_extractor",
        "gradient_norm/head",
    }
    path = tf.train.Checkpoint(method=method, optimizer=method.optimizer).write(str(tmp_path / "checkpoint"))
    saved = [name for name, _ in tf.train.list_variables(path)]
    contrastive = scheme != "guided"
    for part in ("momentum_encoder", "momentum_head", "queue/keys", "queue/pointer"):
        assert any(part in name for name in saved) == contrastive
    # Student, perhaps its twin, perhaps the teacher, and the metrics; nothing that is not saved or not used.
    networks = [variable for network in method.networks.values() for variable in network.variables]
    queue = [variable for memory in method.memories.values() for variable in memory.variables]
    others = [variable for metric in method.metrics for variable in metric.variables] + [method.gradient_seen]
    assert {id(variable) for variable in method.variables} == {id(variable) for variable in networks + queue + others}
    assert any("keys" in variable.name for variable in method.variables) == contrastive


@pytest.mark.parametrize("scheme", ["guided", "contrastive_guided"])
def test_the_teacher_stays_as_it_is(scheme):
    method = tiny.s2bnn(scheme)
    frozen = [method.networks[name] for name in ("teacher", "teacher_head")]
    before = [{key: weight.numpy() for key, weight in named_weights(network).items()} for network in frozen]
    student = {name: tiny.parameters(method.networks[name]) for name in ("student", "student_head")}
    assert all(tiny.statistics(network) for network in frozen)
    tiny.trained(method, [tiny.batch(seed) for seed in range(3)], in_graph=True)
    for network, weights in zip(frozen, before, strict=True):
        tiny.assert_identical({key: weight.numpy() for key, weight in named_weights(network).items()}, weights)
    for name, weights in student.items():
        tiny.assert_all_differ(tiny.parameters(method.networks[name]), weights)
    optimised = {id(variable) for variable in method.optimized_variables}
    assert not optimised & {id(variable) for network in frozen for variable in network.variables}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_optimised_variable_gets_a_gradient(scheme):
    method = tiny.s2bnn(scheme)
    tiny.trained(method, [tiny.batch(seed) for seed in range(3)])
    assert method.variables_without_gradient() == []


def test_the_momentum_encoder_follows_the_latent_weights_of_a_binary_student():
    method = tiny.s2bnn("contrastive_guided", make=tiny.binary_encoder, dims=(8, 6), momentum=0.75, optimizer=SGD(0.5))
    student, momentum = method.networks["student"], method.networks["momentum_encoder"]
    expected = tiny.parameters(student)
    assert any(np.abs(array).max() < 1 for key, array in expected.items() if "conv" in key)
    for seed in range(3):
        for key, weights in tiny.parameters(student).items():
            expected[key] = 0.75 * expected[key] + 0.25 * weights.astype(np.float64)
        tiny.trained(method, [tiny.batch(seed)])
        tiny.assert_close(tiny.parameters(momentum), expected, 1e-6)
    kernels = {key: array for key, array in tiny.parameters(momentum).items() if "block1/conv" in key}
    # Real numbers between those of the student, not signs.
    assert kernels
    assert all(len(np.unique(np.abs(array))) > array.size / 2 for array in kernels.values())


@pytest.mark.parametrize("scheme", ["contrastive", "contrastive_guided"])
def test_the_queue_holds_the_keys_of_the_second_view(scheme):
    method, size = tiny.s2bnn(scheme, batch_norm=False), 4
    expected = method.queue.keys.numpy()
    for index in range(5):
        batch = tiny.batch(index, size)
        tiny.trained(method, [batch])
        keys = method.networks["momentum_head"](method.networks["momentum_encoder"](batch["global"][:, 1]))
        start = index * size % 16
        expected[start : start + size] = tf.math.l2_normalize(keys, axis=1)
        np.testing.assert_allclose(method.queue.keys, expected, atol=1e-5)
        assert int(method.queue.pointer) == (start + size) % 16


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_run_in_two_pieces_is_the_run_in_one(scheme, tmp_path):
    batches = [tiny.batch(seed) for seed in range(5)]
    whole = tiny.s2bnn(scheme, optimizer=Adam(0.01))
    pieces = [_twin(scheme, whole, optimizer=Adam(0.01), **arguments) for arguments in ({}, _other_seed(scheme))]
    expected = tiny.trained(whole, batches)
    history = tiny.trained(pieces[0], batches[:3])
    path = tf.train.Checkpoint(method=pieces[0], optimizer=pieces[0].optimizer).write(str(tmp_path / "stop"))
    for variable in pieces[1].variables:
        variable.assign(tf.zeros_like(variable))
    tf.train.Checkpoint(method=pieces[1], optimizer=pieces[1].optimizer).read(path).assert_consumed()
    assert history + tiny.trained(pieces[1], batches[3:]) == expected
    for one, other in zip(pieces[1].variables, whole.variables, strict=True):
        assert one.numpy().tobytes() == other.numpy().tobytes(), other.name


def _other_seed(scheme):
    return {} if scheme == "guided" else {"seed": 9}


@pytest.mark.parametrize(("own", "expected"), [(None, 0.3), (0.7, 0.7)])
def test_the_guided_term_may_have_a_temperature_of_its_own(own, expected):
    method = tiny.s2bnn("contrastive_guided", temperature=0.3, distillation_temperature=own)
    batch, networks = tiny.batch(), method.networks

    def embedding(encoder, head, view, training):
        features = networks[encoder](batch["global"][:, view], training=training)
        return unit_rows(networks[head](features, training=training))

    query = embedding("student", "student_head", 0, True)
    key = embedding("momentum_encoder", "momentum_head", 1, True)
    target = embedding("teacher", "teacher_head", 0, False)
    terms = method.loss_terms(batch)
    np.testing.assert_allclose(terms["contrastive"], info_nce(query, key, method.queue.keys, 0.3), rtol=1e-5)
    loss = distillation_cross_entropy(target, query, expected)
    entropy = np.mean(distillation_cross_entropy(target, target, expected))
    np.testing.assert_allclose(terms["distillation"], loss, rtol=1e-5)
    assert float(terms["target_entropy"]) == pytest.approx(entropy, rel=1e-5)
    assert np.mean(terms["distillation_kl"]) == pytest.approx(np.mean(loss) - entropy, abs=1e-5)


@pytest.mark.parametrize("clip", [None, 0.1])
def test_gradients_are_told_by_network_and_clipped_together(clip):
    method = tiny.s2bnn("contrastive_guided", optimizer=SGD(1.0, momentum=0.0), gradient_clip=clip)
    networks = {"feature_extractor": method.networks["student"], "head": method.networks["student_head"]}
    before = {group: tiny.parameters(network) for group, network in networks.items()}
    told = tiny.trained(method, [tiny.batch()])[0]
    norms = np.array([told[f"gradient_norm/{group}"] for group in networks])
    steps = []
    for group, network in networks.items():
        after = tiny.parameters(network)
        steps.append(sum(np.sum(np.square(after[key] - before[group][key])) for key in after) ** 0.5)
    whole = np.linalg.norm(norms)
    assert abs(norms[0] - norms[1]) > 0.01 * whole > 0.01 * 0.1
    np.testing.assert_allclose(steps, norms * (1 if clip is None else clip / whole), rtol=1e-3)


def test_products():
    method = tiny.s2bnn("contrastive_guided")
    networks = method.networks
    assert method.encoders == {"student": networks["student"], "ema": networks["momentum_encoder"]}
    assert method.heads == {name: networks[name] for name in ("student_head", "momentum_head")}
    assert method.memories == {"queue": method.queue}
    guided = tiny.s2bnn("guided")
    assert guided.encoders == {"student": guided.networks["student"]}
    assert guided.heads == {"student_head": guided.networks["student_head"]}
    assert guided.memories == {}


def test_guided_batches_can_be_cut_into_parts():
    whole, parts = tiny.s2bnn("guided", batch_norm=False), tiny.s2bnn("guided", batch_norm=False, accumulate=4)
    for name, network in whole.networks.items():
        copy_weights(network, parts.networks[name])
    for method in (whole, parts):
        tiny.trained(method, [tiny.batch()])
    tiny.assert_close(tiny.parameters(parts.networks["student"]), tiny.parameters(whole.networks["student"]))


def _network(name, dim=6):
    return tiny.encoder(name) if "head" not in name else mlp_head(name, 6, [7], dim, norm="none")


@pytest.mark.parametrize(
    ("scheme", "given", "message"),
    [
        ("both", (), "scheme must be one of contrastive, contrastive_guided, guided, got 'both'"),
        ("guided", ("teacher",), "scheme='guided' takes teacher, teacher_head .* and teacher_head is missing"),
        ("guided", (*SCHEMES["guided"], "momentum_encoder"), "and momentum_encoder is not one of them"),
        ("contrastive", SCHEMES["guided"], "and momentum_encoder is missing"),
        ("contrastive", SCHEMES["contrastive_guided"], "and teacher is not one of them"),
        ("contrastive_guided", SCHEMES["contrastive"], "and teacher is missing"),
    ],
)
def test_the_networks_are_those_of_the_scheme(scheme, given, message):
    with pytest.raises(ValueError, match=message):
        S2BNN(_network("student"), _network("student_head"), scheme, **{name: _network(name) for name in given})


def test_heads_of_other_widths_are_refused():
    networks = [_network("student"), _network("student_head", 5), "guided", _network("teacher"), _network("head", 4)]
    with pytest.raises(ValueError, match="outputs must have the same width to be compared, got 4 and 5"):
        S2BNN(*networks)


@pytest.mark.parametrize(
    ("scheme", "arguments", "message"),
    [
        ("guided", {"temperature": 0.0}, r"^temperature must be above 0, got 0\.0"),
        ("contrastive", {"temperature": 0.0}, r"^temperature must be above 0, got 0\.0"),
        ("guided", {"distillation_temperature": -1.0}, r"distillation_temperature must be above 0, got -1\.0"),
        ("contrastive", {"momentum": 1.1}, r"momentum must lie in \[0, 1\], got 1\.1"),
        ("contrastive_guided", {"accumulate": 2}, "accumulate must be 1 for S2BNN, .*, got 2"),
        ("contrastive", {"queue_size": 0}, "size of the queue must be positive, got 0"),
    ],
)
def test_arguments_are_checked(scheme, arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny.s2bnn(scheme, **arguments)

"""BSSL: the official loss through the method, the presets, lambda, and what stays frozen."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.heads import mlp_head
from larq_ssl.methods.bssl import BSSL, PRESETS
from larq_ssl.optimizers import SGD
from larq_ssl.schedules import Balance
from tests import golden
from tests.comparing import assert_near
from tests.methods import tiny


def _part(name, width, first):
    """A network that returns the first or second half of its input: golden arrays pass through it untouched."""
    inputs = tf.keras.Input([2 * width])
    return tf.keras.Model(inputs, inputs[:, :width] if first else inputs[:, width:], name=name)


def _passing(width, classes=None, **arguments):
    """BSSL on inputs `[batch, views, 2 width]` of teacher and student features side by side."""

    def head(name):
        if classes is not None:
            return mlp_head(name, width, [], classes, norm="none")
        return tf.keras.Sequential([tf.keras.Input([width]), tf.keras.layers.Activation("linear")], name=name)

    heads = {name: head(name) for name in ("teacher_head", "student_head")}
    method = BSSL(_part("teacher", width, True), _part("student", width, False), heads, **arguments)
    method.compile(SGD(0.1))
    return method


def _side_by_side(teachers, students):
    views = [np.concatenate(pair, axis=1) for pair in zip(teachers, students, strict=True)]
    return tf.stack(views, axis=1)


def _constant(weight):
    return Balance(1, float(weight), kind="constant")


def _softmax(logits):
    exponentials = np.exp((logits - logits.max(axis=1, keepdims=True)) / 0.2)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def _kl(teacher, student):
    p, q = _softmax(teacher), _softmax(student)
    return np.sum(p * (np.log(p) - np.log(q)), axis=1)


def _cosine(first, second):
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return 1 - np.sum(first * second, axis=1) / lengths


@pytest.mark.parametrize("in_graph", [False, True])
def test_two_views_are_the_official_loss(in_graph):
    arrays = golden.load("l4_losses")
    width = arrays["burn/student"].shape[1]
    images = _side_by_side(
        [arrays["burn/teacher"], arrays["burn/two_view/teacher_2"]],
        [arrays["burn/student"], arrays["burn/two_view/student_2"]],
    )
    method = _passing(width, preset="released", balance=_constant(1 - arrays["burn/two_view/lambda_c"]))

    def loss_and_gradient(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            loss = tf.reduce_mean(method.loss_terms({"global": images})["loss"])
        return loss, tape.gradient(loss, images)

    loss, gradient = (tf.function(loss_and_gradient) if in_graph else loss_and_gradient)(images)
    assert_near(loss, arrays["burn/two_view/loss"])
    assert_near(gradient[:, 0, width:], arrays["burn/two_view/d_student_1"])
    assert_near(gradient[:, 1, width:], arrays["burn/two_view/d_student_2"])
    np.testing.assert_array_equal(gradient[:, :, :width], np.zeros_like(images[:, :, :width]))


@pytest.mark.parametrize("distance", ["cosine", "l1", "l2"])
def test_one_view_is_the_official_loss_at_every_balance(distance):
    arrays = golden.load("l4_losses")
    key = {"cosine": "burn/kl_fs", "l1": "burn/kl_l1", "l2": "burn/kl_l2"}[distance]
    student, teacher = arrays["burn/student"], arrays["burn/teacher"]
    images = _side_by_side([teacher], [student])
    for index, balance in enumerate(1 - arrays["burn/lambda_c"]):
        method = _passing(
            student.shape[1], preset="released", balance=_constant(balance), feature_loss=distance, views=1
        )
        with tf.GradientTape() as tape:
            tape.watch(images)
            loss = tf.reduce_mean(method.loss_terms({"global": images})["loss"])
        assert_near(loss, arrays[f"{key}/loss"][index], what=f"lambda {balance}")
        gradient = tape.gradient(loss, images)[:, 0, student.shape[1] :]
        assert_near(gradient, arrays[f"{key}/d_student"][index], what=f"lambda {balance}")


@pytest.mark.parametrize(
    ("feature_loss", "distance"),
    [
        ("cosine", _cosine),
        ("l1", lambda t, s: np.sum(np.abs(t - s), axis=1)),
        ("l2", lambda t, s: np.sum(np.square(t - s), axis=1)),
        ("none", lambda t, s: np.zeros(len(t))),
    ],
)
def test_paper_is_its_equation_across_the_views(feature_loss, distance):
    rng = np.random.default_rng(0)
    teachers, students = (rng.normal(size=(2, 5, 3)).astype(np.float32) for _ in range(2))
    method = _passing(3, classes=4, preset="paper", balance=_constant(0.6), feature_loss=feature_loss)
    balance = 0.0 if feature_loss == "none" else 0.6
    heads = [(head.get_weights()) for head in (method.networks["teacher_head"], method.networks["student_head"])]
    (t_kernel, t_bias), (s_kernel, s_bias) = heads
    kl = sum(_kl(t @ t_kernel + t_bias, s @ s_kernel + s_bias) for t, s in zip(teachers, students[::-1], strict=True))
    feature = sum(distance(t, s) for t, s in zip(teachers, students[::-1], strict=True))
    terms = method.loss_terms({"global": _side_by_side(teachers, students)})
    np.testing.assert_allclose(terms["kl"], kl, rtol=1e-4)
    np.testing.assert_allclose(terms["feature"], feature, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(terms["loss"], (1 - balance) * kl + balance * feature, rtol=1e-4)
    assert float(terms["lambda"]) == pytest.approx(balance)


def test_pairs_are_crosswise_and_symmetric():
    arrays = golden.load("l4_losses")
    teachers = [arrays["burn/teacher"], arrays["burn/two_view/teacher_2"]]
    students = [arrays["burn/student"], arrays["burn/two_view/student_2"]]
    method = _passing(students[0].shape[1], preset="released", balance=_constant(0.75))

    def loss(teachers, students):
        return method.loss_terms({"global": _side_by_side(teachers, students)})["loss"].numpy()

    crosswise = loss(teachers, students)
    np.testing.assert_allclose(loss(teachers[::-1], students[::-1]), crosswise, rtol=1e-5)
    # With the teacher's views exchanged, each pair sees one view: what pairing by view would give.
    assert np.abs(loss(teachers[::-1], students) - crosswise).max() > 0.1
    one_view = _passing(students[0].shape[1], preset="released", balance=_constant(0.75), views=1)
    same = one_view.loss_terms({"global": _side_by_side(teachers[:1], students[:1])})["loss"]
    second = one_view.loss_terms({"global": _side_by_side(teachers[1:], students[1:])})["loss"]
    np.testing.assert_allclose(loss(teachers[::-1], students), same + second, rtol=1e-5)


def test_feature_scale_counts_for_the_cosine_alone():
    rng = np.random.default_rng(0)
    images = _side_by_side(*rng.normal(size=(2, 2, 5, 3)).astype(np.float32))
    for distance, factor in (("cosine", 3.0), ("l1", 1.0), ("l2", 1.0)):
        plain, scaled = (
            _passing(3, feature_loss=distance, feature_scale=scale).loss_terms({"global": images})["feature"]
            for scale in (1.0, 3.0)
        )
        np.testing.assert_allclose(scaled, factor * plain, rtol=1e-5)


def test_lambda_falls_from_its_start_to_its_end():
    steps = 4
    method = tiny.bssl(balance=Balance(steps))
    history = tiny.trained(method, [tiny.batch(seed) for seed in range(steps + 1)])
    expected = [0.7 + 0.1 * (1 + np.cos(np.pi * step / steps)) for step in range(steps + 1)]
    np.testing.assert_allclose([terms["lambda"] for terms in history], expected, rtol=1e-6)
    assert history[0]["lambda"] == pytest.approx(0.9)
    assert history[-1]["lambda"] == pytest.approx(0.7)
    for terms in history:
        balance = terms["lambda"]
        assert terms["loss"] == pytest.approx((1 - balance) * terms["kl"] + balance * terms["feature"], rel=1e-5)


def test_lambda_is_the_papers_constant_by_default():
    assert tiny.trained(tiny.bssl(), [tiny.batch()])[0]["lambda"] == pytest.approx(0.7)


def test_without_a_feature_loss_the_divergence_is_all():
    method = tiny.bssl(feature_loss="none", balance=Balance(4))
    terms = tiny.trained(method, [tiny.batch()])[0]
    assert terms["lambda"] == 0
    assert terms["feature"] == 0
    assert terms["loss"] == pytest.approx(terms["kl"])
    assert method.idle_networks() == ()


def test_step_balance_trains_the_features_first_and_the_classifiers_then():
    steps = 8
    method = tiny.bssl(balance=Balance(steps, kind="step"))
    classifiers = [method.networks[name] for name in ("student_head", "teacher_head")]
    assert set(method.idle_networks()) == {"student_head", "teacher_head"}
    before = [tiny.parameters(network) for network in classifiers]
    history = tiny.trained(method, [tiny.batch(seed) for seed in range(steps // 2)])
    assert [terms["lambda"] for terms in history] == [1.0] * (steps // 2)
    for network, weights in zip(classifiers, before, strict=True):
        tiny.assert_identical(tiny.parameters(network), weights)
    # That the classifiers got no gradient in the first steps is no mistake.
    assert method.variables_without_gradient() == []
    history = tiny.trained(method, [tiny.batch(seed) for seed in range(steps // 2)])
    assert [terms["lambda"] for terms in history] == [0.0] * (steps // 2)
    for network, weights in zip(classifiers, before, strict=True):
        tiny.assert_all_differ(tiny.parameters(network), weights)


def test_idle_networks_of_other_balances():
    assert tiny.bssl(balance=Balance(4)).idle_networks() == ()
    assert tiny.bssl(balance=_constant(0.0)).idle_networks() == ()
    # The feature loss on logits trains the student's classifier from the start.
    assert "student_head" not in tiny.bssl("released", balance=Balance(4, kind="step")).idle_networks()


@pytest.mark.parametrize("statistics", ["eval", "train"])
@pytest.mark.parametrize("preset", list(PRESETS))
def test_teacher_is_frozen_and_its_classifier_as_the_preset_says(preset, statistics):
    chosen = {} if PRESETS[preset].teacher_batch_norm == statistics else {"teacher_batch_norm": statistics}
    method = tiny.bssl(preset, **chosen)
    before = {name: tiny.parameters(network) for name, network in method.networks.items()}
    moving = {name: tiny.statistics(network) for name, network in method.networks.items()}
    tiny.trained(method, [tiny.batch(seed) for seed in range(3)], in_graph=True)
    after = {name: tiny.parameters(network) for name, network in method.networks.items()}
    moved = {name: tiny.statistics(network) for name, network in method.networks.items()}

    tiny.assert_identical(after["teacher"], before["teacher"])
    if statistics == "eval":
        tiny.assert_identical(moved["teacher"], moving["teacher"])
    else:
        tiny.assert_all_differ(moved["teacher"], moving["teacher"])
    if preset == "paper":
        tiny.assert_all_differ(after["teacher_head"], before["teacher_head"])
        tiny.assert_all_differ(moved["teacher_head"], moving["teacher_head"])
    else:
        tiny.assert_identical(after["teacher_head"], before["teacher_head"])
        same = tiny.assert_identical if statistics == "eval" else tiny.assert_all_differ
        same(moved["teacher_head"], moving["teacher_head"])
    for name in set(method.networks) - {"teacher", "teacher_head"}:
        for key in before[name]:
            # A shift of the student's features is taken out again by the classifier's BatchNorm.
            if not (preset == "released" and name == "student" and key == "dense2/bias"):
                assert not np.array_equal(after[name][key], before[name][key]), f"{name}/{key}"
    tiny.assert_all_differ(moved["student"], moving["student"])


def test_only_what_the_preset_trains_is_optimised():
    def names(method):
        return set(method.optimized)

    paper, released = tiny.bssl("paper"), tiny.bssl("released")
    assert names(paper) == {"student", "projector", "student_head", "teacher_head"}
    assert names(released) == {"student", "student_head"}
    assert names(tiny.bssl("paper", train_teacher_head=False)) == names(paper) - {"teacher_head"}
    identities = {id(variable) for variable in paper.optimized_variables}
    assert not identities & {id(variable) for variable in paper.networks["teacher"].variables}
    assert set(released.gradient_groups) == {"feature_extractor", "classifier"}
    assert set(paper.gradient_groups) == {"feature_extractor", "classifier", "teacher_classifier"}
    assert set(paper.heads) == {"projector", "student_head", "teacher_head"}
    assert list(paper.encoders) == ["student"]


def test_gradient_norms_are_those_of_the_groups():
    method = tiny.bssl(optimizer=SGD(1.0, momentum=0.0))
    before = {name: tiny.parameters(network) for name, network in method.networks.items()}
    terms = tiny.trained(method, [tiny.batch()])[0]
    for group, members in method.gradient_groups.items():
        steps = [
            weights - tiny.parameters(method.networks[name])[key]
            for name in members
            for key, weights in before[name].items()
        ]
        norm = np.sqrt(sum(np.sum(np.square(step)) for step in steps))
        assert terms[f"gradient_norm/{group}"] == pytest.approx(norm, rel=1e-3)


def test_encode_is_the_student_in_inference_mode():
    method = tiny.bssl()
    tiny.trained(method, [tiny.batch()])
    images = tiny.batch(3)["global"][:, 0]
    expected = method.networks["student"](images, training=False)
    np.testing.assert_array_equal(method.encode(images), expected)
    assert np.abs(expected - method.networks["student"](images, training=True)).max() > 1e-3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "burn"}, "preset must be one of paper, released, got 'burn'"),
        ({"feature_source": "pixels"}, "feature_source must be one of features, logits, got 'pixels'"),
        ({"teacher_batch_norm": "frozen"}, "teacher_batch_norm must be one of eval, train, got 'frozen'"),
        ({"feature_scale": 0.0}, r"feature_scale must be above 0, got 0\.0"),
        ({"feature_loss": "cos"}, "feature_loss must be one of cosine, l1, l2, none, got 'cos'"),
        ({"feature_source": "logits"}, "lets both classifiers collapse"),
        ({"preset": "released", "train_teacher_head": True}, "lets both classifiers collapse"),
        ({"views": 3}, "views must be 1 or 2, got 3"),
        ({"temperature": 0.0}, r"temperature must be above 0, got 0\.0"),
        ({"gradient_clip": 0.0}, r"gradient_clip must be above 0 or None, got 0\.0"),
        ({"accumulate": 0}, "accumulate must be at least 1, got 0"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        _passing(3, **arguments)


def test_features_of_other_widths_are_refused():
    teacher, student = tiny.encoder("teacher", 6), tiny.encoder("student", 5)
    heads = {name: mlp_head(name, dim, [], 4, "none") for name, dim in (("teacher_head", 6), ("student_head", 5))}
    with pytest.raises(ValueError, match=r"\(projected\) student features must have the same width .* 6 and 5"):
        BSSL(teacher, student, heads)
    assert BSSL(teacher, student, heads, feature_loss="none").optimized
    assert BSSL(teacher, student, heads, preset="released").optimized
    wide = {**heads, "student_head": mlp_head("student_head", 5, [], 3, "none")}
    with pytest.raises(ValueError, match="student_head outputs must have the same width .* 4 and 3"):
        BSSL(teacher, student, wide, preset="released")


@pytest.mark.parametrize("given", [["teacher_head"], ["teacher_head", "student_head", "queue"]])
def test_heads_are_named(given):
    heads = {name: mlp_head(name, 3, [], 4, "none") for name in given}
    with pytest.raises(ValueError, match="heads must be teacher_head, student_head and perhaps projector, got"):
        BSSL(_part("teacher", 3, True), _part("student", 3, False), heads)


@pytest.mark.parametrize(
    ("trained", "source"), [(True, "logits"), (False, "features"), (False, "logits"), (True, "features")]
)
def test_switches_alter_the_preset(trained, source):
    method = tiny.bssl(
        feature_loss="none" if trained and source == "logits" else "cosine",
        train_teacher_head=trained,
        feature_source=source,
        feature_scale=1.5,
        teacher_batch_norm="train",
    )
    assert method.switches.train_teacher_head is trained
    assert method.switches.feature_source == source
    assert method.switches.feature_scale == 1.5
    assert method.switches.teacher_batch_norm == "train"

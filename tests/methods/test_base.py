"""The training step that all methods share: clipping, accumulation, finiteness, the watch over gradients."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.methods.base import NOT_FINITE, SelfSupervisedModel
from larq_ssl.models.transfer import copy_weights
from larq_ssl.optimizers import SGD, Adam
from tests.methods import tiny


class _Method(SelfSupervisedModel):
    """Minimises what it is given of the student's outputs."""

    def __init__(self, student, loss, **arguments):
        super().__init__({"student": student}, ["student"], **arguments)
        self._loss = loss
        self.compile(SGD(0.1))

    def loss_terms(self, batch):
        return {"loss": self._loss(self.networks["student"](batch["global"][:, 0], training=True))}


def _twins(make, **arguments):
    """Two methods with the same weights, the second with these arguments."""
    first, second = make(), make(**arguments)
    for name, network in first.networks.items():
        copy_weights(network, second.networks[name])
    return first, second


def _by_hand(method, batch):
    """The gradients of the mean loss, which run the networks once in training mode."""
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(method.loss_terms(batch)["loss"])
    return [gradient.numpy() for gradient in tape.gradient(loss, method.optimized_variables)]


def _steps(method, batch, in_graph=False):
    """What one step of gradient descent, of rate 1, subtracts from each variable."""
    method.compile(SGD(1.0, momentum=0.0))
    before = [variable.numpy() for variable in method.optimized_variables]
    tiny.trained(method, [batch], in_graph)
    after = [variable.numpy() for variable in method.optimized_variables]
    return [old - new for old, new in zip(before, after, strict=True)]


def _assert_near(actual, expected):
    scale = max(np.abs(array).max() for array in expected)
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * scale)


def test_a_step_subtracts_the_gradient_of_the_mean_loss():
    method, twin = _twins(tiny.bssl)
    _assert_near(_steps(method, tiny.batch()), _by_hand(twin, tiny.batch()))


@pytest.mark.parametrize("factor", [0.5, 2.0])
@pytest.mark.parametrize("make", [tiny.bssl, tiny.moco])
def test_gradient_clip_bounds_the_norm_of_all_gradients_together(make, factor):
    gradients = _by_hand(twin := make(), tiny.batch())
    norm = np.sqrt(sum(np.sum(np.square(gradient)) for gradient in gradients))
    method = make(gradient_clip=factor * norm)
    for name, network in twin.networks.items():
        copy_weights(network, method.networks[name])
    _assert_near(_steps(method, tiny.batch()), [gradient * min(1.0, factor) for gradient in gradients])


def test_gradient_norms_are_reported_before_clipping():
    free, clipped = _twins(tiny.bssl, gradient_clip=1e-3)
    expected, actual = (tiny.trained(method, [tiny.batch()])[0] for method in (free, clipped))
    assert actual == pytest.approx(expected, rel=1e-4)
    assert expected["gradient_norm/classifier"] > 1e-2


def test_accumulation_is_the_average_over_parts_with_batch_norm_of_their_own():
    twin, method = _twins(tiny.bssl, accumulate=2)
    batch = tiny.batch(size=8)
    parts = [{key: value[start : start + 4] for key, value in batch.items()} for start in (0, 4)]
    first, second = (_by_hand(twin, part) for part in parts)
    average = [(one + other) / 2 for one, other in zip(first, second, strict=True)]
    _assert_near(_steps(method, batch, in_graph=True), average)
    # Each part has moved the statistics, one after the other.
    for name in ("student", "student_head", "teacher_head"):
        tiny.assert_close(tiny.statistics(method.networks[name]), tiny.statistics(twin.networks[name]))
    whole = _by_hand(twin, batch)
    assert max(np.abs(one - other).max() for one, other in zip(whole, average, strict=True)) > 1e-3


def test_accumulation_equals_one_pass_without_batch_norm():
    def make(**arguments):
        return tiny.bssl(batch_norm=False, **arguments)

    whole, parts = _twins(make, accumulate=4)
    batch = tiny.batch(size=8)
    _assert_near(_steps(parts, batch), _steps(whole, batch))
    whole, parts = _twins(make, accumulate=4)
    expected, actual = (tiny.trained(method, [batch])[0] for method in (whole, parts))
    for name in ("loss", "kl", "feature", "lambda", "gradient_norm/feature_extractor"):
        assert actual[name] == pytest.approx(expected[name], rel=1e-4), name


def test_a_batch_that_cannot_be_cut_is_refused():
    with pytest.raises(ValueError, match=r"accumulate must divide the batch size per replica \(5\), got 2"):
        tiny.trained(tiny.bssl(accumulate=2), [tiny.batch(size=5)])


@pytest.mark.parametrize(("where", "bad"), [("batch", np.nan), ("weights", np.inf)])
@pytest.mark.parametrize("make", [tiny.bssl, tiny.moco])
def test_what_is_not_finite_is_never_applied(make, where, bad):
    method = make(optimizer=Adam(0.1))
    tiny.trained(method, [tiny.batch()])  # so that the slots are not zero
    batch = {**tiny.batch(1), "global": tf.cast(tiny.batch(1)["global"], tf.float32)}
    if where == "batch":
        batch["global"] = tf.tensor_scatter_nd_update(batch["global"], [[0, 0, 0, 0, 0], [1, 1, 0, 0, 0]], [bad] * 2)
    else:
        kernel = method.networks["student"].get_layer("dense2").kernel
        kernel.assign(tf.tensor_scatter_nd_update(tf.convert_to_tensor(kernel), [[0, 0]], [bad]))
    kept = [*method.optimized_variables, *method.optimizer.variables()]
    if hasattr(method, "queue"):
        kept += [method.queue.keys, method.queue.pointer]
    before = [variable.numpy() for variable in kept]
    assert int(method.optimizer.iterations) == 1
    with pytest.raises(tf.errors.InvalidArgumentError, match=NOT_FINITE):
        tiny.trained(method, [batch], in_graph=True)
    for variable, value in zip(kept, before, strict=True):
        assert variable.numpy().tobytes() == value.tobytes(), variable.name


@pytest.mark.parametrize("in_graph", [False, True])
def test_a_gradient_that_is_not_finite_is_not_applied_though_the_loss_is(in_graph):
    zero = tf.keras.Sequential([tf.keras.Input([3]), tf.keras.layers.Dense(1, kernel_initializer="zeros")])
    method = _Method(zero, lambda outputs: tf.sqrt(tf.abs(outputs)))  # the slope of a root at zero
    before = tiny.parameters(method.networks["student"])
    with pytest.raises(tf.errors.InvalidArgumentError, match=NOT_FINITE):
        tiny.trained(method, [{"global": tf.ones([2, 1, 3])}], in_graph)
    tiny.assert_identical(tiny.parameters(method.networks["student"]), before)
    assert int(method.optimizer.iterations) == 0


def test_training_goes_on_after_a_batch_that_was_refused():
    method = tiny.moco(batch_norm=False)
    nothing = {**tiny.batch(), "global": np.nan * tf.cast(tiny.batch()["global"], tf.float32)}
    with pytest.raises(tf.errors.InvalidArgumentError, match=NOT_FINITE):
        tiny.trained(method, [nothing], in_graph=True)
    terms = tiny.trained(method, [tiny.batch()], in_graph=True)[0]
    assert all(np.isfinite(list(terms.values())))


def test_a_variable_that_is_not_connected_is_refused():
    student = tiny.encoder("student", batch_norm=False)
    method = _Method(student, lambda outputs: tf.reduce_sum(tf.stop_gradient(outputs), -1))
    count = len(student.trainable_variables)
    with pytest.raises(RuntimeError, match=f"{count} of {count} optimised variables are not connected .* dense1"):
        tiny.trained(method, [tiny.batch()], in_graph=True)
    inputs = tf.keras.Input([3])
    hidden = tf.keras.layers.Dense(2, name="used")(inputs)
    cut = tf.keras.layers.Lambda(tf.stop_gradient)(tf.keras.layers.Dense(2, name="cut_off")(inputs))
    method = _Method(tf.keras.Model(inputs, hidden + cut), lambda outputs: tf.reduce_sum(outputs, -1))
    with pytest.raises(RuntimeError, match="2 of 4 optimised variables are not connected .* cut_off/kernel"):
        tiny.trained(method, [{"global": tf.ones([2, 1, 3]), "id": tf.range(2)}])


def test_a_variable_without_gradient_is_found():
    inputs = tf.keras.Input([3])
    used, idle = (tf.keras.layers.Dense(2, name=name)(inputs) for name in ("used", "idle"))
    network = tf.keras.Model(inputs, used + 0.0 * idle)
    method = _Method(network, lambda outputs: tf.reduce_sum(tf.square(outputs), -1))
    batch = {"global": tf.ones([2, 1, 3]), "id": tf.range(2)}
    tiny.trained(method, [batch] * 3, in_graph=True)
    assert method.variables_without_gradient() == ["student/idle/kernel:0", "student/idle/bias:0"]


def test_the_watch_keeps_the_largest_gradient_of_the_first_three_steps():
    weight = tf.keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
    network = tf.keras.Sequential([tf.keras.Input([2]), weight])
    method = _Method(network, lambda outputs: tf.reduce_sum(outputs, -1))
    sizes = [[0.0, 1.0], [-3.0, 2.0], [0.5, 0.0], [9.0, 9.0]]
    batches = [{"global": tf.constant([[size]]), "id": tf.range(1)} for size in sizes]
    seen = []
    for one in batches:
        tiny.trained(method, [one])
        seen.append(float(method.gradient_seen[0]))
    assert seen == [1.0, 3.0, 3.0, 3.0]


def test_terms_must_be_the_announced_ones():
    class Other(_Method):
        term_names = ("loss", "accuracy")

    method = Other(tiny.encoder("student"), lambda outputs: tf.reduce_sum(outputs, -1))
    with pytest.raises(ValueError, match=r"Other.loss_terms must return \['accuracy', 'loss'\], got \['loss'\]"):
        tiny.trained(method, [tiny.batch()])


def test_optimizers_without_roles_are_refused():
    method = _Method(tiny.encoder("student"), lambda outputs: tf.reduce_sum(outputs, -1))
    with pytest.raises(TypeError, match="optimizer must be one of larq_ssl.optimizers, got Adam"):
        method.compile(tf.keras.optimizers.legacy.Adam())


def test_a_method_must_say_what_it_minimises():
    method = SelfSupervisedModel({"student": tiny.encoder("student")}, ["student"])
    with pytest.raises(NotImplementedError):
        method.loss_terms(tiny.batch())
    assert method.idle_networks() == ()
    assert method.heads == {}

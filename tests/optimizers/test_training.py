"""Networks of Larq, replicas, wrappers, precisions and checkpoints."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.optimizers import assign_roles
from larq_ssl.roles import Role, variable_roles
from tests.optimizers.training import OPTIMIZERS, data, network, train_step
from tests.replicas import two_replicas


@pytest.mark.parametrize(
    ("name", "quantized"),
    [("adam", True), ("adamw", False), ("adamw", True), ("lars_burn", True), ("lars_gradient", False)],
)
def test_two_replicas_equal_one(name, quantized):
    images, targets = data()
    single = network(quantized)
    before = [weight.numpy() for weight in single.trainable_variables]
    optimizer = OPTIMIZERS[name]()
    optimizer.set_roles(variable_roles(single))
    step = tf.function(train_step(single, optimizer))
    strategy = two_replicas()
    with strategy.scope():
        mirrored = network(quantized)
        parallel = OPTIMIZERS[name]()
    parallel.set_roles(variable_roles(mirrored))
    parallel_step = train_step(mirrored, parallel, replicas=2)

    @tf.function
    def distributed(x, y):
        def replica(x, y):
            part = 2 * tf.distribute.get_replica_context().replica_id_in_sync_group
            parallel_step(x[part : part + 2], y[part : part + 2])

        strategy.run(replica, args=(x, y))

    for _ in range(3):
        step(images, targets)
        distributed(tf.constant(images), tf.constant(targets))
    for first, one, two in zip(before, single.trainable_variables, mirrored.trainable_variables, strict=True):
        assert np.abs(one.numpy() - first).max() > 1e-6
        for replica in strategy.experimental_local_results(two):
            np.testing.assert_allclose(replica.numpy(), one.numpy(), atol=1e-5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_larq_kernels_move_and_keep_their_constraint(name):
    model = network(quantized=True)
    assert type(model.get_layer("conv").kernel).__name__ == "QuantizedVariable"
    optimizer = OPTIMIZERS[name]()
    optimizer.set_roles(variable_roles(model))
    assert [optimizer.role(variable) for variable in model.trainable_variables] == [
        Role.KERNEL,
        Role.NORM,
        Role.NORM,
        Role.KERNEL,
        Role.BIAS,
    ]
    model.get_layer("conv").kernel.assign(tf.clip_by_value(10 * model.get_layer("conv").kernel, -1, 1))
    before = model.get_layer("conv").kernel.numpy()
    tf.function(train_step(model, optimizer))(*data())
    after = model.get_layer("conv").kernel.numpy()
    assert np.abs(after - before).max() > 1e-7
    assert np.abs(after).max() <= 1
    # The latent weights move, not their signs.
    assert len(np.unique(after)) > 2


@pytest.mark.parametrize("name", ["adam", "lars_simclr"])
def test_under_loss_scaling(name):
    models = [network(), network()]
    plain, inner = OPTIMIZERS[name](), OPTIMIZERS[name]()
    scaled = tf.keras.mixed_precision.LossScaleOptimizer(inner, initial_scale=1024)
    for model, optimizer in zip(models, (plain, scaled), strict=True):
        assign_roles(optimizer, variable_roles(model))
    images, targets = data()

    @tf.function
    def scaled_step(images, targets):
        variables = models[1].trainable_variables
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(models[1](images, training=False) - targets))
            loss = scaled.get_scaled_loss(loss)
        gradients = scaled.get_unscaled_gradients(tape.gradient(loss, variables))
        scaled.apply_gradients(zip(gradients, variables, strict=True))

    step = tf.function(train_step(models[0], plain))
    for _ in range(3):
        step(images, targets)
        scaled_step(images, targets)
    for one, two in zip(*(model.trainable_variables for model in models), strict=True):
        np.testing.assert_allclose(two, one, atol=1e-6)
    before = [weight.numpy() for weight in models[1].trainable_variables]
    scaled_step(images * np.float32(np.nan), targets)
    for first, weight in zip(before, models[1].trainable_variables, strict=True):
        np.testing.assert_array_equal(weight, first)
    # Keras counts the step that it leaves out, so schedules go on.
    assert int(inner.iterations) == 4


@pytest.mark.parametrize("name", ["adamw", "lars_simclr", "lars_gradient"])
def test_compiled_by_xla_equals_the_graph(name):
    weights = []
    for jit_compile in (False, True):
        model, optimizer = network(), OPTIMIZERS[name]()
        optimizer.set_roles(variable_roles(model))
        step = tf.function(train_step(model, optimizer), jit_compile=jit_compile)
        for _ in range(2):
            step(*data())
        weights.append(model.get_weights())
    for one, two in zip(*weights, strict=True):
        np.testing.assert_allclose(two, one, atol=1e-5)


def test_mixed_precision_keeps_float32_weights_and_slots():
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    model = network(quantized=True)
    optimizer = OPTIMIZERS["lars_burn"]()
    optimizer.set_roles(variable_roles(model))
    train_step(model, optimizer)(*(tf.cast(array, tf.bfloat16) for array in data()))
    assert {variable.dtype for variable in optimizer.variables()[1:]} == {tf.float32}


@pytest.mark.parametrize("name", ["adam", "sgd", "lars_burn"])
def test_a_restored_run_goes_on_as_if_nothing_had_happened(name, tmp_path):
    def start():
        model = network(quantized=True)
        optimizer = OPTIMIZERS[name]()
        optimizer.set_roles(variable_roles(model))
        return model, optimizer, tf.function(train_step(model, optimizer))

    model, optimizer, step = start()
    for _ in range(3):
        step(*data())
    path = tf.train.Checkpoint(model=model, optimizer=optimizer).write(str(tmp_path / "checkpoint"))
    for _ in range(2):
        step(*data())
    again, optimizer_again, step_again = start()
    for weight in again.weights:
        weight.assign(tf.zeros_like(weight))
    tf.train.Checkpoint(model=again, optimizer=optimizer_again).read(path).assert_existing_objects_matched()
    for _ in range(2):
        step_again(*data())
    assert int(optimizer_again.iterations) == 5
    for one, two in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())

"""Optimizers: the released codes' weights after each step, roles, replicas, wrappers, checkpoints."""

import json

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import optimizers, schedules
from larq_ssl.optimizers import ALL_ROLES, LARS, MATRIX_ROLES, PRESETS, SGD, Adam, assign_roles, build_optimizer
from larq_ssl.roles import Role, variable_roles
from tests import golden
from tests.replicas import two_replicas

PARAMETERS = {
    "kernel": Role.KERNEL,
    "conv": Role.KERNEL,
    "depthwise": Role.DEPTHWISE,
    "bias": Role.BIAS,
    "zero_kernel": Role.KERNEL,
    "zero_bias": Role.BIAS,
}


def _run(optimizer, roles, initial, gradients, rates, in_graph=True):
    """Weights after each step, by parameter; the rate is set before each."""
    variables = {name: tf.Variable(initial[name].astype(np.float32)) for name in roles}
    optimizer.set_roles((variables[name], role) for name, role in roles.items())

    def step(values):
        optimizer.apply_gradients([(values[name], variables[name]) for name in roles])

    step = tf.function(step) if in_graph else step
    history = {name: [] for name in roles}
    for index, rate in enumerate(rates):
        optimizer.learning_rate = float(rate)
        step({name: tf.constant(gradients[name][index], tf.float32) for name in roles})
        for name, variable in variables.items():
            history[name].append(variable.numpy())
    return history


def _o5(key, arrays):
    decay, adam_decay, momentum, trust = (
        float(arrays[f"hyper/{name}"]) for name in ("lars_weight_decay", "adam_weight_decay", "momentum", "trust")
    )
    lars = {"weight_decay": decay, "momentum": momentum, "trust_coefficient": trust}
    return {
        "lars_l1_dino": lambda: LARS.preset("dino", 1.0, **lars),
        "lars_l2_sslight": lambda: LARS.preset("sslight", 1.0, **lars),
        "lars_burn": lambda: LARS.preset("burn", 1.0, **lars),
        "larc_l5_swav": lambda: LARS.preset("swav", 1.0, **lars),
        "adam_l2": lambda: Adam(weight_decay=adam_decay),
        "adam_no_decay": lambda: Adam(),
        "adam_burn_class_l2": lambda: Adam(weight_decay=adam_decay),
        "adamw": lambda: build_optimizer("adamw", 1.0, adam_decay, decay_roles=ALL_ROLES),
        "sgd_momentum_l2": lambda: SGD(momentum=momentum, weight_decay=decay),
        "sgd_nesterov": lambda: SGD(momentum=momentum, nesterov=True),
    }[key]()


@pytest.mark.parametrize("in_graph", [True, False], ids=["graph", "eager"])
@pytest.mark.parametrize(
    "key",
    [
        "lars_l1_dino",
        "lars_l2_sslight",
        "lars_burn",
        "larc_l5_swav",
        "adam_l2",
        "adam_no_decay",
        "adam_burn_class_l2",
        "adamw",
        "sgd_momentum_l2",
        "sgd_nesterov",
    ],
)
def test_equals_the_released_optimizer(key, in_graph):
    arrays = golden.load("o5_optim")
    rates = arrays["lr"] * (arrays["hyper/adam_lr_scale"] if key.startswith("adam") else 1.0)
    initial, gradients = ({name: arrays[f"{part}/{name}"] for name in PARAMETERS} for part in ("init", "grads"))
    history = _run(_o5(key, arrays), PARAMETERS, initial, gradients, rates, in_graph)
    for name in PARAMETERS:
        np.testing.assert_allclose(history[name], arrays[f"{key}/{name}"], atol=1e-5, err_msg=name)


def test_epsilon_of_adam_is_added_after_the_correction():
    epsilon, rate = 0.3, 0.1
    gradients = np.array([[0.5, -1e-3], [0.2, 1e-3], [-0.4, 2e-3]])
    history = _run(Adam(epsilon=epsilon), {"w": Role.KERNEL}, {"w": np.zeros(2)}, {"w": gradients}, [rate] * 3)
    weights, first, second = (np.zeros(2) for _ in range(3))
    for step, gradient in enumerate(gradients, start=1):
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        weights -= rate * first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + epsilon)
        np.testing.assert_allclose(history["w"][step - 1], weights, rtol=1e-5)


SIMCLR = {
    "conv": Role.KERNEL,
    "bn_gamma": Role.NORM,
    "bn_beta": Role.NORM,
    "bias": Role.BIAS,
    "sup_kernel": Role.LAST_LAYER,
    "sup_bias": Role.BIAS,
    "zero": Role.KERNEL,
}


@pytest.mark.parametrize("variant", ["lars", "lars_wd0", "lars_popular"])
def test_equals_the_lars_of_simclr(variant):
    arrays = golden.load("s6_simclr")
    optimizer = LARS.preset(
        "simclr",
        1.0,
        momentum=float(arrays[f"{variant}_momentum"]),
        weight_decay=float(arrays[f"{variant}_weight_decay"]),
        trust_coefficient=float(arrays[f"{variant}_eta"]),
        # What SimCLR trains with is the preset's own buffer.
        **({"buffer": "gradient"} if variant == "lars_popular" else {}),
    )
    initial, gradients = ({name: arrays[f"{variant}_{name}_{part}"] for name in SIMCLR} for part in ("w0", "grads"))
    history = _run(optimizer, SIMCLR, initial, gradients, arrays[f"{variant}_lr"])
    for name in SIMCLR:
        np.testing.assert_allclose(history[name], arrays[f"{variant}_{name}_w"], atol=1e-6, err_msg=name)


BYOL = {
    "conv_w": Role.KERNEL,
    "linear_w": Role.KERNEL,
    "linear_b": Role.BIAS,
    "batch_norm_scale": Role.NORM,
    "batch_norm_offset": Role.NORM,
}


def test_equals_the_lars_of_byol():
    arrays = golden.load("s6_byol_msbreg")
    optimizer = LARS.preset("byol", 1.0, weight_decay=float(arrays["lars4_weight_decay"]))
    initial, gradients = ({name: arrays[f"lars4_{name}_{part}"] for name in BYOL} for part in ("w0", "grads"))
    history = _run(optimizer, BYOL, initial, gradients, arrays["lars4_lr"])
    for name in BYOL:
        np.testing.assert_allclose(history[name], arrays[f"lars4_{name}_w"], atol=1e-6, err_msg=name)


def test_burn_lars_worked_by_hand():
    optimizer = LARS.preset("burn", 0.3)
    history = _run(
        optimizer,
        {"w": Role.KERNEL},
        {"w": np.array([0.3, -0.4])},
        {"w": [np.array([0.06, 0.08])] * 2},
        [0.3, 0.3],
    )
    np.testing.assert_allclose(history["w"], [[0.29991, -0.400119999], [0.299738992, -0.400348007]], atol=1e-7)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_lars_on_zeros_is_finite(preset, decay):
    optimizer = LARS.preset(preset, 0.1, weight_decay=decay)
    zero, one = np.zeros(3), np.ones(3)
    roles = {"both": Role.KERNEL, "weight": Role.KERNEL, "gradient": Role.KERNEL}
    history = _run(
        optimizer,
        roles,
        {"both": zero, "weight": zero, "gradient": one},
        {"both": [zero], "weight": [one], "gradient": [zero]},
        [0.1],
    )
    assert not history["both"][0].any()
    assert np.isfinite(history["gradient"][0]).all()
    moves = PRESETS[preset].get("zero_norm") != "zero"
    np.testing.assert_allclose(history["weight"][0], -0.1 * one * moves, atol=1e-7)


def test_lars_does_not_depend_on_the_scale_of_the_loss():
    gradients = {"w": [np.array([0.3, -0.2]), np.array([0.1, 0.4])], "b": [np.array([0.2])] * 2}
    runs = [
        _run(
            LARS(0.1),
            {"w": Role.KERNEL, "b": Role.BIAS},
            {"w": np.array([1.0, 2.0]), "b": np.array([1.0])},
            {name: [scale * gradient for gradient in values] for name, values in gradients.items()},
            [0.1, 0.1],
        )
        for scale in (1.0, 8.0)
    ]
    np.testing.assert_allclose(runs[0]["w"], runs[1]["w"], rtol=1e-6)
    assert np.abs(runs[0]["b"][1] - runs[1]["b"][1]).max() > 0.1


def test_buffers_with_and_without_the_rate_differ_once_it_changes():
    run = [
        _run(
            LARS(0.1, buffer=buffer),
            {"w": Role.KERNEL},
            {"w": np.ones(2)},
            {"w": [np.array([0.3, 0.1])] * 3},
            [0.1, 0.1, 0.01],
        )["w"]
        for buffer in ("update", "step", "gradient")
    ]
    np.testing.assert_allclose(run[0][:2], run[1][:2], rtol=1e-6)
    np.testing.assert_allclose(run[0][0], run[2][0], rtol=1e-6)
    assert np.abs(run[0][2] - run[1][2]).max() > 1e-5
    assert np.abs(run[0][1] - run[2][1]).max() > 1e-5


def test_decay_and_trust_go_by_role_not_by_shape():
    shape = (3, 2)
    names = {role.value: role for role in Role}
    history = _run(
        SGD(weight_decay=0.5, decay_roles=["kernel", Role.SLOPE], momentum=0.0),
        names,
        {name: np.ones(shape) for name in names},
        {name: [np.zeros(shape)] for name in names},
        [0.1],
    )
    for name in names:
        expected = 0.95 if name in ("kernel", "slope") else 1.0
        np.testing.assert_allclose(history[name][0], np.full(shape, expected), err_msg=name)


@pytest.mark.parametrize("optimizer", [Adam(), SGD(), LARS(0.1)], ids=["adam", "sgd", "lars"])
def test_a_variable_without_role_is_refused_before_anything_moves(optimizer):
    known, unknown = tf.Variable([1.0]), tf.Variable([1.0], name="stranger")
    optimizer.set_roles([(known, Role.KERNEL)])
    with pytest.raises(ValueError, match="stranger"):
        optimizer.apply_gradients([(tf.constant([1.0]), known), (tf.constant([1.0]), unknown)])
    assert known.numpy() == 1
    assert int(optimizer.iterations) == 0


def test_schedules_are_read_at_the_number_of_updates():
    optimizer = SGD(
        schedules.LinearDecay(1.0, 4, 1),
        momentum=0.0,
        weight_decay=schedules.StepDecay(0.1, (2,), 0.0),
    )
    variable = tf.Variable([10.0])
    optimizer.set_roles([(variable, Role.KERNEL)])

    @tf.function
    def step():
        optimizer.apply_gradients([(tf.constant([0.0]), variable)])

    expected = 10.0
    for rate, decay in [(1, 0.1), (0.75, 0.1), (0.5, 0), (0.25, 0)]:
        step()
        expected *= 1 - rate * decay
        np.testing.assert_allclose(variable, [expected], rtol=1e-6)


def _network(quantized=False):
    extra = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"} if quantized else {}
    convolution = lq.layers.QuantConv2D if quantized else tf.keras.layers.Conv2D
    tf.keras.utils.set_random_seed(1)
    return tf.keras.Sequential(
        [
            tf.keras.Input([6, 6, 2]),
            convolution(4, 3, use_bias=False, name="conv", **extra),
            tf.keras.layers.BatchNormalization(name="bn"),
            tf.keras.layers.GlobalAveragePooling2D(),
            tf.keras.layers.Dense(3, name="dense"),
        ]
    )


def _train_step(model, optimizer, replicas=1):
    def step(images, targets):
        with tf.GradientTape() as tape:
            # Inference mode: the statistics of half a batch are not those of the whole.
            loss = tf.reduce_mean(tf.square(model(images, training=False) - targets)) / replicas
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    return step


OPTIMIZERS = {
    "adam": lambda: Adam(schedules.WarmupCosine(0.01, 0.0, 10), 0.1, MATRIX_ROLES),
    "adamw": lambda: build_optimizer("adamw", 0.01, 0.1, decay_roles=MATRIX_ROLES),
    "sgd": lambda: SGD(schedules.WarmupCosine(0.1, 0.0, 10), weight_decay=0.1, decay_roles=MATRIX_ROLES),
    "lars_gradient": lambda: LARS(1.0, weight_decay=0.1, buffer="gradient"),
    **{f"lars_{preset}": lambda preset=preset: LARS.preset(preset, 1.0) for preset in PRESETS},
}


def _data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(4, 6, 6, 2)).astype(np.float32), rng.normal(size=(4, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "quantized"),
    [("adam", True), ("adamw", False), ("adamw", True), ("lars_burn", True), ("lars_gradient", False)],
)
def test_two_replicas_equal_one(name, quantized):
    images, targets = _data()
    single = _network(quantized)
    before = [weight.numpy() for weight in single.trainable_variables]
    optimizer = OPTIMIZERS[name]()
    optimizer.set_roles(variable_roles(single))
    step = tf.function(_train_step(single, optimizer))
    strategy = two_replicas()
    with strategy.scope():
        mirrored = _network(quantized)
        parallel = OPTIMIZERS[name]()
    parallel.set_roles(variable_roles(mirrored))
    parallel_step = _train_step(mirrored, parallel, replicas=2)

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
    model = _network(quantized=True)
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
    tf.function(_train_step(model, optimizer))(*_data())
    after = model.get_layer("conv").kernel.numpy()
    assert np.abs(after - before).max() > 1e-7
    assert np.abs(after).max() <= 1
    # The latent weights move, not their signs.
    assert len(np.unique(after)) > 2


@pytest.mark.parametrize("name", ["adam", "lars_simclr"])
def test_under_loss_scaling(name):
    models = [_network(), _network()]
    plain, inner = OPTIMIZERS[name](), OPTIMIZERS[name]()
    scaled = tf.keras.mixed_precision.LossScaleOptimizer(inner, initial_scale=1024)
    for model, optimizer in zip(models, (plain, scaled), strict=True):
        assign_roles(optimizer, variable_roles(model))
    images, targets = _data()

    @tf.function
    def scaled_step(images, targets):
        variables = models[1].trainable_variables
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(models[1](images, training=False) - targets))
            loss = scaled.get_scaled_loss(loss)
        gradients = scaled.get_unscaled_gradients(tape.gradient(loss, variables))
        scaled.apply_gradients(zip(gradients, variables, strict=True))

    step = tf.function(_train_step(models[0], plain))
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
        model, optimizer = _network(), OPTIMIZERS[name]()
        optimizer.set_roles(variable_roles(model))
        step = tf.function(_train_step(model, optimizer), jit_compile=jit_compile)
        for _ in range(2):
            step(*_data())
        weights.append(model.get_weights())
    for one, two in zip(*weights, strict=True):
        np.testing.assert_allclose(two, one, atol=1e-5)


def test_mixed_precision_keeps_float32_weights_and_slots():
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    model = _network(quantized=True)
    optimizer = OPTIMIZERS["lars_burn"]()
    optimizer.set_roles(variable_roles(model))
    _train_step(model, optimizer)(*(tf.cast(array, tf.bfloat16) for array in _data()))
    assert {variable.dtype for variable in optimizer.variables()[1:]} == {tf.float32}


@pytest.mark.parametrize("name", ["adam", "sgd", "lars_burn"])
def test_a_restored_run_goes_on_as_if_nothing_had_happened(name, tmp_path):
    def start():
        model = _network(quantized=True)
        optimizer = OPTIMIZERS[name]()
        optimizer.set_roles(variable_roles(model))
        return model, optimizer, tf.function(_train_step(model, optimizer))

    model, optimizer, step = start()
    for _ in range(3):
        step(*_data())
    path = tf.train.Checkpoint(model=model, optimizer=optimizer).write(str(tmp_path / "checkpoint"))
    for _ in range(2):
        step(*_data())
    again, optimizer_again, step_again = start()
    for weight in again.weights:
        weight.assign(tf.zeros_like(weight))
    tf.train.Checkpoint(model=again, optimizer=optimizer_again).read(path).assert_existing_objects_matched()
    for _ in range(2):
        step_again(*_data())
    assert int(optimizer_again.iterations) == 5
    for one, two in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_every_optimizer_round_trips_its_configuration(name):
    optimizer = (
        build_optimizer(name, schedules.WarmupCosine(0.1, 0.0, 10), 0.02, momentum=0.8)
        if (name.startswith(("sgd", "lars")))
        else build_optimizer(name, 0.1, schedules.WarmupCosine(0.1, 0.2, 10), epsilon=1e-3)
    )
    config = json.loads(json.dumps(tf.keras.optimizers.serialize(optimizer, use_legacy_format=True)))
    again = tf.keras.optimizers.deserialize(config, use_legacy_optimizer=True, use_legacy_format=True)
    assert type(again) is type(optimizer)
    assert again.get_config() == optimizer.get_config()


def test_configuration_after_training_is_still_plain_data():
    optimizer = Adam(0.25)
    variable = tf.Variable([1.0])
    optimizer.set_roles([(variable, Role.KERNEL)])
    optimizer.apply_gradients([(tf.constant([1.0]), variable)])
    assert json.loads(json.dumps(optimizer.get_config()))["learning_rate"] == 0.25


_MATRICES = {"kernel", "depthwise", "prototypes", "last_layer"}
_ALL = _MATRICES | {"bias", "norm", "threshold", "slope"}
# Weight decay by default, roles that are decayed and, of LARS, those that are scaled.
GROUPS = {
    "adam": (0.0, _ALL, None),
    "adam_reactnet": (0.0, {"kernel", "depthwise", "threshold"}, None),
    "adamw": (0.0, _MATRICES, None),
    "sgd": (0.0, _ALL, None),
    "sgd_nesterov": (0.0, _ALL, None),
    "lars_burn": (1e-6, _MATRICES | {"slope"}, _MATRICES | {"slope"}),
    "lars_simclr": (1e-4, _MATRICES - {"last_layer"}, _MATRICES - {"last_layer"}),
    "lars_dino": (1e-6, _MATRICES, _MATRICES),
    "lars_sslight": (1e-6, _MATRICES - {"depthwise"}, _MATRICES),
    "lars_byol": (1.5e-6, _MATRICES, _MATRICES),
    "lars_swav": (1e-6, _ALL, _ALL),
}


def test_there_is_a_row_for_each_optimizer():
    assert set(GROUPS) == set(optimizers.OPTIMIZERS)
    assert {role.value for role in Role} == _ALL


@pytest.mark.parametrize("role", sorted(_ALL))
@pytest.mark.parametrize("name", sorted(GROUPS))
def test_decay_and_trust_of_each_role(name, role):
    """By how far weights move along themselves, across their gradient, and by what a doubled gradient does."""
    default, decayed, scaled = GROUPS[name]
    assert build_optimizer(name, 0.1).weight_decay == default

    def moved(gradient, decay):
        variable = tf.Variable([3.0, 4.0])
        optimizer = build_optimizer(name, 0.1, decay)
        optimizer.set_roles([(variable, Role(role))])
        optimizer.apply_gradients([(tf.constant(gradient), variable)])
        return variable.numpy() - [3.0, 4.0]

    along = [float(moved([0.4, -0.3], decay) @ [0.6, 0.8]) for decay in (0.0, 0.5)]
    assert (along[1] < along[0] - 1e-5) == (role in decayed), along
    assert build_optimizer(name, 0.1, 0.0).weight_decay == 0
    if scaled is not None:
        once, twice = moved([4.0, -3.0], 0.0), moved([8.0, -6.0], 0.0)
        np.testing.assert_allclose(twice, once * (1 if role in scaled else 2), rtol=1e-5)


def test_nesterov_by_its_name_is_the_released_one():
    arrays = golden.load("o5_optim")
    optimizer = build_optimizer("sgd_nesterov", 1.0, momentum=float(arrays["hyper/momentum"]))
    initial, gradients = ({name: arrays[f"{part}/{name}"] for name in PARAMETERS} for part in ("init", "grads"))
    history = _run(optimizer, PARAMETERS, initial, gradients, arrays["lr"])
    for name in PARAMETERS:
        np.testing.assert_allclose(history[name], arrays[f"sgd_nesterov/{name}"], atol=1e-5, err_msg=name)


@pytest.mark.parametrize("in_graph", [True, False], ids=["graph", "eager"])
@pytest.mark.parametrize("name", [*OPTIMIZERS, "sgd_nesterov"])
def test_a_factor_of_the_rate_is_another_rate(name, in_graph):
    """As two optimizers, each with the variables of a rate; equal names do not matter."""
    rates, factor = [0.3, 0.2, 0.0, 0.1], 5.0
    rng = np.random.default_rng(0)
    gradients, start = rng.normal(size=(4, 2, 3)).astype(np.float32), rng.normal(size=(2, 3)).astype(np.float32)

    def optimizer():
        return OPTIMIZERS[name]() if name in OPTIMIZERS else build_optimizer(name, 1.0, 0.1)

    together, variables = optimizer(), [tf.Variable(row, name="kernel") for row in start]
    together.set_roles((variable, Role.KERNEL) for variable in variables)
    optimizers.assign_rate(tf.keras.mixed_precision.LossScaleOptimizer(together), variables[1:], factor)
    alone = [optimizer(), optimizer()]
    copies = [tf.Variable(row) for row in start]
    for own, variable in zip(alone, copies, strict=True):
        own.set_roles([(variable, Role.KERNEL)])

    def step(values):
        together.apply_gradients(zip(tf.unstack(values), variables, strict=True))
        for own, value, variable in zip(alone, tf.unstack(values), copies, strict=True):
            own.apply_gradients([(value, variable)])

    step = tf.function(step) if in_graph else step
    for rate, values in zip(rates, gradients, strict=True):
        together.learning_rate, alone[0].learning_rate, alone[1].learning_rate = rate, rate, factor * rate
        step(tf.constant(values))
        for variable, copy in zip(variables, copies, strict=True):
            np.testing.assert_allclose(variable, copy, rtol=1e-5, atol=1e-6)
    assert np.abs(variables[1].numpy() - start[1]).max() > 2 * np.abs(variables[0].numpy() - start[0]).max() > 0


@pytest.mark.parametrize("factor", [0.0, -1.0, float("inf"), float("nan")])
def test_a_factor_of_the_rate_is_positive(factor):
    with pytest.raises(ValueError, match="factor of a learning rate must be positive and finite"):
        SGD(0.1).set_rate([], factor)


def test_the_lars_of_swav_does_nothing_without_gradient():
    """apex's LARC leaves a tensor alone, decay included, whose gradient is zero; the LARS of DINO decays it."""
    for preset, expected in (("swav", 0.0), ("dino", -0.005)):
        variable = tf.Variable([3.0, 4.0])
        optimizer = LARS.preset(preset, 1.0, weight_decay=0.5)
        optimizer.set_roles([(variable, Role.KERNEL)])
        optimizer.apply_gradients([(tf.zeros(2), variable)])
        np.testing.assert_allclose((variable.numpy() - [3.0, 4.0]) @ [0.6, 0.8], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: build_optimizer("lars", 0.1), "optimizer must be one of adam, .* got 'lars'"),
        (lambda: LARS.preset("moco", 0.1), "preset .* burn, .* got 'moco'"),
        (lambda: LARS(0.1, trust_norm="max"), "trust_norm .* update, sum, got 'max'"),
        (lambda: LARS(0.1, zero_norm="two"), "zero_norm .* 'two'"),
        (lambda: LARS(0.1, momentum=1.0), "momentum .* 1.0"),
        (lambda: LARS(0.1, buffer="lr"), "buffer .* gradient, update, step, got 'lr'"),
        (lambda: LARS(0.1, buffer="gradient", trust_norm="sum"), "needs trust_norm='update'"),
        (lambda: LARS(-0.1), "learning_rate .* -0.1"),
        (lambda: SGD(0.1, weight_decay=-1e-4), "weight_decay .* -0.0001"),
        (lambda: Adam(0.1, decay_roles=["weights"]), "'weights' is not a valid Role"),
        (lambda: Adam(0.1, beta_2=1.5), "beta_2 .* 1.5"),
        (lambda: Adam(0.1, epsilon=-1), "epsilon .* -1"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_roles_can_only_be_assigned_to_our_optimizers():
    with pytest.raises(TypeError, match="got Adam"):
        assign_roles(tf.keras.optimizers.legacy.Adam(), [])

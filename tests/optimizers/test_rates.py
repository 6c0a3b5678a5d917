"""Learning rates: schedules, and factors of single variables."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import optimizers, schedules
from larq_ssl.optimizers import SGD, build_optimizer
from larq_ssl.roles import Role
from tests.optimizers.training import OPTIMIZERS


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

"""Adam by hand."""

import numpy as np

from larq_ssl.optimizers import Adam
from larq_ssl.roles import Role
from tests.optimizers.training import run


def test_epsilon_of_adam_is_added_after_the_correction():
    epsilon, rate = 0.3, 0.1
    gradients = np.array([[0.5, -1e-3], [0.2, 1e-3], [-0.4, 2e-3]])
    history = run(Adam(epsilon=epsilon), {"w": Role.KERNEL}, {"w": np.zeros(2)}, {"w": gradients}, [rate] * 3)
    weights, first, second = (np.zeros(2) for _ in range(3))
    for step, gradient in enumerate(gradients, start=1):
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        weights -= rate * first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + epsilon)
        np.testing.assert_allclose(history["w"][step - 1], weights, rtol=1e-5)

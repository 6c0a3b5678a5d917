"""LARS by hand: presets, buffers and norms that are zero."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.optimizers import LARS, PRESETS
from larq_ssl.roles import Role
from tests.optimizers.training import run


def test_burn_lars_worked_by_hand():
    optimizer = LARS.preset("burn", 0.3)
    history = run(
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
    history = run(
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
        run(
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
    moved = [
        run(
            LARS(0.1, buffer=buffer),
            {"w": Role.KERNEL},
            {"w": np.ones(2)},
            {"w": [np.array([0.3, 0.1])] * 3},
            [0.1, 0.1, 0.01],
        )["w"]
        for buffer in ("update", "step", "gradient")
    ]
    np.testing.assert_allclose(moved[0][:2], moved[1][:2], rtol=1e-6)
    np.testing.assert_allclose(moved[0][0], moved[2][0], rtol=1e-6)
    assert np.abs(moved[0][2] - moved[1][2]).max() > 1e-5
    assert np.abs(moved[0][1] - moved[2][1]).max() > 1e-5


def test_the_lars_of_swav_does_nothing_without_gradient():
    """apex's LARC leaves a tensor alone, decay included, whose gradient is zero; the LARS of DINO decays it."""
    for preset, expected in (("swav", 0.0), ("dino", -0.005)):
        variable = tf.Variable([3.0, 4.0])
        optimizer = LARS.preset(preset, 1.0, weight_decay=0.5)
        optimizer.set_roles([(variable, Role.KERNEL)])
        optimizer.apply_gradients([(tf.zeros(2), variable)])
        np.testing.assert_allclose((variable.numpy() - [3.0, 4.0]) @ [0.6, 0.8], expected, atol=1e-6)

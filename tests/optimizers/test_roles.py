"""What is decayed and what is scaled goes by role."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import optimizers
from larq_ssl.optimizers import LARS, SGD, Adam, assign_roles, build_optimizer
from larq_ssl.roles import Role
from tests.optimizers.training import run


def test_decay_and_trust_go_by_role_not_by_shape():
    shape = (3, 2)
    names = {role.value: role for role in Role}
    history = run(
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


def test_roles_can_only_be_assigned_to_our_optimizers():
    with pytest.raises(TypeError, match="got Adam"):
        assign_roles(tf.keras.optimizers.legacy.Adam(), [])

"""The released codes' weights after each step."""

import numpy as np
import pytest

from larq_ssl.optimizers import ALL_ROLES, LARS, SGD, Adam, build_optimizer
from larq_ssl.roles import Role
from tests import golden
from tests.optimizers.training import run

PARAMETERS = {
    "kernel": Role.KERNEL,
    "conv": Role.KERNEL,
    "depthwise": Role.DEPTHWISE,
    "bias": Role.BIAS,
    "zero_kernel": Role.KERNEL,
    "zero_bias": Role.BIAS,
}


def _assert_follows(optimizer, roles, arrays, rates, keys, atol, in_graph=True):
    """Weights after each step are those of the arrays.

    # Arguments
        keys: Of first weights, gradients and weights after each step, with `{}` for the name of a parameter.
    """
    initial, gradients, released = ({name: arrays[key.format(name)] for name in roles} for key in keys.split())
    history = run(optimizer, roles, initial, gradients, rates, in_graph)
    for name in roles:
        np.testing.assert_allclose(history[name], released[name], atol=atol, err_msg=name)


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
    _assert_follows(_o5(key, arrays), PARAMETERS, arrays, rates, f"init/{{}} grads/{{}} {key}/{{}}", 1e-5, in_graph)


def test_nesterov_by_its_name_is_the_released_one():
    arrays = golden.load("o5_optim")
    optimizer = build_optimizer("sgd_nesterov", 1.0, momentum=float(arrays["hyper/momentum"]))
    _assert_follows(optimizer, PARAMETERS, arrays, arrays["lr"], "init/{} grads/{} sgd_nesterov/{}", 1e-5)


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
    keys = f"{variant}_{{}}_w0 {variant}_{{}}_grads {variant}_{{}}_w"
    _assert_follows(optimizer, SIMCLR, arrays, arrays[f"{variant}_lr"], keys, 1e-6)


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
    _assert_follows(optimizer, BYOL, arrays, arrays["lars4_lr"], "lars4_{}_w0 lars4_{}_grads lars4_{}_w", 1e-6)

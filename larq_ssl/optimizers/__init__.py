"""Optimizers whose weight decay and scaling go by the roles of the variables (`larq_ssl.roles`).

All are `tf.keras.optimizers.legacy` optimizers, as Larq needs them, and follow the released codes of the
papers, which are written for PyTorch, exactly. Clip gradients before they get here.
"""

from typing import Any

from larq_ssl.optimizers.adam import Adam
from larq_ssl.optimizers.lars import LARS, PRESETS
from larq_ssl.optimizers.role_optimizer import (
    ALL_ROLES,
    MATRIX_ROLES,
    RoleOptimizer,
    Schedule,
    assign_rate,
    assign_roles,
)
from larq_ssl.optimizers.sgd import SGD
from larq_ssl.roles import Role

OPTIMIZERS = ("adam", "adam_reactnet", "adamw", "sgd", "sgd_nesterov", *(f"lars_{preset}" for preset in PRESETS))
# What ReActNet's released code tells by names and ranks: all but norms, slopes and the classifier.
_REACTNET_ROLES = frozenset({Role.KERNEL, Role.DEPTHWISE, Role.THRESHOLD})


__all__ = [
    "ALL_ROLES",
    "LARS",
    "MATRIX_ROLES",
    "OPTIMIZERS",
    "PRESETS",
    "SGD",
    "Adam",
    "RoleOptimizer",
    "assign_rate",
    "assign_roles",
    "build_optimizer",
]


def build_optimizer(
    name: str, learning_rate: float | Schedule, weight_decay: float | Schedule | None = None, **options: Any
) -> RoleOptimizer:
    """The optimizer of that name.

    # Arguments
        name: One of `OPTIMIZERS`: `adam`, `adamw` (which decays no biases and norms, as DINO and SSLight have it;
            depthwise kernels, which SSLight does not decay, as DINO), `adam_reactnet` (which decays kernels and
            thresholds, but no classifier with the role of a last layer), `sgd` (momentum 0.9), `sgd_nesterov`, or
            `lars_` and a preset (`lars_burn`, ...).
        learning_rate: Number or schedule.
        weight_decay: Number or schedule; by default none, and for LARS that of the preset.
        options: Further arguments of the optimizer.
    # Raises
        ValueError: If there is no such optimizer.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, got {name!r}.")
    if weight_decay is not None:
        options["weight_decay"] = weight_decay
    if name.startswith("lars_"):
        return LARS.preset(name.removeprefix("lars_"), learning_rate, **options)
    if name == "adamw":
        options.setdefault("decay_roles", MATRIX_ROLES)
        return Adam(learning_rate, decoupled=True, name="AdamW", **options)
    if name == "adam_reactnet":
        options.setdefault("decay_roles", _REACTNET_ROLES)
    if name.startswith("adam"):
        return Adam(learning_rate, **options)
    return SGD(learning_rate, nesterov=name == "sgd_nesterov", **options)

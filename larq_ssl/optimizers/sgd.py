"""Stochastic gradient descent with momentum and coupled weight decay."""

from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf

from larq_ssl.optimizers.role_optimizer import ALL_ROLES, RoleOptimizer, Schedule, check_range
from larq_ssl.roles import Role


@tf.keras.utils.register_keras_serializable(package="larq_ssl")
class SGD(RoleOptimizer):
    """SGD as PyTorch computes it.

    \\[ b \\leftarrow \\mu b + (g + \\lambda w), \\qquad w \\leftarrow w - \\eta b \\]

    With Nesterov's momentum, \\( w \\leftarrow w - \\eta \\, (g + \\lambda w + \\mu b) \\).

    # Arguments
        learning_rate: Number or schedule \\( \\eta \\).
        momentum: \\( \\mu \\).
        nesterov: Whether the momentum is Nesterov's.
        weight_decay: Number or schedule \\( \\lambda \\).
        decay_roles: Roles that are decayed; by default all, as in the papers' code.
        name: Name of the optimizer.
    # Raises
        ValueError: If a number is out of range, or a variable without a role is updated.
    # Differences from Keras
        Keras keeps the learning rate inside the buffer, so that a change of the rate acts only on later
        gradients.
    """

    def __init__(
        self,
        learning_rate: float | Schedule = 0.03,
        momentum: float = 0.9,
        nesterov: bool = False,
        weight_decay: float | Schedule = 0.0,
        decay_roles: Iterable[Role | str] = ALL_ROLES,
        name: str = "SGD",
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, weight_decay, decay_roles, name, **kwargs)
        check_range("momentum", momentum, 0, 1)
        self.momentum, self.nesterov = momentum, nesterov

    def _add_slots(self, variable: tf.Variable) -> None:
        self.add_slot(variable, "momentum")

    def _resource_apply_dense(
        self, grad: tf.Tensor, var: tf.Variable, apply_state: Mapping | None = None
    ) -> tf.Operation:
        state = self._state(var, apply_state)
        return tf.raw_ops.ResourceApplyMomentum(
            var=var.handle,
            accum=self.get_slot(var, "momentum").handle,
            lr=state["lr_t"],
            grad=self._with_decay(grad, var, state),
            momentum=self.momentum,
            use_nesterov=self.nesterov,
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "momentum": self.momentum, "nesterov": self.nesterov}

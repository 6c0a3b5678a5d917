"""LARS in all the variants that the literature of self-supervised learning has in use."""

from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf

from larq_ssl.optimizers.role_optimizer import (
    ALL_ROLES,
    MATRIX_ROLES,
    RoleOptimizer,
    Schedule,
    State,
    check_range,
)
from larq_ssl.roles import Role

BUFFERS = ("gradient", "update", "step")
TRUST_NORMS = ("update", "sum")
ZERO_NORMS = ("one", "zero", "plain")

# Where the released codes differ; the rest is the same in all of them.
PRESETS: dict[str, dict[str, Any]] = {
    # Slopes are adapted, as in the released code. There, so are the gammas of the doubled branches, whose
    # names its pattern misses; here all of them are norms.
    "burn": {
        "weight_decay": 1e-6,
        "decay_roles": MATRIX_ROLES | {Role.SLOPE},
        "trust_roles": MATRIX_ROLES | {Role.SLOPE},
        "buffer": "step",
        "trust_norm": "sum",
        "zero_norm": "zero",
    },
    # The last layer is the supervised head, which SimCLR leaves out and decays in the loss.
    "simclr": {
        "weight_decay": 1e-4,
        "decay_roles": MATRIX_ROLES - {Role.LAST_LAYER},
        "trust_roles": MATRIX_ROLES - {Role.LAST_LAYER},
        "buffer": "step",
    },
    "dino": {"weight_decay": 1e-6},
    "sslight": {"weight_decay": 1e-6, "decay_roles": MATRIX_ROLES - {Role.DEPTHWISE}},
    "byol": {"weight_decay": 1.5e-6},
    "swav": {
        "weight_decay": 1e-6,
        "decay_roles": ALL_ROLES,
        "trust_roles": ALL_ROLES,
        "trust_norm": "sum",
        "zero_norm": "plain",
        "epsilon": 1e-8,
    },
}


@tf.keras.utils.register_keras_serializable(package="larq_ssl")
class LARS(RoleOptimizer):
    """Layer-wise adaptive rate scaling: each tensor moves in proportion to its own length.

    \\[ d = g + \\lambda w, \\quad q = \\frac{\\eta_{trust} \\|w\\|}{\\|d\\| + \\epsilon}, \\quad
       b \\leftarrow \\mu b + q d, \\quad w \\leftarrow w - \\eta b \\]

    where \\( b \\) is the buffer of the momentum. Released codes have variants of it that give different
    weights (`PRESETS`: `burn`, `simclr`, `dino`, `sslight`, `byol`, `swav`).

    # Arguments
        learning_rate: Number or schedule \\( \\eta \\).
        momentum: \\( \\mu \\).
        weight_decay: Number or schedule \\( \\lambda \\).
        trust_coefficient: \\( \\eta_{trust} \\).
        decay_roles: Roles that are decayed.
        trust_roles: Roles that are scaled by \\( q \\); the others have \\( q = 1 \\).
        buffer: What the buffer of the momentum collects. `update`: \\( q d \\). `step`: \\( \\eta q d \\), so
            that a change of the rate acts only on later gradients. `gradient`: \\( d \\); then \\( q \\) is
            that of the buffer, \\( w \\leftarrow w - \\eta \\, q(b) \\, b \\).
        trust_norm: What is under \\( \\|w\\| \\): `update`, \\( \\|d\\| \\); or `sum`, \\( \\|g\\| +
            \\lambda \\|w\\| \\).
        zero_norm: What a tensor of zeros does. `one`: \\( q = 1 \\), also where \\( d \\) is zero. `zero`:
            it never moves. `plain`: it follows \\( g \\) without decay, also where \\( g \\) is zero.
        epsilon: \\( \\epsilon \\).
        name: Name of the optimizer.
    # Raises
        ValueError: If a number is out of range, an option is unknown, or a variable without a role is
            updated.
    # References
        - Large Batch Training of Convolutional Networks (You et al., 2017)
    # Differences from the paper
        The paper's is `buffer="step", trust_norm="sum"`. A tensor whose weights and gradient are both
        zero stays where it is; the released code of BSSL divides by zero.
    """

    def __init__(
        self,
        learning_rate: float | Schedule,
        momentum: float = 0.9,
        weight_decay: float | Schedule = 0.0,
        trust_coefficient: float = 1e-3,
        decay_roles: Iterable[Role | str] = MATRIX_ROLES,
        trust_roles: Iterable[Role | str] = MATRIX_ROLES,
        buffer: str = "update",
        trust_norm: str = "update",
        zero_norm: str = "one",
        epsilon: float = 0.0,
        name: str = "LARS",
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, weight_decay, decay_roles, name, **kwargs)
        check_range("momentum", momentum, 0, 1)
        check_range("trust_coefficient", trust_coefficient, 0)
        check_range("epsilon", epsilon, 0)
        for option, value, allowed in (
            ("trust_norm", trust_norm, TRUST_NORMS),
            ("zero_norm", zero_norm, ZERO_NORMS),
            ("buffer", buffer, BUFFERS),
        ):
            if value not in allowed:
                raise ValueError(f"{option} must be one of {', '.join(allowed)}, got {value!r}.")
        if buffer == "gradient" and (trust_norm != "update" or zero_norm == "plain"):
            raise ValueError(
                "buffer='gradient' needs trust_norm='update' and zero_norm 'one' or 'zero', "
                f"got {trust_norm!r} and {zero_norm!r}."
            )
        self.momentum, self.trust_coefficient, self.epsilon = momentum, trust_coefficient, epsilon
        self.trust_roles = frozenset(Role(role) for role in trust_roles)
        self.buffer, self.trust_norm, self.zero_norm = buffer, trust_norm, zero_norm

    @classmethod
    def preset(cls, preset: str, learning_rate: float | Schedule, **overrides: Any) -> "LARS":
        """The variant of a released code.

        # Arguments
            preset: A key of `PRESETS`.
            learning_rate: Number or schedule.
            overrides: Arguments of `LARS` that are to differ from the preset.
        # Raises
            ValueError: If there is no such preset.
        """
        if preset not in PRESETS:
            raise ValueError(f"preset of LARS must be one of {', '.join(PRESETS)}, got {preset!r}.")
        return cls(learning_rate, **{**PRESETS[preset], **overrides})

    def _add_slots(self, variable: tf.Variable) -> None:
        self.add_slot(variable, "momentum")

    def _resource_apply_dense(
        self, grad: tf.Tensor, var: tf.Variable, apply_state: Mapping | None = None
    ) -> tf.Operation:
        state, buffer = self._state(var, apply_state), self.get_slot(var, "momentum")
        rate, update = state["lr_t"], self._with_decay(grad, var, state)
        adapts = self.role(var) in self.trust_roles
        if self.buffer == "gradient":
            update = buffer.assign(self.momentum * buffer + update)
            update = self._adapted(grad, tf.convert_to_tensor(update), var, state) if adapts else update
            return var.assign_sub(rate * update, read_value=False)
        if adapts:
            update = self._adapted(grad, update, var, state)
        if self.buffer == "step":
            rate, update = tf.ones_like(rate), rate * update
        return tf.raw_ops.ResourceApplyMomentum(
            var=var.handle, accum=buffer.handle, lr=rate, grad=update, momentum=self.momentum
        )

    def _adapted(self, grad: tf.Tensor, update: tf.Tensor, var: tf.Variable, state: State) -> tf.Tensor:
        """The update, as long as the trust coefficient times the weights."""
        weight_norm, grad_norm, norm = tf.norm(tf.convert_to_tensor(var)), tf.norm(grad), tf.norm(update)
        if self.trust_norm == "sum":
            norm = grad_norm + (state["weight_decay"] * weight_norm if self._decays(var) else 0.0)
        ratio = self.trust_coefficient * tf.math.divide_no_nan(weight_norm, norm + self.epsilon)
        if self.zero_norm == "zero":
            return ratio * update
        if self.zero_norm == "one":
            return tf.where((weight_norm > 0) & (norm > 0), ratio, tf.ones_like(ratio)) * update
        return tf.where((weight_norm > 0) & (grad_norm > 0), ratio * update, grad)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "trust_coefficient": self.trust_coefficient,
            "trust_roles": sorted(role.value for role in self.trust_roles),
            "buffer": self.buffer,
            "trust_norm": self.trust_norm,
            "zero_norm": self.zero_norm,
            "epsilon": self.epsilon,
        }

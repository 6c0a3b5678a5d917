"""Adam with weight decay, coupled or decoupled."""

from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf

from larq_ssl.optimizers.role_optimizer import ALL_ROLES, RoleOptimizer, Schedule, check_range
from larq_ssl.roles import Role


@tf.keras.utils.register_keras_serializable(package="larq_ssl")
class Adam(RoleOptimizer):
    """Adam as PyTorch computes it.

    \\[ w \\leftarrow w - \\eta \\, \\frac{m / (1 - \\beta_1^t)}{\\sqrt{v / (1 - \\beta_2^t)} + \\epsilon} \\]

    where \\( m, v \\) are the moving averages of \\( g \\) and \\( g^2 \\). Weight decay either is part of
    the gradient (coupled: \\( g + \\lambda w \\)) or shrinks the weights beside it (decoupled, AdamW:
    \\( w \\leftarrow w - \\eta \\lambda w \\)).

    # Arguments
        learning_rate: Number or schedule \\( \\eta \\).
        weight_decay: Number or schedule \\( \\lambda \\).
        decay_roles: Roles that are decayed; by default all, as in the papers' code.
        decoupled: Whether the decay is AdamW's.
        beta_1: Decay of the first average.
        beta_2: Decay of the second average.
        epsilon: Added to the square root after the correction of its bias.
        name: Name of the optimizer.
    # Raises
        ValueError: If a number is out of range, or a variable without a role is updated.
    # References
        - Decoupled Weight Decay Regularization (Loshchilov & Hutter, 2019), for AdamW
    # Differences from Keras
        Keras's Adam adds its epsilon (1e-7) before the correction. AdamW of TensorFlow Addons does not
        multiply the decay by the learning rate.
    """

    def __init__(
        self,
        learning_rate: float | Schedule = 3e-4,
        weight_decay: float | Schedule = 0.0,
        decay_roles: Iterable[Role | str] = ALL_ROLES,
        decoupled: bool = False,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        name: str = "Adam",
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, weight_decay, decay_roles, name, **kwargs)
        check_range("beta_1", beta_1, 0, 1)
        check_range("beta_2", beta_2, 0, 1)
        check_range("epsilon", epsilon, 0)
        self.decoupled, self.epsilon = decoupled, epsilon
        self.beta_1, self.beta_2 = beta_1, beta_2

    def _add_slots(self, variable: tf.Variable) -> None:
        self.add_slot(variable, "m")
        self.add_slot(variable, "v")

    def _prepare_local(self, var_device: str, var_dtype: tf.DType, apply_state: dict) -> None:
        super()._prepare_local(var_device, var_dtype, apply_state)
        step = tf.cast(self.iterations + 1, tf.float64)
        # In float32, 1 - 0.999 is wrong in its fifth digit.
        powers = [tf.pow(tf.constant(beta, tf.float64), step) for beta in (self.beta_1, self.beta_2)]
        correction = tf.sqrt(1 - powers[1])
        state = apply_state[var_device, var_dtype]
        state["rate"] = state["lr_t"] * tf.cast(correction / (1 - powers[0]), var_dtype)
        # With this the fused kernel, which adds epsilon to the uncorrected root, computes the formula above.
        state["epsilon"] = tf.cast(self.epsilon * correction, var_dtype)

    def _resource_apply_dense(
        self, grad: tf.Tensor, var: tf.Variable, apply_state: Mapping | None = None
    ) -> tf.Operation:
        state = self._state(var, apply_state)
        before = []
        if not self.decoupled:
            grad = self._with_decay(grad, var, state)
        elif self._decays(var):
            before = [var.assign_sub(state["lr_t"] * state["weight_decay"] * var, read_value=False)]
        zero = tf.zeros([], var.dtype)
        with tf.control_dependencies(before):
            return tf.raw_ops.ResourceApplyAdam(
                var=var.handle,
                m=self.get_slot(var, "m").handle,
                v=self.get_slot(var, "v").handle,
                beta1_power=zero,
                beta2_power=zero,
                lr=state["rate"],
                beta1=self.beta_1,
                beta2=self.beta_2,
                epsilon=state["epsilon"],
                grad=grad,
            )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "decoupled": self.decoupled,
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
        }

"""What our optimizers share: roles of variables, weight decay, schedules by the number of updates."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import tensorflow as tf

# The key under which Keras keeps the slots of a variable: one for Larq's and the mirrored wrappers of a
# variable.
from keras.src.optimizers.legacy.optimizer_v2 import _var_key

from larq_ssl.roles import Role
from larq_ssl.schedules import at_step

ALL_ROLES: frozenset[Role] = frozenset(Role)
# What the literature means by "no decay for biases and norms": one number per channel is left out.
MATRIX_ROLES: frozenset[Role] = frozenset({Role.KERNEL, Role.DEPTHWISE, Role.PROTOTYPES, Role.LAST_LAYER})

Schedule: TypeAlias = tf.keras.optimizers.schedules.LearningRateSchedule
State: TypeAlias = Mapping[str, tf.Tensor]

_RATES = ("lr_t", "rate")


class RoleOptimizer(tf.keras.optimizers.legacy.Optimizer):
    """Base of the optimizers: what happens to a variable depends on its role, never on its name or shape.

    The roles of the variables are set once with `set_roles`, before the first update; they are part of the
    model, not of the optimizer's configuration. Schedules are read at the number of updates made so far
    (`iterations`).

    # Arguments
        learning_rate: Number or schedule.
        weight_decay: Number or schedule, not negative.
        decay_roles: Roles (or their names) that are decayed.
        name: Name of the optimizer.
    # Raises
        ValueError: If a number is negative, a role is unknown, or a variable without a role is
            updated.
    """

    def __init__(
        self,
        learning_rate: float | Schedule,
        weight_decay: float | Schedule,
        decay_roles: Iterable[Role | str],
        name: str,
        **kwargs: Any,
    ) -> None:
        super().__init__(name, **kwargs)
        for argument, value in (("learning_rate", learning_rate), ("weight_decay", weight_decay)):
            if not _is_schedule(value):
                check_range(argument, value, 0)
        self._set_hyper("learning_rate", learning_rate)
        self.weight_decay = weight_decay
        self.decay_roles = frozenset(Role(role) for role in decay_roles)
        self._roles: dict[str, Role] = {}
        self._rates: dict[str, float] = {}

    def set_roles(self, pairs: Iterable[tuple[tf.Variable, Role]]) -> None:
        """Says what each variable is, in addition to what was said before.

        # Arguments
            pairs: As `larq_ssl.roles.variable_roles` returns them; several models may share the optimizer.
        """
        for variable, role in pairs:
            self._roles[_var_key(variable)] = Role(role)

    def set_rate(self, variables: Iterable[tf.Variable], factor: float) -> None:
        """Multiplies the learning rate of these variables by a factor, whatever the schedule says.

        # Arguments
            variables: Of the models that the optimizer updates.
            factor: Positive; as the roles, no part of the optimizer's configuration.
        # Raises
            ValueError: If the factor is not positive.
        """
        if not 0 < factor < float("inf"):
            raise ValueError(f"factor of a learning rate must be positive and finite, got {factor}.")
        self._rates |= {_var_key(variable): factor for variable in variables}

    def role(self, variable: tf.Variable) -> Role:
        """The role of a variable.

        # Raises
            ValueError: If it has none.
        """
        role = self._roles.get(_var_key(variable))
        if role is None:
            raise ValueError(
                f"{self._name} can update only variables with a role, got {variable.name}: call "
                f"set_roles(variable_roles(model)) first."
            )
        return role

    def _create_slots(self, var_list: list[tf.Variable]) -> None:
        for variable in var_list:
            self.role(variable)
        for variable in var_list:
            self._add_slots(variable)

    def _add_slots(self, variable: tf.Variable) -> None:
        raise NotImplementedError

    def _decayed_lr(self, var_dtype: tf.DType) -> tf.Tensor:
        # Keras rounds the step to the dtype of the variable, which bfloat16 cannot count in.
        return tf.cast(at_step(self._get_hyper("learning_rate"), self.iterations), var_dtype)

    def _prepare_local(self, var_device: str, var_dtype: tf.DType, apply_state: dict) -> None:
        super()._prepare_local(var_device, var_dtype, apply_state)
        apply_state[var_device, var_dtype]["weight_decay"] = tf.cast(
            at_step(self.weight_decay, self.iterations), var_dtype
        )

    def _state(self, variable: tf.Variable, apply_state: Mapping | None) -> State:
        key = variable.device, variable.dtype.base_dtype
        state = (apply_state or {}).get(key) or self._fallback_apply_state(*key)
        factor = self._rates.get(_var_key(variable), 1.0)
        if factor == 1:
            return state
        # What an optimizer makes of the rate is proportional to it.
        return {**state, **{name: factor * state[name] for name in _RATES if name in state}}

    def _decays(self, variable: tf.Variable) -> bool:
        """Whether this variable is decayed: known when the graph is made, so that no decay costs nothing."""
        scheduled = _is_schedule(self.weight_decay)
        return (scheduled or self.weight_decay > 0) and self.role(variable) in self.decay_roles

    def _with_decay(self, grad: tf.Tensor, variable: tf.Variable, state: State) -> tf.Tensor:
        """The gradient of the loss plus half the weight decay times the squared weights."""
        return grad + state["weight_decay"] * variable if self._decays(variable) else grad

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "learning_rate": _serialized(self._hyper["learning_rate"]),
            "weight_decay": _serialized(self.weight_decay),
            "decay_roles": sorted(role.value for role in self.decay_roles),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict | None = None) -> "RoleOptimizer":
        """The optimizer that `get_config` describes; roles of variables have to be set again."""
        config = dict(config)
        for name in ("learning_rate", "weight_decay"):
            if isinstance(config.get(name), dict):
                config[name] = tf.keras.optimizers.schedules.deserialize(config[name], custom_objects)
        return cls(**config)


def assign_roles(optimizer: tf.keras.optimizers.legacy.Optimizer, pairs: Iterable[tuple[tf.Variable, Role]]) -> None:
    """Sets the roles of the variables, through a loss-scaling wrapper if there is one.

    # Arguments
        optimizer: A `RoleOptimizer`, or a `LossScaleOptimizer` around one.
        pairs: As `larq_ssl.roles.variable_roles` returns them.
    # Raises
        TypeError: If it is another optimizer.
    """
    _inner(optimizer).set_roles(pairs)


def assign_rate(
    optimizer: tf.keras.optimizers.legacy.Optimizer, variables: Iterable[tf.Variable], factor: float
) -> None:
    """Multiplies the learning rate of the variables, through a loss-scaling wrapper if there is one.

    # Arguments
        optimizer: A `RoleOptimizer`, or a `LossScaleOptimizer` around one.
        variables, factor: See `RoleOptimizer.set_rate`.
    # Raises
        TypeError: If it is another optimizer.
        ValueError: If the factor is not positive.
    """
    _inner(optimizer).set_rate(variables, factor)


def _inner(optimizer: tf.keras.optimizers.legacy.Optimizer) -> RoleOptimizer:
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if not isinstance(inner, RoleOptimizer):
        raise TypeError(f"optimizer must be one of larq_ssl.optimizers, got {type(inner).__name__}.")
    return inner


def check_range(name: str, value: float, low: float, high: float = float("inf")) -> None:
    """Raises a `ValueError` unless `low <= value < high`."""
    if not low <= value < high:
        raise ValueError(f"{name} must be at least {low} and less than {high}, got {value}.")


def _is_schedule(value: Any) -> bool:
    return isinstance(value, tf.keras.optimizers.schedules.LearningRateSchedule)


def _serialized(value: Any) -> Any:
    return tf.keras.optimizers.schedules.serialize(value) if _is_schedule(value) else float(value)

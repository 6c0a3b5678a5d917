"""What all schedules share."""

import math
from typing import Any

import tensorflow as tf


class Schedule(tf.keras.optimizers.schedules.LearningRateSchedule):
    """Base of the schedules below: the step becomes float64, the value float32.

    A subclass writes `value`, and lists the names of its constructor's arguments, which are also its
    attributes.
    """

    arguments: tuple[str, ...] = ()

    def value(self, step: tf.Tensor) -> tf.Tensor:
        """The schedule's value at a float64 step, as float64."""
        raise NotImplementedError

    def __call__(self, step: tf.Tensor | int) -> tf.Tensor:
        step = tf.maximum(tf.cast(step, tf.float64), 0.0)
        return tf.cast(self.value(step), tf.float32)

    def get_config(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.arguments}


def at_step(value: Any, step: tf.Tensor | int) -> Any:
    """The value of a schedule at a step; a number stays what it is."""
    return value(step) if isinstance(value, tf.keras.optimizers.schedules.LearningRateSchedule) else value


def half_cosine(start: float, end: float, fraction: tf.Tensor) -> tf.Tensor:
    """Half a cosine from `start` (fraction 0) to `end` (fraction 1)."""
    fraction = tf.clip_by_value(fraction, tf.zeros([], tf.float64), tf.ones([], tf.float64))
    return end + (start - end) * (1 + tf.cos(math.pi * fraction)) / 2


def check_not_negative(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} of a schedule must be finite and not negative, got {value}.")


def check_positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"{name} of a schedule must be at least 1, got {value}.")


def check_steps(name: str, total: int, warmup: int, warmup_name: str) -> None:
    check_positive(**{name: total})
    if not 0 <= warmup < total:
        raise ValueError(f"{warmup_name} must be at least 0 and less than {name} ({total}), got {warmup}.")

"""Schedules that change at every step: a linear warm-up and a cosine."""

import math

import tensorflow as tf

from larq_ssl.schedules.base import Schedule, check_not_negative, check_steps, half_cosine


@tf.keras.utils.register_keras_serializable(package="larq_ssl")
class WarmupCosine(Schedule):
    """Linear warm-up, then a cosine, both per step.

    \\[ v(t) = f + (b - f) \\, \\frac{1 + \\cos(\\pi (t - W) / (T - W))}{2}, \\qquad t \\ge W \\]

    The warm-up includes both its ends: step 0 has the value `start`, step `warmup_steps - 1` has `base`,
    and so has step `warmup_steps`, where the cosine begins. `final` is the value at step `total_steps`,
    after the last update.

    # Arguments
        base: Value at the end of the warm-up.
        final: Value at `total_steps`.
        total_steps: Number of updates, warm-up included.
        warmup_steps: Number of steps of the warm-up.
        start: Value at step 0 where there is a warm-up.
    # Raises
        ValueError: If a value is negative, or the warm-up is not shorter than the whole.
    # References
        - Emerging Properties in Self-Supervised Vision Transformers (Caron et al., 2021): learning rate,
          weight decay (rising) and momentum of the teacher (rising to 1); SSLight uses the same
        - Bootstrap Your Own Latent (Grill et al., 2020): momentum of the target (rising to 1)
    """

    arguments = ("base", "final", "total_steps", "warmup_steps", "start")

    def __init__(self, base: float, final: float, total_steps: int, warmup_steps: int = 0, start: float = 0.0) -> None:
        check_not_negative(base=base, final=final, start=start)
        check_steps("total_steps", total_steps, warmup_steps, "warmup_steps")
        self.base, self.final, self.start = base, final, start
        self.total_steps, self.warmup_steps = total_steps, warmup_steps

    def value(self, step: tf.Tensor) -> tf.Tensor:
        rise = step / max(1, self.warmup_steps - 1)
        warmup = self.start + (self.base - self.start) * rise
        fraction = (step - self.warmup_steps) / (self.total_steps - self.warmup_steps)
        return tf.where(step < self.warmup_steps, warmup, half_cosine(self.base, self.final, fraction))


@tf.keras.utils.register_keras_serializable(package="larq_ssl")
class SimCLRCosine(Schedule):
    """SimCLR's schedule: a linear warm-up that leaves out its end, then a cosine to zero, both per step.

    \\[ v(t) = b \\, t / W \\; (t < W), \\qquad v(t) = b \\, \\frac{1 + \\cos(\\pi (t - W) / (T - W))}{2} \\]

    # Arguments
        base: Value at the end of the warm-up, already scaled to the batch (`simclr_base`).
        total_steps: Number of updates, warm-up included (`simclr_steps`).
        warmup_steps: Number of steps of the warm-up.
    # Raises
        ValueError: If `base` is negative, or the warm-up is not shorter than the whole.
    # References
        - Big Self-Supervised Models are Strong Semi-Supervised Learners (Chen et al., 2020), App. B
          (released code); BYOL (Grill et al., 2020) has the same
    """

    arguments = ("base", "total_steps", "warmup_steps")

    def __init__(self, base: float, total_steps: int, warmup_steps: int = 0) -> None:
        check_not_negative(base=base)
        check_steps("total_steps", total_steps, warmup_steps, "warmup_steps")
        self.base, self.total_steps, self.warmup_steps = base, total_steps, warmup_steps

    def value(self, step: tf.Tensor) -> tf.Tensor:
        warmup = self.base * step / max(1, self.warmup_steps)
        fraction = (step - self.warmup_steps) / (self.total_steps - self.warmup_steps)
        return tf.where(step < self.warmup_steps, warmup, half_cosine(self.base, 0.0, fraction))


def simclr_base(learning_rate: float, batch_size: int, scaling: str = "sqrt") -> float:
    """The peak of `SimCLRCosine` for a batch B: `learning_rate` times `sqrt(B)`, or `B / 256` if `linear`.

    # Raises
        ValueError: If the scaling is neither `sqrt` nor `linear`.
    """
    if scaling not in ("sqrt", "linear"):
        raise ValueError(f"scaling must be sqrt or linear, got {scaling!r}.")
    return learning_rate * (math.sqrt(batch_size) if scaling == "sqrt" else batch_size / 256)


def simclr_steps(num_examples: int, batch_size: int, epochs: int, warmup_epochs: float) -> tuple[int, int]:
    """Warm-up and total steps as SimCLR counts them: it rounds the whole, not the epoch, and adds one."""
    return int(num_examples * warmup_epochs // batch_size), num_examples * epochs // batch_size + 1

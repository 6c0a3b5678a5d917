"""Schedules that change with the epoch."""

import tensorflow as tf

from larq_ssl.schedules.base import Schedule, check_not_negative, check_positive, check_steps, half_cosine


def _check_offset(offset: int) -> None:
    if offset not in (0, 1):
        raise ValueError(f"offset must be 0 or 1, got {offset}.")


@tf.keras.utils.register_keras_serializable(package="larq_ssl")
class EpochCosine(Schedule):
    """A cosine per epoch, multiplied by a linear warm-up per step.

    \\[ v(t) = \\Big(f + (b - f) \\, \\frac{1 + \\cos(\\pi (\\lfloor t/n \\rfloor + o) / E)}{2}\\Big) \\cdot
       \\big(1 - (1 - t/W)(1 - r)\\big)_{\\text{if } t < W} \\]

    The cosine runs from epoch 0, also during the warm-up, and with offset 0 the last epoch is not yet at `final`.

    # Arguments
        base: Value of the first epoch after which no warm-up is left.
        epochs: Number of epochs \\( E \\).
        steps_per_epoch: Number of updates per epoch \\( n \\).
        warmup_epochs: Epochs of warm-up; \\( W \\) is their number of steps.
        warmup_ratio: Factor \\( r \\) at step 0 where there is a warm-up.
        final: Value \\( f \\) at the end of the cosine.
        offset: 0: the first epoch has `base`. 1: epochs count from 1, and the last one has `final`.
    # Raises
        ValueError: If a value is negative, the warm-up is not shorter than the whole, or the offset is neither 0 nor 1.
    # References
        - Momentum Contrast (He et al., 2020), without warm-up; BSSL (released code), 10 epochs of warm-up
        - InfoMin (Tian et al., 2020), released code: offset 1, a thousandth of `base` as `final`
        - SSLight, released code: fine-tuning to 1e-6
    """

    arguments = ("base", "epochs", "steps_per_epoch", "warmup_epochs", "warmup_ratio", "final", "offset")

    def __init__(
        self,
        base: float,
        epochs: int,
        steps_per_epoch: int,
        warmup_epochs: int = 0,
        warmup_ratio: float = 1e-4,
        final: float = 0.0,
        offset: int = 0,
    ) -> None:
        check_not_negative(base=base, warmup_ratio=warmup_ratio, final=final)
        check_steps("epochs", epochs, warmup_epochs, "warmup_epochs")
        check_positive(steps_per_epoch=steps_per_epoch)
        _check_offset(offset)
        self.base, self.epochs, self.steps_per_epoch = base, epochs, steps_per_epoch
        self.warmup_epochs, self.warmup_ratio = warmup_epochs, warmup_ratio
        self.final, self.offset = final, offset

    def value(self, step: tf.Tensor) -> tf.Tensor:
        epoch = tf.minimum(tf.floor(step / self.steps_per_epoch), self.epochs - 1)
        cosine = half_cosine(self.base, self.final, (epoch + self.offset) / self.epochs)
        left = tf.maximum(1 - step / max(1, self.warmup_epochs * self.steps_per_epoch), 0.0)
        factor = 1 - left * (1 - self.warmup_ratio) if self.warmup_epochs else 1.0
        return cosine * factor


@tf.keras.utils.register_keras_serializable(package="larq_ssl")
class LinearDecay(Schedule):
    """A straight line to zero, one value per epoch.

    \\[ v(t) = b \\, \\left(1 - \\frac{\\lfloor t/n \\rfloor + o}{E}\\right) \\]

    # Arguments
        base: Value at the beginning of the line.
        epochs: Number of epochs \\( E \\).
        steps_per_epoch: Number of updates per epoch \\( n \\); 1 makes it a line per step.
        offset: 0: the first epoch has `base` and the last `base / epochs`. 1: a step earlier, the last
            epoch has 0.
    # Raises
        ValueError: If `base` is negative, a number of epochs or steps not positive, or the offset neither 0
            nor 1.
    # References
        - S2-BNN (released code, where the flag is called cos): offset 0
        - ReActNet (released code, which steps its schedule before the epoch): offset 1
    """

    arguments = ("base", "epochs", "steps_per_epoch", "offset")

    def __init__(self, base: float, epochs: int, steps_per_epoch: int, offset: int = 0) -> None:
        check_not_negative(base=base)
        check_positive(epochs=epochs, steps_per_epoch=steps_per_epoch)
        _check_offset(offset)
        self.base, self.epochs, self.steps_per_epoch, self.offset = base, epochs, steps_per_epoch, offset

    def value(self, step: tf.Tensor) -> tf.Tensor:
        epoch = tf.minimum(tf.floor(step / self.steps_per_epoch), self.epochs - 1)
        return self.base * (1 - (epoch + self.offset) / self.epochs)


@tf.keras.utils.register_keras_serializable(package="larq_ssl")
class EpochRamp(Schedule):
    """A straight line between two values, one value per epoch, then constant.

    \\[ v(t) = s + (f - s) \\, \\min\\Big(\\frac{\\lfloor t/n \\rfloor}{E - 1}, 1\\Big) \\]

    # Arguments
        start: Value of the first epoch.
        final: Value of the last epoch of the line, and of all after it.
        epochs: Number of epochs of the line \\( E \\), both ends included; with 0 or 1 there is none, and `final`
            holds from the first epoch on.
        steps_per_epoch: Number of updates per epoch \\( n \\).
    # Raises
        ValueError: If a value is negative, or the number of steps not positive.
    # References
        - DINO (Caron et al., 2021), released code: the temperature of the teacher
    """

    arguments = ("start", "final", "epochs", "steps_per_epoch")

    def __init__(self, start: float, final: float, epochs: int, steps_per_epoch: int) -> None:
        check_not_negative(start=start, final=final, epochs=epochs)
        check_positive(steps_per_epoch=steps_per_epoch)
        self.start, self.final, self.epochs, self.steps_per_epoch = start, final, epochs, steps_per_epoch

    def value(self, step: tf.Tensor) -> tf.Tensor:
        if self.epochs < 2:
            return tf.fill(tf.shape(step), tf.constant(self.final, tf.float64))
        share = tf.minimum(tf.floor(step / self.steps_per_epoch) / (self.epochs - 1), 1.0)
        return self.start + (self.final - self.start) * share


@tf.keras.utils.register_keras_serializable(package="larq_ssl")
class StepDecay(Schedule):
    """A constant that is multiplied by a factor at given steps, after a linear warm-up if there is one.

    # Arguments
        base: Value before the first boundary.
        boundaries_in_steps: Increasing steps; the step at a boundary is the first with the new value.
        factor: What the value is multiplied by at each boundary.
        warmup_steps: Steps in which the value rises to `base`.
        warmup_factor: Times `base`, the value at step 0 of a warm-up.
    # Raises
        ValueError: If a value is negative or the boundaries do not increase from 1 on.
    # References
        - The linear evaluation of MoCo and BSSL: a tenth at 60 % and 80 % of the epochs
        - Detectron2's schedules: a warm-up from a thousandth
    """

    arguments = ("base", "boundaries_in_steps", "factor", "warmup_steps", "warmup_factor")

    def __init__(
        self,
        base: float,
        boundaries_in_steps: tuple[int, ...] | list[int],
        factor: float = 0.1,
        warmup_steps: int = 0,
        warmup_factor: float = 0.001,
    ) -> None:
        check_not_negative(base=base, factor=factor, warmup_steps=warmup_steps, warmup_factor=warmup_factor)
        boundaries = list(boundaries_in_steps)
        if any(later <= earlier for earlier, later in zip([0, *boundaries], boundaries, strict=False)):
            raise ValueError(f"boundaries_in_steps must be positive and increase, got {boundaries}.")
        self.base, self.boundaries_in_steps, self.factor = base, boundaries, factor
        self.warmup_steps, self.warmup_factor = warmup_steps, warmup_factor

    def value(self, step: tf.Tensor) -> tf.Tensor:
        value = tf.fill(tf.shape(step), tf.constant(self.base, tf.float64))
        if self.warmup_steps:
            left = tf.maximum(1 - step / self.warmup_steps, 0.0)
            value *= 1 - left * (1 - self.warmup_factor)
        for boundary in self.boundaries_in_steps:
            value = tf.where(step >= boundary, value * self.factor, value)
        return value

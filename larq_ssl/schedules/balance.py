"""The balance of BSSL's two losses."""

import tensorflow as tf

from larq_ssl.schedules.base import Schedule, check_positive, half_cosine

KINDS = ("cosine", "constant", "step")
# What the paper compares in Table 7.
_BALANCES = {"cosine": (0.9, 0.7), "constant": (0.7, 0.7), "step": (1.0, 0.0)}


@tf.keras.utils.register_keras_serializable(package="larq_ssl")
class Balance(Schedule):
    """BSSL's weight of the feature term, lambda; the classifier's divergence has the weight 1 - lambda.

    \\[ \\lambda(t) = \\lambda_T - (\\lambda_T - \\lambda_0) \\, \\frac{\\cos(\\pi t / T) + 1}{2} \\]

    # Arguments
        total_steps: Number of steps \\( T \\); a stage of training starts again from step 0.
        start: \\( \\lambda_0 \\); by default that of the paper for this kind (0.9; constant 0.7; step 1).
        end: \\( \\lambda_T \\), the value at step `total_steps`; by default that of the paper (0.7;
            constant: `start`; step 0).
        kind: `cosine`, the formula above; `constant`; or `step`, which is `start` in the first half and
            `end` after.
        interval: The value changes only at steps t with (t + 1) divisible by this number, as in the
            released code, which counts batches and updates after two of them.
    # Raises
        ValueError: If the kind is unknown, a weight not in [0, 1], a constant has two values, or a number
            of steps is not positive.
    # References
        - BSSL, Sec. 3.3, Eq. 3 and Table 7
    # Differences from the paper
        None. The released code schedules 1 - lambda, from 0.1 to 0.3.
    """

    arguments = ("total_steps", "start", "end", "kind", "interval")

    def __init__(
        self,
        total_steps: int,
        start: float | None = None,
        end: float | None = None,
        kind: str = "cosine",
        interval: int = 1,
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f"kind of the balance must be one of {', '.join(KINDS)}, got {kind!r}.")
        check_positive(total_steps=total_steps, interval=interval)
        self.start = _BALANCES[kind][0] if start is None else start
        self.end = end if end is not None else self.start if kind == "constant" else _BALANCES[kind][1]
        for name, weight in (("start", self.start), ("end", self.end)):
            if not 0 <= weight <= 1:
                raise ValueError(f"{name} of the balance must be in [0, 1], got {weight}.")
        if kind == "constant" and self.start != self.end:
            raise ValueError(f"end of a constant balance must be its start {self.start}, got {self.end}.")
        self.total_steps, self.kind, self.interval = total_steps, kind, interval

    def value(self, step: tf.Tensor) -> tf.Tensor:
        step = tf.maximum(tf.floor((step + 1) / self.interval) * self.interval - 1, 0.0)
        if self.kind == "step":
            start, end = (tf.constant(weight, tf.float64) for weight in (self.start, self.end))
            return tf.where(step < self.total_steps / 2, start, end)
        return half_cosine(self.start, self.end, step / self.total_steps)

"""The weight quantizers of ReActNet, which Larq lacks."""

from collections.abc import Callable

import larq
import tensorflow as tf


@tf.keras.utils.register_keras_serializable(package="larq_ssl")
class MagnitudeSign(larq.quantizers.Quantizer):
    r"""Sign of the weights, scaled by the mean magnitude of each filter.

    \\[ q(w) = \alpha \, \mathrm{sign}(w), \quad \alpha = \mathrm{mean}(|w|) \\]

    The mean is over all axes but the last, and no gradient flows through it. The straight-through gradient is

    \\[ \frac{\partial q(w)}{\partial w} = \alpha^{s} \cdot 1_{|w| \leq 1}^{c} \\]

    with \\(s\\) = `scale_in_grad` and \\(c\\) = `clip_grad`. `larq.quantizers.MagnitudeAwareSign` has both
    factors, the official ReActNet only the mask, BURN only the scale.

    Differences from the papers: \\(\mathrm{sign}(0) = +1\\), so that a kernel is always binary.

    # Arguments
        scale_in_grad: Whether the gradient is multiplied by the scale of the filter.
        clip_grad: Whether weights beyond ±1 get no gradient.
    # References
        - ReActNet: Towards Precise Binary Neural Network with Generalized Activation Functions, Sec. 4
        - BSSL, Sec. 4 (released code)
    """

    precision = 1

    def __init__(self, scale_in_grad: bool = False, clip_grad: bool = True, **kwargs) -> None:  # type: ignore[no-untyped-def]
        super().__init__(**kwargs)
        self.scale_in_grad = scale_in_grad
        self.clip_grad = clip_grad

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Quantised weights, in the dtype of the weights."""
        return _magnitude_sign(inputs, self.scale_in_grad, self.clip_grad)

    def get_config(self) -> dict:
        """The arguments, for serialisation."""
        return {**super().get_config(), "scale_in_grad": self.scale_in_grad, "clip_grad": self.clip_grad}


def _magnitude_sign(weights: tf.Tensor, scale_in_grad: bool, clip_grad: bool) -> tf.Tensor:
    @tf.custom_gradient
    def quantize(latent: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        axes = list(range(latent.shape.rank - 1))
        magnitude = tf.abs(tf.cast(latent, tf.float32))  # thousands of summands: too many for bfloat16
        scale = tf.cast(tf.reduce_mean(magnitude, axis=axes, keepdims=True), latent.dtype)

        def grad(upstream: tf.Tensor) -> tf.Tensor:
            if scale_in_grad:
                upstream *= scale
            if clip_grad:
                upstream = tf.where(tf.abs(latent) <= 1, upstream, tf.zeros_like(upstream))
            return upstream

        return scale * larq.math.sign(latent), grad

    return quantize(weights)

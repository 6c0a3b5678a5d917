"""Loss scaling: in float16 small gradients would be zero, so the loss is multiplied and the gradients are divided.

Where the product overflows, `tf.keras.mixed_precision.LossScaleOptimizer` leaves out the update and halves the scale.
That is an ordinary event: the forward pass was finite (a loss that is not stops the run), and what follows from it
goes on. So in a step that is left out

- the optimised variables and the optimizer's slots stay as they were;
- the step counts, so that schedules and the stream of batches go on;
- BatchNormalization statistics, queues, centres and momentum encoders move as in any other step.

Gradients are divided by the scale before anything looks at them: clipping, norms and checks see the true ones.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import tensorflow as tf

# With `LossScaleOptimizer`, which Keras makes no legacy optimizer, and its methods.
Optimizer: TypeAlias = Any
_LossScaleOptimizer = tf.keras.mixed_precision.LossScaleOptimizer


def scale(optimizer: Optimizer, loss: tf.Tensor) -> tf.Tensor:
    """The loss, multiplied if the optimizer asks for it."""
    return optimizer.get_scaled_loss(loss) if isinstance(optimizer, _LossScaleOptimizer) else loss


def unscale(optimizer: Optimizer, gradients: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """The gradients of the loss itself, given those of what `scale` returned."""
    scaled = isinstance(optimizer, _LossScaleOptimizer)
    return list(optimizer.get_unscaled_gradients(gradients) if scaled else gradients)


def leaves_out_overflow(optimizer: Optimizer) -> tf.Tensor | bool:
    """Whether an update whose gradients are not finite is left out, and the next step has better prospects.

    At the smallest scale, 1, it is not the scale that makes them so: every further step would be left out, and
    the run would go on without learning. A scale that is not dynamic never leaves out an update.
    """
    dynamic = isinstance(optimizer, _LossScaleOptimizer) and optimizer.dynamic
    return optimizer.loss_scale > 1.0 if dynamic else False

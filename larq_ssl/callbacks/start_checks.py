"""Checks at the start of a run: silent failure is this field's habit."""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

_CHECKED_UPDATES = 3


class NoGradientError(RuntimeError):
    """Something that is to be trained does not learn."""


def check_views(batch: Mapping[str, tf.Tensor]) -> None:
    """Refuses a batch whose views of an image are the same picture.

    # Arguments
        batch: With `global`, and perhaps `local`, uint8 `[batch, views, height, width, 3]`; one view is always fine.
    # Raises
        ValueError: If two views are identical for more than half of the images.
    """
    for name in ("global", "local"):
        if name in batch:
            _check_views(name, np.asarray(batch[name]))


def _check_views(name: str, views: np.ndarray) -> None:
    for second in range(1, views.shape[1]):
        same = np.mean(np.all(views[:, 0] == views[:, second], axis=(1, 2, 3)))
        if same > 0.5:
            raise ValueError(
                f"The {name} views 1 and {second + 1} are identical for {same:.0%} of the first batch: the "
                "augmentation does nothing, and the method would learn nothing. Choose another view policy."
            )


class GradientCheck(tf.keras.callbacks.Callback):
    """Stops a run in which an optimised variable got no gradient in the first three steps.

    # Raises
        NoGradientError: Names the variables.
    """

    def on_train_begin(self, logs: dict | None = None) -> None:
        # The model records gradients of the very first updates only, and a checkpoint keeps what it has seen.
        self._due = self._updates() < _CHECKED_UPDATES

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if not self._due or self._updates() < _CHECKED_UPDATES:
            return
        self._due = False
        idle = self.model.variables_without_gradient()
        if idle:
            raise NoGradientError(
                f"{len(idle)} of {len(self.model.optimized_variables)} optimised variables got no gradient in three "
                f"steps, for example {', '.join(idle[:3])}: they would never learn."
            )

    def _updates(self) -> int:
        return int(self.model.optimizer.iterations.numpy())

"""Leaves variables of some roles alone in the first steps of a training."""

from collections.abc import Iterable

import tensorflow as tf

from larq_ssl.roles import Role


class FreezeRoles(tf.keras.callbacks.Callback):
    """Freezes the variables of some roles until the optimizer has made so many updates.

    They get no gradient at all until then: neither weight decay nor momentum moves them. What decides is the number of
    updates, so a run that goes on knows whether it is over.

    # Arguments
        roles: For example `last_layer` (DINO) or `prototypes` (SwAV).
        updates: Number of updates without them; 0 for none.
    # Raises
        ValueError: If a role is unknown or the number negative.
    # References
        - DINO and SwAV (released codes): the first epoch
    # Differences from the paper
        None.
    """

    def __init__(self, roles: Iterable[Role | str], updates: int):
        super().__init__()
        if updates < 0:
            raise ValueError(f"updates must be at least 0, got {updates}.")
        self._roles, self._updates = frozenset(Role(role) for role in roles), updates

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._apply()

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        if self._frozen:
            self._apply()

    def _apply(self) -> None:
        self._frozen = int(self.model.optimizer.iterations.numpy()) < self._updates
        self.model.freeze(self._roles if self._frozen else ())

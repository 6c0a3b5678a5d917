"""What callbacks share that look at finished epochs only."""

import tensorflow as tf


class WholeEpochs(tf.keras.callbacks.Callback):
    """Knows whether an epoch was trained to its end: Keras ends one also where `stop_training` cut it short."""

    _reached = 0

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        super().on_train_batch_end(batch, logs)
        self._reached = batch + 1

    def epoch_is_whole(self) -> bool:
        """Whether the last batch was the last of its epoch."""
        steps = self.params.get("steps")
        return steps is None or self._reached == steps

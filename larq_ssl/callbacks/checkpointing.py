"""Saves a run so that it can be killed at any step, and stops it in good order when asked to."""

import signal
from collections.abc import Callable
from types import FrameType

from larq_ssl.callbacks.whole_epochs import WholeEpochs
from larq_ssl.checkpoints import Checkpoints


class Checkpointing(WholeEpochs):
    """Saves every `every_steps` optimizer steps, at the end of training, and when SIGTERM arrives.

    The step is read from `optimizer.iterations`, so that a resumed run keeps its rhythm. After SIGTERM the step
    under way is finished, a checkpoint is saved, `fit` returns, and `interrupted` is true. Put it last among the
    callbacks: what the others write at the end of an epoch is then there before the checkpoint that follows it.

    # Arguments
        checkpoints: Where to save.
        every_steps: Distance of two checkpoints in optimizer steps.
        on_save: Called with the step after each save.
    # Raises
        ValueError: If `every_steps` is below 1.
    """

    def __init__(self, checkpoints: Checkpoints, every_steps: int, on_save: Callable[[int], None] | None = None):
        super().__init__()
        if every_steps < 1:
            raise ValueError(f"every_steps must be at least 1, got {every_steps}.")
        self.checkpoints, self.every_steps, self.on_save = checkpoints, every_steps, on_save
        self.interrupted = False
        self._saved_step: int | None = None
        self._due = False

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._step = int(self.model.optimizer.iterations.numpy())
        self._previous_handler = signal.signal(signal.SIGTERM, self._interrupt)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        super().on_train_batch_end(batch, logs)
        self._step += 1
        self._due |= self._step % self.every_steps == 0
        if self.params.get("steps") is None or not self.epoch_is_whole():
            self._save_if_due()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._save_if_due()

    def on_train_end(self, logs: dict | None = None) -> None:
        self._save()
        signal.signal(signal.SIGTERM, self._previous_handler)

    def _save_if_due(self) -> None:
        if self._due or self.interrupted:
            self._due = False
            self._save()
        if self.interrupted:
            self.model.stop_training = True

    def _save(self) -> None:
        step = int(self.model.optimizer.iterations.numpy())
        if step == self._saved_step:
            return
        self.checkpoints.save(step)
        self._saved_step = step
        if self.on_save is not None:
            self.on_save(step)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.interrupted = True

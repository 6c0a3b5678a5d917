"""Saves a run so that it can be killed at any step, and stops it in good order when asked to."""

import signal
import time
from collections.abc import Callable
from types import FrameType

from larq_ssl.callbacks.whole_epochs import WholeEpochs
from larq_ssl.checkpoints import Checkpoints

_SIGTERM, _TIME = 1, 2


class Checkpointing(WholeEpochs):
    """Saves every `every_steps` optimizer steps, at the end of training, when SIGTERM arrives and when time is up.

    The step is read from `optimizer.iterations`, so that a resumed run keeps its rhythm. After SIGTERM the step
    under way is finished, a checkpoint is saved, `fit` returns, and `interrupted` is true; likewise at `stop_at`,
    and `out_of_time` is true. Put it last among the callbacks: what the others write at the end of an epoch is then
    there before the checkpoint that follows it.

    # Arguments
        checkpoints: Where to save.
        every_steps: Distance of two checkpoints in optimizer steps.
        on_save: Called with the step after each save, and with the seconds that it took.
        stop_at: Value of `time.monotonic` from which on no further step is begun, but one is made in any case.
        agreed: Where several processes train together, given the bits for SIGTERM and for time that this one has set,
            returns those that any has set, so that all stop after the same step; called by each after every step.
    # Raises
        ValueError: If `every_steps` is below 1.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        every_steps: int,
        on_save: Callable[[int, float], None] | None = None,
        stop_at: float | None = None,
        agreed: Callable[[int], int] = int,
    ):
        super().__init__()
        if every_steps < 1:
            raise ValueError(f"every_steps must be at least 1, got {every_steps}.")
        self.checkpoints, self.every_steps, self.on_save = checkpoints, every_steps, on_save
        self.interrupted = self.out_of_time = False
        self._asked, self._agreed = False, agreed
        self._stop_at = float("inf") if stop_at is None else stop_at
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
        self._agree()
        signal.signal(signal.SIGTERM, self._previous_handler)

    def _save_if_due(self) -> None:
        self._agree()
        stopping = self.interrupted or self.out_of_time
        if self._due or stopping:
            self._due = False
            self._save()
        if stopping:
            self.model.stop_training = True

    def _agree(self) -> None:
        time_is_up = time.monotonic() >= self._stop_at
        bits = self._agreed(_SIGTERM * self._asked | _TIME * time_is_up)
        self.interrupted |= bool(bits & _SIGTERM)
        self.out_of_time |= bool(bits & _TIME)

    def _save(self) -> None:
        step = int(self.model.optimizer.iterations.numpy())
        if step == self._saved_step:
            return
        started = time.perf_counter()
        self.checkpoints.save(step)
        self._saved_step = step
        if self.on_save is not None:
            self.on_save(step, time.perf_counter() - started)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self._asked = True

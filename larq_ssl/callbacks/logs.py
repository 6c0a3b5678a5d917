"""What a run tells while it trains: progress bar, estimate of time and cost, metrics file."""

import pathlib
import time
from collections.abc import Callable, Iterable, Mapping

import tensorflow as tf

from larq_ssl.callbacks.epoch_rows import EpochRows
from larq_ssl.callbacks.whole_epochs import WholeEpochs


class ProgressBar(tf.keras.callbacks.ProgbarLogger):
    """Keras's progress bar, showing only the metrics that fit on a line.

    # Arguments
        shown: Names of the metrics to show; the others go to TensorBoard and the metrics file.
    """

    def __init__(self, shown: Iterable[str]):
        super().__init__(count_mode="steps")
        self._shown = set(shown)

    def _choose(self, logs: Mapping[str, float] | None) -> dict[str, float]:
        return {name: value for name, value in (logs or {}).items() if name in self._shown}

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        super().on_train_batch_end(batch, self._choose(logs))

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        super().on_epoch_end(epoch, self._choose(logs))


class ScheduleLogger(tf.keras.callbacks.Callback):
    """Adds the value of schedules at the end of each epoch, e.g. `learning_rate`.

    # Arguments
        schedules: Functions of the optimizer step by name.
    """

    def __init__(self, schedules: Mapping[str, Callable[[tf.Tensor], tf.Tensor | float]]):
        super().__init__()
        self._schedules = dict(schedules)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        step = tf.cast(self.model.optimizer.iterations, tf.int64)
        if logs is not None:
            logs.update({name: float(schedule(step - 1)) for name, schedule in self._schedules.items()})


class EpochRecorder(tf.keras.callbacks.Callback):
    """Adds `images_per_second` (training steps alone, first step of the process left out).

    # Arguments
        batch_size: Images per step over all replicas.
    """

    def __init__(self, batch_size: int):
        super().__init__()
        self._batch_size = batch_size

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._warm = False

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._steps, self._started = 0, time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if self._warm:
            self._steps += 1
        else:
            # The first step of a process traces and compiles.
            self._warm, self._started = True, time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if logs is not None and self._steps:
            logs["images_per_second"] = self._steps * self._batch_size / (time.perf_counter() - self._started)


class Estimate(tf.keras.callbacks.Callback):
    """Says after a few steps how long the whole run will take, and from time to time how much of it is left.

    The first sentence is about training steps alone; the later ones count all that has happened since, evaluation and
    checkpoints too.

    # Arguments
        total_steps: Optimizer steps of the whole run.
        batch_size: Images per step over all replicas.
        say: Receives the sentence.
        after: Number of steps that are timed, after one that is not.
        every_seconds: Time between two of the later sentences.
    """

    def __init__(
        self,
        total_steps: int,
        batch_size: int,
        say: Callable[[str], None],
        after: int = 10,
        every_seconds: float = 300.0,
    ):
        super().__init__()
        self._total, self._batch_size, self._say, self._after = total_steps, batch_size, say, after
        self._every_seconds = every_seconds

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._steps = -1

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._steps += 1
        if self._steps == 0:
            self._started = self._said = time.perf_counter()
        elif self._steps == self._after:
            per_step = (time.perf_counter() - self._started) / self._after
            left = self._total - int(self.model.optimizer.iterations.numpy())
            self._say(
                f"{self._total:,} steps in all, {left:,} to go at {per_step * 1000:.0f} ms "
                f"({self._batch_size / per_step:,.0f} images/s): about {duration(left * per_step)}, "
                "evaluation apart."
            )
        elif self._steps > self._after and time.perf_counter() - self._said >= self._every_seconds:
            self._say_what_is_left()

    def _say_what_is_left(self) -> None:
        self._said = time.perf_counter()
        step = int(self.model.optimizer.iterations.numpy())
        seconds = (self._total - step) * (self._said - self._started) / self._steps
        self._say(f"Step {step:,} of {self._total:,}: about {duration(seconds)} to go.")


class MetricsFile(WholeEpochs):
    """Keeps one line of JSON per finished epoch in a file; an epoch that is trained again replaces its line.

    # Arguments
        file: The `.jsonl` file; written anew and whole at each epoch.
    """

    def __init__(self, file: str | pathlib.Path):
        super().__init__()
        self._rows = EpochRows(file)

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._rows.read()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if not self.epoch_is_whole():
            return
        values = {name: float(value) for name, value in (logs or {}).items()}
        self._rows.put(epoch + 1, int(self.model.optimizer.iterations.numpy()), values)


class TensorBoard(WholeEpochs):
    """Writes all that is logged per epoch as scalars, under the names and epochs of the metrics file.

    Keras's own callback holds events back for up to two minutes, which a killed run would lack for good, writes the
    part of an epoch that SIGTERM cut short, and puts the learning rate of the next step in the place of the last one.

    # Arguments
        folder: Where the event files go; each start of a run adds one.
    """

    def __init__(self, folder: str | pathlib.Path):
        super().__init__()
        self._folder = str(folder)

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._writer = tf.summary.create_file_writer(self._folder)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if not self.epoch_is_whole():
            return
        with self._writer.as_default(step=epoch + 1):
            for name, value in (logs or {}).items():
                tf.summary.scalar(name, value)
        self._writer.flush()

    def on_train_end(self, logs: dict | None = None) -> None:
        self._writer.close()


def duration(seconds: float) -> str:
    """A time that a person reads at a glance: `45 s`, `12 min`, `3.5 h`, `4.2 days`."""
    for limit, unit, size in ((90, "s", 1), (5400, "min", 60), (172800, "h", 3600)):
        if seconds < limit:
            value = seconds / size
            return f"{value:.1f} {unit}" if unit == "h" else f"{value:.0f} {unit}"
    return f"{seconds / 86400:.1f} days"

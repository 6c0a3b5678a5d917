"""Variants measured side by side: each in a process of its own, which take turns.

A process per variant makes peak memory its own, and keeps threads, caches and compiled graphs of one from another.
Turns go A B A B ..., so that whatever else slows the machine down slows both, and a ratio is one of neighbouring turns.
"""

import contextlib
import dataclasses
import multiprocessing
import os
import pathlib
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

import tensorflow as tf

Turn = Callable[[int], tuple[int, float]]
"""Does that many steps, and returns the number of images and the seconds that they took."""


def repeated(step: Callable[[], tf.Tensor], images: int) -> Turn:
    """Turns of a function that is called for each step, of so many images."""

    def turn(steps: int) -> tuple[int, float]:
        started = time.perf_counter()
        for _ in range(steps):
            result = step()
        if tf.is_tensor(result):
            result.numpy()  # accelerators run behind
        return steps * images, time.perf_counter() - started

    return turn


@dataclasses.dataclass(frozen=True)
class Variant:
    """Something to measure.

    # Arguments
        name: What the table calls it.
        prepare: Function of a module, `(**settings) -> Turn`; called in the variant's own process.
        settings: Its arguments; plain values.
    """

    name: str
    prepare: Callable[..., Turn]
    settings: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What was measured of a variant.

    # Attributes
        rates: Images per second of each turn.
        steps: Steps of each turn.
        memory: Largest resident memory of the process in bytes, TensorFlow itself included.
        accelerator_memory: Largest memory allocated on the first GPU in bytes, `None` without one.
    """

    name: str
    rates: list[float]
    steps: int
    memory: int
    accelerator_memory: int | None


def measure(
    variants: Sequence[Variant], repeats: int, seconds: float, progress: Callable[[int, int], object] | None = None
) -> list[Measurement]:
    """Measures variants in turns, after a step of each that is not measured.

    # Arguments
        repeats: Turns of each variant.
        seconds: About how long a turn lasts; it has at least one step.
        progress: Called with turns done and in all.
    # Raises
        ValueError: If a variant refuses its settings.
        RuntimeError: If the process of a variant ends before its time.
    """
    tell = progress or (lambda done, total: None)
    total = repeats * len(variants)
    tell(0, total)
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(_worker(variant)) for variant in variants]
        for worker in workers:
            worker.receive()  # all prepare at the same time
        steps = [worker.steps_of(seconds) for worker in workers]
        rates: list[list[float]] = [[] for _ in workers]
        for turn in range(total):
            number = turn % len(workers)
            images, duration = workers[number].turn(steps[number])
            rates[number].append(images / duration)
            tell(turn + 1, total)
        memories = [worker.ask(None) for worker in workers]
    return [
        Measurement(variant.name, *values)
        for variant, *values in zip(variants, rates, steps, *zip(*memories, strict=True), strict=True)
    ]


class _Worker:
    """The parent's end of a variant's process."""

    def __init__(self, variant: Variant, connection: Connection):
        self._name, self._connection = variant.name, connection

    def receive(self) -> Any:
        try:
            answer = self._connection.recv()
        except EOFError:
            raise RuntimeError(f"The process that measures {self._name!r} has died; its message is above.") from None
        if isinstance(answer, ValueError):
            raise answer
        return answer

    def ask(self, question: int | None) -> Any:
        self._connection.send(question)
        return self.receive()

    def turn(self, steps: int) -> tuple[int, float]:
        return self.ask(steps)

    def steps_of(self, seconds: float) -> int:
        """How many steps last about so long; at least one."""
        steps, (_, duration) = 1, self.turn(1)
        while duration < seconds / 4:  # the first few steps may have been prefetched
            steps *= 4
            _, duration = self.turn(steps)
        return max(1, round(steps * seconds / duration))


@contextlib.contextmanager
def _worker(variant: Variant) -> Iterator[_Worker]:
    context = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(variant, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield _Worker(variant, ours)
    finally:
        process.terminate()
        process.join()


def _work(variant: Variant, connection: Connection) -> None:
    """The variant's process: prepares, then does turns until it is asked for its memory."""
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - progress bars are part of the work, but not to be seen
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
    with contextlib.suppress(EOFError, BrokenPipeError):  # the parent is gone
        try:
            turn = variant.prepare(**variant.settings)
            turn(1)
        except ValueError as error:
            connection.send(ValueError(str(error)))
            return
        connection.send("ready")
        while (steps := connection.recv()) is not None:
            connection.send(turn(steps))
        connection.send((_peak_memory(), _peak_accelerator_memory()))
        connection.recv()  # until the parent ends this process


def _peak_memory() -> int:
    try:
        lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    except OSError:
        scale = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
    # Not `getrusage`, which on Linux begins with the memory of the parent.
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def _peak_accelerator_memory() -> int | None:
    if not tf.config.list_logical_devices("GPU"):
        return None
    return int(tf.config.experimental.get_memory_info("GPU:0")["peak"])

"""Variants measured side by side: each in a process of its own, which take turns.

A process per variant makes peak memory its own, and keeps threads, caches and compiled graphs of one from another.
Turns go A B A B ..., so that whatever else slows the machine down slows both, and a ratio is one of neighbouring turns.
"""

import contextlib
import ctypes
import dataclasses
import gc
import importlib
import multiprocessing
import os
import pathlib
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

import tensorflow as tf

Turn = Callable[[int], tuple[int, float | list[float]]]
"""Does that many steps, and returns the number of images and the seconds that they took, or those of each image.

One that has chosen what to compute in says so by its attribute `computes`.
"""


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


def timed(step: Callable[[], object]) -> Turn:
    """Turns of a function that is called for each image and returns when it is done; each call is timed."""

    def turn(steps: int) -> tuple[int, list[float]]:
        seconds = []
        for _ in range(steps):
            started = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - started)
        return steps, seconds

    return turn


@dataclasses.dataclass(frozen=True)
class Variant:
    """Something to measure.

    # Arguments
        name: What the table calls it.
        prepare: Function of a module, `(**settings) -> Turn`; called in the variant's own process.
        settings: Its arguments; plain values.
        modules: Names of modules that are imported before, so that their memory is not the variant's own; `None` where
            own memory is not asked for.
        file_bytes: Size of the file that is measured, if there is one.
    """

    name: str
    prepare: Callable[..., Turn]
    settings: Mapping[str, Any]
    modules: tuple[str, ...] | None = None
    file_bytes: int | None = None


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What was measured of a variant.

    # Attributes
        rates: Images per second of each turn.
        steps: Steps of each turn.
        memory: Largest resident memory of the process in bytes, TensorFlow itself included.
        accelerator_memory: Largest memory allocated on the first GPU in bytes, `None` without one.
        own_memory: `memory` less what was in use before the variant was prepared, in bytes; `None` if not asked for.
        latencies: Seconds of each image of each turn, where images are timed one by one; else empty.
        busy: Processors that the process kept busy in each turn, on average.
        file_bytes: Of the variant.
        computes: What the process chose to compute in, by the names of flags.
    """

    name: str
    rates: list[float]
    steps: int
    memory: int
    accelerator_memory: int | None
    own_memory: int | None = None
    latencies: list[list[float]] = dataclasses.field(default_factory=list)
    busy: list[float] = dataclasses.field(default_factory=list)
    file_bytes: int | None = None
    computes: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def speeds(self) -> list[float]:
        """Images per second of each turn; where images are timed one by one, that of the median image."""
        return [1 / statistics.median(seconds) for seconds in self.latencies] or self.rates


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
        workers, chosen = [], []
        for variant in variants:
            workers.append(stack.enter_context(_worker(variant)))
            chosen.append(workers[-1].receive())  # one after the other: some choose what they find to be fast
        steps = [worker.steps_of(seconds) for worker in workers]
        turns: list[list[_Done]] = [[] for _ in workers]
        for turn in range(total):
            number = turn % len(workers)
            turns[number].append(workers[number].turn(steps[number]))
            tell(turn + 1, total)
        memories = [worker.ask(None) for worker in workers]
    return [_measurement(*of_variant) for of_variant in zip(variants, turns, steps, memories, chosen, strict=True)]


def _measurement(
    variant: Variant,
    turns: Sequence["_Done"],
    steps: int,
    memories: tuple[int, int | None, int | None],
    computes: Mapping[str, str],
) -> Measurement:
    peak, accelerator, before = memories
    return Measurement(
        variant.name,
        [turn.images / turn.seconds for turn in turns],
        steps,
        peak,
        accelerator,
        own_memory=None if before is None else peak - before,
        latencies=[turn.latencies for turn in turns if turn.latencies],
        busy=[turn.busy for turn in turns],
        file_bytes=variant.file_bytes,
        computes=computes,
    )


@dataclasses.dataclass(frozen=True)
class _Done:
    """A turn: images, seconds, those of each image if they are known, and processors kept busy."""

    images: int
    seconds: float
    latencies: list[float]
    busy: float


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

    def turn(self, steps: int) -> _Done:
        return self.ask(steps)

    def steps_of(self, seconds: float) -> int:
        """How many steps last about so long; at least one."""
        steps, duration = 1, self.turn(1).seconds
        while duration < seconds / 4:  # the first few steps may have been prefetched
            steps *= 4
            duration = self.turn(steps).seconds
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
            before = None if variant.modules is None else _memory_with(variant.modules)
            turn = variant.prepare(**variant.settings)
            turn(1)
        except ValueError as error:
            connection.send(ValueError(str(error)))
            return
        connection.send(dict(getattr(turn, "computes", {})))
        while (steps := connection.recv()) is not None:
            connection.send(_do(turn, steps))
        connection.send((resident_memory("VmHWM"), _peak_accelerator_memory(), before))
        connection.recv()  # until the parent ends this process


def _do(turn: Turn, steps: int) -> _Done:
    started, used = time.perf_counter(), time.process_time()
    images, seconds = turn(steps)
    busy = (time.process_time() - used) / (time.perf_counter() - started)
    return _Done(images, sum(seconds), seconds, busy) if isinstance(seconds, list) else _Done(images, seconds, [], busy)


def _memory_with(modules: Sequence[str]) -> int:
    """Bytes of memory that this process uses with some modules imported; its peak is counted from here on."""
    for name in modules:
        importlib.import_module(name)
    gc.collect()
    # What is free, but not given back, would be used by the variant without being seen.
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    return resident_memory("VmRSS")


def resident_memory(name: str) -> int:
    """Bytes of memory of this process: `VmRSS`, what is resident, or `VmHWM`, the most that was."""
    try:
        lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    except OSError:
        scale = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
    # Not `getrusage`, which on Linux begins with the memory of the parent.
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def _peak_accelerator_memory() -> int | None:
    if not tf.config.list_logical_devices("GPU"):
        return None
    return int(tf.config.experimental.get_memory_info("GPU:0")["peak"])

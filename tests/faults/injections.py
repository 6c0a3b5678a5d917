"""Faults, put into the process of a command before it begins; each happens once."""

import datetime
import errno
import importlib
import json
import os
import pathlib
import runpy
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

NOBODY = 65534
REACHED = "reached"


def run(command: str, arguments: Sequence[str], faults: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Turns this process into `python -m larq_ssl.experiments.<command>` with faults in it.

    # Arguments
        faults: Names of functions of this module, and their arguments.
    """
    # Opened before a fault can forbid it.
    reached = os.open(REACHED, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    for name, settings in faults:
        globals()[name](**settings)
    # Wrapped around them: a step is noted before a fault in it ends the process.
    _note_steps(reached)
    sys.argv = [command, *arguments]
    runpy.run_module(f"larq_ssl.experiments.{command}", run_name="__main__", alter_sys=True)


def _before_step_ends(action: Callable[[int], None]) -> None:
    """Calls a function with the number of each step when it is trained, before it may be saved."""
    from larq_ssl import callbacks

    method = callbacks.Checkpointing.on_train_batch_end

    def wrapped(callback, batch, logs=None):
        action(int(callback.model.optimizer.iterations.numpy()))
        method(callback, batch, logs)

    callbacks.Checkpointing.on_train_batch_end = wrapped


def _once_at(step: int, action: Callable[[], None]) -> None:
    done = []

    def look(reached: int) -> None:
        if reached >= step and not done:
            done.append(reached)
            action()

    _before_step_ends(look)


def _note_steps(file: int) -> None:
    """Keeps in a file how far training came: what a killed process loses is counted from there."""
    _before_step_ends(lambda step: os.pwrite(file, f"{step:9d}".encode(), 0))


def _signal_self(number: int = signal.SIGKILL) -> None:
    os.kill(os.getpid(), number)


def signal_after(step: int, number: int, seconds: float = 0.0) -> None:
    """A signal when a step is trained, or so long after it, wherever the process is by then."""
    if not seconds:
        _once_at(step, lambda: _signal_self(number))
        return

    def later() -> None:
        timer = threading.Timer(seconds, _signal_self, [number])
        timer.daemon = True
        timer.start()

    _once_at(step, later)


def signal_before_training(number: int) -> None:
    """A signal when the networks are built and the run has begun, before the first step."""
    from larq_ssl.experiments import training

    restore = training.restore

    def signalled(*what):
        _signal_self(number)
        return restore(*what)

    training.restore = signalled


def kill_while_saving(step: int, point: str) -> None:
    """SIGKILL while the checkpoint of a step is half written, written, or synced, while an older one is deleted for it,
    or when it is in its place."""
    import tensorflow as tf

    import larq_ssl.files
    from larq_ssl.checkpoints import Checkpoints

    name = f"step-{step:09d}"
    if point == "half":
        write = tf.train.Checkpoint.write

        def write_half(checkpoint, path):
            write(checkpoint, path)
            if name in path:
                file = f"{path}.data-00000-of-00001"
                os.truncate(file, os.path.getsize(file) // 2)
                os.unlink(f"{path}.index")
                _signal_self()

        tf.train.Checkpoint.write = write_half
    elif point in ("written", "synced"):
        place = {"written": "_sync_tree", "synced": "_rename_folder"}[point]
        function = getattr(larq_ssl.files, place)

        def killed(folder, *rest):
            if folder.name.startswith(f".{name}."):
                _signal_self()
            function(folder, *rest)

        setattr(larq_ssl.files, place, killed)
    elif point == "deleting":
        rmtree = shutil.rmtree

        def delete_half(folder, *rest, **more):
            if pathlib.Path(folder).name.endswith(".old.tmp") and (pathlib.Path(folder).parent / name).is_dir():
                next(pathlib.Path(folder).iterdir()).unlink()
                _signal_self()
            rmtree(folder, *rest, **more)

        shutil.rmtree = delete_half
    else:
        save = Checkpoints.save

        def saved(checkpoints, reached):
            save(checkpoints, reached)
            if reached == step:
                _signal_self()

        Checkpoints.save = saved


def kill_while_finishing(product: str) -> None:
    """SIGKILL when training is done and a product is about to be written: an encoder, a head or the result."""
    from larq_ssl.experiments import training

    if product == "result":
        training.write_json = lambda *_, **__: _signal_self()
    else:
        setattr(training.model_folder, f"save_{product}", lambda *_: _signal_self())


def poison(step: int) -> None:
    """NaN in the pixels of the batch after so many steps."""
    import tensorflow as tf

    from larq_ssl.methods.base import SelfSupervisedModel

    train_step = SelfSupervisedModel.train_step

    def poisoned(method, batch):
        views = tf.cast(batch["global"], tf.float32)
        first = tf.where(method.optimizer.iterations == step, float("nan"), views[:1])
        return train_step(method, {**batch, "global": tf.concat([first, views[1:]], axis=0)})

    SelfSupervisedModel.train_step = poisoned


def fill_disk(step: int, file: str, checkpoints: str, spare: float) -> None:
    """Fills the file system on which a file is to lie when a step is trained, but for a share of a checkpoint."""

    def fill() -> None:
        newest = max(pathlib.Path(checkpoints).glob("step-*"))
        size = sum(part.stat().st_size for part in newest.iterdir())
        with open(file, "wb", buffering=0) as stream:
            try:
                while True:
                    stream.write(bytes(2**12))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
            stream.truncate(stream.tell() - int(spare * size))

    _once_at(step, fill)


def no_space(step: int) -> None:
    """What a full disk answers, where none can be made: from a step on, whatever is to be synced fails."""

    def fail(file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    _once_at(step, lambda: setattr(os, "fsync", fail))


def forbid(step: int, folder: str) -> None:
    """Takes the right to write from a folder, and from this process that of root to write all the same."""

    def take() -> None:
        for parent, _, files in os.walk(folder):
            for name in files:
                os.chmod(os.path.join(parent, name), 0o444)
            os.chmod(parent, 0o555)
        if os.getuid() == 0:
            os.setgid(NOBODY)
            os.setuid(NOBODY)

    if step:
        _once_at(step, take)
    else:
        # Nobody may read the Python of another user's home; what the commands are forked from has imported the rest.
        importlib.import_module("larq_ssl.torch_import")
        take()


def remove_images() -> None:
    """The images are not on this machine."""
    from larq_ssl.experiments import training_data

    def missing(*_, **__):
        raise ValueError("The images are not here.")

    training_data.load_split = missing


def stay_away() -> None:
    """This worker does not come."""
    sys.exit(0)


def wait_for_others(seconds: float) -> None:
    """A worker waits so long for the others to come."""
    from larq_ssl.experiments import workers

    workers._MEET_WITHIN = seconds


def note_parting(file: str) -> None:
    """A file gets a line whenever this worker parts from the others."""
    from larq_ssl.experiments import workers

    part = workers.Workers.part
    pathlib.Path(file).write_text("")

    def wrapped(crew: workers.Workers) -> None:
        with open(file, "a") as lines:
            lines.write("parted\n")
        part(crew)

    workers.Workers.part = wrapped


def second_process(step: int, command: str, arguments: Sequence[str], out: str) -> None:
    """Starts the same command a second time while this one trains; its exit code and words go to a file."""

    def start() -> None:
        words = [sys.executable, "-m", f"larq_ssl.experiments.{command}", *arguments]
        done = subprocess.run(words, capture_output=True, text=True, timeout=300)
        pathlib.Path(out).write_text(json.dumps({"code": done.returncode, "out": done.stdout, "err": done.stderr}))

    _once_at(step, start)


def clock_backwards() -> None:
    """From now on Python's wall clock runs backwards, a thousand times as fast, from a day ago."""
    clock, strftime = time.time, time.strftime
    begin = clock()

    def backwards() -> float:
        return begin - 86400 - 1000 * (clock() - begin)

    def text(form: str, when: time.struct_time | None = None) -> str:
        return strftime(form, when or datetime.datetime.fromtimestamp(backwards()).timetuple())

    time.time, time.strftime = backwards, text

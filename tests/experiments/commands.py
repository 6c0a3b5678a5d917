"""The commands of larq_ssl in processes of their own, forked from one that has paid for the imports."""

import dataclasses
import functools
import itertools
import json
import os
import pathlib
import runpy
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence

ROOT = pathlib.Path(__file__).parents[2]
SHORT = ("--width=0.125", "--encoder=reactnet_short")
SHORT_FLOAT = ("--width=0.125", "--encoder=resnet_short")
"""All layers of ReActNet-18 and ResNet-18, but one block in each of three stages: a tiny run takes its time to be
traced, the longer the deeper the network is. Whole ones train in `test_commands`. Detectors need all four stages:
`reactnet_stages` has one block in each."""


def add_short_networks() -> None:
    """Enters the networks of `SHORT` and `SHORT_FLOAT` among those of larq_ssl, in this process."""
    from larq_ssl.models import birealnet, registry, resnet

    networks = (
        ("reactnet_short", birealnet.REACTNET_18, 3),
        ("resnet_short", resnet.RESNET_18, 3),
        ("reactnet_stages", birealnet.REACTNET_18, 4),
    )
    for name, whole, stages in networks:
        trunk = functools.partial(whole.trunk, blocks=(1,) * stages)
        registry.ARCHITECTURES[name] = dataclasses.replace(whole, trunk=trunk)


@dataclasses.dataclass(frozen=True)
class Done:
    """A command that has ended: exit code (of a signal, its number below 0) and what it printed."""

    code: int
    out: str
    err: str
    seconds: float = 0.0


class Commands:
    """Runs commands one after the other.

    # Arguments
        folder: Working directory of the commands; what they print is kept in `folder/log`.
    """

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        (folder / "log").mkdir(parents=True)
        self._numbers = itertools.count()
        self._server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder
        )

    def run(self, command: str, *arguments: str, kill: tuple[int, str, int] | None = None) -> Done:
        """Runs `python -m larq_ssl.experiments.<command>`.

        # Arguments
            kill: Signal that the process gets from itself, where (`step`: when a step is done; `save`: when a
                checkpoint is written but not yet in its place), and the number of that step.
        """
        return self._order(command=command, arguments=arguments, kill=kill)

    def python(self, code: str) -> Done:
        """Runs Python code in a process in which no flag is defined yet."""
        return self._order(code=code)

    def together(
        self, command: str, *arguments: str, own: tuple[tuple[str, ...], ...] = ((), ()), faults: Sequence = ((), ())
    ) -> tuple[Done, ...]:
        """Runs a command as several workers at a time, by `--strategy=multi_worker`.

        # Arguments
            own: Further flags of each worker.
            faults: Of each worker, see `tests.faults.injections.run`.
        # Returns
            How each ended; what it printed is all in `out`. `Done.seconds` are those between the first end and its own.
        """
        logs = [str(self.folder / "log" / f"{next(self._numbers):02d}.worker") for _ in own]
        ends = pathlib.Path(f"{logs[0]}.ends")
        words = [[*arguments, "--strategy=multi_worker", *more] for more in own]
        done = self.python(
            "\n".join(
                [
                    f"import json, sys; sys.path.insert(0, {str(ROOT)!r})",
                    "from tests import workers",
                    "from tests.faults import injections",
                    f"words, faults = {words!r}, {json.loads(json.dumps(faults))!r}",
                    f"ends = workers.run(lambda i: injections.run({command!r}, words[i], faults[i]), {logs!r})",
                    f"json.dump(ends, open({str(ends)!r}, 'w'))",
                ]
            )
        )
        if done.code:
            raise RuntimeError(done.err)
        found = json.loads(ends.read_text())
        first = min(at for _, at in found)
        texts = [pathlib.Path(log).read_text(errors="replace") for log in logs]
        return tuple(Done(code, text, "", at - first) for (code, at), text in zip(found, texts, strict=True))

    def _order(self, **order: object) -> Done:
        number = next(self._numbers)
        logs = [self.folder / "log" / f"{number:02d}.{name}" for name in ("out", "err")]
        order["logs"] = [str(log) for log in logs]
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        code = int(self._server.stdout.readline())
        return Done(code, *(log.read_text(errors="replace") for log in logs))

    def close(self) -> None:
        self._server.stdin.close()
        self._server.wait()


def _serve() -> None:
    """Forks a process per line of standard input and answers with its exit code."""
    # All that takes time to import, but nothing that defines flags or starts a thread of TensorFlow.
    import sklearn.datasets  # noqa: F401

    import larq_ssl.callbacks
    import larq_ssl.evaluation.linear
    import larq_ssl.evaluation.pictures
    import larq_ssl.experiments.run_folder
    import larq_ssl.experiments.teacher_arithmetic
    import larq_ssl.methods.bssl
    import larq_ssl.methods.moco
    import larq_ssl.models.binary_compute

    add_short_networks()
    # On any hardware what one with bfloat16 measures: runs that are compared to the bit must not hang on noise.
    larq_ssl.models.binary_compute._measured_ratio = lambda: 2.0
    # Teachers stay in float32: bfloat16 changes the loss of tiny ones, whose BatchNorm sees few images, more or less.
    larq_ssl.experiments.teacher_arithmetic._measured_ratio = lambda *_: 0.5
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _become(**json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _become(
    logs: list[str],
    command: str = "",
    arguments: tuple[str, ...] = (),
    kill: tuple[int, str, int] | None = None,
    code: str = "",
) -> None:
    """Turns this process into a command or runs code in it, and ends it."""
    for number, log in enumerate(logs, 1):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if kill is not None:
        _kill_later(*kill)
    sys.argv = [command, *arguments]
    result: object = 0
    try:
        if command:
            runpy.run_module(f"larq_ssl.experiments.{command}", run_name="__main__", alter_sys=True)
        else:
            exec(code, {})
    except SystemExit as stop:
        result = stop.code
    except BaseException:  # noqa: BLE001  what Python itself does at the top
        traceback.print_exc()
        result = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(result if isinstance(result, int) else int(result is not None))


def _kill_later(number: int, where: str, step: int) -> None:
    import larq_ssl.files
    from larq_ssl import callbacks

    def before(function: Callable, reached: Callable[..., bool]) -> Callable:
        def wrapped(*arguments, **keywords):
            if reached(*arguments):
                os.kill(os.getpid(), number)
            return function(*arguments, **keywords)

        return wrapped

    if where == "step":
        callbacks.Checkpointing.on_train_batch_end = before(
            callbacks.Checkpointing.on_train_batch_end,
            lambda callback, *_: int(callback.model.optimizer.iterations) == step,
        )
    else:
        larq_ssl.files._sync_tree = before(
            larq_ssl.files._sync_tree, lambda folder: folder.name.startswith(f".step-{step:09d}.")
        )


if __name__ == "__main__":
    _serve()

"""Processes of one machine that train together over `TF_CONFIG`; they are forked, so that TensorFlow is loaded once."""

import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from typing import NamedTuple

TRIES = 3
TAKEN = "another process using the port"
"""What a worker says whose port somebody else has taken in the meantime."""


class End(NamedTuple):
    """How a process ended: exit code (of a signal, its number below 0), and when by `time.monotonic`."""

    code: int
    at: float


def config(addresses: list[str], index: int) -> str:
    """The `TF_CONFIG` of one of the workers."""
    return json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})


def free_addresses(count: int) -> list[str]:
    """Of ports that nobody uses just now."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("localhost", 0))
    addresses = [f"localhost:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return addresses


def start(work: Callable[[int], object], logs: list[str]) -> list[int]:
    """Forks a process for each log, of which none must have used TensorFlow yet; returns their numbers.

    # Arguments
        work: What each of them does, given its index; an exit code is the end of it.
        logs: Files for what they print.
    """
    addresses, processes = free_addresses(len(logs)), []
    sys.stdout.flush()
    for index, log in enumerate(logs):
        process = os.fork()
        if process == 0:
            os.environ["TF_CONFIG"] = config(addresses, index)
            _become(work, index, log)
        processes.append(process)
    return processes


def _become(work: Callable[[int], object], index: int, log: str) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    for number in (1, 2):
        os.dup2(file, number)
    code: object = 0
    try:
        work(index)
    except SystemExit as stop:
        code = stop.code or 0
    except BaseException:  # noqa: BLE001  what Python itself does at the top
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


def run(work: Callable[[int], object], logs: list[str], seconds: float = 500.0) -> list[End]:
    """Runs workers to their ends, again with other ports if one is taken.

    # Raises
        TimeoutError: If they do not end; they are killed then.
    """
    for _ in range(TRIES):
        ends = wait(start(work, logs), logs, seconds)
        if not _port_is_taken(logs):
            return ends
    raise OSError(f"Ports were taken {TRIES} times.")


def wait(processes: list[int], logs: list[str], seconds: float) -> list[End]:
    """How each of them ended."""
    ends: dict[int, End] = {}
    deadline = time.monotonic() + seconds
    while len(ends) < len(processes):
        for process in set(processes) - set(ends):
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                ends[process] = End(os.waitstatus_to_exitcode(status), time.monotonic())
        over = time.monotonic() > deadline
        if over or _port_is_taken(logs):
            for process in set(processes) - set(ends):
                os.kill(process, signal.SIGKILL)
        if over:
            raise TimeoutError(f"Workers did not end within {seconds:.0f} s; see {', '.join(logs)}.")
        time.sleep(0.02)
    return [ends[process] for process in processes]


def _port_is_taken(logs: list[str]) -> bool:
    return any(TAKEN in _text(log) for log in logs)


def _text(log: str) -> str:
    try:
        with open(log, errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""

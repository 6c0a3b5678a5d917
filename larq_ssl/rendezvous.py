"""How processes that train together find each other, before TensorFlow, which would wait for one that does not come for
an hour without a word, and could not be interrupted."""

import contextlib
import os
import socket
import time

from larq_ssl.cluster import Cluster

_HELLO, _COME = b"larq_ssl-worker", b"come"
# Seconds for one answer, and between two questions.
_PATIENCE, _PAUSE = 5.0, 0.2
_FAMILY = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET


def come_together(cluster: Cluster, seconds: float) -> None:
    """Waits at the chief's address until all workers are there.

    Each of the others says its number to the chief, who answers when all of them wait for the answer; then the address
    is free for TensorFlow. Who finds something else there, such as a training that has lost this worker, asks again.

    # Arguments
        cluster: Of which this process is one.
        seconds: How long at most.
    # Raises
        ValueError: If somebody does not come, or the chief cannot use its address.
    """
    host, _, port = cluster.addresses[0].rpartition(":")
    end = time.monotonic() + seconds
    if not cluster.is_chief:
        if (reason := _go_to_chief((host, int(port)), cluster.index, end)) is not None:
            raise ValueError(
                f"The chief, {cluster.addresses[0]} of TF_CONFIG, did not come within {seconds / 60:.0f} minutes "
                f"({reason}): start all workers with the same command."
            )
    elif cluster.size > 1 and (missing := _await_others(cluster, int(port), end)):
        numbers = ", ".join(map(str, sorted(missing)))
        raise ValueError(
            f"Not all {cluster.size} workers of TF_CONFIG came within {seconds / 60:.0f} minutes (missing: {numbers}): "
            "start all of them with the same command."
        )


def _go_to_chief(address: tuple[str, int], index: int, end: float) -> str | None:
    """Asks until the chief answers; why it did not, if it did not until the end."""
    reason = "nobody listens"
    while True:
        try:
            with socket.create_connection(address, timeout=_PATIENCE) as chief:
                chief.sendall(b"%s %d\n" % (_HELLO, index))
                chief.settimeout(max(_PATIENCE, end - time.monotonic()))
                if chief.recv(len(_COME)) == _COME:
                    return None
            reason = "another process listens there"
        except OSError as error:
            reason = str(error)
        if time.monotonic() >= end:
            return reason
        time.sleep(_PAUSE)


def _await_others(cluster: Cluster, port: int, end: float) -> set[int]:
    """Waits for the others, and tells them to come if all are there; who is missing at the end."""
    try:
        server = socket.create_server(("", port), family=_FAMILY, dualstack_ipv6=_FAMILY == socket.AF_INET6)
    except OSError as error:
        raise ValueError(
            f"strategy multi_worker cannot use {cluster.addresses[0]}, the address of this worker in TF_CONFIG "
            f"({os.strerror(error.errno or 0)}): is another process using the port?"
        ) from error
    here: dict[int, socket.socket] = {}
    with contextlib.ExitStack() as opened:
        opened.enter_context(server)
        server.settimeout(_PAUSE)
        others = set(range(1, cluster.size))
        while missing := others - here.keys():
            if time.monotonic() >= end:
                return missing
            with contextlib.suppress(TimeoutError):
                one = opened.enter_context(server.accept()[0])
                if (index := _number_of(one)) in others:
                    here[index] = one
            here = {index: one for index, one in here.items() if not _has_left(one)}
        for one in here.values():
            with contextlib.suppress(OSError):
                one.settimeout(_PATIENCE)
                one.sendall(_COME)
        for one in here.values():
            # They hang up first, so that the chief's address does not linger.
            with contextlib.suppress(OSError):
                one.recv(1)
    return set()


def _number_of(one: socket.socket) -> int | None:
    """The number that a worker says, `None` for somebody else."""
    try:
        one.settimeout(_PATIENCE)
        name, number = one.recv(64).split()
        return int(number) if name == _HELLO else None
    except (OSError, ValueError):
        return None


def _has_left(one: socket.socket) -> bool:
    one.setblocking(False)
    try:
        return one.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True

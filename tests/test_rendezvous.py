"""Processes find each other before TensorFlow is asked, and nobody is waited for without end."""

import socket
import threading
from collections.abc import Callable

import pytest

from larq_ssl import rendezvous
from larq_ssl.cluster import Cluster
from larq_ssl.rendezvous import come_together
from tests.workers import free_addresses


class Process(threading.Thread):
    """One of them, here a thread."""

    def __init__(self, work: Callable[[], object]):
        super().__init__(daemon=True)
        self._work, self.error = work, None
        self.start()

    def run(self) -> None:
        try:
            self._work()
        except ValueError as error:
            self.error = str(error)

    def end(self) -> str | None:
        """What it was refused with."""
        self.join(30)
        assert not self.is_alive()
        return self.error


@pytest.fixture
def addresses():
    return tuple(free_addresses(3))


def worker(addresses: tuple[str, ...], index: int, seconds: float = 20.0) -> Process:
    return Process(lambda: come_together(Cluster(addresses, index), seconds))


def hello(addresses: tuple[str, ...], text: bytes) -> socket.socket:
    """A connection to the chief, once it listens."""
    host, _, port = addresses[0].rpartition(":")
    while True:
        try:
            one = socket.create_connection((host, int(port)), 5)
        except OSError:
            continue
        one.sendall(text)
        return one


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_all_come_in_any_order(addresses, order):
    processes = [worker(addresses, index) for index in order]
    assert [process.end() for process in processes] == [None] * 3
    # TensorFlow can have the address at once.
    host, _, port = addresses[0].rpartition(":")
    socket.create_server((host, int(port))).close()


def test_a_worker_alone_waits_for_nobody(addresses):
    come_together(Cluster(addresses[:1], 0), 0.0)


def test_who_does_not_come_is_named(addresses):
    first, chief = worker(addresses, 1, 20.0), worker(addresses, 0, 1.0)
    assert chief.end() == (
        "Not all 3 workers of TF_CONFIG came within 0 minutes (missing: 2): start all of them with the same command."
    )
    # The chief's end is none to the others, who ask on.
    assert first.is_alive()
    others = [worker(addresses, 0), worker(addresses, 2)]
    assert [process.end() for process in (first, *others)] == [None] * 3


def test_a_chief_that_does_not_come_is_told(addresses):
    assert f"The chief, {addresses[0]} of TF_CONFIG, did not come within 0 minutes (" in worker(addresses, 1, 0.3).end()


def test_who_has_left_is_waited_for_again(addresses):
    chief = worker(addresses, 0)
    hello(addresses, b"larq_ssl-worker 1\n").close()
    second = worker(addresses, 2)
    second.join(1)
    assert chief.is_alive()
    assert second.is_alive()
    assert [process.end() for process in (worker(addresses, 1), chief, second)] == [None] * 3


@pytest.mark.parametrize(
    "text", [b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 200, b"larq_ssl-worker x\n", b"larq_ssl-worker 7\n"]
)
def test_strangers_do_not_count(addresses, text):
    chief = worker(addresses[:2], 0)
    with hello(addresses, text):
        other = worker(addresses[:2], 1)
        assert [chief.end(), other.end()] == [None, None]


def test_a_training_that_has_lost_this_worker_is_asked_again(addresses, monkeypatch):
    """TensorFlow of the chief listens there until it ends."""
    monkeypatch.setattr(rendezvous, "_PAUSE", 0.05)
    host, _, port = addresses[0].rpartition(":")
    with socket.create_server((host, int(port))) as tensorflow:
        lost = worker(addresses[:2], 1)
        one, _ = tensorflow.accept()
        with one:
            one.sendall(b"\0\0\0\4")
    assert [process.end() for process in (worker(addresses[:2], 0), lost)] == [None, None]


def test_an_address_that_is_taken_is_told(addresses):
    host, _, port = addresses[0].rpartition(":")
    with socket.create_server(("", int(port))):
        assert worker(addresses, 0).end() == (
            f"strategy multi_worker cannot use {addresses[0]}, the address of this worker in TF_CONFIG "
            "(Address already in use): is another process using the port?"
        )

"""Processes that train as one: the chief writes the run folder, the others do the same in folders of their own.

What reads a variable may be an operation of all processes, such as saving one or running a network: so none of them
leaves anything out that another does.
"""

import contextlib
import hashlib
import logging
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import TypeVar, cast

import tensorflow as tf
from absl import flags
from absl import logging as absl_logging

from larq_ssl import distribute
from larq_ssl.cluster import Cluster, read_cluster
from larq_ssl.experiments import common
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.experiments.training_data import Data
from larq_ssl.rendezvous import come_together

FLAGS = flags.FLAGS

_Made = TypeVar("_Made")

_LEFT_BEHIND = shutil.ignore_patterns(".*", "checkpoints", "probes", "tensorboard")
# Seconds until a worker does not come any more, and until one that ends waits for the others no longer.
_MEET_WITHIN, _PART_WITHIN = 600.0, 120.0
# What the chief has written may take so long until another machine sees it.
_SEEN_WITHIN, _PAUSE = 60.0, 0.5


class Workers:
    """This process among those that train together; one that trains alone is the chief, and waits for nobody.

    # Arguments
        strategy: Of the flags.
        cluster: Of `TF_CONFIG`, or `None` for one process.
    """

    def __init__(self, strategy: tf.distribute.Strategy, cluster: Cluster | None = None):
        self.strategy = strategy
        self._cluster = cluster or Cluster(("here",), 0)
        self.is_chief = self._cluster.is_chief
        self._exchange = distribute.Exchange(strategy) if self._cluster.size > 1 else None

    def numbers(self, number: int) -> list[int]:
        """The numbers of all workers, which all of them must ask for at the same place."""
        if self._exchange is None:
            return [number]
        told = self._exchange(number)
        return told[:: len(told) // self._cluster.size]

    def meet(self) -> None:
        """Waits until all are there.

        # Raises
            ValueError: If one does not come.
        """
        if self._exchange is None:
            return
        try:
            self._exchange(0, _MEET_WITHIN)
        except tf.errors.DeadlineExceededError as error:
            raise ValueError(
                f"Not all {self._cluster.size} workers of TF_CONFIG came within {_MEET_WITHIN / 60:.0f} minutes: start "
                "all of them with the same command."
            ) from error

    def any_of(self, bits: int) -> int:
        """The bits that are set for one worker or more."""
        result = 0
        for number in self.numbers(bits):
            result |= number
        return result

    def refuse_others(self, what: str, text: str) -> None:
        """Raises a `ValueError` on all workers if a text is not the same for each.

        # Arguments
            what: What the text is of.
            text: That of this process.
        """
        digests = self.numbers(int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big"))
        others = [str(worker) for worker, digest in enumerate(digests) if digest != digests[0]]
        if others:
            self.part()
            raise ValueError(
                f"The {what} of worker {', '.join(others)} are not those of worker 0: all must be started with the "
                "same command, software and images."
            )

    def part(self) -> None:
        """Waits until the others are about to end, too, or are gone.

        What one has not received yet would be lost with the process that it comes from, and a training that ends in
        good order would seem to have lost a worker.
        """
        if self._exchange is not None:
            try:
                self._exchange(0, _PART_WITHIN)
            except tf.errors.OpError:
                absl_logging.debug("Another worker did not wait to part:", exc_info=True)

    @contextlib.contextmanager
    def as_one(self) -> Iterator[None]:
        """If one worker is refused what is inside, none goes on; inside nothing may be asked of all workers.

        # Raises
            ValueError: What this worker is refused for, which may be an `OSError`; on the others, whom to look at.
        """
        mistake = None
        try:
            yield
        except (ValueError, OSError, flags.Error) as error:
            mistake = error
        bits = []
        try:
            bits = self.numbers(int(mistake is not None))
        except tf.errors.OpError:
            # That another one is lost is told only where there is nothing else to say.
            if mistake is None:
                raise
        refused = [str(worker) for worker, bit in enumerate(bits) if bit]
        if refused:
            self.part()
        if mistake is not None:
            raise mistake
        if refused:
            raise ValueError(f"Nothing is done without worker {', '.join(refused)}, which says what is wrong.")

    def chief_first(self, make: Callable[[], _Made]) -> _Made:
        """What each worker makes, the others after the chief, so that they find what it has made; see `as_one`."""
        made = None
        for of_chief in (True, False):
            with self.as_one():
                if self.is_chief == of_chief:
                    made = make()
        return cast(_Made, made)

    def batches(
        self, data: Data, begun: tf.data.Dataset, start_step: int
    ) -> tf.data.Dataset | tf.distribute.DistributedDataset:
        """What to train on from a step on; the stream that is begun already, if that will do.

        # Arguments
            begun: The stream of whole batches from the first step on.
        """
        if self._exchange is not None or isinstance(self.strategy, tf.distribute.TPUStrategy):
            return data.distributed(self.strategy, start_step)
        return data.batches(start_step) if start_step else begun

    @contextlib.contextmanager
    def folder(self, run: RunFolder) -> Iterator[RunFolder]:
        """Where this process writes: the chief into the run, the others into a copy that is deleted at the end.

        Until all workers have asked for `numbers` once more, the chief must leave the run as it is.

        # Raises
            ValueError: If the run of the chief is not in the folder that this process sees.
        """
        self.numbers(0)
        if self.is_chief:
            yield run
            return
        deadline = time.monotonic() + _SEEN_WITHIN
        while not run.flags_file.is_file():
            if time.monotonic() > deadline:
                raise ValueError(
                    f"--workdir={run.path} is not the folder of the chief on worker {self._cluster.index}: all workers "
                    "must see the same one."
                )
            time.sleep(_PAUSE)
        with tempfile.TemporaryDirectory(prefix=f"larq_ssl-worker-{self._cluster.index}-") as own:
            yield RunFolder(shutil.copytree(run.path, own, ignore=_LEFT_BEHIND, dirs_exist_ok=True))

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """All but the chief say nothing more but errors."""
        if self.is_chief:
            yield
            return
        for logger in (logging.getLogger("larq_ssl"), tf.get_logger()):
            logger.setLevel(logging.ERROR)
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            yield


def join() -> Workers:
    """Finds the devices and processes of `--strategy`; call it before any other operation of TensorFlow.

    # Raises
        ValueError: If they are not there, or the batch cannot be parted among them.
    """
    cluster = None
    # Of every gather and sum there is one, it would tell.
    tf.get_logger().setLevel(logging.WARNING)
    if FLAGS.strategy == "multi_worker":
        cluster = read_cluster(os.environ.get("TF_CONFIG"))
        _say_who(cluster)
        come_together(cluster, _MEET_WITHIN)
    strategy = distribute.strategy(FLAGS.strategy)
    if cluster is not None:
        # TensorFlow has caught it now, and does nothing; in training `callbacks.Checkpointing` does.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    replicas = strategy.num_replicas_in_sync
    if FLAGS.batch_size % replicas:
        raise ValueError(
            f"--batch_size must be a multiple of {replicas}, the number of replicas (--strategy={FLAGS.strategy}), got "
            f"{FLAGS.batch_size}."
        )
    if FLAGS.batch_size // replicas % FLAGS.accumulate and not FLAGS.batch_size % FLAGS.accumulate:
        raise ValueError(
            f"--accumulate must divide {FLAGS.batch_size // replicas}, the images of one of {replicas} replicas, got "
            f"{FLAGS.accumulate}."
        )
    images = FLAGS.batch_size // replicas
    # Schemes without keys have no groups.
    groups = FLAGS["batch_norm_groups"].value if "batch_norm_groups" in FLAGS else None
    if replicas > 1 and groups is not None and images % groups:
        raise ValueError(
            f"--batch_norm_groups must divide {images}, the images of one of {replicas} replicas, got {groups}."
        )
    workers = Workers(strategy, cluster)
    workers.meet()
    return workers


def _say_who(cluster: Cluster) -> None:
    told = "the chief" if cluster.is_chief else "of which the chief, worker 0, says how it goes"
    address = cluster.addresses[cluster.index]
    common.say(f"Worker {cluster.index} of {cluster.size} at {address}, {told}, waits for the others.")


def batch_size(strategy: tf.distribute.Strategy) -> str:
    """The global batch and that of a replica, in words."""
    replicas = strategy.num_replicas_in_sync
    of = f" = {replicas} replicas of {FLAGS.batch_size // replicas}" if replicas > 1 else ""
    return f"global batch {FLAGS.batch_size}{of}"

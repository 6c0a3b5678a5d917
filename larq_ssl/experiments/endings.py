"""How a training ends before its time: what stopped it, in a sentence, and the exit code that says so."""

import contextlib
import errno
import os
import time
from collections.abc import Iterator, Sequence

import tensorflow as tf
from absl import flags

from larq_ssl import callbacks
from larq_ssl.checkpoints import NotFiniteError
from larq_ssl.experiments import common
from larq_ssl.methods.base import NOT_FINITE

FLAGS = flags.FLAGS


class StoppedError(ValueError):
    """What stopped a run from within a graph."""


class LostWorkerError(RuntimeError):
    """Another of the processes that train together has ended or cannot be reached."""


ERRORS = (StoppedError, LostWorkerError, NotFiniteError, callbacks.NoGradientError, OSError)
"""What ends a training in a sentence."""

_REASONS = {NOT_FINITE: " A lower --lr may help.", "max_bad_images": "", ": its boxes ": ""}
"""What a sentence in an error of TensorFlow has in it if it concerns the user, and what is added to it."""

_STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG, errno.ESTALE)
"""What a file system may answer to TensorFlow, which hands on the words alone."""

_OF_OTHERS = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
    tf.errors.UnavailableError,
)
"""What an operation of all processes ends with where one of them is no longer there."""

_ABORTED = "Collective ops is aborted by:"


def deadline() -> float | None:
    """When `--max_hours` are over, by `time.monotonic`, which no change of the clock moves; `None` without them."""
    return None if FLAGS.max_hours is None else time.monotonic() + 3600 * FLAGS.max_hours


def exit_code(error: Exception) -> int:
    """The exit code for one of `ERRORS`."""
    if isinstance(error, LostWorkerError):
        return common.LOST_WORKER_EXIT
    if isinstance(error, NotFiniteError) or NOT_FINITE in str(error):
        return common.DIVERGED_EXIT
    return common.STORAGE_EXIT if isinstance(error, OSError) else 1


@contextlib.contextmanager
def told(several: bool = False) -> Iterator[None]:
    """Finds the sentence that concerns the user in what TensorFlow makes of an error inside a graph or a file.

    # Arguments
        several: Whether other processes train with this one.
    # Raises
        StoppedError: If a batch or the images stopped the run.
        OSError: If the file system did.
        LostWorkerError: If another process of the same training did.
    """
    try:
        yield
    except tf.errors.OpError as error:
        lines = str(error).splitlines()
        for line in lines:
            for mark, advice in _REASONS.items():
                if mark in line:
                    sentence = NOT_FINITE if mark == NOT_FINITE else line.partition("Error: ")[2] or line
                    raise StoppedError(f"{sentence}{advice}") from error
            for number in _STORAGE:
                if os.strerror(number) in line:
                    raise OSError(number, line.strip()) from error
        if common.needs_memory(error):
            raise StoppedError(common.no_memory(error)) from error
        if several and isinstance(error, _OF_OTHERS):
            raise LostWorkerError(
                f"Another worker is lost ({_known(lines)}): start all of them again with the same command, which goes "
                "on from the last checkpoint."
            ) from error
        raise


def _known(lines: Sequence[str]) -> str:
    """What TensorFlow says of a worker that is lost."""
    marked = (line.partition(_ABORTED)[2].strip() for line in lines if _ABORTED in line)
    return next(marked, lines[0].strip()).rstrip(".")

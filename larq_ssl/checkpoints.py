"""Checkpoints that a killed process cannot spoil: each a folder of its own that appears whole or not at all."""

import logging
import pathlib
import shutil

import tensorflow as tf

from larq_ssl.files import whole_folder

_log = logging.getLogger(__name__)
# What TensorFlow raises for files that are missing, truncated or altered, and for other networks than the saved one.
_READ_ERRORS = (tf.errors.OpError, AssertionError, ValueError, KeyError, IndexError, RuntimeError)


class NotFiniteError(ValueError):
    """A variable that was to be saved, or what a network makes of images, holds NaN or Inf."""


class NotSavedError(OSError):
    """A checkpoint could not be written, for example because the disk is full; those before it are as they were."""


class Checkpoints:
    """The last checkpoints of a run in one folder.

    A checkpoint is a folder `step-<n>`, written under another name, synced and renamed; only then are all but the
    newest `keep` renamed and deleted. So whenever the process dies, every folder called `step-<n>` is complete.

    # Arguments
        folder: Where the checkpoints live; made when the first is saved.
        keep: Number of checkpoints that are kept, at least 2, so that a damaged one has a predecessor.
        **objects: What is saved, as for `tf.train.Checkpoint`. All of their variables must exist before `restore`.
    # Raises
        ValueError: If `keep` is below 2.
    """

    def __init__(self, folder: str | pathlib.Path, keep: int = 2, **objects: tf.Module):
        if keep < 2:
            raise ValueError(f"keep must be at least 2, got {keep}.")
        self.folder, self.keep = pathlib.Path(folder), keep
        self._objects = objects

    def steps(self) -> list[int]:
        """The steps of the checkpoints that are there, ascending."""
        names = (path.name.removeprefix("step-") for path in self.folder.glob("step-*") if path.is_dir())
        return sorted(int(name) for name in names if name.isdecimal())

    def save(self, step: int) -> pathlib.Path:
        """Saves the objects as they are after `step` updates.

        # Raises
            NotFiniteError: If a floating-point variable is not finite; nothing is written then.
            NotSavedError: If the file system refuses; nothing is left of what was written then.
        """
        self._refuse_not_finite()
        final = self._path(step)
        try:
            # First, since what a killed process left may be what a full disk is full of.
            for unfinished in self.folder.glob(".step-*.tmp"):
                shutil.rmtree(unfinished)
            with whole_folder(final, overwrite=True) as folder:
                tf.train.Checkpoint(**self._objects).write(str(folder / "state"))
            # Later ones could not be restored, or training would have gone on from them: they would outlive good ones.
            there = self.steps()
            later = [number for number in there if number > step]
            for old in (*later, *there[: len(there) - len(later)][: -self.keep]):
                aside = self.folder / f".{self._path(old).name}.old.tmp"
                self._path(old).rename(aside)
                shutil.rmtree(aside)
        except (OSError, tf.errors.OpError) as error:
            reason = str(error).strip().splitlines()[0]
            raise NotSavedError(f"The checkpoint of step {step} cannot be written: {reason}.") from error
        return final

    def restore(self) -> int | None:
        """Restores the newest checkpoint that can be read; returns its step, or `None` if there is none at all.

        # Raises
            ValueError: If there are checkpoints but none fits or can be read, with the reason for each.
        """
        reasons = []
        for step in reversed(self.steps()):
            try:
                checkpoint = tf.train.Checkpoint(**self._objects)
                checkpoint.read(str(self._path(step) / "state")).assert_consumed()
            except _READ_ERRORS as error:
                reasons.append(f"step {step}: {str(error).strip().splitlines()[0]}")
                _log.warning("The checkpoint of %s cannot be restored; trying the one before.", reasons[-1])
            else:
                return step
        if reasons:
            raise ValueError(f"No checkpoint in {self.folder} can be restored: {'; '.join(reasons)}")
        return None

    def _path(self, step: int) -> pathlib.Path:
        return self.folder / f"step-{step:09d}"

    def _refuse_not_finite(self) -> None:
        for name, item in self._objects.items():
            variables = getattr(item, "variables", [])
            for variable in variables() if callable(variables) else variables:
                if variable.dtype.is_floating and not bool(tf.reduce_all(tf.math.is_finite(variable))):
                    raise NotFiniteError(f"{name}: {variable.name} is not finite; no checkpoint was written.")

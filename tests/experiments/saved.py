"""What a run folder has saved, as arrays."""

import os
import signal

import numpy as np
import tensorflow as tf

from larq_ssl.experiments.common import SIGTERM_EXIT
from larq_ssl.experiments.run_folder import RunFolder


def arrays(file: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    with np.load(file) as held:
        return dict(held)


def state(run: RunFolder, step: int) -> dict[str, np.ndarray]:
    """All variables of a checkpoint by their keys."""
    reader = tf.train.load_checkpoint(str(run.checkpoints / f"step-{step:09d}" / "state"))
    names = [name for name in reader.get_variable_to_shape_map() if name != "_CHECKPOINTABLE_OBJECT_GRAPH"]
    return {name: np.asarray(reader.get_tensor(name)) for name in names}


def assert_equal_parameters(first: str | os.PathLike[str], second: str | os.PathLike[str]) -> None:
    """All arrays of two files but the moving statistics of BatchNorm are equal to the bit."""
    before, after = arrays(first), arrays(second)
    assert before.keys() == after.keys()
    assert any("moving" not in key for key in before)
    for key in before:
        assert "moving" in key or np.array_equal(before[key], after[key]), key


def assert_equal_states(first: RunFolder, second: RunFolder, step: int) -> None:
    """The checkpoints of two runs at a step are equal to the bit."""
    whole, other = state(first, step), state(second, step)
    assert whole.keys() == other.keys()
    for name, array in whole.items():
        assert array.tobytes() == other[name].tobytes(), name


def assert_goes_on(commands, command: tuple[str, ...], stop: tuple[int, int], whole: RunFolder, step: int) -> None:
    """A command that a signal stops, as `stop` says (its number, after which step), ends as the run that was not."""
    number, after = stop
    run = RunFolder(whole.path.parent / f"stopped-{number}")
    first = commands.run(*command, f"--workdir={run.path}", kill=(number, "step", after))
    assert first.code == (SIGTERM_EXIT if number == signal.SIGTERM else -signal.SIGKILL)
    assert commands.run(*command, f"--workdir={run.path}").code == 0
    assert_equal_states(whole, run, step)

"""The runs of a study: how one is trained, and what it cost."""

import json
from collections.abc import Sequence

from larq_ssl.experiments import common
from larq_ssl.experiments.run_folder import RunFolder


def train(name: str, command: Sequence[str]) -> RunFolder:
    """Runs a command in a process of its own; one that is finished does nothing."""
    common.say("")
    code = common.run_command(command[0], command[1:])
    if code:
        raise ValueError(f"The study stops: the training of {name} ended with exit code {code}.")
    return run_of(command)


def run_of(command: Sequence[str]) -> RunFolder:
    """The folder that a command trains in."""
    return RunFolder(next(text for text in command if text.startswith("--workdir=")).partition("=")[2])


def training_hours(run: RunFolder) -> float:
    """Hours in the training steps of a finished run, over all its starts; evaluation apart."""
    rows = [json.loads(line) for line in run.metrics_file.read_text().splitlines()]
    batch_size, done, seconds = int(run.flags()["batch_size"]), 0, 0.0
    for row in rows:
        # A process that was started for the last step of an epoch alone has not timed it.
        seconds += (row["step"] - done) * batch_size / row.get("images_per_second", float("inf"))
        done = row["step"]
    return seconds / 3600

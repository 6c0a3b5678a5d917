"""Sweeps that train nothing: which commands they would run, and what they make of how these end."""

import dataclasses
import json
import pathlib
import re
from collections.abc import Sequence

# Each run ends at once, in its order with one of the given accuracies; a number that is no share is its exit code.
RUN = """
import contextlib, io, json, pathlib, sys
from absl import flags
from absl.testing import flagsaver
from larq_ssl.data.datasets import load_dataset
from larq_ssl.experiments import common, probed
from larq_ssl.experiments import {command} as experiment
from larq_ssl.experiments.run_folder import RunFolder

ran, ends = [], {ends}

def run_command(name, arguments):
    ran.append([name, *arguments])
    end = ends[(len(ran) - 1) % len(ends)]
    told = dict(word.lstrip("-").partition("=")[::2] for word in arguments)
    if end > 1 or "workdir" not in told:
        return int(end)
    run = RunFolder(told["workdir"])
    run.path.mkdir(parents=True)
    run.flags_file.write_text("--batch_size=60\\n")
    run.metrics_file.write_text(json.dumps({{"epoch": 1, "step": 60, "images_per_second": 60}}) + "\\n")
    accuracies = {{"last/top1": end, "last/top5": 0.9, "best/top1": 0.8, "best/top5": 0.95, "best/epoch": 2.0}}
    metrics = {{f"fine_tune/{{told['preset']}}/some_data/{{name}}": value for name, value in accuracies.items()}}
    run.results_file.write_text(json.dumps({{"metrics": {{**metrics, "loss": 1.0}}}}))
    return 0

common.run_command = run_command
if {images!r}:
    probed.Probed.load = lambda self, split: load_dataset({images!r}, split)
flags.FLAGS.mark_as_parsed()
report = []
for typed in {typed}:
    ran, out, err = [], io.StringIO(), io.StringIO()
    with flagsaver.flagsaver(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        sys.argv = ["{command}", *typed]
        flags.FLAGS(sys.argv)
        try:
            code = experiment.main()
        except SystemExit as stopped:
            code = stopped.code
    report.append([code, ran, out.getvalue(), err.getvalue()])
print(json.dumps(report))
"""


@dataclasses.dataclass(frozen=True)
class Swept:
    """What a command ran, and how it ended."""

    code: int
    ran: list[list[str]]
    out: str
    err: str

    @property
    def runs(self) -> dict[str, dict[str, str]]:
        """The flags of each run by its folder's name."""
        told = [dict(word.lstrip("-").partition("=")[::2] for word in words[1:]) for words in self.ran]
        return {pathlib.Path(flags["workdir"]).name: flags for flags in told}


def sweep(commands, command: str, *typed: str, ends: tuple[float, ...] = (0.5,), images: str = "") -> Swept:
    """Runs a command whose own commands train nothing."""
    (one,) = sweep_all(commands, command, [typed], ends, images)
    return one


def sweep_all(
    commands, command: str, typed: Sequence[Sequence[str]], ends: Sequence[float] = (0.5,), images: str = ""
) -> list[Swept]:
    """Runs a command with these arguments and then with those, in one process, which saves time."""
    words = [list(arguments) for arguments in typed]
    done = commands.python(RUN.format(command=command, typed=words, ends=list(ends), images=images))
    assert done.code == 0, done.err
    return [Swept(*one) for one in json.loads(done.out.splitlines()[-1])]


def assert_mistakes(commands, command: str, mistakes: Sequence[tuple[Sequence[str], str]], images: str = "") -> None:
    """Each of the arguments is refused with its message, in one sentence and before anything is run."""
    done = sweep_all(commands, command, [typed for typed, _ in mistakes], images=images)
    for one, (typed, message) in zip(done, mistakes, strict=True):
        assert (one.code, one.ran) == (2, []), typed
        (sentence,) = one.err.splitlines()
        assert re.search(message, sentence), sentence

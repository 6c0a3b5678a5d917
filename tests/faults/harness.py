"""Trains in processes of their own with faults in them, and compares with a run that nothing has disturbed."""

import json
import os
import pathlib
import shutil
import subprocess
import time
from collections.abc import Sequence
from typing import Any

import pytest

from larq_ssl import models
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.files import write_json
from larq_ssl.models.folder import save_encoder
from tests.experiments import saved
from tests.experiments.commands import SHORT, Commands, Done
from tests.faults import injections

ROOT = pathlib.Path(__file__).parents[2]
RESULTS = "LARQ_SSL_FAULTS"
"""Name of the environment variable with the folder that gets what the table is made of; see
`larq_ssl.experiments.reliability`."""

EVERY = 3
"""Steps between two checkpoints."""
EPOCHS, STEPS_PER_EPOCH = 6, 4
STEPS = EPOCHS * STEPS_PER_EPOCH
_LENGTH = (f"--epochs={EPOCHS}", f"--steps_per_epoch={STEPS_PER_EPOCH}", f"--checkpoint_every={EVERY}")
_QUIET = ("--knn_every=0", "--diagnostics_every=0", "--embeddings_every=0")
_SMALL = ("--deterministic", "--batch_size=16", "--image_size=16", *SHORT, *_LENGTH, *_QUIET)
METHODS = {
    "bssl": ("bssl", "--hidden_dim=8", "--classes=8", "--teacher=teacher", *_SMALL),
    "dino": ("dino", "--output_dim=12", "--hidden_dim=8", "--bottleneck_dim=4", "--local_views=2", *_SMALL),
    "moco": ("moco", "--queue_size=32", "--hidden_dim=8", "--embedding_dim=6", *_SMALL),
}
ALL_FAULTS = ("bssl", "dino")
"""Methods that go through all of them: one with a teacher, and one with a moving average and a centre. MoCo, with a
queue, is killed."""
WATCHED = ("--knn_every=5", "--diagnostics_every=2", "--embeddings_every=3")
"""For faults that are done to runs with everything switched on that looks at a run in training."""
PRODUCTS = ("encoders/*/weights.npz", "heads/*/weights.npz", "memories/*.npz", "inputs.json", "views.png")
"""What two runs must have in common byte for byte, besides all variables of their last checkpoints."""

_OF_WHOLE_EPOCHS = ("sign_flips", "diagnostics/weight_change")

Fault = tuple[str, dict[str, Any]]


class Trial:
    """One method under all faults.

    # Arguments
        commands: Starts processes; its folder is where they work.
        method: One of `METHODS`.
    """

    def __init__(self, commands: Commands, method: str):
        self.commands, self.method = commands, method
        self.folder = commands.folder
        if not (self.folder / "teacher").exists():
            save_encoder(models.build("resnet_18", None, "none", "cifar", 0.125), self.folder / "teacher")
        self.whole = self.run("whole")
        done = self.start(self.whole)
        assert done.code == 0, done.err
        assert self.whole.finished

    def run(self, name: str) -> RunFolder:
        """A run folder below a parent of its own, so that stage 2 would find stage 1."""
        return RunFolder(self.folder / self.method / name / "stage1")

    def command(self, run: RunFolder, *flags: str) -> list[str]:
        """The words after `python -m larq_ssl.experiments.`; paths are relative, as those of users are."""
        _, *words = METHODS[self.method]
        stage = () if any(flag.startswith("--stage=") for flag in flags) else ("--stage=1",)
        return [self.method, *words, *stage, f"--workdir={run.path.relative_to(self.folder)}", *flags]

    def start(self, run: RunFolder, *flags: str, faults: Sequence[Fault] = ()) -> Done:
        """Starts, or goes on with, a run in a new process."""
        command, *arguments = self.command(run, *flags)
        lines = [
            f"import sys; sys.path.insert(0, {str(ROOT)!r})",
            "from tests.faults import injections",
            # Through JSON, which makes numbers of signals.
            f"injections.run({command!r}, {arguments!r}, {json.loads(json.dumps(faults))!r})",
        ]
        done = self.commands.python("\n".join(lines))
        assert "Traceback" not in done.err, done.err
        return done

    def reached(self) -> int:
        """The last step that the last process has trained."""
        text = (self.folder / injections.REACHED).read_text()
        return int(text) if text else 0

    def copy(self, source: RunFolder, name: str) -> RunFolder:
        """The same run in another folder."""
        run = self.run(name)
        shutil.copytree(source.path, run.path)
        return run

    def finish(self, run: RunFolder, *flags: str, lost: list[int] | None = None) -> Done:
        """Goes on without any fault; counts what is trained a second time."""
        before = self.reached()
        done = self.start(run, *flags)
        assert done.code == 0, done.err
        if lost is not None:
            lost.append(before - went_on(done))
        return done

    def assert_undisturbed(
        self, run: RunFolder, whole: RunFolder | None = None, steps: int = STEPS, rounded: float = 0.0
    ) -> None:
        """A run has ended to the bit as the one without a fault, after so many steps.

        # Arguments
            rounded: By how much, relatively, its metrics may differ.
        """
        whole = whole or self.whole
        assert run.finished
        saved.assert_equal_states(whole, run, steps)
        for pattern in PRODUCTS:
            names = [file.relative_to(whole.path) for file in sorted(whole.path.glob(pattern))]
            assert [file.relative_to(run.path) for file in sorted(run.path.glob(pattern))] == names
            for name in names:
                assert (run.path / name).read_bytes() == (whole.path / name).read_bytes(), name
        for row, expected in zip(metrics(run), metrics(whole), strict=True):
            # Of an epoch that was not trained in one piece it is not known what has changed since its beginning.
            left_out = {name for name in expected if name.startswith(_OF_WHOLE_EPOCHS) and name not in row}
            known = {name: value for name, value in expected.items() if name not in left_out}
            near = pytest.approx(known, rel=rounded, abs=0.0)
            assert row == near, {name for name in row.keys() | known.keys() if row.get(name) != known.get(name)}

    def record(self, fault: str, lost_steps: Sequence[int], lost_files: Sequence[str] = (), **more: Any) -> None:
        """Enters a line of the table, if a folder for it is named; each number of lost steps is of one time."""
        folder = os.environ.get(RESULTS)
        if folder:
            row = {"fault": fault, "method": self.method, "lost_steps": list(lost_steps), "every": EVERY}
            row |= {"lost_files": list(lost_files), "time": time.strftime("%Y-%m-%d"), "commit": _commit(), **more}
            name = "".join(letter if letter.isalnum() else "_" for letter in fault)
            write_json(pathlib.Path(folder) / f"{self.method}-{name}.json", row, overwrite=True)


def went_on(done: Done) -> int:
    """The step after which a process went on, 0 for one that began a run."""
    if "a new run;" in done.out:
        return 0
    return int(done.out.partition("going on after step ")[2].partition(";")[0].replace(",", ""))


def metrics(run: RunFolder) -> list[dict[str, float]]:
    """The rows of a run without its speed."""
    rows = [json.loads(line) for line in run.metrics_file.read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "images_per_second"} for row in rows]


def missing_files(before: set[str], run: RunFolder) -> list[str]:
    """Files of a run that were there and are not any more, but for checkpoints that newer ones have replaced."""
    gone = before - files(run)
    return sorted(name for name in gone if not name.startswith("checkpoints/"))


def files(run: RunFolder) -> set[str]:
    return {path.relative_to(run.path).as_posix() for path in run.path.rglob("*") if path.is_file()}


def only_sentence(done: Done) -> str:
    """The last line of what a command says of its end, which must be the one sentence of an error."""
    (line,) = [line for line in done.err.splitlines() if line.startswith("error: ")]
    return line


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()

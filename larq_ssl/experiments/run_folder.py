"""The folder of a run: what is in it, and whether a command may go on in it."""

import contextlib
import fcntl
import json
import os
import pathlib
import platform
import subprocess
import time
from collections.abc import Collection, Iterator, Mapping
from importlib import metadata
from typing import Any

from larq_ssl.files import write_json, write_whole

_PACKAGES = (
    "tensorflow",
    "larq",
    "larq-zoo",
    "tensorflow-addons",
    "tensorflow-datasets",
    "numpy",
    "larq_ssl",
)


class RunFolder:
    """Everything that a run leaves behind, by name.

    # Arguments
        path: The folder; made by `open`.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = pathlib.Path(path)

    @property
    def flags_file(self) -> pathlib.Path:
        return self.path / "flags.txt"

    @property
    def checkpoints(self) -> pathlib.Path:
        return self.path / "checkpoints"

    @property
    def metrics_file(self) -> pathlib.Path:
        return self.path / "metrics.jsonl"

    @property
    def tensorboard(self) -> pathlib.Path:
        return self.path / "tensorboard"

    @property
    def results_file(self) -> pathlib.Path:
        return self.path / "results.json"

    def encoder(self, name: str) -> pathlib.Path:
        return self.path / "encoders" / name

    def head(self, name: str) -> pathlib.Path:
        return self.path / "heads" / name / "weights.npz"

    def probe(self, name: str) -> pathlib.Path:
        return self.path / "probes" / name

    @property
    def finished(self) -> bool:
        """Whether training has reached its end; `results.json` is the last file that a run writes."""
        return self.results_file.is_file()

    def results(self) -> dict[str, Any]:
        return json.loads(self.results_file.read_text())

    def flags(self) -> dict[str, str]:
        """The flags that the run was started with, as text."""
        if not self.flags_file.is_file():
            raise ValueError(f"{self.path} is not the folder of a run: it has no {self.flags_file.name}.")
        pairs = (line.removeprefix("--").partition("=") for line in self.flags_file.read_text().splitlines() if line)
        return {name: value for name, _, value in pairs}

    @contextlib.contextmanager
    def open(self, flags: Mapping[str, str], identity: Collection[str], fresh: bool = False) -> Iterator[None]:
        """Takes the folder for this process, to begin a run (`begin`) or to go on with it.

        # Arguments
            flags: The flags of this command, as text.
            identity: Names of those that alter what is trained: they must be as the run began.
            fresh: Move a folder that is there aside and begin anew.
        # Raises
            ValueError: If the folder belongs to a run with other identity flags, holds something else, or another
                process is in it.
        """
        if fresh and self.path.exists():
            self.path.rename(self.path.with_name(f"{self.path.name}.{time.strftime('%Y%m%d-%H%M%S')}"))
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / ".lock", "a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(f"--workdir={self.path} is in use by another process.") from None
            if self.flags_file.is_file():
                self._refuse_other_flags(flags, identity)
            elif set(os.listdir(self.path)) - {".lock"}:
                raise ValueError(f"--workdir={self.path} holds other files and is not the folder of a run.")
            yield

    def begin(self, flags: Mapping[str, str], inputs: Mapping[str, str]) -> None:
        """Writes down what the run is made of, or checks that a run that goes on is still made of the same.

        # Arguments
            flags: As for `open`.
            inputs: Fingerprints of what the run reads (images, teacher, stage 1).
        # Raises
            ValueError: If an input is not what it was.
        """
        file = self.path / "inputs.json"
        if self.flags_file.is_file():
            before = json.loads(file.read_text())
            for name in sorted(before.keys() | inputs.keys()):
                if before.get(name) != inputs.get(name):
                    raise ValueError(
                        f"The {name} is not the one with which the run in {self.path} began (fingerprint "
                        f"{inputs.get(name)} instead of {before.get(name)}); use another --workdir or --fresh."
                    )
        else:
            write_json(file, dict(inputs), overwrite=True)
            write_whole(self.flags_file, "".join(f"--{name}={value}\n" for name, value in flags.items()))
        self._record_environment()

    def inputs(self) -> dict[str, str]:
        """The fingerprints that `begin` wrote down."""
        return json.loads((self.path / "inputs.json").read_text())

    def _refuse_other_flags(self, flags: Mapping[str, str], identity: Collection[str]) -> None:
        before = self.flags()
        for name in sorted(identity):
            if before.get(name) != flags.get(name):
                raise ValueError(
                    f"--{name}={flags.get(name)} differs from --{name}={before.get(name)}, with which the run in "
                    f"{self.path} began; use that value, another --workdir, or --fresh to move the old run aside."
                )

    def _record_environment(self) -> None:
        file = self.path / "environment.json"
        starts = json.loads(file.read_text())["starts"] if file.is_file() else []
        write_json(file, {"starts": [*starts, environment()]}, overwrite=True)


def environment() -> dict[str, Any]:
    """Versions, commit, hardware and threads of this process."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "commit": commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": {
            name: os.environ[name] for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS") if name in os.environ
        },
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def commit() -> str | None:
    """The commit of the source tree with `+changes` if it was altered, or `None` outside one."""
    folder = pathlib.Path(__file__).parent
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty=+changes", "--exclude=*"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return run.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.processor(),
    )

"""The folder of a run: what is in it, and whether a command may go on in it."""

import contextlib
import fcntl
import os
import pathlib
import platform
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from importlib import metadata
from typing import Any

from larq_ssl.evaluation.results import provenance
from larq_ssl.files import read_object, read_text, write_json, write_whole

_PACKAGES = (
    "tensorflow",
    "larq",
    "larq-zoo",
    "tensorflow-addons",
    "tensorflow-datasets",
    "numpy",
    "larq_ssl",
)
_LOCK = ".lock"
# Values of flags with which a run goes on that began before there was the flag.
_AS_EVER = dict.fromkeys(("binary_compute", "teacher_compute"), ("auto", "float32"))
# What other commands take over from a run: type and least value.
_NUMBERS = {
    **dict.fromkeys(("batch_size", "checkpoint_every", "epochs", "image_size", "max_train_images"), (int, 1)),
    "seed": (int, 0),
    **dict.fromkeys(("val_fraction", "width"), (float, 0.0)),
}
# Whoever asks whether a folder is in use has its lock for a moment.
_LOCK_TRIES, _LOCK_PAUSE = 5, 0.05


class RunFolder:
    """Everything that a run leaves behind, by name.

    # Arguments
        path: The folder; made by `open`.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = pathlib.Path(path)
        self._locks = contextlib.ExitStack()

    @property
    def flags_file(self) -> pathlib.Path:
        return self.path / "flags.txt"

    @property
    def checkpoints(self) -> pathlib.Path:
        return self.path / "checkpoints"

    @property
    def progress_file(self) -> pathlib.Path:
        """What was saved last: see `record_progress`."""
        return self.path / "progress.json"

    @property
    def metrics_file(self) -> pathlib.Path:
        return self.path / "metrics.jsonl"

    @property
    def diagnostics_file(self) -> pathlib.Path:
        return self.path / "diagnostics.jsonl"

    @property
    def tensorboard(self) -> pathlib.Path:
        return self.path / "tensorboard"

    @property
    def results_file(self) -> pathlib.Path:
        return self.path / "results.json"

    @property
    def licences_file(self) -> pathlib.Path:
        return self.path / "LICENSES.md"

    @property
    def labels_file(self) -> pathlib.Path:
        """Which images kept their label, where not all of them did."""
        return self.path / "labels.json"

    @property
    def classes_file(self) -> pathlib.Path:
        """What the classes of a classifier that was trained are called, in the order of its outputs."""
        return self.path / "classes.json"

    @property
    def targets_file(self) -> pathlib.Path:
        """What the teacher says of each image, where it was computed once."""
        return self.path / "targets.npy"

    @property
    def targets_hash_file(self) -> pathlib.Path:
        """The SHA-256 of what is in `targets_file`."""
        return self.path / "targets.sha256"

    def encoder(self, name: str) -> pathlib.Path:
        return self.path / "encoders" / name

    def head(self, name: str) -> pathlib.Path:
        return self.path / "heads" / name / "weights.npz"

    def memory(self, name: str) -> pathlib.Path:
        return self.path / "memories" / f"{name}.npz"

    def probe(self, name: str) -> pathlib.Path:
        return self.path / "probes" / name

    @property
    def finished(self) -> bool:
        """Whether training has reached its end; `results.json` is the last file that a run writes."""
        return self.results_file.is_file()

    def results(self) -> dict[str, Any]:
        return read_object(self.results_file, "metrics")

    @property
    def imported(self) -> bool:
        """Whether the networks come from a checkpoint of other software: then there are no flags and no inputs."""
        return (self.path / "import.json").is_file()

    def flags(self) -> dict[str, str]:
        """The flags that the run was started with, as text."""
        if self.imported:
            return {}
        if not self.flags_file.is_file():
            raise ValueError(f"{self.path} is not the folder of a run: it has no {self.flags_file.name}.")
        lines = read_text(self.flags_file).splitlines()
        pairs = (line.removeprefix("--").partition("=") for line in lines if line.startswith("--"))
        told = {name: value for name, _, value in pairs}
        for name, (kind, least) in _NUMBERS.items():
            if name not in told:
                continue
            try:
                number = kind(told[name])
            except ValueError:
                raise ValueError(f"{self.flags_file} is damaged: --{name}={told[name]} is no number.") from None
            if not number >= least:
                raise ValueError(f"{self.flags_file} is damaged: --{name}={told[name]} must be at least {least}.")
        return told

    def record_progress(self, step: int, total_steps: int, seconds: float) -> None:
        """Notes that a checkpoint lies there.

        # Arguments
            step: After which it was saved.
            total_steps: Of the whole run.
            seconds: What saving took.
        """
        saved = {"step": step, "total_steps": total_steps, "seconds": round(seconds, 4), "time": _now()}
        write_json(self.progress_file, saved, overwrite=True)

    def progress(self) -> dict[str, Any]:
        """What `record_progress` noted last; empty if nothing was saved yet."""
        if not self.progress_file.is_file():
            return {}
        noted = read_object(self.progress_file, "step", "total_steps")
        for name in ("step", "total_steps"):
            if type(noted[name]) is not int or noted[name] < 0:
                raise ValueError(f"{self.progress_file} is damaged: its {name} is {noted[name]!r}.")
        return noted

    def saved_step(self) -> int:
        """The step of the last checkpoint that was saved, 0 if there was none; it may be lost by now."""
        return int(self.progress().get("step", 0))

    def in_use(self) -> bool:
        """Whether a process is in the folder just now."""
        if not (self.path / _LOCK).is_file():
            return False
        with open(self.path / _LOCK) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    @contextlib.contextmanager
    def open(self, flags: Mapping[str, str], identity: Collection[str], fresh: bool = False) -> Iterator[None]:
        """Takes the folder for this process, to begin a run (`begin`) or to go on with it.

        # Arguments
            flags: The flags of this command, as text.
            identity: Names of those that alter what is trained: they must be as the run began.
            fresh: A run that is there may be another one: `begin` will move it aside.
        # Raises
            ValueError: If the folder belongs to a run with other identity flags, holds something else, or another
                process is in it.
        """
        try:
            self._refuse_foreign()
            made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"--workdir={self.path} cannot be made or read: {error.strerror}.") from error
        with contextlib.ExitStack() as self._locks:
            self._lock()
            self._locks.callback(self._clean_up, made)
            if self.flags_file.is_file() and not fresh:
                self._refuse_other_flags(flags, identity)
            yield

    def begin(
        self, flags: Mapping[str, str], inputs: Mapping[str, str], command: str = "", fresh: bool = False
    ) -> None:
        """Writes down what the run is made of, or checks that a run that goes on is still made of the same.

        # Arguments
            flags: As for `open`.
            inputs: Fingerprints of what the run reads (images, teacher, stage 1).
            command: What trains the run; `flags.txt` says how to replay it.
            fresh: As for `open`. Only now, since all that can be wrong with a command has been looked at.
        # Raises
            ValueError: If an input is not what it was.
        """
        if fresh and self.flags_file.is_file():
            self._move_aside()
        if self.flags_file.is_file():
            self.refuse_other_inputs(inputs)
        else:
            write_json(self.path / "inputs.json", dict(inputs), overwrite=True)
            replay = f"# {command} --flagfile={self.flags_file}\n"
            write_whole(self.flags_file, replay + "".join(f"--{name}={value}\n" for name, value in flags.items()))
        self._record_environment()

    def refuse_other_inputs(self, inputs: Mapping[str, str]) -> None:
        """Raises a `ValueError` if what the run reads is not what it was when the run began."""
        before = self.inputs()
        for name in sorted(before.keys() | inputs.keys()):
            if before.get(name) != inputs.get(name):
                raise ValueError(
                    f"The {name} is not the one with which the run in {self.path} began (fingerprint "
                    f"{inputs.get(name)} instead of {before.get(name)}); use another --workdir or --fresh."
                )

    def inputs(self) -> dict[str, str]:
        """The fingerprints that `begin` wrote down."""
        return {} if self.imported else read_object(self.path / "inputs.json")

    def _lock(self) -> None:
        for _ in range(_LOCK_TRIES):
            file = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
            with contextlib.suppress(BlockingIOError, FileNotFoundError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # A process that was refused may have deleted it meanwhile, and another made it anew.
                if os.path.samestat(os.fstat(file), os.stat(self.path / _LOCK)):
                    self._locks.callback(os.close, file)
                    return
            os.close(file)
            time.sleep(_LOCK_PAUSE)
        raise ValueError(f"--workdir={self.path} is in use by another process.")

    def _clean_up(self, made: Collection[pathlib.Path]) -> None:
        """A command that was refused before it began leaves nothing behind."""
        if os.listdir(self.path) == [_LOCK]:
            (self.path / _LOCK).unlink()
            with contextlib.suppress(OSError):  # another process has put something there meanwhile
                for folder in made:
                    folder.rmdir()

    def _move_aside(self) -> None:
        """Renames the folder, which stays locked under its new name, and takes its place."""
        aside = f"{self.path.name}.{time.strftime('%Y%m%d-%H%M%S')}"
        places = (self.path.with_name(f"{aside}{count}") for count in ("", *(f"-{n}" for n in range(2, 100))))
        self.path.rename(next(place for place in places if not place.exists()))
        self.path.mkdir()
        self._lock()

    def _refuse_misplaced(self) -> None:
        folders = (
            self.checkpoints,
            self.tensorboard,
            *(self.path / name for name in ("encoders", "heads", "memories")),
        )
        for path in folders:
            if path.exists() and not path.is_dir():
                raise ValueError(f"{path} is a file, where a run has a folder: move it away.")
        for path in (self.progress_file, self.metrics_file, self.diagnostics_file, self.results_file):
            if path.is_dir():
                raise ValueError(f"{path} is a folder, where a run has a file: move it away.")

    def _refuse_foreign(self) -> None:
        self._refuse_misplaced()
        if not self.path.exists() or self.flags_file.is_file():
            return
        if not self.path.is_dir():
            raise ValueError(f"--workdir={self.path} is a file; it must be the folder of a run, or not exist.")
        # What a process that died while it began a run may have left.
        known = {_LOCK, "inputs.json"}
        found = (name for name in os.listdir(self.path) if not (name.startswith(".") and name.endswith(".tmp")))
        if set(found) - known:
            raise ValueError(f"--workdir={self.path} holds other files and is not the folder of a run.")

    def _refuse_other_flags(self, flags: Mapping[str, str], identity: Collection[str]) -> None:
        before = self.flags()
        for name in sorted(identity):
            if name not in before and flags.get(name) in _AS_EVER.get(name, ()):
                continue
            if before.get(name) != flags.get(name):
                now, then = (_told(name, told.get(name)) for told in (flags, before))
                raise ValueError(
                    f"{now} differs from {then}, with which the run in {self.path} began; use that value, another "
                    "--workdir, or --fresh to move the old run aside."
                )

    def _record_environment(self) -> None:
        file = self.path / "environment.json"
        starts = read_object(file, "starts")["starts"] if file.is_file() else []
        if not isinstance(starts, list):
            raise ValueError(f"{file} is damaged: its starts are {starts!r}, no list.")
        write_json(file, {"starts": [*starts, environment()]}, overwrite=True)


def environment() -> dict[str, Any]:
    """Command, versions, commit, hardware and threads of this process."""
    return {
        "time": _now(),
        "command": sys.argv,
        "commit": provenance()["commit"],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": {
            name: os.environ[name] for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS") if name in os.environ
        },
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def _told(name: str, value: str | None) -> str:
    return f"a command without --{name}" if value is None else f"--{name}={value}"


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


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

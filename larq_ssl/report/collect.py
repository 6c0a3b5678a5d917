"""Runs and their probes, read from their folders; nothing is written there."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from larq_ssl.evaluation._curves import read_curves
from larq_ssl.evaluation.results import FILE_NAME, Results, read_results
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.files import read_text
from larq_ssl.models import EncoderSpec, profile
from larq_ssl.models.folder import read_spec
from larq_ssl.models.profile import Cost
from larq_ssl.models.registry import build_blank

Path = str | os.PathLike[str]
Curves = Mapping[str, tuple[Any, Any]]

KINDS = {"none": "float", "activations": "binary activations", "full": "binary"}
"""What is said of a binarization."""

_PROBES = "probes"


@dataclasses.dataclass(frozen=True)
class Probe:
    """What one probe measured.

    # Arguments
        folder: Where it lies, as text.
        which: Which encoder it measured: one of the run, "untrained", or "another" (of an earlier state, say).
        metrics, settings: See `evaluation.results.Results`.
    """

    folder: str
    which: str
    metrics: Mapping[str, float]
    settings: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Run:
    """A run as its folder tells it.

    # Arguments
        name: Its path below what all runs have in common.
        path: Its folder.
        flags: As text, by name; empty of an imported network.
        command: What trained it, such as `bssl`.
        state: "finished", "unfinished" or "imported".
        metrics: What the run itself measured at its end, of an unfinished one after its last epoch.
        epochs: How many are done.
        spec: Of its encoder, where there is one.
        encoders: Hashes of the encoders that it made, by their names.
        cost: Of its encoder at the size of its images.
        curves: Epochs and values of each metric that it logged.
        probes: In the order of their folders.
        notes: What could not be read, in sentences.
    """

    name: str
    path: pathlib.Path
    flags: Mapping[str, str]
    command: str
    state: str
    metrics: Mapping[str, float]
    epochs: int
    spec: EncoderSpec | None
    encoders: Mapping[str, str]
    cost: Cost | None
    curves: Curves
    probes: tuple[Probe, ...]
    notes: tuple[str, ...]

    @property
    def dataset(self) -> str:
        return self.flags.get("dataset", "")

    @property
    def data(self) -> str:
        """Name and place of the images: `folder` alone would say nothing."""
        where = self.flags.get("data_dir")
        return f"{self.dataset}:{pathlib.Path(where).name}" if self.dataset == "folder" and where else self.dataset

    @property
    def kind(self) -> str:
        return "" if self.spec is None else KINDS[self.spec.binarization]

    @property
    def image_size(self) -> int:
        """Of the images that it was trained on, or else that its encoder was built for."""
        own = self.spec.image_size if self.spec is not None else None
        return int(self.flags.get("image_size", own or 224))

    def trained_probes(self) -> list[Probe]:
        """Those of the encoders that the run has made."""
        return [probe for probe in self.probes if probe.which not in ("untrained", "another")]


def collect(folders: Iterable[Path]) -> list[Run]:
    """All runs that lie in some folders or are these folders, each once.

    # Arguments
        folders: Run folders and parents of such.
    # Returns
        The runs, in the order of the folders, those below one folder by their paths.
    # Raises
        ValueError: If a folder is not there, or neither is a run nor has one below it.
    """
    found: dict[pathlib.Path, None] = {}
    for folder in map(pathlib.Path, folders):
        if not folder.is_dir():
            raise ValueError(f"{folder} is not a folder; give run folders, or folders of runs.")
        below = list(runs_below(folder))
        if not below:
            raise ValueError(f"{folder} is not the folder of a run, and there is none below it.")
        found |= dict.fromkeys(below)
    if not found:
        raise ValueError("No folder is given; give run folders, or folders of runs.")
    common = _common(list(found))
    return [_read(path, path.resolve().relative_to(common).as_posix()) for path in found]


def _common(paths: list[pathlib.Path]) -> pathlib.Path:
    """What lies above all runs; of a single one, two levels: a stage alone says nothing."""
    resolved = [path.resolve() for path in paths]
    if len(resolved) == 1:
        return resolved[0].parents[min(1, len(resolved[0].parents) - 1)]
    return pathlib.Path(os.path.commonpath([path.parent for path in resolved]))


def _is_run(folder: pathlib.Path) -> bool:
    return RunFolder(folder).flags_file.is_file() or RunFolder(folder).imported


def runs_below(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """The folder itself, if it is that of a run, or all run folders below it, by their paths."""
    for parent, names, _ in os.walk(folder):
        if _is_run(pathlib.Path(parent)):
            names.clear()  # what lies in a run belongs to it
            yield pathlib.Path(parent)
        names[:] = sorted(name for name in names if not name.startswith("."))


def _read(path: pathlib.Path, name: str) -> Run:
    run = RunFolder(path)
    notes: list[str] = []
    results: Mapping[str, Any] = {}
    if run.finished:
        results = _results(run, notes)
    curves, epochs = _curves(run, notes)
    state = "imported" if run.imported else "finished" if results else "unfinished"
    last = {metric: float(values[-1]) for metric, (_, values) in curves.items()}
    spec = _spec(run, notes)
    flags = run.flags()
    size = int(flags.get("image_size", (spec.image_size if spec else None) or 224))
    return Run(
        name=name,
        path=path,
        flags=flags,
        command=_command(run),
        state=state,
        metrics=results.get("metrics", last),
        epochs=int(results.get("epochs", epochs)),
        spec=spec,
        encoders=results.get("encoders", {}),
        cost=None if spec is None else _cost(spec, size),
        curves=curves,
        probes=tuple(_probes(path, results.get("encoders", {}), notes)),
        notes=tuple(notes),
    )


def _results(run: RunFolder, notes: list[str]) -> Mapping[str, Any]:
    try:
        found = run.results()
        encoders = {str(name): str(digest) for name, digest in found.get("encoders", {}).items()}
        epochs = {"epochs": int(found["epochs"])} if "epochs" in found else {}
        return {**found, **epochs, "metrics": dict(found["metrics"]), "encoders": encoders}
    except (ValueError, TypeError, KeyError, AttributeError):
        notes.append(f"{run.results_file.name} cannot be read.")
        return {}


def _curves(run: RunFolder, notes: list[str]) -> tuple[Curves, int]:
    if not run.metrics_file.is_file():
        return {}, 0
    try:
        curves = read_curves(run.metrics_file)
    except ValueError:
        notes.append(f"{run.metrics_file.name} cannot be read.")
        return {}, 0
    return curves, max((int(epochs[-1]) for epochs, _ in curves.values()), default=0)


def _command(run: RunFolder) -> str:
    """`flags.txt` begins with how the run is replayed."""
    if run.imported:
        return "import_torch"
    first = read_text(run.flags_file).partition("\n")[0]
    words = [word for word in first.split() if word.startswith("larq_ssl.experiments.")]
    return words[0].rpartition(".")[2] if words else ""


def _spec(run: RunFolder, notes: list[str]) -> EncoderSpec | None:
    folder = run.encoder("student")
    if not folder.is_dir():
        return None
    try:
        return read_spec(folder)
    except ValueError as error:
        notes.append(f"The encoder cannot be read: {error}")
        return None


@functools.lru_cache(maxsize=256)
def _cost(spec: EncoderSpec, image_size: int) -> Cost:
    # Weights play no part in it.
    return profile.cost(build_blank(dataclasses.replace(spec, image_size=image_size)), image_size)


def _probes(path: pathlib.Path, encoders: Mapping[str, str], notes: list[str]) -> Iterator[Probe]:
    """Also those that were given an encoder's folder, which lie beside it."""
    for file in sorted(path.rglob(f"{_PROBES}/*/{FILE_NAME}")):
        try:
            results = read_results(file.parent)
        except ValueError as error:
            notes.append(f"A probe cannot be read: {error}")
            continue
        yield Probe(str(file.parent), _which(file.parent.name, results, encoders), results.metrics, results.settings)


def _which(folder: str, results: Results, encoders: Mapping[str, str]) -> str:
    of = {digest: name for name, digest in reversed(list(encoders.items()))}
    if results.settings["encoder_hash"] in of:
        return of[results.settings["encoder_hash"]]
    return "untrained" if "-random" in folder else "another"

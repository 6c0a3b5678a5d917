"""`results.json`: named numbers, and the settings they were measured with."""

import dataclasses
import json
import math
import os
import pathlib
import subprocess
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from larq_ssl import files
from larq_ssl.version import __version__

FILE_NAME = "results.json"

REQUIRED_SETTINGS = ("encoder_hash", "image_size", "seed")
"""Settings without which a number could not be traced; `None` where there is no such thing (raw pixels)."""

_PACKAGES = ("tensorflow", "keras", "larq", "numpy")


@dataclasses.dataclass(frozen=True)
class Results:
    """What a `results.json` holds.

    # Arguments
        metrics: Numbers by name, `<protocol>/<preset>/<dataset>/<setting>/<metric>`.
        settings: What they were measured with; JSON values.
    """

    metrics: dict[str, float]
    settings: dict[str, Any]


def named(protocol: str, preset: str, dataset: str, metrics: Mapping[str, float]) -> dict[str, float]:
    """Full names of a protocol's metrics: `last/top1` becomes `linear/bssl/digits/last/top1`.

    # Raises
        ValueError: If a part is empty. A `/` inside one (`imagenet2012/5.1.0`) becomes `_`.
    """
    for argument, value in (("protocol", protocol), ("preset", preset), ("dataset", dataset)):
        if not value:
            raise ValueError(f"`{argument}` must not be empty.")
    prefix = "/".join(part.replace("/", "_") for part in (protocol, preset, dataset))
    return {f"{prefix}/{name}": value for name, value in metrics.items()}


def provenance() -> dict[str, Any]:
    """Which code measured: `commit` (`None` outside a checkout) and `versions` of what it ran on."""
    return {
        "commit": _commit(),
        "versions": {"larq_ssl": __version__, **{name: metadata.version(name) for name in _PACKAGES}},
    }


def write_results(
    folder: str | os.PathLike[str],
    metrics: Mapping[str, float],
    settings: Mapping[str, Any],
    overwrite: bool = False,
) -> pathlib.Path:
    """Write or extend `<folder>/results.json`, whole or not at all.

    Numbers measured with the same settings are added to those that are there, in place of those of the same
    name. Numbers of other settings (also another commit, or other versions) are refused, unless told to
    replace the whole file.

    # Arguments
        folder: Of the probe; made if missing.
        metrics: Finite numbers by full name (see `named`).
        settings: At least `REQUIRED_SETTINGS`. `commit` and `versions` are added.
        overwrite: Replace a file of other settings.
    # Returns
        The path of the file.
    # Raises
        ValueError: If a name, a number or a setting is not as described, or settings differ from the file's.
    """
    metrics, settings = dict(metrics), {**provenance(), **settings}
    _check(metrics, settings)
    # What is compared and kept is what a reader will get: JSON has no tuples.
    settings = json.loads(json.dumps(settings, allow_nan=False))
    path = pathlib.Path(folder) / FILE_NAME
    if path.exists() and not overwrite:
        old = read_results(folder)
        for key in sorted({*old.settings, *settings}):
            if old.settings.get(key) != settings.get(key):
                raise ValueError(
                    f"`folder` {str(folder)!r} holds results with {key}={old.settings.get(key)!r}, these "
                    f"have {settings.get(key)!r}; write them to another folder, or pass overwrite=True."
                )
        metrics = {**old.metrics, **metrics}
    content = {"metrics": {name: float(metrics[name]) for name in sorted(metrics)}, "settings": settings}
    return files.write_json(path, content, overwrite=True)


def read_results(folder: str | os.PathLike[str]) -> Results:
    """Read `<folder>/results.json`.

    # Raises
        ValueError: If it is not a file that `write_results` wrote.
    """
    path = pathlib.Path(folder) / FILE_NAME
    try:
        content = json.loads(path.read_text())
        results = Results(dict(content["metrics"]), dict(content["settings"]))
        _check(results.metrics, results.settings)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{str(path)!r} is not a results file: {error}") from error
    return results


def _check(metrics: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    for name, value in metrics.items():
        parts = name.split("/")
        if len(parts) < 4 or not all(parts):
            raise ValueError(f"`metrics` must be named <protocol>/<preset>/<dataset>/<setting>/<metric>, got {name!r}.")
        if not math.isfinite(value):
            raise ValueError(f"`metrics` must be finite numbers, got {name}={value}.")
    missing = [name for name in REQUIRED_SETTINGS if name not in settings]
    if missing:
        raise ValueError(f"`settings` must have {', '.join(REQUIRED_SETTINGS)}; {missing[0]!r} is missing.")


def _commit() -> str | None:
    package = pathlib.Path(__file__).parent
    # An installed package may lie inside an unrelated repository: only one that tracks this very file counts.
    tracked = _git("ls-files", "--error-unmatch", pathlib.Path(__file__).name, cwd=package)
    return tracked and _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*", cwd=package)


def _git(*arguments: str, cwd: pathlib.Path) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None

"""Whether a number was measured as its protocol is published, by the settings that its probe wrote down."""

import dataclasses
import fnmatch
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from larq_ssl.evaluation import fine_tuning, knn, linear_presets, low_shot, svm_machines, transfer
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.report.collect import Probe, Run

CACHED = "on cached features of the middle of images, not on new views"

# What a `results.json` may have otherwise without being of another protocol: `ks` are those that fit the images.
_FREE = ("ks", "name")


def matches(pattern: str, name: str) -> bool:
    """Whether a full name fits a pattern, part by part; the version of a data set plays no part."""
    wanted, parts = pattern.split("/"), name.split("/")
    if len(wanted) != len(parts):
        return False
    parts[2] = re.sub(r"[_:]\d+\.[\d.*]+$", "", parts[2])
    return all(fnmatch.fnmatchcase(part, want) for part, want in zip(parts, wanted, strict=True))


def departures(name: str, probe: Probe, run: Run) -> tuple[str, ...]:
    """Settings of a probe with which it departs from its protocol, as `epochs 5 (protocol: 100)`.

    # Arguments
        name: Full name of the number.
        probe: Which measured it.
        run: Whose encoder it is.
    """
    protocol, preset, dataset, *rest = name.split("/")
    if protocol not in _PUBLISHED:
        return ()
    try:
        published = _PUBLISHED[protocol](preset, dataset, rest[0], run)
    except (KeyError, ValueError):
        return (f"preset {preset}, which is not there any more",)
    wanted = {"image_size": run.image_size, **published}
    which = wanted.pop("which", "student")
    found = [] if probe.which == which else [f"of the {probe.which} (protocol: {which})"]
    for key, value in json.loads(json.dumps(wanted)).items():
        if key not in _FREE and probe.settings.get(key) != value:
            found.append(f"{key} {_short(probe.settings.get(key))} (protocol: {_short(value)})")
    if dataset == "folder" and probe.settings.get("train") != _images(run):
        found.append("other images than those of the run")
    return tuple(found)


def _images(run: Run) -> str | None:
    try:
        return RunFolder(run.path).inputs().get("data")
    except (OSError, ValueError):
        return None


def _short(value: Any, most: int = 60) -> str:
    text = json.dumps(value)
    return text if len(text) <= most else f"{text[:most]}..."


def _linear(preset: str, dataset: str, setting: str, run: Run) -> Mapping[str, Any]:
    transformer = run.spec is not None and run.spec.name.startswith("vit")
    published = dataclasses.asdict(linear_presets.linear_preset(preset, transformer))
    return {**published, "holdout_per_class": 0, "max_train_images": None}


def _knn(preset: str, dataset: str, setting: str, run: Run) -> Mapping[str, Any]:
    # DINO looks at its teacher.
    which = "ema" if preset == "dino" and "ema" in run.encoders else "student"
    return {**dataclasses.asdict(knn.PRESETS[preset]), "which": which, "max_train_images": None}


def _svm(preset: str, dataset: str, setting: str, run: Run) -> Mapping[str, Any]:
    return {**dataclasses.asdict(svm_machines.PRESETS[preset]), "max_train_images": None}


def _low_shot(preset: str, dataset: str, setting: str, run: Run) -> Mapping[str, Any]:
    return {**_svm(preset, dataset, setting, run), "samples": low_shot.SAMPLES}


def _few_labels(preset: str, dataset: str, setting: str, run: Run) -> Mapping[str, Any]:
    return _sweep(preset, float(setting.removesuffix("percent")) / 100, run)


def _transfer(preset: str, dataset: str, setting: str, run: Run) -> Mapping[str, Any]:
    protocol = transfer.PROTOCOLS[preset]
    linear = protocol.linear_preset(dataset)
    size = {"image_size": protocol.image_size}
    if linear is None:
        return {**_sweep(str(protocol.fine_tuning), 1.0, run), **size}
    epochs = {"epochs": protocol.epochs[dataset]} if dataset in protocol.epochs else {}
    return {**_linear(linear, dataset, setting, run), **epochs, **size}


def _sweep(preset: str, share: float, run: Run) -> Mapping[str, Any]:
    larger = run.spec is not None and (run.spec.width > 1 or run.spec.name.endswith("_sk"))
    runs = fine_tuning.sweep(preset, share, None, larger)
    trials = dict(zip(fine_tuning.trial_names(runs), (trial.flags() for trial in runs), strict=True))
    return {"runs": trials, "with_flags": []}


_PUBLISHED: dict[str, Callable[[str, str, str, Run], Mapping[str, Any]]] = {
    "linear": _linear,
    "knn": _knn,
    "svm": _svm,
    "svm_low_shot": _low_shot,
    "semi_supervised": _few_labels,
    "transfer": _transfer,
}

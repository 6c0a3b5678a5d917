"""Run folders written by hand: what a report reads, without a training."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from larq_ssl.evaluation.linear_presets import linear_preset
from larq_ssl.evaluation.results import write_results

DIGEST = "0123456789abcdef"


def write_run(
    path: pathlib.Path,
    flags: Mapping[str, object] | None = None,
    binarization: str | None = "full",
    finished: bool = True,
    epochs: int = 3,
    digest: str = DIGEST,
    metrics: Mapping[str, float] | None = None,
    encoders: Mapping[str, str] | None = None,
) -> pathlib.Path:
    """The folder of a run, without weights; `binarization=None`: without an encoder.

    `encoders` has the hashes of those besides the student.
    """
    path.mkdir(parents=True)
    told: dict[str, Any] = {"dataset": "digits", "epochs": 3, "encoder": "resnet_18", "image_size": 16, **(flags or {})}
    lines = [f"# python -m larq_ssl.experiments.bssl --flagfile={path}/flags.txt"]
    lines += [f"--{name}={value}" for name, value in told.items()]
    (path / "flags.txt").write_text("\n".join(lines) + "\n")
    rows = [
        {"epoch": e, "step": 10 * e, "loss": 2.0 / e, "knn": 0.3 * e, "embedding_rank": 5.0 * e}
        for e in range(1, epochs + 1)
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if binarization is not None:
        folder = path / "encoders" / "student"
        folder.mkdir(parents=True)
        name = "resnet_18" if binarization == "none" else "reactnet_18"
        spec = {"name": name, "image_size": None, "binarization": binarization, "stem": "cifar", "width": 0.125}
        spec |= {"preprocessing": "imagenet", "classes": None, "rotate_input": False}
        description = {"format": "larq_ssl encoder, version 1", "hash": digest, "feature_dim": 64, "spec": spec}
        (folder / "encoder.json").write_text(json.dumps(description))
    if finished:
        result = {
            "metrics": metrics or {"loss": 0.5, "knn": 0.9},
            "epochs": epochs,
            "encoders": {"student": digest, **(encoders or {})},
        }
        (path / "results.json").write_text(json.dumps(result))
    return path


def write_probe(
    run: pathlib.Path,
    tag: str,
    metrics: Mapping[str, float],
    digest: str = DIGEST,
    settings: Mapping[str, Any] | None = None,
) -> pathlib.Path:
    """A probe of a run: its `results.json`."""
    folder = run / "probes" / tag
    write_results(folder, metrics, {"encoder_hash": digest, "image_size": 16, "seed": 0, **(settings or {})})
    return folder


def linear_settings(preset: str, **changes: Any) -> dict[str, Any]:
    """What the command of linear evaluation writes down on ImageNet, but for some changes."""
    published = dataclasses.asdict(linear_preset(preset))
    return {**published, "image_size": 224, "holdout_per_class": 0, "augmented": True, **changes}

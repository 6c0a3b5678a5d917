"""Golden arrays made by running the papers' official code: see `tests/data/README.md`."""

import json
import os
import pathlib
from typing import Any

import numpy as np


def folder() -> pathlib.Path:
    """Where the arrays lie: `tests/data`, or the folder named by `LARQ_SSL_GOLDEN`."""
    return pathlib.Path(os.environ.get("LARQ_SSL_GOLDEN", pathlib.Path(__file__).parent / "data"))


def load(name: str) -> dict[str, np.ndarray]:
    """All arrays of `<name>.npz`, by key."""
    with np.load(folder() / f"{name}.npz") as arrays:
        return {key: arrays[key] for key in arrays.files}


def load_json(name: str) -> Any:
    """The contents of `<name>.json`."""
    return json.loads((folder() / f"{name}.json").read_text())

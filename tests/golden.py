"""Golden arrays made by running the papers' official code: see `tests/data/README.md`."""

import functools
import json
import os
import pathlib
import zlib
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


def network_weights(net: str) -> dict[str, np.ndarray]:
    """The weights of a network of `n3_networks`, by the names of its layers here."""
    description = load_json("n3_weights")
    entries = description["networks"][net]
    return {_name_here(entry): _draw(json.dumps(entry), description["seed_prefix"]) for entry in entries}


def _name_here(entry: dict[str, Any]) -> str:
    name = entry["name"].split("/", 1)[1]
    # Keras's own name of the weight of a depthwise convolution.
    return name.removesuffix("kernel") + entry["role"] if entry["role"] == "depthwise_kernel" else name


@functools.cache  # the networks share most of their weights
def _draw(entry_json: str, seed_prefix: str) -> np.ndarray:
    entry = json.loads(entry_json)
    rule = entry["rule"]
    random = np.random.RandomState(zlib.crc32((seed_prefix + entry["name"]).encode()) & 0xFFFFFFFF)
    if rule["kind"] == "normal":
        array = rule["loc"] + random.normal(0.0, rule["scale"], size=entry["shape"])
    else:
        array = random.uniform(rule["low"], rule["high"], size=entry["shape"])
    array = array.astype(np.float32)
    first = entry["check"]["first"]
    np.testing.assert_array_equal(array.ravel()[: len(first)], np.float32(first))
    return array

"""The tensors of the networks in a checkpoint, apart from all else that is in it."""

import collections
from collections.abc import Mapping
from typing import Any

from larq_ssl.torch_import.tensors import StoredTensor

_STATE_OF_TRAINING = frozenset(
    "optimizer scheduler lr_scheduler scaler fp16_scaler amp dino_loss best_acc1 best_top1_acc".split()
)
"""Entries beside the weights that have no place in an encoder."""
_LONGEST_NAME = 200


def state_dict(contents: Any, left_out: collections.Counter) -> dict[str, StoredTensor]:
    """All tensors by name, without the `module.` of data parallelism and without counts of batches.

    They are `contents` itself, its entry `state_dict` or `model`, or its entries `student` and `teacher`, which
    are then put before the names.

    # Arguments
        contents: Of a file, see `larq_ssl.torch_import.reader`.
        left_out: Numbers of tensors without a place, by what they are; added to.
    # Raises
        ValueError: If there is no such dictionary, or another entry has tensors that nobody knows; in words that
            go on after the name of the file.
    """
    if not isinstance(contents, dict):
        raise ValueError("it holds no dictionary of tensors")
    networks, beside = _networks(contents)
    tensors: dict[str, StoredTensor] = {}
    for prefix, network in networks.items():
        for name, value in network.items():
            if not isinstance(value, StoredTensor):
                beside[name] = value
                continue
            if not isinstance(name, str) or len(name) > _LONGEST_NAME:
                raise ValueError(f"the name of one of its tensors is no text of at most {_LONGEST_NAME} characters")
            if name.endswith("num_batches_tracked"):
                left_out["num_batches_tracked"] += 1
                continue
            name = prefix + name.removeprefix("module.")
            if name in tensors:
                raise ValueError(f"it has two tensors called {name!r}, one of them with `module.` before")
            tensors[name] = value
    for name, value in beside.items():
        count = _count_tensors(value)
        if count and name not in _STATE_OF_TRAINING:
            raise ValueError(f"there is no place for the tensors of its entry {_short(name)}")
        if count:
            left_out[name] += count
    if not tensors:
        raise ValueError(f"it holds no state_dict: its entries are {', '.join(map(_short, list(contents)[:9]))}")
    return tensors


def _networks(contents: dict) -> tuple[dict[str, dict], dict]:
    """The dictionaries of tensors, by what goes before their names, and the other entries."""
    present = [name for name in ("student", "teacher") if isinstance(contents.get(name), dict)]
    places = {f"{name}.": name for name in present}
    if not places:
        wrappers = [name for name in ("state_dict", "model") if isinstance(contents.get(name), dict)]
        if not wrappers:
            return {"": contents}, {}
        places = {"": wrappers[0]}
    others = {name: value for name, value in contents.items() if name not in places.values()}
    return {prefix: contents[name] for prefix, name in places.items()}, others


def _short(name: object) -> str:
    return repr(name[:_LONGEST_NAME]) if isinstance(name, str) else f"a {type(name).__name__}"


def _count_tensors(value: Any) -> int:
    """Number of different tensors in nested containers; each container counts once, however often it is named."""
    seen: set[int] = set()
    open_ends, count = [value], 0
    while open_ends:
        value = open_ends.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, StoredTensor):
            count += 1
        elif isinstance(value, Mapping):
            open_ends.extend(value.values())
        elif isinstance(value, list | tuple):
            open_ends.extend(value)
    return count

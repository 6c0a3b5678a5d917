"""Which processes train together, as the environment variable `TF_CONFIG` says."""

import dataclasses
import json
import re
from typing import Any

EXAMPLE = '{"cluster": {"worker": ["host1:12345", "host2:12345"]}, "task": {"type": "worker", "index": 0}}'
# In the order in which TensorFlow numbers them.
_JOBS = ("chief", "worker")


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The processes that train together, and which of them this one is.

    # Attributes
        addresses: Host and port of each, the chief first.
        index: The place of this process among them; 0 is the chief.
    """

    addresses: tuple[str, ...]
    index: int

    @property
    def size(self) -> int:
        return len(self.addresses)

    @property
    def is_chief(self) -> bool:
        return self.index == 0


def read_cluster(text: str | None) -> Cluster:
    """What `TF_CONFIG` says.

    # Arguments
        text: The value of the environment variable, `None` if it is not set.
    # Returns
        A `Cluster`. The chief is the task of that name, or else worker 0.
    # Raises
        ValueError: If something is missing or not as it must be.
    """
    if not text:
        raise ValueError(
            "strategy multi_worker needs the environment variable TF_CONFIG, with the addresses of all workers and the "
            f"number of this one, such as {EXAMPLE}."
        )
    config = _parsed(text)
    jobs = config["cluster"]
    for job in jobs:
        if job not in _JOBS:
            raise ValueError(f"TF_CONFIG may name the jobs {' and '.join(_JOBS)} in its cluster, got {job!r}.")
    if len(jobs.get("chief", [])) > 1:
        raise ValueError(f"TF_CONFIG may name one chief, got {len(jobs['chief'])}.")
    for address in (address for addresses in jobs.values() for address in addresses):
        _check_address(address)
    addresses = tuple(address for job in _JOBS for address in jobs.get(job, []))
    if len(set(addresses)) < len(addresses):
        raise ValueError(f"TF_CONFIG must name each address once, got {', '.join(addresses)}.")
    return Cluster(addresses, _index(jobs, config["task"]))


def _parsed(text: str) -> dict[str, Any]:
    """The object with its two parts."""
    try:
        config = json.loads(text)
    except (ValueError, RecursionError):
        config = None
    parts = [config.get(name) for name in ("cluster", "task")] if isinstance(config, dict) else []
    if len(parts) < 2 or not all(isinstance(part, dict) and part for part in parts):
        raise ValueError(f"TF_CONFIG must be JSON like {EXAMPLE}, got {text!r}.")
    for job, addresses in config["cluster"].items():
        if not isinstance(addresses, list) or not addresses:
            raise ValueError(f"TF_CONFIG must list the addresses of the job {job!r}, got {addresses!r}.")
    return config


def _check_address(address: object) -> None:
    found = re.fullmatch(r"[^\s:/]+:([0-9]{1,5})", address) if isinstance(address, str) else None
    if found is None or not 0 < int(found[1]) < 2**16:
        raise ValueError(f"TF_CONFIG must name addresses as host:port, got {address!r}.")


def _index(jobs: dict[str, list[str]], task: dict[str, Any]) -> int:
    """The place of this process among all."""
    kind, index = task.get("type"), task.get("index")
    if not isinstance(kind, str) or kind not in jobs:
        raise ValueError(f"TF_CONFIG must name a task of type {' or '.join(jobs)}, as its cluster, got {kind!r}.")
    if type(index) is not int or not 0 <= index < len(jobs[kind]):
        raise ValueError(f"TF_CONFIG must name a task with an index in [0, {len(jobs[kind]) - 1}], got {index!r}.")
    return index + (len(jobs.get("chief", [])) if kind == "worker" else 0)

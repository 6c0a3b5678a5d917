"""Watches a training process from outside: its memory at each checkpoint, and what checkpoints cost."""

import json
import pathlib
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from larq_ssl.experiments import common
from larq_ssl.experiments.run_folder import RunFolder

_POLL_SECONDS = 0.05
Sample = tuple[int, int, float]
"""Steps done, bytes of resident memory, and seconds that the checkpoint took."""


def watch(command: Sequence[str], run: RunFolder) -> list[Sample]:
    """Trains in a process of its own, and samples it at each checkpoint.

    # Raises
        ValueError: If the training fails.
    """
    samples: dict[int, Sample] = {}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            saved = run.progress()
            if saved and saved["step"] not in samples and (memory := resident(process.pid)):
                samples[saved["step"]] = (saved["step"], memory, saved["seconds"])
            time.sleep(_POLL_SECONDS)
    if process.returncode:
        raise ValueError(f"{' '.join(command[2:])} ended with exit code {process.returncode}.")
    return list(samples.values())


def resident(process: int) -> int:
    """Bytes of memory of a process that are resident; 0 if it is no more."""
    try:
        lines = pathlib.Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:")), 0)


def summary(samples: Sequence[Sample], warm_up: int, run: RunFolder) -> dict[str, Any]:
    """What the samples of a run say.

    # Arguments
        warm_up: Steps whose samples do not count.
        run: Finished; its metrics say how fast it was.
    # Returns
        `slope` in bytes a step, `memory` in bytes at the end, `save_seconds` and `step_seconds` as medians, the
        `interval` of checkpoints by default and their `share` of the time with it, and the samples.
    """
    counted = np.array([sample for sample in samples if sample[0] >= warm_up], np.float64)
    if len(counted) < 3:
        raise ValueError(f"There are {len(counted)} samples after step {warm_up}: --samples_every must be smaller.")
    rows = [json.loads(line) for line in run.metrics_file.read_text().splitlines()]
    rate = float(np.median([row["images_per_second"] for row in rows if "images_per_second" in row]))
    save, step = float(np.median(counted[:, 2])), int(run.flags()["batch_size"]) / rate
    interval = common.CHECKPOINT_EVERY
    newest = max(run.checkpoints.glob("step-*"))
    return {
        "steps": [int(counted[0, 0]), int(counted[-1, 0])],
        "slope": float(np.polyfit(counted[:, 0], counted[:, 1], 1)[0]),
        "memory": int(counted[-1, 1]),
        "save_seconds": save,
        "step_seconds": step,
        "interval": interval,
        "share": save / (save + interval * step),
        "checkpoint_bytes": sum(file.stat().st_size for file in newest.iterdir()),
        "samples": [list(sample) for sample in samples],
    }


def told(method: str, measured: Mapping[str, Any]) -> str:
    """What was measured of a method, in a line."""
    return (
        f"{method}: {measured['memory'] / 2**20:,.0f} MiB, {measured['slope'] * 1000 / 2**20:+.2f} MiB per 1,000 "
        f"steps; a checkpoint takes {measured['save_seconds'] * 1000:,.0f} ms, {measured['share']:.2%} of the time."
    )

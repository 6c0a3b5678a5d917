"""All runs at a glance: `python -m larq_ssl.experiments.status runs/*`, or without a folder those below `runs`.

A line per run: its state, epochs done, images per second, about how long it will still take, the last metrics, the
disk that its folder takes, and when it was last saved. The folders are only read, also those of runs in training.

- running: a process is in the folder; to go, reckoned from its last epoch, evaluation apart;
- finished, or imported from PyTorch;
- stopped: no process is in the folder, and the command that began it goes on from its last checkpoint;
- begun: likewise, but nothing was saved yet.
"""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from larq_ssl.callbacks.logs import duration
from larq_ssl.experiments import common
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.report.collect import runs_below

_TITLES = ("run", "state", "epoch", "step", "images/s", "to go", "last metrics", "disk", "saved")
_SHOWN = ("loss", "knn", "val_top1", "val_map", "embedding_std")
"""Of the last metrics, as far as there are any."""


def find(folders: Sequence[str]) -> list[RunFolder]:
    """The runs in some folders, each once.

    # Raises
        ValueError: If a folder is not there, or there is no run in any of them.
    """
    found: dict[pathlib.Path, None] = {}
    for folder in map(pathlib.Path, folders):
        if not folder.exists():
            raise ValueError(f"{folder} does not exist; give run folders, or folders of runs.")
        if folder.is_dir():  # a pattern like runs/* also finds files
            found |= dict.fromkeys(runs_below(folder))
    if not found:
        raise ValueError(f"There is no run in {', '.join(folders)}; give run folders, or folders of runs.")
    return [RunFolder(path) for path in found]


def line(run: RunFolder) -> tuple[str, ...]:
    """What the table says of a run, in the order of its titles; of a damaged one, only that."""
    try:
        return _line(run)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, ZeroDivisionError) as error:
        return (str(run.path), f"unreadable: {error}", *[""] * (len(_TITLES) - 2))


def _line(run: RunFolder) -> tuple[str, ...]:
    row, progress, flags = last_row(run), run.progress(), run.flags()
    state = state_of(run, progress)
    epoch = f"{row.get('epoch', 0)}/{flags['epochs']}" if "epochs" in flags else ""
    step = f"{progress['step']:,}/{progress['total_steps']:,}" if progress else ""
    rate = row.get("images_per_second")
    return (
        str(run.path),
        state,
        epoch,
        step,
        "" if rate is None else f"{rate:,.0f}",
        _to_go(row, flags, rate) if state == "running" else "",
        ", ".join(f"{name} {row[name]:.4g}" for name in _SHOWN if name in row),
        _size(run.path),
        str(progress.get("time", ""))[:16].replace("T", " "),
    )


def state_of(run: RunFolder, progress: Mapping[str, Any]) -> str:
    """One of the states that the module names."""
    if run.imported:
        return "imported"
    if run.in_use():
        return "running"
    if run.finished:
        return "finished"
    return "stopped" if progress else "begun"


def last_row(run: RunFolder) -> dict[str, Any]:
    """The metrics of the last epoch that is done; empty before."""
    lines = run.metrics_file.read_text().splitlines() if run.metrics_file.is_file() else []
    return json.loads(lines[-1]) if lines else {}


def _to_go(row: Mapping[str, Any], flags: Mapping[str, str], rate: float | None) -> str:
    if not rate or "epochs" not in flags or "batch_size" not in flags:
        return ""
    steps = (int(flags["epochs"]) - row["epoch"]) * row["step"] / row["epoch"]
    return duration(steps * int(flags["batch_size"]) / rate)


def _size(folder: pathlib.Path) -> str:
    """What the files in a folder take."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            with contextlib.suppress(FileNotFoundError):  # a run in training deletes files while they are counted
                total += os.lstat(path).st_size
    return f"{total / 2**30:.1f} GiB" if total >= 2**30 else f"{total / 2**20:.1f} MiB"


def table(lines: Iterable[Sequence[str]]) -> str:
    """Columns as wide as what is in them; what stands in no line is left out."""
    rows = list(lines)
    columns = [(title, *cells) for title, *cells in zip(_TITLES, *rows, strict=True) if any(cells)]
    wide = [[cell.ljust(max(map(len, column))) for cell in column] for column in columns]
    return "\n".join("  ".join(cells).rstrip() for cells in zip(*wide, strict=True))


def main(folders: list[str]) -> int:
    with common.user_errors():
        common.say(table(line(run) for run in find(folders or ["runs"])))
    return 0


if __name__ == "__main__":
    common.run_on_words(main)

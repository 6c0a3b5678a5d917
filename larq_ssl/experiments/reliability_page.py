"""The page of what a run survives, of the results of `make test-faults` and of `endurance`."""

import pathlib
import statistics
import sys
import xml.etree.ElementTree
from collections.abc import Mapping, Sequence
from typing import Any

from larq_ssl.experiments import common
from larq_ssl.files import read_object

TITLE = "# What a run survives\n"
_NAMES = {"bssl": "BSSL", "dino": "DINO", "moco": "MoCo", "dino/photographs": "DINO, decoding JPEG files"}
_ORDER = (
    *("kill -9", "SIGTERM", "--max_hours", "worker", "SIGKILL while", "kill between", "kill at", "truncated file"),
    *(
        "bit-flipped",
        "zero-byte file of",
        "missing",
        "all checkpoints",
        "disk full",
        "read-only",
        "two processes",
        "clock",
        "NaN",
    ),
    *("partly", "data folder", "labels"),
)
"""Beginnings of the faults, in the order of the table."""

_CODES = {
    0: "finished, also earlier",
    1: "a flag that absl refuses, or images that turned out to be no good",
    2: "a mistake, told before anything is trained",
    common.DIVERGED_EXIT: "a loss or a weight is not finite; the last checkpoint is kept",
    common.LOST_WORKER_EXIT: "another worker is lost; all of them started again, the same command goes on",
    common.STORAGE_EXIT: "files cannot be written; the last checkpoint is kept, and the same command goes on",
    common.TIME_EXIT: "`--max_hours` are over; saved, and the same command goes on",
    common.INTERRUPTED_EXIT: "Ctrl-C; the same command goes on from the last checkpoint",
    common.SIGTERM_EXIT: "SIGTERM; saved, and the same command goes on",
}

_ROW = ("fault", "method", "lost_steps", "lost_files", "every", "commit", "time")
_NOT_PASSED = ("failure", "error", "skipped")

_PROMISE = """
A training that is stopped, killed or refused its disk goes on by the same command, from its last checkpoint, and with
`--deterministic` ends to the bit as if nothing had happened: all variables, the queue, the centre, encoders and heads
byte for byte, and the metrics (but for sign flips and the change of weights in an epoch that was not trained in one
piece, which are left out). Checkpoints appear whole or not at all, and the last two are kept (so a disk needs room for
three). A run whose checkpoints are all gone or damaged is refused: it is never begun anew unless you say `--fresh`.
"""
_LONG = """
`--max_hours=23.5` stops a run in good order before a cluster does, and `python -m larq_ssl.experiments.status runs/*`
shows all runs at a glance.
"""
_FAULTS_INTRO = """
Each fault is really done to a training process, and each restart is a new process. Lost steps are those that are
trained a second time: here with a checkpoint every {every} steps (`--checkpoint_every`, by default {default:,}). Lost
files are those of the run folder that the next start could not use. After every fault but those that are refused the
run was finished and compared with an undisturbed one, to the bit.
"""
_HOW = """
Kills are SIGKILL, right behind a step or at a random moment up to 50 ms later. The full disk is a small tmpfs that is
filled (where none may be mounted, an injected ENOSPC, and the table says so). The read-only folder is one without the
right to write, for a process that gives up root first, since root ignores rights. The clock is that of Python, set to
run backwards, and the times of the files are altered to match. NaN is put into the pixels of one batch.
"""
_ENDURANCE_INTRO = """
Resident memory after each checkpoint, and the slope of a straight line through it; the share of time is that of
checkpoints at the default interval. What grows are checkpoints and evaluations, not steps: TensorFlow 2.15 keeps 48
bytes of every operation that it runs outside of a graph, as `tracemalloc` shows, and a checkpoint looks at each
variable in several of them (0.1 MiB for 180 variables). Here both come more often than by default.
"""


def read(folder: pathlib.Path) -> list[dict[str, Any]]:
    """The results of all faults, in the order of the table.

    # Raises
        ValueError: If there are none.
    """
    rows = [read_object(file, *_ROW) for file in sorted(folder.glob("*.json"))]
    if len({row["every"] for row in rows}) > 1:
        raise ValueError(f"--faults={folder}: its results are of several distances between checkpoints.")
    if not rows:
        raise ValueError(f"--faults={folder}: there are no results in it; {_make(folder)} makes them.")
    return sorted(rows, key=lambda row: (_place(row["fault"]), row["fault"], row["method"]))


def outcome(folder: pathlib.Path) -> str:
    """How the tests of `make test-faults` ended, each when it was run last, with the names of those that failed.

    # Raises
        ValueError: If there are no reports of pytest, or one is damaged.
    """
    cases: dict[tuple[str, str], bool] = {}
    for suite in sorted(_suites(folder), key=lambda suite: suite.get("timestamp", "")):
        for case in suite.iter("testcase"):
            passed = all(case.find(kind) is None for kind in _NOT_PASSED)
            cases[case.get("classname", ""), case.get("name", "")] = passed
    if not cases:
        raise ValueError(f"--faults={folder} has no report of pytest with a test; {_make(folder)} makes one.")
    bad = [f"`{name}`" for (_, name), passed in cases.items() if not passed]
    text = f"{len(cases) - len(bad)} of {len(cases)} tests of `make test-faults` passed"
    return f"{text}; these did not: {', '.join(bad)}.\n" if bad else f"{text}.\n"


def _suites(folder: pathlib.Path) -> list[xml.etree.ElementTree.Element]:
    suites: list[xml.etree.ElementTree.Element] = []
    for file in sorted(folder.glob("tests*.xml")):
        try:
            suites += xml.etree.ElementTree.parse(file).getroot().iter("testsuite")
        except xml.etree.ElementTree.ParseError as error:
            raise ValueError(f"{file} is damaged, it is no report of pytest: {error}.") from error
    return suites


def _make(folder: pathlib.Path) -> str:
    return f"`make test-faults FAULTS={folder}`"


def _place(fault: str) -> int:
    return next((place for place, start in enumerate(_ORDER) if fault.startswith(start)), len(_ORDER))


def faults(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table with a line for each fault and method; of which commit it is, if they are of several."""
    several = len({row["commit"] for row in rows}) > 1
    text = f"| fault | method | times | lost steps: median, most | lost files | exit code |{' commit |' * several}\n"
    text += f"|---|---|---:|---|---|---:|{'---|' * several}\n"
    for row in rows:
        lost = row["lost_steps"]
        steps = f"{statistics.median(lost):g}, {max(lost)}" if lost else "refused, nothing trained"
        files = ", ".join(row["lost_files"]) or "none"
        method = _NAMES.get(row["method"], row["method"])
        cells = [row["fault"], method, str(max(1, len(lost))), steps, files, str(row.get("exit_code", ""))]
        text += f"| {' | '.join([*cells, row['commit']] if several else cells)} |\n"
    return text


def endurance(results: Mapping[str, Any]) -> str:
    """A table with a line for each method, and where it was measured."""
    text = "| method | steps | memory, MiB | growth, MiB per 1,000 steps | checkpoint, MiB | saving, ms | step, ms "
    text += "| share of time |\n|---|---|---:|---:|---:|---:|---:|---:|\n"
    for method, found in results["measured"].items():
        first, last = found["steps"]
        cells = [
            _NAMES.get(method, method),
            f"{first:,} to {last:,}",
            f"{found['memory'] / 2**20:,.0f}",
            f"{found['slope'] * 1000 / 2**20:+.2f}",
            f"{found['checkpoint_bytes'] / 2**20:.1f}",
            f"{found['save_seconds'] * 1000:,.0f}",
            f"{found['step_seconds'] * 1000:,.0f}",
            f"{found['share']:.2%}",
        ]
        text += f"| {' | '.join(cells)} |\n"
    machine = results["machine"]
    where = f"{machine['processor']}, {machine['cores']} cores"
    return f"{text}\nMeasured at commit {machine['commit']} on {where}; {machine['time'][:10]}.\n"


def page(rows: Sequence[Mapping[str, Any]], tests: str, measured: Mapping[str, Any] | None) -> str:
    """The whole page, of results of faults (`read`), how their tests ended (`outcome`) and results of `endurance`."""
    (every,) = {row["every"] for row in rows}
    commits, times = (", ".join(sorted({row[name] for row in rows})) for name in ("commit", "time"))
    codes = "".join(f"| {code} | {meaning} |\n" for code, meaning in _CODES.items())
    text = f"{TITLE}{_PROMISE}\n| exit code | of a training command |\n|---:|---|\n{codes}{_LONG}\n## Faults\n"
    text += _FAULTS_INTRO.format(every=every, default=common.CHECKPOINT_EVERY)
    text += f"\n{faults(rows)}{_HOW}\n{tests}Commits {commits}; {times}.\n\n```console\nmake test-faults\n```\n"
    if measured is not None:
        text += f"\n## Long runs\n{_ENDURANCE_INTRO}\n{endurance(measured)}"
        text += "\n```console\npython -m larq_ssl.experiments.endurance --out=runs/endurance\n```\n"
    return f"{text}\nThis page: `python -m larq_ssl.experiments.reliability {' '.join(sys.argv[1:])}`\n"

"""What the report's tables have a line for: the encoders of runs, and the baselines beside them."""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence

from larq_ssl.models.profile import Cost
from larq_ssl.report.collect import KINDS, Probe, Run
from larq_ssl.report.studies import Row, study_rows

ONLINE = "while_training/knn"
"""Protocol and preset of what a run measures by itself while it trains."""

# Of a protocol's many numbers those that stand in the table: all that fit the first pattern that fits any. Of other
# protocols all that end in one of `_ACCURACIES`, but those of single learning rates and of images held out.
_HEADLINES: dict[str, tuple[str, ...]] = {
    "linear": ("(augmented/)?last/top1", "(augmented/)?best/top1", "(augmented/)?last/map"),
    "knn": ("20/top1", "10/top1", "200/top1", r"\d+/top1"),
    "retrieval": ("leave_one_out/recall_at_1", "gallery/recall_at_1"),
    "robustness": ("corrupted/mean/knn_top1", "corrupted/mean/linear_top1"),
    "semi_supervised": ("(.+percent/)?last/top1", "[^/]+/last/top1"),
    "transfer": ("(augmented/)?last/top1", "(augmented/)?last/map"),
    "svm_low_shot": ("(1|96)/map", r"\d+/map"),
    "supervised": ("last/top1", "last/map"),
    "fine_tune": ("last/top1", "last/map"),
    "distill": ("last/top1",),
}
_ACCURACIES = ("top1", "map", "mean_ap", "recall_at_1", "accuracy")
_WORDS = {"top1": "top 1", "top5": "top 5", "last": "last epoch", "best": "best epoch", "map": "mAP"}
_PARTIAL = re.compile(r"(^|/)(lr_|validation|std)")


@dataclasses.dataclass(frozen=True)
class Line:
    """An encoder and its numbers.

    # Arguments
        number: How pictures name it.
        name, method, encoder, kind, data, state: What it is, in words.
        epochs: How many are done, 0 if there are none.
        cost: Where it is known.
        numbers: By full name, `<protocol>/<preset>/<dataset>/<setting>/<metric>`.
        run: Whose it is; `None` of raw pixels.
        baseline: Whether it has learned nothing.
        probes: What measured those of the numbers that probes did, by their names.
    """

    number: int
    name: str
    method: str
    encoder: str
    kind: str
    data: str
    state: str
    epochs: int
    cost: Cost | None
    numbers: Mapping[str, float]
    run: Run | None
    baseline: bool = False
    probes: Mapping[str, Probe] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Column:
    """A number that the table shows: its full name, and how it is headed."""

    name: str
    title: str
    detail: str


def lines(runs: Sequence[Run]) -> list[Line]:
    """A line for each run, one more for each of its other encoders that was probed, then those of baselines."""
    rows = study_rows(runs)
    made: list[Line] = []
    for run in runs:
        made.append(_line(run, len(made) + 1, "student", rows))
        others = sorted({probe.which for probe in run.trained_probes()} - {"student"})
        for which in others:
            made.append(_line(run, len(made) + 1, which, rows))
    for line in _baselines(runs, rows):
        made.append(dataclasses.replace(line, number=len(made) + 1))
    return made


def _line(run: Run, number: int, which: str, rows: Iterable[Row]) -> Line:
    numbers: dict[str, float] = {}
    measured_by: dict[str, Probe] = {}
    if which == "student":
        numbers |= {name: value for name, value in run.metrics.items() if _is_accuracy(name)}
        if "knn" in run.metrics:
            numbers[f"{ONLINE}/{_flat(run.dataset)}/last/top1"] = run.metrics["knn"]
        digests = {probe.settings["encoder_hash"] for probe in run.trained_probes()} | set(run.encoders.values())
        for row in rows:
            if row.encoder_hash and row.encoder_hash in digests:
                numbers |= _with_dataset(row.metrics, run.dataset)
    for probe in run.trained_probes():
        if probe.which == which:
            numbers |= probe.metrics
            measured_by |= dict.fromkeys(probe.metrics, probe)
    return Line(
        number=number,
        name=run.name if which == "student" else f"{run.name} ({which})",
        method=run.command,
        encoder=_encoder(run),
        kind=run.kind,
        data=run.data,
        state=run.state,
        epochs=run.epochs,
        cost=run.cost,
        numbers=numbers,
        run=run,
        probes=measured_by,
    )


def _encoder(run: Run) -> str:
    if run.spec is None:
        return run.flags.get("encoder", "")
    width = "" if run.spec.width == 1.0 else f", width {run.spec.width:g}"
    return f"{run.spec.name}{width}"


def _baselines(runs: Sequence[Run], rows: Iterable[Row]) -> list[Line]:
    """Untrained networks and raw pixels, each once."""
    found: dict[str, Line] = {}
    for run in runs:
        for probe in run.probes:
            if probe.which == "untrained":
                _add_untrained(found, run, probe)
    for row in rows:
        of = next(run for run in runs if row.study in map(str, run.path.resolve().parents))
        if row.name == "raw pixels" or row.name.startswith("untrained"):
            key = row.encoder_hash or f"raw pixels {of.data}"
            kind = next((word for word in reversed(KINDS.values()) if word in row.name), "")
            line = Line(0, row.name, "", "", kind, of.data, "baseline", 0, row.cost, {}, None, True)
            numbers = {**_with_dataset(row.metrics, of.dataset), **found.get(key, line).numbers}
            found[key] = dataclasses.replace(found.get(key, line), numbers=numbers)
    return list(found.values())


def _add_untrained(found: dict[str, Line], run: Run, probe: Probe) -> None:
    digest = str(probe.settings["encoder_hash"])
    name, encoder = f"untrained, like {run.name}", _encoder(run)
    line = Line(0, name, "", encoder, run.kind, run.data, "baseline", 0, run.cost, {}, run, True)
    before = found.get(digest, line)
    found[digest] = dataclasses.replace(before, numbers={**before.numbers, **probe.metrics})


def _flat(dataset: str) -> str:
    return dataset.replace("/", "_")


def _with_dataset(metrics: Mapping[str, float], dataset: str) -> dict[str, float]:
    return {name.replace("//", f"/{_flat(dataset)}/"): value for name, value in metrics.items()}


def _is_accuracy(name: str) -> bool:
    parts = name.split("/")
    return len(parts) >= 5 and parts[-1].removeprefix("knn_").removeprefix("linear_") in _ACCURACIES


def columns(of: Iterable[Line]) -> list[Column]:
    """What the table shows: one number of each protocol, preset and data set; what most lines have comes first."""
    groups: dict[tuple[str, ...], dict[str, int]] = {}
    for line in of:
        for name in line.numbers:
            counts = groups.setdefault(tuple(name.split("/")[:3]), {})
            counts[name] = counts.get(name, 0) + 1
    shown = {name: counts[name] for group, counts in groups.items() for name in _headline(group, counts)}
    order = sorted(shown, key=lambda name: (name.startswith(ONLINE), -shown[name], name))
    return [_column(name) for name in order]


def _headline(group: tuple[str, ...], names: Iterable[str]) -> list[str]:
    rests = {name.split("/", 3)[3]: name for name in names}
    patterns = _HEADLINES.get(group[0])
    if patterns is None:
        return [name for rest, name in rests.items() if _is_accuracy(name) and not _PARTIAL.search(rest)]
    fitting = ([name for rest, name in rests.items() if re.fullmatch(pattern, rest)] for pattern in patterns)
    return next((names for names in fitting if names), [])


def _column(name: str) -> Column:
    protocol, preset, dataset, *rest = name.split("/")
    if name.startswith(ONLINE):
        return Column(name, "kNN while training", f"{dataset}, last epoch")
    said = [f"k = {part}" if protocol == "knn" and part.isdigit() else _WORDS.get(part, part) for part in rest]
    detail = ", ".join((preset, dataset, *said)).replace("_", " ")
    return Column(name, protocol.replace("_", " ") if protocol != "knn" else "kNN", detail)

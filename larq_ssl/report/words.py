"""How numbers are written in the report."""

from larq_ssl.report.lines import Column, Line
from larq_ssl.report.targets import Comparison

MISSING = "\N{EN DASH}"
COSTS = {"binary MACs (BOPs)": "binary_macs", "other MACs": "float_macs", "size in KiB": "size_bytes"}


def percent(value: float | None) -> str:
    """An accuracy."""
    return MISSING if value is None else f"{100 * value:.1f}"


def state(line: Line) -> str:
    """How far a run is; epochs of those that it was to have."""
    wanted = line.run.flags.get("epochs") if line.run is not None and not line.baseline else None
    if line.state == "unfinished":
        return f"unfinished: {line.epochs} of {wanted} epochs" if wanted else "unfinished"
    return line.state


def by(commit: str | None) -> str:
    """Which code made the report, and whether it was changed since."""
    if commit is None:
        return ""
    digest, _, changed = commit.partition("-")
    return f" by commit {digest[:12]}{' and changes that are not committed' if changed else ''}"


def count(value: float | None) -> str:
    """A number of things, with commas."""
    return MISSING if value is None else f"{value:,.0f}"


def costs(line: Line) -> list[float | None]:
    """Of `COSTS`, size in KiB."""
    if line.cost is None:
        return [None] * len(COSTS)
    return [line.cost.binary_macs, line.cost.float_macs, line.cost.size_bytes / 1024]


def cells(line: Line, columns: list[Column]) -> list[str]:
    """A line of the table as text."""
    return [
        str(line.number),
        line.name,
        line.method,
        line.encoder,
        line.kind,
        line.data,
        state(line),
        *(percent(line.numbers.get(column.name)) for column in columns),
        *map(count, costs(line)),
    ]


def head(columns: list[Column]) -> list[str]:
    """Over `cells`."""
    shown = [f"{column.title} ({column.detail})" for column in columns]
    return ["#", "run", "method", "encoder", "binarization", "data", "state", *shown, *COSTS]


def comparison_cells(found: Comparison) -> list[str]:
    """A line of the table of published numbers."""
    target, remarks = found.target, []
    if found.measured is None:
        remarks.append("not measured by this protocol")
    elif not found.comparable:
        remarks.append(f"{percent(found.measured)} was measured otherwise: {'; '.join(found.departures)}")
    if found.altered:
        remarks.append(f"another training: {'; '.join(found.altered)}")
    if found.line.run is not None and found.line.run.dataset == "folder":
        # The recipe means those of its paper; a folder can hold any.
        remarks.append(f"on the images in {found.line.run.flags.get('data_dir')}")
    return [
        f"{found.line.number}: {found.line.name}",
        target.recipe,
        found.name,
        percent(target.accuracy),
        target.source,
        percent(found.measured if found.comparable else None),
        ". ".join(remarks),
    ]

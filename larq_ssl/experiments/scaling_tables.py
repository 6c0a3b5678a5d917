"""The tables of the page on scale."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from larq_ssl.experiments import scaling_formulas as formulas
from larq_ssl.experiments.scaling_formulas import Hardware, Workload
from larq_ssl.experiments.study_table import markdown


@dataclasses.dataclass(frozen=True)
class Question:
    """What is asked: see the flags of `larq_ssl.experiments.scaling`.

    # Attributes
        replicas: Numbers of replicas.
        days: The training may take.
        interval: Steps between checkpoints.
        hardware: Assumptions.
        policy: The views of the many shards.
        command: That made the page.
    """

    replicas: tuple[int, ...]
    days: float
    interval: int
    hardware: Hardware
    policy: str
    command: str


def assumptions(found: Mapping[str, Any], asked: Question) -> str:
    """What is measured and what is assumed, one line each."""
    machine, decoding, step = asked.hardware, found["decoding"], found["step"]
    lines = [
        ["constant", "value", "where from"],
        ["a core decodes", f"{decoding['rate']:,.0f} images/s", _sample(decoding)],
        ["a core makes views", "by recipe, below", "measured, of the same photographs, decoding included"],
        ["a core trains", f"{step['flops'] / 1e9:,.0f} GFLOP/s", f"measured: {step['rate']:.1f} images/s of ResNet-50"],
        ["bytes of an image", f"{formulas.ENCODED_BYTES / formulas.IMAGES:,.0f}", "those of ILSVRC2012_img_train.tar"],
        ["replicas per worker", f"{machine.replicas_per_worker}", "assumed: `--replicas_per_worker`"],
        ["cores per worker", f"{machine.cores_per_worker}", "assumed: `--cores_per_worker`, as fast as those here"],
        ["an accelerator trains", f"{machine.flops / 1e12:g} TFLOP/s", "assumed: `--teraflops`, what it sustains"],
        ["storage gives a worker", f"{machine.storage_bytes / 1e9:g} GB/s", "assumed: `--storage_gigabytes`"],
        ["copies to a device", f"{machine.copy_bytes / 1e9:g} GB/s", "assumed: `--copy_gigabytes`"],
        ["links inside a worker", f"{machine.link_bytes / 1e9:g} GB/s", "assumed: `--link_gigabytes`, per replica"],
        ["network of a worker", f"{machine.network_bytes / 1e9:g} GB/s", "assumed: `--network_gigabytes`, each way"],
        ["waiting", f"{machine.latency * 1e6:g} µs", "assumed: `--latency_microseconds`, times log2 of the replicas"],
    ]
    return _table(lines, numbers=1)


def _sample(decoding: Mapping[str, float]) -> str:
    return f"measured: photographs of {decoding['bytes'] / 1e3:,.0f} kB and {decoding['pixels'] / 1e6:.2f} megapixels"


def needs(works: Sequence[Workload], asked: Question) -> str:
    """What the deadline asks for, by recipe."""
    lines = [
        *(["recipe", "batch", "steps", "steps/hour", "images/s", "MB/s encoded", "MB/s decoded"],),
    ]
    lines[0] += ["images/s of a core", "cores", "checkpoint MB", "seconds", "share"]
    for work in works:
        steps = formulas.steps(work.batch_size, work.epochs)
        rate = formulas.images_per_second(work.batch_size, work.epochs, asked.days)
        period = asked.interval * asked.days * formulas.DAY / steps
        lines.append(
            [
                f"`{work.recipe}`",
                *(f"{work.batch_size:,}", f"{steps:,}", f"{steps / (24 * asked.days):,.0f}", f"{rate:,.0f}"),
                f"{rate * formulas.ENCODED_BYTES / formulas.IMAGES / 1e6:,.0f}",
                f"{rate * work.view_bytes / 1e6:,.0f}",
                *(f"{work.images_per_core_second:,.0f}", f"{rate / work.images_per_core_second:,.1f}"),
                *(f"{work.checkpoint_bytes / 1e6:,.0f}", f"{work.checkpoint_seconds:.1f}"),
                f"{work.checkpoint_seconds / period:.2%}",
            ]
        )
    return _table(lines)


def exchanges(works: Sequence[Workload], asked: Question) -> str:
    """Sums and gathers by recipe and scale, and what arrives."""
    lines = [["recipe", "replicas", "calls", "gradients", "BatchNorm", "other sums", "gathered", "arrives by gathers"]]
    for work in works:
        for replicas in asked.replicas:
            images = formulas.global_batch(work.batch_size, replicas) // replicas
            found = formulas.collectives(work, images, replicas)
            size: dict[str, float] = collections.defaultdict(float)
            for one in found:
                size[one.what if one.what in _OWN_COLUMNS else one.kind] += one.size / 1e6
            values = [size[name] for name in (*_OWN_COLUMNS, "sum", "gather")]
            cells = [f"{sum(one.calls for one in found):,}", *map(_megabytes, values)]
            lines.append(["`" + work.recipe + "`", str(replicas), *cells, _megabytes((replicas - 1) * size["gather"])])
    return _table(lines)


_OWN_COLUMNS = ("gradients", "statistics of BatchNorm")


def _megabytes(value: float) -> str:
    return "-" if value == 0 else f"{value:,.1f}" if value >= 0.1 else f"{value:.1g}"


def bottlenecks(works: Sequence[Workload], asked: Question) -> str:
    """The time of each resource in a step, and what it makes of the training."""
    names = list(_RESOURCES)
    head = ["recipe", "replicas", "batch", "each", *names, "first bottleneck", "images/s", "steps/hour", "days"]
    lines = [head]
    for work in works:
        for replicas in asked.replicas:
            batch = formulas.global_batch(work.batch_size, replicas)
            seconds = formulas.step_seconds(work, replicas, asked.hardware)
            whole = formulas.whole_step(work, replicas, asked.hardware, asked.interval)
            shown = f"{batch:,}" if batch == work.batch_size else f"*{batch:,}*"
            times = [f"{1000 * seconds[name]:,.2f}" for name in names]
            days = formulas.days(work, replicas, asked.hardware, asked.interval)
            speeds = [f"{batch / whole:,.0f}", f"{formulas.HOUR / whole:,.0f}", f"{days:,.2f}"]
            first = next(iter(seconds))
            lines.append([f"`{work.recipe}`", str(replicas), shown, str(batch // replicas), *times, first, *speeds])
    return _table(lines)


_RESOURCES = ("accelerators", "processor cores", "storage", "copies to devices", "network")


def summary(works: Sequence[Workload], asked: Question) -> str:
    """In words, by scale."""
    lines = []
    for replicas in asked.replicas:
        firsts = collections.Counter(
            next(iter(formulas.step_seconds(work, replicas, asked.hardware))) for work in works
        )
        told = ", ".join(f"{name} for {count} of {len(works)} recipes" for name, count in firsts.most_common())
        days = [formulas.days(work, replicas, asked.hardware, asked.interval) for work in works]
        late = sum(value > asked.days for value in days)
        lines.append(
            f"- **{replicas} replicas**: the first bottleneck is {told}; the trainings last {min(days):.2g} to "
            f"{max(days):.3g} days, {late} of them longer than {asked.days:g}."
        )
    return "\n".join(lines)


def two_replicas(found: Mapping[str, Any]) -> str:
    """Formulas beside what was counted."""
    lines = [["method", "sums by formula", "sums counted", "gathers by formula", "gathers counted", "equal"]]
    for method, both in found["exchanged"].items():
        cells = [_calls(both[side].get(kind, (0, 0))) for kind in ("sum", "gather") for side in ("formulas", "counted")]
        lines.append([method, *cells, "yes" if both["formulas"] == both["counted"] else "**no**"])
    return _table(lines)


def _calls(total: Sequence[int]) -> str:
    calls, size = total
    return f"{size:,} bytes in {calls}" if calls else "none"


def shards(found: Mapping[str, Any]) -> str:
    """What the first worker of many did."""
    lines = [["workers", "global batch", "images of this worker", "decoded per step", "images/s of a core"]]
    for one in found["shards"]:
        own = one["batch_size"] // one["shards"]
        cells = (one["shards"], one["batch_size"], own)
        lines.append([*(f"{cell:,}" for cell in cells), f"{one['decoded']:.1f}", f"{one['rate']:,.0f}"])
    return _table(lines)


def _table(lines: Sequence[Sequence[str]], numbers: int | None = None) -> str:
    """Markdown; with `numbers`, only so many columns after the first are to the right."""
    text = markdown(lines)
    if numbers is None:
        return text
    rows = text.splitlines()
    cells = rows[1].strip("|").split("|")
    cells[1 + numbers :] = [cell.replace(":", "-") for cell in cells[1 + numbers :]]
    rows[1] = "|" + "|".join(cells) + "|"
    return "\n".join(rows) + "\n"

r"""What training on many replicas takes, by formulas alone: input, collectives, steps, and the time of each resource.

Bytes of a collective are those of the tensor that one replica puts into it. A sum over \( R \) replicas (a ring) moves
\( 2 (R - 1) / R \) times as many over each link, a gather \( R - 1 \) times as many.

# References
    - Bringing HPC Techniques to Deep Learning (Gibiansky, 2017), for the ring
"""

import dataclasses
import math
from collections.abc import Sequence

IMAGES = 1_281_167
"""Training images of ImageNet."""

ENCODED_BYTES = 147_897_477_120
"""Bytes of ILSVRC2012_img_train.tar, which holds them as JPEGs."""

DAY, HOUR = 86_400, 3_600

_FLOAT = 4
# Gathers refuse uint8, so `larq_ssl.distribute` carries pixels as float16.
_CARRIED_PIXEL = 2
# A gather tells first how large each part is, as int32 numbers.
_SHAPE_NUMBER = 4


@dataclasses.dataclass(frozen=True)
class Norms:
    """The synchronised BatchNormalization layers of a network.

    # Attributes
        layers, channels: Their number, and their channels together.
        passes: How often a step runs the network.
        learns: Whether gradients flow through it.
    """

    layers: int
    channels: int
    passes: int
    learns: bool


@dataclasses.dataclass(frozen=True)
class Workload:
    """A published training, as its recipe and the real networks have it.

    # Attributes
        recipe, method: Names.
        batch_size, epochs: Of the recipe.
        views: Number and side of the views of an image, by size.
        parameters: That the optimizer moves.
        macs: Multiply-accumulates for an image in a step: three times those of a forward pass where a network learns.
        norms: The synchronised ones, by network.
        width: Numbers per image that the method gathers (or that its centre has).
        checkpoint_bytes, checkpoint_seconds: Of one checkpoint.
        images_per_core_second: That a core reads, decodes, crops and colours, all views of each.
    """

    recipe: str
    method: str
    batch_size: int
    epochs: int
    views: tuple[tuple[int, int], ...]
    parameters: int
    macs: int
    norms: tuple[Norms, ...]
    width: int
    checkpoint_bytes: int
    checkpoint_seconds: float
    images_per_core_second: float

    @property
    def view_bytes(self) -> int:
        """Bytes of the views of an image, as they go to a device."""
        return sum(count * 3 * side**2 for count, side in self.views)


@dataclasses.dataclass(frozen=True)
class Hardware:
    """Assumptions about machines that are not here; see the flags of `larq_ssl.experiments.scaling`."""

    replicas_per_worker: int
    cores_per_worker: int
    flops: float
    storage_bytes: float
    copy_bytes: float
    link_bytes: float
    network_bytes: float
    latency: float

    def workers(self, replicas: int) -> int:
        """Machines that so many replicas need."""
        return -(-replicas // self.replicas_per_worker)


@dataclasses.dataclass(frozen=True)
class Collective:
    """What replicas exchange in a step.

    # Attributes
        what: For people.
        kind: `sum` or `gather`.
        calls: Number of collective operations.
        size: Bytes that one replica puts into all of them together.
    """

    what: str
    kind: str
    calls: int
    size: int


def global_batch(batch_size: int, replicas: int) -> int:
    """The smallest multiple of the replicas that is no smaller than the recipe's batch."""
    return -(-batch_size // replicas) * replicas


def steps(batch_size: int, epochs: int) -> int:
    """Of a training on ImageNet; an epoch is whole batches."""
    return IMAGES // batch_size * epochs


def images_per_second(batch_size: int, epochs: int, days: float) -> float:
    """That a training of so many days needs, whatever the number of replicas."""
    return steps(batch_size, epochs) * batch_size / (days * DAY)


def collectives(work: Workload, images: int, replicas: int) -> list[Collective]:
    """What replicas of so many images each exchange in a step."""
    return [
        Collective("gradients", "sum", 1, _FLOAT * work.parameters),
        *_of_norms(work.norms),
        *_of_method(work, images, replicas),
    ]


def _of_norms(norms: Sequence[Norms]) -> list[Collective]:
    """Keras sums up sums, sums of squares and counts of each layer; the first two have a gradient, summed up again."""
    calls = [(3 + 2 * part.learns) * part.passes for part in norms]
    totals = [sum(number * getattr(part, what) for number, part in zip(calls, norms, strict=True)) for what in _SIZES]
    return [Collective("statistics of BatchNorm", "sum", totals[0], _FLOAT * totals[1])] if totals[0] else []


_SIZES = ("layers", "channels")


def _of_method(work: Workload, images: int, replicas: int) -> list[Collective]:
    rows = _FLOAT * images * work.width
    if work.method == "bssl":
        return _gather("logits of the teacher, for monitors", 1, rows)
    if work.method == "moco":
        pixels = _CARRIED_PIXEL * images * work.view_bytes // work.views[0][0]
        return [*_gather("images, to be shuffled", 1, pixels, rank=4), *_gather("keys", 1, rows)]
    if work.method == "simclr":
        # Both views side by side.
        return _gather_with_gradient("embeddings", 2 * rows, replicas)
    if work.method == "msbreg":
        return _gather_with_gradient("embeddings for the singular values", rows, replicas)
    if work.method == "swav":
        return _gather("embeddings for Sinkhorn-Knopp", 2, 2 * rows)
    if work.method == "dino":
        return [Collective("mean of the logits, for the centre", "sum", 1, _FLOAT * work.width)]
    if work.method == "byol":
        return []
    raise ValueError(f"method must be one that the formulas know, got {work.method!r}.")


def _gather(what: str, calls: int, size: int, rank: int = 2) -> list[Collective]:
    shapes = Collective("shapes of what is gathered", "gather", calls, calls * rank * _SHAPE_NUMBER)
    return [Collective(what, "gather", calls, size), shapes]


def _gather_with_gradient(what: str, size: int, replicas: int) -> list[Collective]:
    """The gradient of what was gathered is summed up whole; each replica then takes its part."""
    return [*_gather(what, 1, size), Collective(f"gradient of the {what}", "sum", 1, replicas * size)]


def network_seconds(found: Sequence[Collective], replicas: int, hardware: Hardware) -> float:
    """Of all collectives of a step, one after the other: within machines, between them, and the waiting for each."""
    if replicas == 1:
        return 0.0
    workers = hardware.workers(replicas)
    inside = min(replicas, hardware.replicas_per_worker)
    seconds = 0.0
    for one in found:
        if one.kind == "sum":
            seconds += 2 * one.size * (inside - 1) / inside / hardware.link_bytes
            seconds += 2 * one.size * (workers - 1) / workers / hardware.network_bytes
        else:
            seconds += one.size * (replicas - 1) / hardware.link_bytes
            seconds += one.size * (replicas - inside) / hardware.network_bytes
        seconds += one.calls * math.ceil(math.log2(replicas)) * hardware.latency
    return seconds


def step_seconds(work: Workload, replicas: int, hardware: Hardware) -> dict[str, float]:
    """How long each resource is busy in a step, the longest first: that is the bottleneck."""
    batch = global_batch(work.batch_size, replicas)
    images, workers = batch // replicas, hardware.workers(replicas)
    encoded = batch * ENCODED_BYTES / IMAGES
    seconds = {
        "accelerators": 2 * work.macs * images / hardware.flops,
        "processor cores": batch / (workers * hardware.cores_per_worker * work.images_per_core_second),
        "storage": encoded / (workers * hardware.storage_bytes),
        "copies to devices": images * work.view_bytes / hardware.copy_bytes,
        "network": network_seconds(collectives(work, images, replicas), replicas, hardware),
    }
    return dict(sorted(seconds.items(), key=lambda pair: -pair[1]))


def whole_step(work: Workload, replicas: int, hardware: Hardware, interval: int) -> float:
    """Seconds of a step: input is prepared meanwhile, exchange and checkpoints, one per interval, are waited for."""
    seconds = step_seconds(work, replicas, hardware)
    computing = seconds["accelerators"] + seconds["network"]
    waiting = max(seconds[name] for name in ("processor cores", "storage", "copies to devices"))
    return max(computing, waiting) + work.checkpoint_seconds / interval


def days(work: Workload, replicas: int, hardware: Hardware, interval: int) -> float:
    """That the whole training lasts."""
    batch = global_batch(work.batch_size, replicas)
    return steps(batch, work.epochs) * whole_step(work, replicas, hardware, interval) / DAY

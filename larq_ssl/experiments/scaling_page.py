"""The page on scale: what was measured, what the formulas make of it, and how two predictions were checked."""

from collections.abc import Mapping, Sequence
from typing import Any

from larq_ssl.experiments import scaling_formulas as formulas
from larq_ssl.experiments import scaling_tables as tables
from larq_ssl.experiments.scaling_formulas import Workload
from larq_ssl.experiments.scaling_tables import Question

TITLE = "# What training on ImageNet takes at scale\n"

_INTRO = """
On paper, with measured constants: what the published recipes on ImageNet ({images:,} images) ask of storage,
processors, devices and network at {scales} replicas, and which of them is the first bottleneck. Two of the predictions
were [tried](#two-predictions-tried).

![Input speed over replicas](scaling.png)
"""
_CONSTANTS = """
## Constants

What is assumed of machines that are not here can be given otherwise: the same command with other flags makes the page
anew from the same measurements.
"""
_TEN_DAYS = """
## What {days:g} days ask for

A training that is to be finished in {days:g} days asks for the same images per second on 8 replicas as on 512. Bytes
are those of all workers together: encoded as ImageNet's own JPEGs, decoded as the uint8 views that go to the devices.
Cores are those of this machine. A checkpoint is all variables of the method and its optimizer, written here, synced;
its share is that of the time if one is saved every {interval:,} steps.
"""
_EXCHANGE = """
## What replicas exchange in a step

Megabytes that one replica puts into the collectives of a step: sums (gradients, statistics of synchronised BatchNorm,
a centre, the gradient of what was gathered) and gathers. A gather arrives once from each other replica, so that what
comes in grows with their number unless the images of each become fewer. `calls` is the number of collectives, each of
which waits for the slowest.
"""
_BOTTLENECKS = """
## The first bottleneck

Milliseconds that each resource is busy in a step; the longest is the bottleneck. Input is prepared while devices
compute. The exchange is counted as overlapping with nothing, which is true of BatchNorm and gathers, and pessimistic
for the gradients. The batch is the recipe's, or the next multiple of the replicas (in italics): more replicas make a
step shorter, not the batch larger.
"""
_CHECKS = """
## Two predictions, tried

**Two replicas.** Each method was built small, on two devices of one processor with synchronised BatchNorm, and its
training step taken. The collective operations in it, and the tensors that went into them, beside the formulas:
"""
_SHARDS = """
**Many shards.** The first of N workers made its batches of {images} images out of a global batch of N times as many,
with the views of `{policy}`. It decodes its own images alone, and its speed does not depend on N:
"""
_FOOTER = """
## How it was made

- page: `{command}`; the constants lie in a file `.json` beside it, and are measured anew where there is none
- constants: commit {commit}, TensorFlow {tensorflow}; {processor}, {cores} cores, load average {load:.1f}. Speeds are
  per second of processor time, which others that use the machine disturb little
- left out: heads in the work of accelerators (few operations); the singular values of MSBReg and Sinkhorn-Knopp of
  SwAV, which every replica computes for the whole batch; and whatever else makes machines wait for each other
"""


def page(found: Mapping[str, Any], works: Sequence[Workload], asked: Question) -> str:
    """The page as Markdown.

    # Arguments
        found: What was measured.
        works: The trainings among it.
        asked: Scales and assumptions.
    """
    parts = [
        TITLE,
        _INTRO.format(images=formulas.IMAGES, scales=", ".join(map(str, asked.replicas))),
        _CONSTANTS,
        tables.assumptions(found, asked),
        _TEN_DAYS.format(days=asked.days, interval=asked.interval),
        tables.needs(works, asked),
        _EXCHANGE,
        tables.exchanges(works, asked),
        _BOTTLENECKS,
        tables.bottlenecks(works, asked),
        tables.summary(works, asked),
        _CHECKS,
        tables.two_replicas(found),
        _SHARDS.format(images=found["shards"][0]["batch_size"], policy=asked.policy),
        tables.shards(found),
        _footer(found["environment"], asked.command),
    ]
    return "\n".join(part.strip("\n") + "\n" for part in parts)


def _footer(made: Mapping[str, Any], command: str) -> str:
    """Where the numbers come from."""
    return _FOOTER.format(
        command=command,
        commit=made["commit"],
        tensorflow=made["packages"]["tensorflow"],
        processor=made["processor"],
        cores=made["cores"],
        load=made["load_average"][0],
    )

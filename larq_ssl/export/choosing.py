"""Which file is shipped: with first and last layers in 8 bits where that passes the audit, else in float32."""

from collections.abc import Mapping
from typing import Any

from larq_ssl.export.audit import AuditImages, audit, problems
from larq_ssl.export.conversion import packed_file
from larq_ssl.export.int8 import PARTS, quantised
from larq_ssl.export.product import Product

AGREEMENT = 0.98
"""What the file must agree with Keras on, end to end, for its first and last layers to be in 8 bits."""

POINTS = 0.005
"""By how much its top-1 accuracy may then differ from Keras's."""

FEWEST = 16
"""Audited images below which an agreement says too little, and nothing is put into 8 bits."""

# Images that the ranges of 8 bits are seen on.
_CALIBRATION = 64
_MEASURES = ("centred_cosine", "knn_agreement", "top1_agreement")


def choose(
    product: Product, images: AuditImages, with_int8: bool = True
) -> tuple[bytes, dict[str, Any], dict[str, str]]:
    """Converts and audits, first in float32, then with the last layers in 8 bits, then also the first.

    # Arguments
        product: In float32.
        images: What the audit looks at.
        with_int8: Whether 8 bits are tried.
    # Returns
        The file, its audit, and for each of `int8.PARTS` `"int8"` or why it stays in float32.
    # Raises
        ValueError: If the file in float32 does not pass.
    """
    content = packed_file(product)
    found = audit(content, product, images)
    wrong = problems(found)
    if wrong:
        raise ValueError(" ".join(wrong))
    told: dict[str, str] = {}
    seen_by_ranges = images.images if images.calibration is None else images.calibration
    for part in PARTS:
        if not with_int8 or len(images.images) < FEWEST:
            few = f"to judge 8 bits takes {FEWEST} images, and there are {len(images.images)}"
            told[part] = f"float32: {few if with_int8 else '8 bits were not wanted'}"
            continue
        done = tuple(name for name, state in told.items() if state == "int8")
        try:
            trial = quantised(product, (*done, part), seen_by_ranges[:_CALIBRATION])
        except ValueError as error:
            told[part] = f"float32: {error}"
            continue
        other = packed_file(trial)
        seen = audit(other, trial, images)
        wrong = [*_not_converted(seen, found), *_unequal(seen), *disagreements(seen, found)]
        told[part] = f"float32: in 8 bits, {' '.join(wrong)}" if wrong else "int8"
        if not wrong:
            content, found = other, seen
    return content, found, told


def disagreements(found: Mapping[str, Any], in_float32: Mapping[str, Any]) -> list[str]:
    """Where a file agrees with Keras on less than `AGREEMENT`, or differs by more than `POINTS` in its accuracy; and
    on less, and by more, than the file in float32 does."""
    numbers, before = found["end_to_end"], in_float32["end_to_end"]
    low = [name for name in _MEASURES if name in numbers and numbers[name] < min(AGREEMENT, before[name])]
    told = [f"{name.replace('_', ' ')} is {numbers[name]:.3f}, below {AGREEMENT:g}." for name in low]
    if _difference(numbers) > max(POINTS, _difference(before)):
        told.append(f"top 1 is {numbers['file_top1']:.3f}, that of Keras {numbers['keras_top1']:.3f}.")
    return told


def _difference(numbers: Mapping[str, float]) -> float:
    return abs(numbers["file_top1"] - numbers["keras_top1"]) if "file_top1" in numbers else 0.0


def _unequal(found: dict[str, Any]) -> list[str]:
    """What `problems` names layer by layer, in short: all of them stand behind the rounding of the first."""
    wrong = problems(found)
    if not wrong or not found["binary_layers"]:
        return wrong
    if found["not_packed"]:
        return ["binary layers are not packed."]
    largest = max(equal["max"] for equal in found["equal_inputs"].values())
    return [f"a layer differs from Keras by {largest:.2g} on equal inputs, more than {found['tolerance']:g}."]


def _not_converted(found: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    count, other = (audit["operations"].get("QUANTIZE", 0) for audit in (found, before))
    return [] if count > other else ["Larq Compute Engine converts none of it."]

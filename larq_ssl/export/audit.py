"""The audit of an exported file: what is in it, and whether it computes what Keras computes."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from larq_ssl.evaluation.features import Features
from larq_ssl.export.agreement import agreement
from larq_ssl.export.flatbuffer import LiteFile
from larq_ssl.export.packing import CONVOLUTION, PackedLayer, lacking, packed_layers, wasted_bits
from larq_ssl.export.parity import TOLERANCE, layer_errors, reference_of
from larq_ssl.export.product import Product
from larq_ssl.export.running import KERNELS
from larq_ssl.models import cost

FLOOR = 0.9
"""What a file without packed layers, of which no input can be equalised, must agree with Keras on, end to end."""

# On equal inputs a few images show a layer in thousands of places.
_EQUAL_INPUTS = 4
_FLOORED = ("centred_cosine", "top1_agreement")


@dataclasses.dataclass(frozen=True)
class AuditImages:
    """Real images to audit a file with.

    # Arguments
        images: uint8 `[images, size, size, 3]`.
        labels: From 0 on, or `None`.
        bank: Features of other images, by Keras, for kNN; or `None`.
        calibration: Other images, of the same shape, on which the ranges of 8 bits are seen; `None` for the same ones.
    """

    images: np.ndarray
    labels: np.ndarray | None = None
    bank: Features | None = None
    calibration: np.ndarray | None = None


def audit(content: bytes, product: Product, images: AuditImages) -> dict[str, Any]:
    """Audits a file of Larq Compute Engine; see `problems` for what fails.

    # Arguments
        content: Of the file.
        product: What it was made of.
        images: What it is tried on.
    # Returns
        JSON values: `operations` (how often each occurs), `binary_layers`, `packed_layers`, `not_packed` (names),
        `size`, `wasted_bits` (share by layer), and, if all are packed, `equal_inputs` (for each fast kernel
        of Larq Compute Engine the largest difference, and each of `layer_errors`), `end_to_end` and `flips`.
    """
    file = LiteFile(content)
    layers = packed_layers(file, product.encoder) if product.binary else []
    missing = lacking(product.encoder, layers) if product.binary else []
    found = {
        "operations": file.histogram(),
        "binary_layers": len(product.encoder.binary_layers) if product.binary else 0,
        "packed_layers": file.histogram().get(CONVOLUTION, 0),
        "not_packed": missing,
        "size": _size(content, product),
        "wasted_bits": wasted_bits(product.encoder) if product.binary else {},
    }
    return found if missing else {**found, **_parity(file, product, layers, images)}


def problems(found: dict[str, Any]) -> list[str]:
    """What is wrong with a file, by its audit: a sentence each, none if it may be shipped."""
    if found["not_packed"]:
        names = ", ".join(found["not_packed"])
        return [
            f"{len(found['not_packed'])} of {found['binary_layers']} binary layers are not packed by Larq Compute "
            f"Engine: {names}."
        ]
    told = [] if found["binary_layers"] else _low(found["end_to_end"])
    for kernels, equal in found["equal_inputs"].items():
        off = {name: error for name, error in equal["layers"].items() if not error <= TOLERANCE}
        if off:
            first, names = next(iter(off)), ", ".join(off)
            told.append(
                f"On equal inputs the file differs from Keras by {off[first]:.2g} (allowed is {TOLERANCE:g}) from "
                f"{first} on, with the {kernels} kernels of Larq Compute Engine: {names}."
            )
    return told


def _low(numbers: Mapping[str, float]) -> list[str]:
    told = [f"{name.replace('_', ' ')} {numbers[name]:.3f}" for name in _FLOORED if numbers.get(name, 1.0) < FLOOR]
    return [f"The file does not compute what Keras computes (allowed is {FLOOR:g}): {', '.join(told)}."] if told else []


def _size(content: bytes, product: Product) -> dict[str, float]:
    by_larq = cost(product.reference, product.image_size).size_bytes
    if product.head is not None:
        by_larq += 4 * int(product.head.count_params())
    return {"file_bytes": len(content), "larq_bytes": by_larq, "ratio": len(content) / by_larq}


def _parity(file: LiteFile, product: Product, layers: list[PackedLayer], images: AuditImages) -> dict[str, Any]:
    pixels = images.images.astype(product.pixels)
    few = pixels[:_EQUAL_INPUTS]
    compute = reference_of(file, product, layers)
    as_exported = reference_of(file, product, layers, exported=True) if product.int8 else compute
    equal: dict[str, Any] = {}
    for kernels in KERNELS if layers else ():
        errors = layer_errors(file, product, layers, few, kernels, as_exported)
        equal[kernels] = {"max": max(errors.values()), "layers": errors}
    numbers, flips = agreement(file, product, layers, pixels, images.labels, images.bank, compute)
    overall = {"mean_share": float(np.mean(list(flips.values()))), "layers": flips} if flips else {}
    return {"tolerance": TOLERANCE, "equal_inputs": equal, "end_to_end": numbers, "flips": overall}

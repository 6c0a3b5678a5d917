"""Whether a file computes what Keras computes: layer by layer on equal inputs."""

from collections.abc import Sequence

import numpy as np

from larq_ssl.export.flatbuffer import LiteFile
from larq_ssl.export.packing import PackedLayer
from larq_ssl.export.product import Product
from larq_ssl.export.running import Reference, ends_of, reference, run

TOLERANCE = 1e-4
"""Largest difference of a layer on equal inputs, in the scale of its outputs if they exceed 1."""


def sources(file: LiteFile, layers: Sequence[PackedLayer]) -> dict[int, str]:
    """The tensors of a file whose signs are taken, in its order, each with the first of the layers that read it."""
    readers: dict[int, str] = {}
    for layer in layers:
        if layer.source is not None:
            readers.setdefault(layer.source, layer.name)
    written = [tensor for part in file.operations for tensor in part.outputs]
    return {tensor: readers[tensor] for tensor in written if tensor in readers}


def reference_of(file: LiteFile, product: Product, layers: Sequence[PackedLayer], exported: bool = False) -> Reference:
    """What Keras has where the signs of a file are taken, then pooled maps, features and output; see `reference`."""
    return reference(product, list(sources(file, layers).values()), exported)


def layer_errors(
    file: LiteFile,
    product: Product,
    layers: Sequence[PackedLayer],
    images: np.ndarray,
    kernels: str = "default",
    compute: Reference | None = None,
) -> dict[str, float]:
    r"""How far each binary convolution, with the real-valued operations after it, is from Keras on equal inputs.

    Whatever has its sign taken is replaced by what Keras has there, so that no sign can flip. A layer is judged where
    its result is first read again: by the sign before another layer, or as pooled maps. What comes before the first
    layer, and features and class scores behind the pooled maps, are judged, too:

    \\[ \frac{\max |y_{file} - y_{Keras}|}{\max(1, \max |y_{Keras}|)} \\]

    Layers in 8 bits are so in Keras, too; those at the end are not judged here, since a sum in the middle of two steps
    is rounded to either. What goes past several layers, by shortcuts, carries small differences of earlier ones along.

    # Arguments
        file, product: What is compared.
        layers: Of `packed_layers`.
        images: `[images, size, size, 3]`, of the type that the file takes.
        kernels: One of `running.KERNELS`.
        compute: `reference_of` the file, where it is there already.
    # Returns
        A number for each layer, by its name; and for `"before <layer>"`, `"features"` (of networks that go on behind
        the pooled maps) and `"class scores"`.
    """
    taps, found = sources(file, layers), ends_of(file, product)
    *given, pooled, features, output = (compute or reference_of(file, product, layers, exported=True))(images)
    ends = [*taps, found.pooled]
    shown = run(file.showing([*ends, found.features], fed=list(taps)), [images, *given], kernels)
    errors = {
        tensor: _error(file.numbers(tensor, own), keras)
        for tensor, own, keras in zip(ends, shown, [*given, pooled], strict=False)
    }
    places = _first_read(file, [layer.result for layer in layers], ends)
    judged = {f"before {name}": errors[tensor] for tensor, name in taps.items() if tensor not in places.values()}
    judged |= {layer.name: errors[places[layer.result]] for layer in layers}
    if "last" not in product.int8:
        if found.features != found.pooled:
            judged["features"] = _error(shown[-2], features)
        if product.classes is not None:
            judged["class scores"] = _error(shown[-1], output)
    return judged


def _error(own: np.ndarray, keras: np.ndarray) -> float:
    return float(np.abs(own - keras).max() / max(1.0, np.abs(keras).max()))


def _first_read(file: LiteFile, results: Sequence[int], ends: Sequence[int]) -> dict[int, int]:
    """For each result, the first of the ends that is computed from it without a sign that is taken in between."""
    reached: dict[int, set[int]] = {tensor: {tensor} for tensor in results}
    places: dict[int, int] = {}
    for part in file.operations:
        fed = part.name == "LceQuantize" and part.inputs[0] in ends
        before = set() if fed else set().union(*(reached.get(tensor, set()) for tensor in part.inputs))
        for tensor in part.outputs:
            reached[tensor] = reached.get(tensor, set()) | before
    for end in ends:
        for result in reached[end]:
            places.setdefault(result, end)
    return places

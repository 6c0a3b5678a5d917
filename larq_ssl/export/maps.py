"""The backbone of a detector as a file that a device runs: feature maps of images of any shape, packed and audited."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from larq_ssl.export.baking import bake, in_float32, refusal
from larq_ssl.export.conversion import packed
from larq_ssl.export.flatbuffer import LiteFile
from larq_ssl.export.packing import CONVOLUTION, lacking, packed_layers
from larq_ssl.export.parity import TOLERANCE, sources
from larq_ssl.export.product import Product
from larq_ssl.export.running import KERNELS, run
from larq_ssl.files import whole_folder, write_json, write_whole
from larq_ssl.models import Encoder

MODEL_FILE, AUDIT_FILE = "backbone.tflite", "export.json"


@dataclasses.dataclass(frozen=True)
class MapsFile:
    """A packed backbone.

    # Arguments
        content: The `.tflite` of Larq Compute Engine: uint8 `[1, height, width, 3]` in, one map for each name out.
        product: What it was made of.
        names: Named outputs of the encoder, in the order of the outputs.
        height, width: Of the images.
    """

    content: bytes
    product: Product
    names: tuple[str, ...]
    height: int
    width: int


def maps_file(encoder: Encoder, height: int, width: int, names: Sequence[str]) -> MapsFile:
    """Packs an encoder for its feature maps.

    # Arguments
        encoder: With binary kernels.
        height, width: Of the images, multiples of 32.
        names: Of its named outputs, such as `stride8`.
    # Raises
        ValueError: If the encoder cannot be packed, or has no such outputs.
    """
    reason = refusal(encoder.spec)
    if reason is not None:
        raise ValueError(f"The backbone cannot be packed: {reason}")
    if height % 32 or width % 32:
        raise ValueError(f"Sides of the images must be multiples of 32, got {height} x {width}.")
    reference = in_float32(encoder, None)
    product = Product(bake(reference), reference, None, "uint8")
    maps = product.encoder.with_outputs(*names)

    def function(image: tf.Tensor) -> dict[str, tf.Tensor]:
        found = maps(image, training=False)
        # Outputs of a file are in the order of their names.
        return {f"map{place}": found[name] for place, name in enumerate(names)}

    signature = tf.TensorSpec([1, height, width, 3], tf.uint8, name="image")
    traced = tf.function(function, input_signature=[signature]).get_concrete_function()
    return MapsFile(packed(traced, product), product, tuple(names), height, width)


def audit_maps(made: MapsFile, images: np.ndarray) -> dict[str, Any]:
    """Whether every binary layer is packed, and computes what Keras computes on equal inputs.

    Whatever has its sign taken is replaced by what Keras has there, so that no sign can flip; each is compared, as are
    the maps, by \\( \\max |y_{file} - y_{Keras}| / \\max(1, \\max |y_{Keras}|) \\).

    # Arguments
        made: Of `maps_file`.
        images: uint8 `[images, height, width, 3]`.
    # Returns
        JSON values: `binary_layers`, `packed_layers`, `not_packed` (names), `tolerance`, `equal_inputs` (by kernels of
        Larq Compute Engine, the difference by place) and `end_to_end` (by map, the correlation with Keras's).
    """
    file, product = LiteFile(made.content), made.product
    layers = packed_layers(file, product.encoder)
    found: dict[str, Any] = {
        "binary_layers": len(product.encoder.binary_layers),
        "packed_layers": file.histogram().get(CONVOLUTION, 0),
        "not_packed": lacking(product.encoder, layers),
        "tolerance": TOLERANCE,
        "file_bytes": len(made.content),
    }
    if found["not_packed"]:
        return found
    taps = sources(file, layers)
    keras = _keras(product, list(taps.values()), made.names, images)
    equal = {kernels: _equal(file, made, taps, images, keras, kernels) for kernels in KERNELS}
    alone = run(made.content, [images])
    maps = keras[len(taps) :]
    agree = {
        name: float(np.corrcoef(own.ravel(), other.ravel())[0, 1])
        for name, own, other in zip(made.names, _in_order(file, made, alone), maps, strict=True)
    }
    return {**found, "equal_inputs": equal, "end_to_end": agree}


def problems_of_maps(found: dict[str, Any]) -> list[str]:
    """What is wrong with a file, by its audit: a sentence each, none if it may be shipped."""
    if found["not_packed"]:
        names = ", ".join(found["not_packed"])
        return [f"{len(found['not_packed'])} of {found['binary_layers']} binary layers are not packed: {names}."]
    told = []
    for kernels, errors in found["equal_inputs"].items():
        off = {name: error for name, error in errors.items() if not error <= TOLERANCE}
        if off:
            name = next(iter(off))
            told.append(f"With the {kernels} kernels {name} differs from Keras by {off[name]:.2g} on equal inputs.")
    return told


def write_maps(
    folder: str | os.PathLike[str], encoder: Encoder, images: np.ndarray, names: Sequence[str]
) -> dict[str, Any]:
    """Packs and audits a backbone, and writes `backbone.tflite` and `export.json` into a new folder.

    # Arguments
        folder: Must not exist.
        encoder, names: See `maps_file`.
        images: uint8 `[images, height, width, 3]` to audit the file with.
    # Returns
        What stands in `export.json`.
    # Raises
        ValueError: If the encoder cannot be packed or the file does not pass its audit; then nothing is written.
    """
    made = maps_file(encoder, images.shape[1], images.shape[2], names)
    found = audit_maps(made, images)
    wrong = problems_of_maps(found)
    if wrong:
        raise ValueError(f"The packed backbone is not written: {' '.join(wrong)}")
    record = {"maps": list(names), "height": made.height, "width": made.width, "audit": found}
    with whole_folder(folder) as unfinished:
        write_whole(pathlib.Path(unfinished) / MODEL_FILE, made.content)
        write_json(pathlib.Path(unfinished) / AUDIT_FILE, record)
    return record


def _keras(product: Product, layers: list[str], names: Sequence[str], images: np.ndarray) -> list[np.ndarray]:
    """What Keras has before some layers, and its maps."""
    network = product.reference
    inner = [network.get_layer(name).input for name in layers]
    shown = tf.keras.Model(network.inputs, [*inner, *(network.named_outputs[name] for name in names)])
    return [tensor.numpy() for tensor in shown(tf.constant(images, tf.float32), training=False)]


def _equal(
    file: LiteFile,
    made: MapsFile,
    taps: dict[int, str],
    images: np.ndarray,
    keras: Sequence[np.ndarray],
    kernels: str,
) -> dict[str, float]:
    ends = [*taps, *_outputs(file, made)]
    # Behind them come the outputs of the file itself.
    shown = run(file.showing(ends, fed=list(taps)), [images, *keras[: len(taps)]], kernels)[: len(ends)]
    places = [*(f"before {name}" for name in taps.values()), *made.names]
    errors = {}
    for place, tensor, own, wanted in zip(places, ends, shown, keras, strict=True):
        own = file.numbers(tensor, own)
        errors[place] = float(np.abs(own - wanted).max() / max(1.0, np.abs(wanted).max()))
    return errors


def _outputs(file: LiteFile, made: MapsFile) -> list[int]:
    """Numbers of the tensors that come out, in the order of the names: by their shapes, of which no two are alike."""
    shapes = {tuple(file.shape(tensor)[1:3]): tensor for tensor in file.outputs}
    strides = [int(name.removeprefix("stride")) for name in made.names]
    return [shapes[made.height // stride, made.width // stride] for stride in strides]


def _in_order(file: LiteFile, made: MapsFile, outputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    places = {tensor: place for place, tensor in enumerate(file.outputs)}
    return [outputs[places[tensor]] for tensor in _outputs(file, made)]

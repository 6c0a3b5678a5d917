"""What the benchmark measures of exported files: one image at a time, by each runtime, at each number of threads.

The file of Larq Compute Engine, with each of its fast kernels, against the float twin of the same shape under XNNPACK,
and against Keras, which computes binary layers with floats. Files are made before; the processes only read them.
"""

import dataclasses
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from larq_ssl import export, models
from larq_ssl.experiments.benchmark_table import ratios
from larq_ssl.experiments.benchmark_workers import Measurement, Turn, Variant, timed
from larq_ssl.export.packing import CONVOLUTION
from larq_ssl.export.writing import MODEL_FILE, RECORD_FILE, TWIN_FILE, float_twin
from larq_ssl.files import read_json
from larq_ssl.models import ARCHITECTURES, EncoderSpec

THREADS = (1, 2)
FLOAT = "float twin, TensorFlow Lite with XNNPACK"
KERAS = "Keras, binary network as tf.function"
_ENGINE = "larq_compute_engine.tflite.python.interpreter"
_ENGINE_MODULES = (_ENGINE, "larq_compute_engine.tflite.python.interpreter_wrapper_lite")
_LITE_MODULES = ("tensorflow.lite.python.interpreter",)

_PACKED = {
    "Larq Compute Engine, default kernels": export.KERNELS["default"],
    "Larq Compute Engine, indirect kernels": export.KERNELS["indirect"],
    "Larq Compute Engine, indirect kernels, floats by XNNPACK": {**export.KERNELS["indirect"], "use_xnnpack": True},
}
"""Lines of the table by name, with arguments of Larq Compute Engine's interpreter."""


@dataclasses.dataclass(frozen=True)
class Files:
    """What is measured.

    # Arguments
        spec: Of the network, for Keras.
        image_size: Side of its images.
        pixels: Type of the pixels.
        packed: File of Larq Compute Engine.
        twin: File of the float twin, `None` if there is none.
        notes: What the reader of the table must know of them, in sentences.
    """

    spec: EncoderSpec
    image_size: int
    pixels: str
    packed: pathlib.Path
    twin: pathlib.Path | None
    notes: tuple[str, ...]


def make_files(encoder: Mapping[str, Any], image_size: int, folder: pathlib.Path) -> Files:
    """Converts a network with random weights, and its float twin.

    # Arguments
        encoder: Arguments of `larq_ssl.models.build`.
        image_size: Side of the images.
        folder: Where the files go.
    # Raises
        ValueError: If Larq Compute Engine is not installed, or does not pack the whole network.
    """
    export.compute_engine()
    network = models.build(**encoder)
    reason = export.refusal(network.spec)
    if reason is not None:
        raise ValueError(f"{reason} --what=device measures --binarization=full, against its float twin.")
    product = export.make_product(network, image_size)
    packed, twin = folder / MODEL_FILE, None
    packed.write_bytes(export.packed_file(product))
    count, wanted = packed_layers(packed), len(network.binary_layers)
    if count != wanted:
        raise ValueError(f"Larq Compute Engine packs {count} of {wanted} binary layers of {network.spec.name}.")
    notes = [
        "The weights are random: the time does not depend on their values.",
        "The network ends in features, without a classifier, and its first and last layers are in float32.",
    ]
    if "none" in ARCHITECTURES[network.spec.name].binarizations:
        twin = folder / TWIN_FILE
        twin.write_bytes(export.float_file(float_twin(product)))
    else:
        notes.append(f"There is no float twin to compare with: {network.spec.name} has no float form.")
    return Files(network.spec, image_size, product.pixels, packed, twin, tuple(notes))


def exported_files(folder: pathlib.Path) -> Files:
    """The files of an export.

    # Raises
        ValueError: If the folder is none of an export, or Larq Compute Engine is not installed.
    """
    wrong = (
        f"--export must be a folder that larq_ssl.experiments.export wrote, with {MODEL_FILE} and {RECORD_FILE}, "
        f"got {folder}"
    )
    if not (folder / MODEL_FILE).is_file() or not (folder / RECORD_FILE).is_file():
        raise ValueError(f"{wrong}.")
    export.compute_engine()
    try:
        record = read_json(folder / RECORD_FILE)
        spec, images, output = EncoderSpec(**record["encoder"]), record["input"], record["output"]
        size, pixels = images["shape"][1], images["pixels"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{wrong}, whose {RECORD_FILE} cannot be read ({error!r}).") from error
    notes = [f"Measured is the file {folder / MODEL_FILE}; Keras has the same network with random weights."]
    if "class_scores" in output and spec.classes is None:
        notes.append("Keras is without the classifier, which the files have.")
    twin = folder / TWIN_FILE if (folder / TWIN_FILE).is_file() else None
    if twin is None:
        notes.append(
            f"There is no float twin to compare with: {folder} has no {TWIN_FILE}, which export writes by --float_twin."
        )
    return Files(spec, size, pixels, folder / MODEL_FILE, twin, tuple(notes))


def packed_layers(file: pathlib.Path) -> int:
    """How many packed binary convolutions a file has."""
    return export.LiteFile(file.read_bytes()).histogram().get(CONVOLUTION, 0)


def groups(files: Files, processor: str, cores: int) -> dict[str, list[Variant]]:
    """Variants by number of threads, as many as there are processors; the float twin is the reference, if there is one.

    # Arguments
        processor: Name of the processor, for the names of the groups.
        cores: How many processors there are.
    """
    packed = packed_layers(files.packed)
    what = f"{files.spec.name}, {files.image_size} px, {packed} packed layers"
    return {
        f"{what}; {threads} thread{'s' if threads > 1 else ''} of {processor}": _variants(files, threads)
        for threads in THREADS
        if threads <= cores
    }


def _variants(files: Files, threads: int) -> list[Variant]:
    spec = {**dataclasses.asdict(files.spec), "image_size": files.image_size}
    found = []
    if files.twin is not None:
        settings: dict[str, Any] = {"path": str(files.twin), "threads": threads}
        found.append(Variant(FLOAT, prepare_float, settings, _LITE_MODULES, files.twin.stat().st_size))
    for name, kernels in _PACKED.items():
        settings = {"path": str(files.packed), "threads": threads, "kernels": kernels}
        found.append(Variant(name, prepare_packed, settings, _ENGINE_MODULES, files.packed.stat().st_size))
    settings = {"spec": spec, "pixels": files.pixels, "threads": threads}
    return [*found, Variant(KERAS, prepare_keras, settings, modules=())]


def prepare_packed(path: str, threads: int, kernels: Mapping[str, bool]) -> Turn:
    """Turns of Larq Compute Engine's interpreter."""
    _on_processors(1)  # TensorFlow itself has nothing to do
    interpreter = export.compute_engine(_ENGINE).Interpreter(
        pathlib.Path(path).read_bytes(), num_threads=threads, **kernels
    )
    ((_, *shape),), (pixels,) = interpreter.input_shapes, interpreter.input_types
    images = _noise([1, *shape], pixels)
    return timed(lambda: interpreter.predict(images))


def prepare_float(path: str, threads: int) -> Turn:
    """Turns of TensorFlow Lite's interpreter, which hands floats to XNNPACK unless told otherwise."""
    _on_processors(1)
    interpreter = tf.lite.Interpreter(path, num_threads=threads)
    interpreter.allocate_tensors()
    (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    images = _noise(source["shape"], source["dtype"])

    def step() -> np.ndarray:
        interpreter.set_tensor(source["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(result["index"])

    return timed(step)


def prepare_keras(spec: Mapping[str, Any], pixels: str, threads: int) -> Turn:
    """Turns of Keras's network as one graph."""
    _on_processors(threads)
    network = models.build(**spec)
    images = tf.constant(_noise([1, *network.input_shape[1:]], pixels))
    encode = tf.function(lambda batch: network(batch, training=False))
    return timed(lambda: encode(images).numpy())


def _on_processors(threads: int) -> None:
    """Limits TensorFlow, which refuses if it has begun to compute already."""
    tf.config.set_visible_devices([], "GPU")
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


def _noise(shape: Sequence[int], pixels: Any) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape).astype(pixels)


def summary(measured: Mapping[str, Sequence[Measurement]], notes: Sequence[str]) -> str:
    """What is to be known of the tables, and where float wins.

    # Arguments
        measured: Of `groups`.
        notes: Of the files.
    """
    text = """
Latencies are of one image, medians and 95th percentiles of all images of all turns; speeds are compared by the medians
of turns. Own MiB is the peak less what the process used when its runtime was imported: the network and its maps; busy
is how many processors it kept busy, waiting in a loop included: far below 1, something else was running. A MB is a
million bytes. Larq Compute Engine is made for ARM; on x86 its default kernels are reference-like code. Its indirect
kernels use one thread, however many there are, and its float layers run without XNNPACK unless the line says so.
"""
    text += "".join(f"{note}\n" for note in notes)
    for group, (reference, *others) in measured.items():
        if reference.name == FLOAT:
            text += f"\n{group}: {_winner(reference, others)}\n"
    return text


def _winner(reference: Measurement, others: Sequence[Measurement]) -> str:
    packed = [other for other in others if other.name in _PACKED]
    speeds = {other.name: statistics.median(ratios(other, reference, of_times=False)) for other in packed}
    slower = [f"{name} ({speed:.2f} of its speed)" for name, speed in speeds.items() if speed < 1]
    faster = [f"{name} ({speed:.2f} times as fast)" for name, speed in speeds.items() if speed >= 1]
    return f"float wins against {'; '.join(slower) or 'none'}. It loses against {'; '.join(faster) or 'none'}."

"""Files that devices run, made of a network: by Larq Compute Engine, by TensorFlow Lite, and as a SavedModel."""

import contextlib
import importlib
import os
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from larq_ssl.export.product import Product

_Function = Callable[[tf.Tensor], tf.Tensor]


def compute_engine(module: str = "larq_compute_engine") -> types.ModuleType:
    """A module of Larq Compute Engine.

    # Raises
        ValueError: If it is not installed; says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(
            "Larq Compute Engine, which packs binary networks, cannot be imported: install it with `pip install "
            f"'larq_ssl[export]'` (or `pip install larq-compute-engine==0.16.0`). The reason: {error}."
        ) from error


def packed_file(product: Product) -> bytes:
    """The `.tflite` of Larq Compute Engine: one image in, features or class scores out."""
    return packed(traced(product, product, 1), product)


def packed(function: Any, product: Product) -> bytes:
    """The `.tflite` of Larq Compute Engine of any function of a product.

    # Arguments
        function: A concrete function.
        product: Whose weights are in it.
    """
    engine = compute_engine()
    with tempfile.TemporaryDirectory() as folder, _quiet():
        _save(folder, {"serving_default": function}, product)
        return bytes(engine.convert_saved_model(folder))


def float_file(product: Product) -> bytes:
    """The `.tflite` of the same network by TensorFlow Lite, without custom operations; for float networks."""
    with tempfile.TemporaryDirectory() as folder, _quiet():
        _save(folder, {"serving_default": traced(product, product, 1)}, product)
        return bytes(tf.lite.TFLiteConverter.from_saved_model(folder).convert())


def write_saved_model(product: Product, folder: str | os.PathLike[str]) -> None:
    """Writes a SavedModel with the signature `encode` and, of a classifier, `classify`, for batches of any size.

    It holds the network as it was trained, binary kernels unpacked; gradients cannot be taken through it.
    """
    functions = {"encode": product.encode}
    if product.classes is not None:
        functions["classify"] = product.classify
    signatures = {name: traced(product, function, None) for name, function in functions.items()}
    with _quiet():
        _save(str(folder), {**signatures, "serving_default": list(signatures.values())[-1]}, product)


def traced(product: Product, function: _Function, batch: int | None) -> Any:
    """A function of the images of a product as a graph, for so many of them or for any number."""
    size = product.image_size
    signature = tf.TensorSpec([batch, size, size, 3], product.pixels, name="image")
    return tf.function(lambda image: function(image), input_signature=[signature]).get_concrete_function()


def _save(folder: str, signatures: dict[str, Any], product: Product) -> None:
    module = tf.Module()
    parts = (product.encoder, product.reference, product.head, product.exported_head)
    module.parts = [variable for part in parts if part is not None for variable in part.weights]
    # Straight-through gradients refer to tensors in the middle of a graph, which cannot be saved.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, folder, signatures=signatures, options=options)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps back what TensorFlow's C++ code and converters write, dozens of lines a file; shown if they fail."""
    streams = (sys.stdout, sys.stderr)
    with tempfile.TemporaryFile() as told:
        before = [os.dup(number) for number in (1, 2)]
        done = False
        try:
            for number, stream in enumerate(streams, 1):
                stream.flush()
                os.dup2(told.fileno(), number)
            yield
            done = True
        finally:
            for number, (stream, old) in enumerate(zip(streams, before, strict=True), 1):
                stream.flush()
                os.dup2(old, number)
                os.close(old)
            if not done:
                told.seek(0)
                os.write(2, told.read())

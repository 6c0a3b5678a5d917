"""Runs files of Larq Compute Engine, and Keras beside them."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from larq_ssl.export.conversion import compute_engine
from larq_ssl.export.flatbuffer import LiteFile
from larq_ssl.export.product import Product

KERNELS = {"default": {}, "indirect": {"use_indirect_bgemm": True}}
"""The fast kernels of binary convolutions by name, as arguments of Larq Compute Engine's interpreter."""


def run(content: bytes, inputs: Sequence[np.ndarray], kernels: str = "default", threads: int = 1) -> list[np.ndarray]:
    """All outputs of a file, of one image after the other.

    # Arguments
        content: Of the file.
        inputs: An array `[images, ...]` for each of its inputs.
        kernels: One of `KERNELS`.
        threads: Number of threads.
    """
    interpreter = compute_engine("larq_compute_engine.tflite.python.interpreter").Interpreter(
        content, num_threads=threads, **KERNELS[kernels]
    )
    outputs = interpreter.predict(list(inputs))
    return outputs if isinstance(outputs, list) else [outputs]


@dataclasses.dataclass(frozen=True)
class Ends:
    """Numbers of the tensors of a file that hold what comes out of the encoder: its pooled maps, and its features."""

    pooled: int
    features: int


def ends_of(file: LiteFile, product: Product) -> Ends:
    """Finds them: maps are pooled by the last mean over maps; behind it, BURN's networks have one dense layer more.

    # Raises
        ValueError: If there are no such operations.
    """
    means = [part for part in file.operations if part.name == "MEAN" and len(file.shape(part.inputs[0])) == 4]
    if means:
        (pooled,) = means[-1].outputs
        if product.feature_name == "pooled":
            return Ends(pooled, pooled)
        behind = file.operations[file.operations.index(means[-1]) :]
        dense = next((part for part in behind if part.name == "FULLY_CONNECTED"), None)
        if dense is not None:
            return Ends(pooled, dense.outputs[0])
    elif product.classes is None:
        # A transformer has a token in the place of pooled maps.
        (features,) = file.outputs
        return Ends(features, features)
    raise ValueError(f"`file` is none of {product.reference.spec.name}: nothing in it pools maps to features.")


Reference = Callable[[np.ndarray], list[np.ndarray]]


def reference(product: Product, layers: Sequence[str], exported: bool = False) -> Reference:
    """What Keras computes of images: what goes into some layers, pooled maps, features, and what the product gives out.

    # Arguments
        product: What is exported.
        layers: Names of binary layers.
        exported: Whether with layers in 8 bits, if some are exported so.
    """
    network, head = product.reference, product.head
    if exported and product.int8:
        network, head = product.encoder, product.exported_head
    inner = [network.get_layer(name).input for name in layers]
    ends = [network.named_outputs[name] for name in ("pooled", product.feature_name)]
    shown = tf.keras.Model(network.inputs, [*inner, *ends, network.output])

    @tf.function(input_signature=[tf.TensorSpec([None, *network.input_shape[1:]], tf.float32)])
    def compute(images: tf.Tensor) -> list[tf.Tensor]:
        *others, output = shown(images, training=False)
        return [*others, output if head is None else head(output, training=False)]

    # Traced once: TensorFlow warns of functions that are made anew and traced at every call.
    traced = compute.get_concrete_function()
    return lambda images: [tensor.numpy() for tensor in traced(tf.constant(images, tf.float32))]

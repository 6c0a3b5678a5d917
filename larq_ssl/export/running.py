"""Runs files of Larq Compute Engine, and Keras beside them."""

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


def features_in(file: LiteFile, product: Product) -> int:
    """Number of the tensor of a file that holds the features: what the first dense layer of the classifier reads."""
    (tensor,) = file.outputs
    for _ in range(product.dense_layers):
        part = file.producer(tensor)
        while part is not None and part.name != "FULLY_CONNECTED":
            part = file.producer(part.inputs[0])
        if part is None:
            raise ValueError(f"`file` must end in {product.dense_layers} dense layers, of which it has fewer.")
        tensor = part.inputs[0]
    before = file.producer(tensor)
    return before.inputs[0] if before is not None and before.name == "QUANTIZE" else tensor


Reference = Callable[[np.ndarray], list[np.ndarray]]


def reference(product: Product, layers: Sequence[str], exported: bool = False) -> Reference:
    """What Keras computes of images: what goes into some layers, then features, then what the product gives out.

    # Arguments
        product: What is exported.
        layers: Names of binary layers.
        exported: Whether with layers in 8 bits, if some are exported so.
    """
    network, head = product.reference, product.head
    if exported and product.int8:
        network, head = product.encoder, product.exported_head
    inner = [network.get_layer(name).input for name in layers]
    shown = tf.keras.Model(network.inputs, [*inner, network.named_outputs[product.feature_name], network.output])

    @tf.function(input_signature=[tf.TensorSpec([None, *network.input_shape[1:]], tf.float32)])
    def compute(images: tf.Tensor) -> list[tf.Tensor]:
        *others, output = shown(images, training=False)
        return [*others, output if head is None else head(output, training=False)]

    # Traced once: TensorFlow warns of functions that are made anew and traced at every call.
    traced = compute.get_concrete_function()
    return lambda images: [tensor.numpy() for tensor in traced(tf.constant(images, tf.float32))]

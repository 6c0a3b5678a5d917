"""The network as it is exported: in float32, at one size, with binary kernels as constants.

The converter of Larq Compute Engine folds a quantizer of kernels only where the kernel is small; in the others it finds
no binary convolution. So each kernel is replaced by what its quantizer makes of it, plus or minus one number for each
filter, in the twin without quantizers of kernels (`binarization="activations"`, the same layers and shapes).
"""

import contextlib
import dataclasses
from collections.abc import Iterator

import tensorflow as tf

from larq_ssl.export.small_maps import ExportedLayers
from larq_ssl.models import Encoder, EncoderSpec, assign_weights, named_weights
from larq_ssl.models.registry import build_blank


def refusal(spec: EncoderSpec) -> str | None:
    """Why a network is not worth packing, `None` if it is: only binary kernels under binary inputs can be packed."""
    if spec.binarization == "full":
        return None
    what = {
        "activations": "has binary activations alone (stage 1): its kernels are real numbers",
        "none": "is a float network: neither its kernels nor their inputs are binary",
    }[spec.binarization]
    return (
        f"The {spec.name} {what}, of which Larq Compute Engine packs none, so that the file would be as large and as "
        "slow as that of any float network."
    )


def in_float32(encoder: Encoder, image_size: int | None) -> Encoder:
    """The same network at one size (`None`: at any), computing in float32 whatever it was trained in."""
    with float32_policy():
        twin = build_blank(dataclasses.replace(encoder.spec, image_size=image_size))
    assign_weights(twin, {name: weight.numpy() for name, weight in named_weights(encoder).items()})
    return twin


def bake(reference: Encoder) -> Encoder:
    """The same network with its binary kernels as constants.

    # Arguments
        reference: Of `in_float32`. One without binary kernels (stage 1, float) is given back.
    # Returns
        A new encoder that gives the same features; its spec says `"activations"`.
    """
    if reference.spec.binarization != "full":
        return reference
    arrays = {name: weight.numpy() for name, weight in named_weights(reference).items()}
    for layer in reference.binary_layers:
        kernel = tf.constant(arrays[f"{layer.name}/kernel"])
        arrays[f"{layer.name}/kernel"] = layer.kernel_quantizer(kernel).numpy()
    with float32_policy():
        twin = build_blank(dataclasses.replace(reference.spec, binarization="activations"), ExportedLayers())
    for layer in twin.binary_layers:
        if layer.edge is not None:
            arrays[f"{layer.name}/edge"] = layer.edge_of(arrays[f"{layer.name}/kernel"])
    assign_weights(twin, arrays)
    return twin


@contextlib.contextmanager
def float32_policy() -> Iterator[None]:
    """What is built inside computes in float32, whatever the policy is."""
    before = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy("float32")
    try:
        yield
    finally:
        tf.keras.mixed_precision.set_global_policy(before)

"""Which binary layers of a network are packed in a file, told by the bits of their kernels."""

import collections
import dataclasses

import numpy as np

from larq_ssl.export.flatbuffer import LiteFile, Operation
from larq_ssl.models import Encoder

CONVOLUTION = "LceBconv2d"
_WORD = 32


@dataclasses.dataclass(frozen=True)
class PackedLayer:
    """A binary layer of a network in a file.

    # Arguments
        name: Of the layer in Keras.
        source: Number of the tensor whose signs go into the convolution; `None` where the file has only the signs.
        result: Number of the tensor that comes out.
    """

    name: str
    source: int | None
    result: int


def packed_layers(file: LiteFile, network: Encoder) -> list[PackedLayer]:
    """The binary layers of a network that a file has as packed convolutions, in the order of the network.

    # Arguments
        file: Made by Larq Compute Engine.
        network: With binary kernels, quantised or baked.
    """
    places = collections.defaultdict(list)
    for part in file.operations:
        if part.name == CONVOLUTION:
            places[_bits_of_file(file, part)].append(part)
    found = []
    for layer in network.binary_layers:
        same = places[_bits(layer.kernel.numpy() < 0)]
        if same:
            part = same.pop(0)
            found.append(PackedLayer(layer.name, _source(file, part), part.outputs[0]))
    return found


def lacking(network: Encoder, found: list[PackedLayer]) -> list[str]:
    """Names of the binary layers that are not packed."""
    packed = {layer.name for layer in found}
    return [layer.name for layer in network.binary_layers if layer.name not in packed]


def wasted_bits(network: Encoder) -> dict[str, float]:
    """The share of the packed bits of a layer that stand for nothing, of layers where there are such.

    Channels of the input are packed in words of 32 bits.
    """
    waste = {}
    for layer in network.binary_layers:
        channels = int(layer.kernel.shape[2])
        words = -(-channels // _WORD)
        if channels % _WORD:
            waste[layer.name] = 1 - channels / (words * _WORD)
    return waste


def _source(file: LiteFile, convolution: Operation) -> int | None:
    quantize = file.producer(convolution.inputs[0])
    if quantize is None or quantize.name != "LceQuantize" or file.dtype(quantize.inputs[0]) is not np.float32:
        return None
    return quantize.inputs[0]


def _bits_of_file(file: LiteFile, part: Operation) -> tuple[tuple[int, ...], bytes]:
    words = file.constant(part.inputs[1])
    bits = np.unpackbits(words.view(np.uint8), axis=-1, bitorder="little").astype(bool)
    # Zeros that fill the last word are no channels, but are zeros of a kernel with more channels, too.
    return _key(bits)


def _bits(negative: np.ndarray) -> tuple[tuple[int, ...], bytes]:
    """Of a kernel `[height, width, in, out]`, as `[out, height, width, in]` in whole words."""
    negative = np.transpose(negative, [3, 0, 1, 2])
    return _key(np.pad(negative, [(0, 0)] * 3 + [(0, -negative.shape[-1] % _WORD)]))


def _key(bits: np.ndarray) -> tuple[tuple[int, ...], bytes]:
    return bits.shape, np.packbits(bits).tobytes()

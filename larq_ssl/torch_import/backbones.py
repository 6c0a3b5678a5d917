"""Encoders from tensors: each finds its place, by name and shape, or the file is refused.

PyTorch keeps kernels of convolutions as (out, in, height, width), of depthwise ones as (channels, 1, height, width),
of dense layers as (out, in); shifts of RSign and RPReLU as (1, channels, 1, 1); the official second step of
ReActNet-A its binary kernels as one column.
"""

import dataclasses
import functools
import math
import re

import numpy as np

from larq_ssl.models.encoder import Encoder, EncoderSpec
from larq_ssl.models.registry import ARCHITECTURES, build_blank
from larq_ssl.models.transfer import assign_weights, named_weights, rotate_kernels
from larq_ssl.torch_import.naming import Naming, Tensors, naming_of
from larq_ssl.torch_import.tensors import FLOATS, StoredTensor

_SMALL = 0.25  # the least width at which all channels are in proportion, or nearly


@dataclasses.dataclass(frozen=True)
class Backbone:
    """An encoder in the names of PyTorch, checked to be whole.

    # Attributes
        spec: What is to be built.
        tensors: By the names of the weights here.
        spare: Number of tensors left out, of layers that their block does not use.
    """

    spec: EncoderSpec
    tensors: Tensors
    spare: int

    def build(self) -> Encoder:
        """The encoder with its weights.

        # Raises
            ValueError: If the file is damaged, or a tensor has another shape than the architecture's.
        """
        encoder = build_blank(self.spec)
        shapes = {name: tuple(weight.shape) for name, weight in named_weights(encoder).items()}
        for name, tensor in self.tensors.items():
            check_shape(name, tensor, shapes[name])
        arrays = {name: array_of(name, tensor, shapes[name]) for name, tensor in self.tensors.items()}
        assign_weights(encoder, rotate_kernels(arrays) if self.spec.rotate_input else arrays)
        return encoder


def backbone(tensors: Tensors, binarization: str | None) -> Backbone:
    """Finds out what encoder tensors are, and gives each the name of a weight here.

    # Arguments
        tensors: Without those of a projection head; with those of a classifier, if it is to be kept.
        binarization: `activations` (step 1) or `full` (step 2) of a binary network whose tensors do not tell.
    # Raises
        ValueError: If there is no such architecture here, a tensor has no place in it, or one is missing; in words
            that go on after the name of the file.
    """
    naming = naming_of(tensors)
    if naming is None:
        raise ValueError(f"it is no network known here: its first tensor is {next(iter(tensors), None)!r}")
    name = naming.architecture(tensors)
    weights, parameters, dim = _inventory(name)
    width = _width(naming, tensors)
    classifier = tensors.get(f"{naming.classifier}.weight")
    if classifier is not None:
        _check_classifier(classifier, round(dim * width))
    spec = EncoderSpec(
        name,
        binarization=_binarization(name, binarization),
        width=width,
        classes=classifier.shape[0] if classifier is not None else None,
        rotate_input=ARCHITECTURES[name].maps,
    )
    wanted = {*weights, *(["fc/kernel", "fc/bias"] if spec.classes else [])}
    named, spare = _rename(naming, tensors, wanted)
    expected = parameters * spec.width**2
    features = sum(tensor.size for weight, tensor in named.items() if weight in weights)
    if not expected / 2 < features < expected * 2:
        raise ValueError(f"its tensors have {features:,} numbers, where {name} as wide as its stem has {expected:,.0f}")
    return Backbone(spec, named, spare)


def _check_classifier(kernel: StoredTensor, features: int) -> None:
    """A tensor without numbers could claim any number of classes."""
    if len(kernel.shape) != 2 or kernel.shape[0] == 0 or kernel.shape[1] != features:
        raise ValueError(f"its classifier should have the shape (classes, {features}), and has {kernel.shape}")


def check_shape(name: str, tensor: StoredTensor, shape: tuple[int, ...]) -> None:
    """Refuses a tensor that is not the transpose (or column) of a weight of a shape here, or holds no fractions."""
    if tensor.storage.kind not in FLOATS:
        raise ValueError(f"the tensor for {name!r} should hold fractions, and is of kind {tensor.storage.kind}")
    allowed = [_shape_there(name, shape)]
    if len(shape) == 4:
        allowed.append((math.prod(shape), 1))
    if len(shape) == 1:
        allowed.append((1, *shape, 1, 1))
    if tensor.shape not in allowed:
        raise ValueError(f"the tensor for {name!r} should have the shape {allowed[0]}, and has {tensor.shape}")


def array_of(name: str, tensor: StoredTensor, shape: tuple[int, ...]) -> np.ndarray:
    """A tensor as the weight of a name and shape here."""
    array = tensor.numpy().astype(np.float32, copy=False).reshape(_shape_there(name, shape))
    return array.transpose(_axes_there(name, len(shape)))


def _shape_there(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in PyTorch of a weight of a name and shape here."""
    lengths = dict(zip(_axes_there(name, len(shape)), shape, strict=True))
    return tuple(lengths[axis] for axis in sorted(lengths))


def _axes_there(name: str, rank: int) -> tuple[int, ...]:
    """Which axis in PyTorch each axis of a weight here is."""
    if rank == 4:
        return (2, 3, 0, 1) if name.endswith("/depthwise_kernel") else (2, 3, 1, 0)
    return (1, 0) if rank == 2 else tuple(range(rank))


def _width(naming: Naming, tensors: Tensors) -> float:
    if naming.stem is None or naming.base is None:
        return 1.0
    stem, size = naming.stem
    shape = tensors[stem].shape if stem in tensors else ()
    if len(shape) != 4 or shape[1:] != (3, size, size):
        raise ValueError(f"{stem!r} should be a {size}x{size} convolution of 3 channels, and has the shape {shape}")
    return shape[0] / naming.base


def _rename(naming: Naming, tensors: Tensors, wanted: set[str]) -> tuple[dict[str, StoredTensor], int]:
    named: dict[str, StoredTensor] = {}
    blocks = {name.partition("/")[0] for name in wanted}
    spare = 0
    for key, tensor in tensors.items():
        name = naming.name(key)
        unused = name is not None and name.partition("/")[0] in blocks and re.fullmatch(naming.spare or "", name)
        if name is None or not (name in wanted or unused):
            raise ValueError(f"there is no place for its tensor {key!r}")
        if name in named:
            raise ValueError(f"it has two tensors for {name!r}, one of them {key!r}")
        if name in wanted:
            named[name] = tensor
        else:
            spare += 1
    for name in sorted(wanted - set(named)):
        raise ValueError(f"it has no tensor for {name!r}")
    return named, spare


def _binarization(name: str, given: str | None) -> str:
    allowed = [mode for mode in ARCHITECTURES[name].binarizations if mode != "none"]
    if given is not None and given not in (allowed or ["none"]):
        raise ValueError(f"`binarization` of a {name} must be one of {allowed or ['none']}, not {given!r}")
    if given is None and allowed:
        raise ValueError(
            f"its tensors do not tell whether this {name} is of step 1 (binary activations) or of step 2 (binary "
            "weights too): say so with `binarization`, activations or full, which is a flag of "
            "`python -m larq_ssl.experiments.import_torch`"
        )
    return given or "none"


@functools.lru_cache(maxsize=16)
def _inventory(name: str) -> tuple[frozenset[str], int, float]:
    """Names of the weights of an architecture without classifier; about how many parameters and features at width 1.

    With them a file is measured before a network is built that is as large as its first tensor claims.
    """
    width = _SMALL if ARCHITECTURES[name].adjustable else 1.0
    encoder = build_blank(EncoderSpec(name, binarization="none", width=width))
    return frozenset(named_weights(encoder)), round(encoder.count_params() / width**2), encoder.feature_dim / width

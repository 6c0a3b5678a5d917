"""Tensors of a PyTorch checkpoint: where their numbers lie, and how they become arrays."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

STORAGES = {
    "torch.DoubleStorage": "f8",
    "torch.FloatStorage": "f4",
    "torch.HalfStorage": "f2",
    "torch.BFloat16Storage": "bfloat16",
    "torch.LongStorage": "i8",
    "torch.IntStorage": "i4",
    "torch.ShortStorage": "i2",
    "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1",
    "torch.BoolStorage": "bool",
    "torch.storage.UntypedStorage": "u1",
}
"""PyTorch's names of its storages, and what one number of them is."""


FLOATS = ("f8", "f4", "f2", "bfloat16")

_MOST_AXES = 32  # of NumPy


def item_size(kind: str) -> int:
    """Bytes of one number of a kind in `STORAGES`."""
    return 2 if kind == "bfloat16" else np.dtype(kind).itemsize


def decode(data: bytes, kind: str, byte_order: str) -> np.ndarray:
    """The numbers `[count]` in bytes; bfloat16, which NumPy lacks, becomes float32.

    # Arguments
        data: As they lie in the file.
        kind: One of the values of `STORAGES`.
        byte_order: `<` or `>`.
    """
    if kind == "bool":
        return np.frombuffer(data, "u1") != 0
    if kind == "bfloat16":
        # The upper half of a float32.
        return (np.frombuffer(data, f"{byte_order}u2").astype("u4") << 16).view("f4")
    return np.frombuffer(data, f"{byte_order}{kind}").astype(kind, copy=False)


@dataclasses.dataclass(frozen=True, eq=False)
class Storage:
    """Numbers in a row, which several tensors may share.

    # Arguments
        kind: One of the values of `STORAGES`.
        count: How many there are.
        read: Gets them from the file, as an array `[count]`.
    """

    kind: str
    count: int
    read: Callable[[], np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor whose numbers stay in the file until `numpy` is called.

    # Arguments
        storage: Where its numbers are.
        offset: Position of the first of them.
        shape: As in NumPy.
        strides: Numbers (not bytes) from one element to the next along each axis.
    # Raises
        ValueError: If it reaches beyond its storage.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.shape) != len(self.strides) or len(self.shape) > _MOST_AXES:
            raise ValueError(f"a tensor has {len(self.shape)} axes and {len(self.strides)} strides")
        if self.size and self._last >= self.storage.count:
            raise ValueError(f"a tensor of shape {self.shape} reaches beyond its {self.storage.count} stored numbers")

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that the elements take in the file, if none is used twice."""
        return self.size * item_size(self.storage.kind)

    def numpy(self) -> np.ndarray:
        """The tensor as an array of its own.

        # Raises
            ValueError: If the file is damaged or holds less than it claimed, or the tensor repeats stored numbers (as
                `expand` makes it): so small a file could fill any memory.
        """
        if self.size > self.storage.count:
            raise ValueError(f"A tensor of shape {self.shape} has only {self.storage.count} stored numbers.")
        numbers = self.storage.read()
        if not self.size:
            return np.empty(self.shape, numbers.dtype)
        if self._last >= len(numbers):
            raise ValueError(
                f"A tensor of shape {self.shape} reaches beyond the {len(numbers)} numbers that were read."
            )
        strides = [stride * numbers.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, strides).copy()

    @property
    def _last(self) -> int:
        return self.offset + sum((length - 1) * stride for length, stride in zip(self.shape, self.strides, strict=True))

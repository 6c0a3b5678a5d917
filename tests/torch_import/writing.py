"""Writes files as `torch.save` does, in both layouts, without PyTorch; also such as it never would."""

import collections
import dataclasses
import io
import pathlib
import struct
import zipfile
from typing import Any

import numpy as np

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
STORAGES = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor as PyTorch describes it.

    # Arguments
        numbers: Of its storage; tensors with the same array share one.
        storage: PyTorch's name of it; by default that of the dtype.
        claims: What the pickle says is the number of stored numbers, if not the truth.
        view: Start and length of the part of the storage that the tensor lies in (before PyTorch 0.4).
    """

    numbers: np.ndarray
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    storage: str | None = None
    claims: int | None = None
    view: tuple[int, int] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """The result of a function that the file names, with its module in front."""

    name: str
    arguments: tuple = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Instructions:
    """Instructions of the pickle machine, to stand where a value would."""

    code: bytes


class Pickle:
    """The pickle of a value, and the storages of its tensors by key."""

    def __init__(self, value: Any, views: bool = False):
        self._views = views  # the old layout says of each storage that it is not a view of another
        self.storages: dict[str, np.ndarray] = {}
        self.code = b"\x80\x02" + self._value(value) + b"."

    def _value(self, value: Any) -> bytes:
        if isinstance(value, Instructions):
            return value.code
        if isinstance(value, Call):
            return name(value.name) + self._value(value.arguments) + b"R"
        if isinstance(value, Tensor):
            return self._tensor(value)
        if isinstance(value, np.ndarray):
            strides = tuple(stride // value.itemsize for stride in np.empty(value.shape, value.dtype).strides)
            return self._tensor(Tensor(value.reshape(-1), 0, value.shape, strides))
        if isinstance(value, collections.OrderedDict):
            return name("collections.OrderedDict") + b")R" + self._items(value)
        if isinstance(value, dict):
            return b"}" + self._items(value)
        if isinstance(value, list):
            return b"](" + b"".join(map(self._value, value)) + b"e"
        if isinstance(value, tuple):
            return b"(" + b"".join(map(self._value, value)) + b"t"
        return plain(value)

    def _items(self, value: dict) -> bytes:
        return b"(" + b"".join(self._value(part) for pair in value.items() for part in pair) + b"u"

    def _tensor(self, tensor: Tensor) -> bytes:
        key = next((key for key, numbers in self.storages.items() if numbers is tensor.numbers), None)
        if key is None:
            key = str(len(self.storages))
            self.storages[key] = tensor.numbers
        kind = tensor.storage or STORAGES[tensor.numbers.dtype.name]
        count = tensor.numbers.size if tensor.claims is None else tensor.claims
        identity = plain("storage") + name(f"torch.{kind}") + plain(key) + plain("cpu") + plain(count)
        view = self._value(tensor.view and ("a view", *tensor.view)) if self._views else b""
        storage = b"(" + identity + view + b"tQ"
        place = self._value(tensor.offset) + self._value(tensor.shape) + self._value(tensor.strides)
        hooks = self._value(collections.OrderedDict())
        return name("torch._utils._rebuild_tensor_v2") + b"(" + storage + place + b"\x89" + hooks + b"tR"


def name(dotted: str) -> bytes:
    """The instruction that names a function or class."""
    module, _, attribute = dotted.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def plain(value: Any) -> bytes:
    """The instruction that makes a plain value."""
    if value is None or isinstance(value, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    if isinstance(value, int):
        if -(2**31) <= value < 2**31:
            return b"J" + struct.pack("<i", value)
        size = value.bit_length() // 8 + 1
        return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def zip_bytes(value: Any, big_endian: bool = False, **records: bytes) -> bytes:
    """A file of the layout of today; `records` replace its parts or add to them."""
    pickle = Pickle(value)
    order = ">" if big_endian else "<"
    parts = {"data.pkl": pickle.code, "byteorder": b"big" if big_endian else b"little"}
    for key, numbers in pickle.storages.items():
        parts[f"data/{key}"] = numbers.astype(numbers.dtype.newbyteorder(order)).tobytes()
    return archive_bytes({**parts, "version": b"3\n", **records})


def archive_bytes(parts: dict[str, bytes], root: str = "archive/", compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for part, data in parts.items():
            archive.writestr(f"{root}{part}", data)
    return stream.getvalue()


def legacy_bytes(value: Any, magic: int = MAGIC, protocol: int = PROTOCOL, little_endian: bool = True) -> bytes:
    """A file of the layout before PyTorch 1.6."""
    pickle = Pickle(value, views=True)
    system = {
        "protocol_version": protocol,
        "little_endian": little_endian,
        "type_sizes": {"short": 2, "int": 4, "long": 4},
    }
    head = [Pickle(part).code for part in (magic, protocol, system)]
    storages = [struct.pack("<q", numbers.size) + numbers.tobytes() for numbers in pickle.storages.values()]
    return b"".join([*head, pickle.code, Pickle(list(pickle.storages)).code, *storages])


LAYOUTS = {"zip": zip_bytes, "legacy": legacy_bytes}


def save(path: pathlib.Path, value: Any, layout: str = "zip") -> pathlib.Path:
    path.write_bytes(LAYOUTS[layout](value))
    return path

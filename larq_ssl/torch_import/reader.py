"""Reads the files of `torch.save` without PyTorch: the zip archive of today and the row of pickles before 1.6.

A checkpoint is untrusted: nothing in it is run (see `larq_ssl.torch_import.pickles`), nothing is unpacked, and
no more is read than the file holds. The archive has checksums, so a flipped bit is found; the older layout has
none.

# References
    - PyTorch's documentation: "Serialization semantics", and the source of `torch.serialization` (BSD-3-Clause)
"""

import dataclasses
import io
import os
import pathlib
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from larq_ssl.torch_import import pickles
from larq_ssl.torch_import.pickles import RefusedError
from larq_ssl.torch_import.tensors import Storage, decode, item_size

_ZIP_MAGIC = b"PK\x03\x04"
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_LONGEST_LINE = 1000
_LONGEST_NAME = 200
# All that zipfile raises on damaged archives.
_ZIP_ERRORS = (OSError, ValueError, EOFError, NotImplementedError, RuntimeError, struct.error, zipfile.BadZipFile)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What a file of `torch.save` holds.

    # Arguments
        contents: Plain Python values with `StoredTensor` for tensors, whose numbers are still in the file.
        layout: `zip` or `legacy`.
        size: Bytes of the file.
    """

    contents: Any
    layout: str
    size: int


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Opens a `.pth`, `.pt` or `.pth.tar` file.

    # Arguments
        path: A file of `torch.save`, in either layout.
    # Raises
        ValueError: If there is no such file, it is none of PyTorch's or of another kind, it is damaged, or it
            names anything but tensors and plain values; in one sentence.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise RefusedError(f"There is no file {str(path)!r}.")
    try:
        with open(path, "rb") as file:
            stream = _Stream(file)
            head = file.read(512)
            file.seek(0)
            contents, layout = _reader(head, stream.size)(path, stream)
    except RefusedError as error:
        raise RefusedError(f"{path} {error}.") from error
    return Checkpoint(contents, layout, stream.size)


class _Stream:
    """An open file that does not promise more than it holds."""

    def __init__(self, file: BinaryIO):
        self.file, self.size = file, os.fstat(file.fileno()).st_size
        self.tell = file.tell

    def seek(self, position: int) -> None:
        if not 0 <= position <= self.size:
            raise RefusedError("is cut short")
        self.file.seek(position)

    def read(self, count: int) -> bytes:
        if count > self.size - self.tell():
            raise RefusedError("is cut short")
        return self.file.read(count)

    def readline(self) -> bytes:
        line = self.file.readline(_LONGEST_LINE)
        if not line.endswith(b"\n"):
            raise RefusedError("is damaged: a line of it has no end")
        return line


@dataclasses.dataclass(frozen=True)
class _Record:
    """A part of the file.

    # Arguments
        start: Position of its first byte.
        size: Its length in bytes.
        checksum: CRC-32, or `None` where the layout has none.
    """

    start: int
    size: int
    checksum: int | None = None

    def read(self, stream: _Stream, what: str) -> bytes:
        stream.seek(self.start)
        data = stream.read(self.size)
        if self.checksum is not None and zlib.crc32(data) != self.checksum:
            raise RefusedError(f"is damaged: the checksum of {what} is wrong")
        return data


class _Storages:
    """The storages of a file, found while its pickle is read and located afterwards at the latest."""

    def __init__(self, path: pathlib.Path, byte_order: str):
        self._path, self._byte_order = path, byte_order
        self._last: tuple[str, np.ndarray] | None = None
        self.kinds: dict[str, tuple[str, int]] = {}
        self.records: dict[str, _Record] = {}

    def persistent(self, identity: Any) -> Storage:
        """The storage of a persistent id `("storage", kind, key, device, count[, view])`."""
        if not isinstance(identity, tuple) or not 5 <= len(identity) <= 6 or identity[0] != "storage":
            raise TypeError("a persistent id is no storage's")
        key, kind, count = identity[2], pickles.storage_kind(identity[1]), pickles.count(identity[4])
        if not isinstance(key, str) or len(key) > _LONGEST_NAME:
            raise TypeError("a storage has no name")
        if self.kinds.setdefault(key, (kind, count)) != (kind, count):
            raise ValueError(f"the storage {key!r} is described in two ways")
        if len(identity) == 5 or identity[5] is None:
            return Storage(kind, count, lambda: self._read(key))
        # Before 0.4, a tensor could refer to a part of a storage.
        _, start, length = identity[5]
        start, stop = pickles.count(start), pickles.count(start) + pickles.count(length)
        if stop > count:
            raise ValueError(f"a view of the storage {key!r} reaches beyond it")
        return Storage(kind, stop - start, lambda: self._read(key)[start:stop])

    def locate(self, key: str, record: _Record) -> None:
        """Says where a storage lies, which must hold as much as the pickle claims."""
        kind, count = self.kinds[key]
        if record.size != count * item_size(kind):
            raise RefusedError(f"is damaged: the storage {key!r} has {record.size} bytes, not {count} of {kind}")
        self.records[key] = record

    def _read(self, key: str) -> np.ndarray:
        # Tensors that share a storage follow each other.
        if self._last is None or self._last[0] != key:
            try:
                with open(self._path, "rb") as file:
                    data = self.records[key].read(_Stream(file), f"its storage {key!r}")
            except RefusedError as error:
                raise RefusedError(f"{self._path} {error}.") from error
            self._last = key, decode(data, self.kinds[key][0], self._byte_order)
        return self._last[1]


def _reader(head: bytes, size: int) -> Callable[[pathlib.Path, _Stream], tuple[Any, str]]:
    """Finds by the first bytes of a file what reads it."""
    if head.startswith(_ZIP_MAGIC):
        return _read_zip
    if head.startswith(b"\x80"):
        return _read_legacy
    if head[257:262] == b"ustar":
        raise RefusedError(
            "has the tar layout of PyTorch before 0.2; where you trust it, convert it with PyTorch: "
            "torch.save(torch.load(file, weights_only=False), new_file)"
        )
    if int.from_bytes(head[:8], "little") < size and head[8:9] == b"{":
        raise RefusedError("is a safetensors file; save its tensors as a dictionary with torch.save to import them")
    raise RefusedError(f"is no checkpoint of PyTorch: it begins with {head[:8]!r}" if head else "is empty")


def _read_zip(path: pathlib.Path, stream: _Stream) -> tuple[Any, str]:
    try:
        with zipfile.ZipFile(stream.file) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
    except _ZIP_ERRORS as error:
        raise RefusedError(f"is damaged or cut short: {error}") from error
    root = _root(list(entries))
    records = _records(entries, stream)
    byte_order = b"little"
    if f"{root}byteorder" in records:
        byte_order = records[f"{root}byteorder"].read(stream, "its byte order")
        if byte_order not in (b"little", b"big"):
            raise RefusedError(f"is damaged: its byte order is {byte_order[:16]!r}")
    storages = _Storages(path, "<" if byte_order == b"little" else ">")
    pickle = records[f"{root}data.pkl"].read(stream, "data.pkl")
    contents = pickles.load(io.BytesIO(pickle), storages.persistent)
    for key in storages.kinds:
        if f"{root}data/{key}" not in records:
            raise RefusedError(f"is damaged: the storage {key!r} is missing")
        storages.locate(key, records[f"{root}data/{key}"])
    return contents, "zip"


def _root(names: list[str]) -> str:
    """The folder of the archive in which a checkpoint lies."""
    roots = [name.removesuffix("data.pkl") for name in names if re.fullmatch(r"([^/]+/)?data\.pkl", name)]
    if len(roots) != 1:
        raise RefusedError("is a zip archive, but no checkpoint of PyTorch: it has no data.pkl")
    if any(name.startswith((f"{roots[0]}constants.pkl", f"{roots[0]}code/")) for name in names):
        raise RefusedError(
            "is a TorchScript archive, which is a program; save the state_dict of its module with torch.save instead"
        )
    return roots[0]


def _records(entries: dict[str, zipfile.ZipInfo], stream: _Stream) -> dict[str, _Record]:
    """Where the files of an archive lie: none is compressed, and together they are no larger than the archive."""
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
        raise RefusedError("is a compressed archive, which PyTorch never writes")
    if sum(entry.file_size for entry in entries.values()) > stream.size:
        raise RefusedError("is damaged: its parts together are larger than the file")
    records = {}
    for name, entry in entries.items():
        stream.seek(entry.header_offset)
        header = stream.read(30)
        if header[:4] != _ZIP_MAGIC:
            raise RefusedError(f"is damaged: {name!r} is not where it should be")
        name_length, extra_length = struct.unpack("<HH", header[26:])
        start = entry.header_offset + len(header) + name_length + extra_length
        if start + entry.file_size > stream.size:
            raise RefusedError("is cut short")
        records[name] = _Record(start, entry.file_size, entry.CRC)
    return records


def _read_legacy(path: pathlib.Path, stream: _Stream) -> tuple[Any, str]:
    try:
        magic = pickles.load(stream)
    except RefusedError:
        magic = None
    if magic != _MAGIC:
        raise RefusedError("is a plain pickle, which could run any code and is not read; use torch.save instead")
    protocol = pickles.load(stream)
    if protocol != _PROTOCOL:
        raise RefusedError("is of an unknown version of PyTorch's old layout")
    system = pickles.load(stream)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise RefusedError("was written on a big-endian machine in PyTorch's old layout, which does not say how")
    storages = _Storages(path, "<")
    contents = pickles.load(stream, storages.persistent)
    keys = pickles.load(stream)
    named = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    if not named or sorted(keys) != sorted(storages.kinds):
        raise RefusedError("is damaged: the list of its storages does not fit its tensors")
    for key in keys:
        size = int.from_bytes(stream.read(8), "little") * item_size(storages.kinds[key][0])
        record = _Record(stream.tell(), size)
        storages.locate(key, record)
        if record.start + size > stream.size:
            raise RefusedError("is cut short")
        stream.seek(record.start + size)
    return contents, "legacy"

"""Encoders and weights on disk: data, never code; there whole or not at all; read strictly."""

import dataclasses
import hashlib
import json
import os
import pathlib
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
import tensorflow as tf

from larq_ssl.files import whole_folder, write_json, write_whole
from larq_ssl.heads import HeadSpec, build_head
from larq_ssl.models.encoder import Encoder, EncoderSpec
from larq_ssl.models.registry import build_blank
from larq_ssl.models.transfer import TransferReport, assign_weights, named_weights

_FORMAT = "larq_ssl encoder, version 1"
_HEAD_FORMAT = "larq_ssl head, version 1"
_SPEC_FILE = "encoder.json"
_HEAD_FILE = "head.json"
_WEIGHTS_FILE = "weights.npz"
_Path = str | os.PathLike
# All that numpy and zipfile raise on damaged files.
_READ_ERRORS = (
    SyntaxError,
    tokenize.TokenError,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    RuntimeError,
    MemoryError,
    OverflowError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)


def save_encoder(encoder: Encoder, folder: _Path) -> None:
    """Writes an encoder into a new folder: `encoder.json`, which rebuilds it, and `weights.npz`.

    # Raises
        ValueError: if the folder exists, or a weight is not finite.
    """
    description = {
        "format": _FORMAT,
        "hash": encoder_hash(encoder),
        "feature_dim": encoder.feature_dim,
        "spec": dataclasses.asdict(encoder.spec),
    }
    with whole_folder(folder) as unfinished:
        save_weights(encoder, unfinished / _WEIGHTS_FILE)
        write_json(unfinished / _SPEC_FILE, description)


def read_spec(folder: _Path) -> EncoderSpec:
    """The spec of the encoder in a folder, whose weights are not looked at.

    # Raises
        ValueError: if the folder is not one of an encoder.
    """
    description = _read_description(pathlib.Path(folder) / _SPEC_FILE, "an encoder", _FORMAT, EncoderSpec)
    return EncoderSpec(**description["spec"])


def read_hash(folder: _Path) -> str:
    """The hash of the encoder in a folder as it was saved; `load_encoder` compares the weights with it.

    # Raises
        ValueError: if the folder is not one of an encoder.
    """
    description = _read_description(pathlib.Path(folder) / _SPEC_FILE, "an encoder", _FORMAT, EncoderSpec)
    return str(description.get("hash"))


def load_encoder(folder: _Path, image_size: int | None = None) -> Encoder:
    """Rebuilds the encoder of a folder.

    # Arguments
        folder: Written by `save_encoder`.
        image_size: Another size than the one it was saved with; `None` for that one.
    # Raises
        ValueError: if the folder is not such a one, or is not as it was written.
    """
    folder = pathlib.Path(folder)
    description = _read_description(folder / _SPEC_FILE, "an encoder", _FORMAT, EncoderSpec)
    spec = dict(description["spec"])
    if image_size is not None:
        spec["image_size"] = image_size
    encoder = build_blank(EncoderSpec(**spec))
    load_weights(encoder, folder / _WEIGHTS_FILE)
    if encoder_hash(encoder) != description.get("hash"):
        raise ValueError(f"{folder}: the weights or the spec are not those that were saved; the hash differs.")
    return encoder


def save_head(head: tf.keras.Sequential, folder: _Path, overwrite: bool = False) -> None:
    """Writes a head of `larq_ssl.heads.mlp_head` into a new folder: `head.json`, which rebuilds it, and `weights.npz`.

    # Arguments
        head: The head.
        folder: Must not exist, unless it may be overwritten.
        overwrite: Replace what is there.
    # Raises
        ValueError: if the folder exists, or a weight is not finite.
    """
    with whole_folder(folder, overwrite) as unfinished:
        save_weights(head, unfinished / _WEIGHTS_FILE)
        write_json(unfinished / _HEAD_FILE, {"format": _HEAD_FORMAT, "spec": dataclasses.asdict(head.spec)})


def load_head(folder: _Path, name: str | None = None) -> tf.keras.Sequential:
    """Rebuilds the head of a folder.

    # Arguments
        folder: Written by `save_head`.
        name: Another name than the one it was saved with; `None` for that one.
    # Raises
        ValueError: if the folder is not such a one, or is damaged.
    """
    folder = pathlib.Path(folder)
    spec = HeadSpec(**_read_description(folder / _HEAD_FILE, "a head", _HEAD_FORMAT, HeadSpec)["spec"])
    head = build_head(spec if name is None else dataclasses.replace(spec, name=name))
    load_weights(head, folder / _WEIGHTS_FILE)
    return head


def encoder_hash(encoder: Encoder) -> str:
    """16 hexadecimal digits that stand for the weights and the spec; the image size does not count."""
    spec = {**dataclasses.asdict(encoder.spec), "image_size": None}
    digest = hashlib.sha256(json.dumps(spec, sort_keys=True).encode())
    for key, variable in sorted(named_weights(encoder).items()):
        array = np.ascontiguousarray(variable.numpy())
        digest.update(f"{key} {array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def save_weights(model: tf.keras.Model, file: _Path) -> None:
    """Writes the weights of any model, such as a head, to a new `.npz` file.

    # Raises
        ValueError: if the file exists, or a weight is not finite.
    """
    arrays = {key: variable.numpy() for key, variable in named_weights(model).items()}
    for key, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"The weight {key!r} of `{model.name}` is not finite: nothing was saved.")
    write_arrays(arrays, file)


def write_arrays(arrays: Mapping[str, np.ndarray], file: _Path) -> None:
    """Writes arrays to a new `.npz` file, under any names.

    # Raises
        ValueError: if the file exists.
    """

    def write(stream: BinaryIO) -> None:
        with zipfile.ZipFile(stream, "w") as archive:
            for key, array in arrays.items():  # not `np.savez`: its own arguments forbid some names
                with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)

    write_whole(file, write)


def load_weights(model: tf.keras.Model, file: _Path) -> TransferReport:
    """Gives a model the weights of a file written by `save_weights`; strict, see `assign_weights`.

    # Raises
        ValueError: if the file is not such a one, is damaged, or does not fit the model.
    """
    arrays = read_arrays(file)
    try:
        return assign_weights(model, arrays)
    except ValueError as error:
        raise ValueError(f"{file} does not fit: {error}") from error


def read_arrays(file: _Path) -> dict[str, np.ndarray]:
    """The arrays of a `.npz` file by name; nothing in it is unpickled.

    # Raises
        ValueError: if the file is not such a one, or is damaged.
    """
    try:
        with np.load(file, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except _READ_ERRORS as error:
        raise ValueError(f"{file} is not a readable file of weights: {error}") from error


def _read_description(file: pathlib.Path, what: str, file_format: str, spec_class: type) -> dict[str, Any]:
    try:
        description = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not the description of {what}: {error}") from error
    if not isinstance(description, dict) or description.get("format") != file_format:
        raise ValueError(f"{file} is not the description of {what}: `format` is not {file_format!r}.")
    _modernise(description.get("spec"))
    fields = dataclasses.fields(spec_class)
    known = {field.name for field in fields}
    # What an earlier version did not know yet is at its default.
    needed = {field.name for field in fields if field.default is dataclasses.MISSING}
    spec = description.get("spec")
    if not isinstance(spec, dict) or not needed <= set(spec) <= known:
        raise ValueError(f"{file}: `spec` must have the keys {sorted(needed)} and may have {sorted(known - needed)}.")
    return description


def _modernise(spec: Any) -> None:
    """Gives what version 0.1 wrote of a head the names of today."""
    if isinstance(spec, dict) and isinstance(spec.get("batch_norm"), bool) and "norm" not in spec:
        spec["norm"] = "batch" if spec.pop("batch_norm") else "none"

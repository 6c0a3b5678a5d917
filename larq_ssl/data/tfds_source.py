"""Prepared data sets of TensorFlow Datasets, as encoded images by index.

ArrayRecord files are read through `tfds.data_source`. TFRecord files have no index; one is made of the lengths that
stand before each record, shard by shard when it is first needed, and kept in memory. So both formats give any image
at any time, and order, resume and sharding are the same for all data sets. (It reads records at random: TFRecords on
a spinning disk or a remote file system are better prepared as ArrayRecord, or copied to a local disk.)
"""

import os
import re
import struct
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from larq_ssl.data.datasets import ImageDataset, NothingHeldOutError, fingerprint, split_indices

_VAL_SPLITS = ("validation", "val", "test")
# A record: length (8 bytes), checksum of the length (4), data, checksum of the data (4).
_HEADER, _FOOTER = 12, 4
# As in `namespace:name`; what follows the colon of a version is a digit or a star.
_COMMUNITY = re.compile(r"[^/:]*:[^\d*]")


class TFRecordIndex:
    """Records of some TFRecord files by number.

    # Arguments
        files: Paths, in order.
        lengths: Number of records of each.
    """

    def __init__(self, files: list[str], lengths: list[int]) -> None:
        self._files = files
        self._first = np.concatenate([[0], np.cumsum(lengths)])
        self._offsets: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()

    def _shard(self, shard: int) -> np.ndarray:
        """Where the records of a file begin; after the last one, the end."""
        with self._lock:
            if shard not in self._offsets:
                offsets, end = [0], os.path.getsize(self._files[shard])
                with open(self._files[shard], "rb", buffering=0) as file:
                    while offsets[-1] < end:
                        file.seek(offsets[-1])
                        (length,) = struct.unpack("<Q", file.read(8))
                        offsets.append(offsets[-1] + _HEADER + length + _FOOTER)
                count = int(self._first[shard + 1] - self._first[shard])
                if len(offsets) - 1 != count or offsets[-1] != end:
                    raise ValueError(f"{self._files[shard]!r} is damaged: {count} whole records were expected in it")
                self._offsets[shard] = np.array(offsets, np.int64)
            return self._offsets[shard]

    def __getitem__(self, index: int) -> bytes:
        shard = int(np.searchsorted(self._first, index, side="right")) - 1
        offsets = self._shard(shard)
        begin, end = offsets[index - self._first[shard] :][:2]
        with open(self._files[shard], "rb") as file:
            file.seek(begin + _HEADER)
            return file.read(end - begin - _HEADER - _FOOTER)


def find_builder(name: str, data_dir: str | None) -> Any:
    """The builder of a prepared data set.

    # Raises
        ValueError: If there is none of that name, it is not prepared, or it comes with code of its own.
    """
    if _COMMUNITY.match(name):
        raise ValueError(
            f"dataset is {name!r}: it must have no namespace, for whose data sets TensorFlow Datasets downloads code "
            "and runs it; prepare it with `tfds build`, and give its images as a 'folder'"
        )
    # Imported where it is used: it takes seconds, and other data sets do not need it.
    import tensorflow_datasets as tfds

    where = data_dir or os.environ.get("TFDS_DATA_DIR") or tfds.core.constants.DATA_DIR
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except (tfds.core.registered.DatasetNotFoundError, ValueError) as error:
        raise ValueError(
            f"dataset is {name!r}: it must be 'digits', 'folder' or a data set of TensorFlow Datasets, but none of "
            f"that name is known to it or lies in {str(where)!r}"
        ) from error
    if not builder.is_prepared():
        raise ValueError(
            f"dataset {name!r} is not prepared in {str(where)!r}: run `tfds build {name} --data_dir={where}`, "
            "or give the data_dir where it is"
        )
    return builder


def _image_key(name: str, features: Any) -> str:
    import tensorflow_datasets as tfds

    keys = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
    if "image" in keys or len(keys) == 1:
        return "image" if "image" in keys else keys[0]
    raise ValueError(f"dataset {name!r} has {len(keys)} image features, not one: {sorted(features)}")


def examples(builder: Any, split: str, image: str) -> Callable[[int], Mapping[str, Any]]:
    """The features of the example of an index, its image as encoded bytes."""
    import tensorflow_datasets as tfds

    decoders = {image: tfds.decode.SkipDecoding()}
    info = builder.info.splits[split]
    if builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD:
        return builder.as_data_source(split, decoders=decoders).__getitem__
    if builder.info.file_format == tfds.core.FileFormat.TFRECORD:
        records = TFRecordIndex([os.fspath(path) for path in info.filepaths], list(info.shard_lengths))
        return lambda index: builder.info.features.deserialize_example_np(records[index], decoders=decoders)
    raise ValueError(
        f"dataset {builder.name!r} is prepared as {builder.info.file_format}: it must be array_record or tfrecord"
    )


def text(value: Any) -> str:
    """A text of an example, which is bytes or not, depending on the file format."""
    return value.decode() if isinstance(value, bytes) else str(value)


def load_tfds(name: str, split: str, data_dir: str | None, val_fraction: float, seed: int) -> ImageDataset:
    """See `datasets.load_dataset`."""
    import tensorflow_datasets as tfds

    builder = find_builder(name, data_dir)
    splits = builder.info.splits
    val = next((s for s in _VAL_SPLITS if s in splits), None)
    if val is not None and val_fraction > 0.0:
        raise ValueError(f"val_fraction is {val_fraction}: it must be 0, because {name!r} has a split {val!r}")
    if split == "val" and val is None and val_fraction == 0.0:
        raise NothingHeldOutError(
            f"val_fraction is 0 and {name!r} has no split of {_VAL_SPLITS}: its splits are {list(splits)}"
        )
    chosen = val if split == "val" and val is not None else "train"
    if chosen not in splits:
        raise ValueError(f"{name!r} has no split {chosen!r}: its splits are {list(splits)}")

    features = builder.info.features
    labelled = "label" in features and isinstance(features["label"], tfds.features.ClassLabel)
    count, image = splits[chosen].num_examples, _image_key(name, features)
    example = examples(builder, chosen, image)

    def read(index: int) -> tuple[bytes, int]:
        found = example(index)
        return bytes(found[image]), int(found["label"]) if labelled else -1

    dataset = ImageDataset(
        name=name,
        split=split,
        size=count,
        classes=features["label"].num_classes if labelled else None,
        class_names=tuple(features["label"].names) if labelled else (),
        fingerprint=fingerprint("tfds", builder.info.full_name, chosen, str(splits[chosen].shard_lengths)),
        read=read,
        describe=lambda i: f"{builder.info.full_name} {chosen}[{i}]",
        file_name=(lambda i: text(example(i)["file_name"])) if "file_name" in features else None,
    )
    if val is None and val_fraction > 0.0:
        held_out = round(val_fraction * count)
        if not 0 < held_out < count:
            raise ValueError(f"val_fraction is {val_fraction}: of {count} images that leaves a split empty")
        train_part, val_part = split_indices(dataset.labels(), held_out, seed)
        dataset = dataset.subset(val_part if split == "val" else train_part, f"{split} {val_fraction} {seed}")
    return dataset

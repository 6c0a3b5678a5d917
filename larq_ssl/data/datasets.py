"""Labelled or unlabelled images by index, wherever they lie: the bundled digits, folders, TensorFlow Datasets."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from concurrent import futures
from typing import Any

import numpy as np
from absl import logging

from larq_ssl.data import rng
from larq_ssl.data.decode import BadImageError, decode

SPLITS = ("train", "val")
# Images are kept decoded in memory if they are of one size, small, and few enough.
MEMORY_SIDE = 64
MEMORY_BYTES = 2**30


@dataclasses.dataclass(frozen=True)
class ImageDataset:
    """Images by index `0 .. size - 1`, with class labels where there are any.

    # Arguments
        name, split: Where the images come from.
        size: Number of images.
        classes: Number of classes, `None` without labels.
        class_names: Their names, in the order of the labels.
        fingerprint: Changes when the images, their order or the labels do.
        read: Gives the encoded image of an index, and its label (-1: none). `None` if `images` is there.
        targets: Labels int64 `[size]`, -1 where there is none; `None` if only `read` knows them.
        describe: Names the image of an index in messages.
        images: All images decoded, uint8 `[size, height, width, 3]`, if they are kept in memory.
        file_name: Name of the file of an index, without folders; `None` where images have none.
    """

    name: str
    split: str
    size: int
    classes: int | None
    class_names: tuple[str, ...]
    fingerprint: str
    read: Callable[[int], tuple[bytes, int]] | None = None
    targets: np.ndarray | None = None
    describe: Callable[[int], str] = str
    images: np.ndarray | None = None
    file_name: Callable[[int], str] | None = None

    @property
    def image_shape(self) -> tuple[int, int] | None:
        """Height and width, `None` if they vary or are not known."""
        return None if self.images is None else (self.images.shape[1], self.images.shape[2])

    def class_count(self) -> int:
        """Number of classes, for what cannot do without labels.

        # Raises
            ValueError: If the images have no labels.
        """
        if not self.classes:
            raise ValueError(f"{self.name} ({self.split}) has no labels: put the images into a folder per class")
        return self.classes

    def labels(self) -> np.ndarray:
        """Labels int64 `[size]`, -1 where there is none. (Where only the records know them, all are read, once.)"""
        return self._labels

    @functools.cached_property
    def _labels(self) -> np.ndarray:
        if self.targets is not None:
            return self.targets
        if self.classes is None:
            return np.full(self.size, -1, np.int64)
        logging.info("Reading %d records of %s for their labels", self.size, self.name)
        with futures.ThreadPoolExecutor() as pool:
            return np.fromiter(pool.map(lambda i: self.encoded(i)[1], range(self.size)), np.int64, self.size)

    def encoded(self, index: int) -> tuple[bytes, int]:
        """The bytes of an image that is not kept decoded, and its label."""
        if self.read is None:
            raise ValueError(f"{self.name} is kept decoded: it has no encoded images")
        return self.read(index)

    def subset(self, indices: np.ndarray, note: str) -> "ImageDataset":
        """Only the images of `indices`, in that order, numbered anew; `note` enters the fingerprint."""
        indices = np.asarray(indices, np.int64)
        read, describe, file_name = self.read, self.describe, self.file_name
        # Labels that only the records know stay there, until somebody asks for them.
        known = self.targets is not None or "_labels" in vars(self)
        return dataclasses.replace(
            self,
            size=len(indices),
            read=None if read is None else lambda i: read(int(indices[i])),
            targets=self.labels()[indices] if known else None,
            describe=lambda i: describe(int(indices[i])),
            images=None if self.images is None else self.images[indices],
            file_name=None if file_name is None else lambda i: file_name(int(indices[i])),
            fingerprint=fingerprint(self.fingerprint, note, indices.tobytes()),
        )

    def relabelled(
        self, rule: Callable[[np.ndarray, np.ndarray], np.ndarray], class_names: tuple[str, ...] | None = None
    ) -> "ImageDataset":
        """The same images with other labels; their fingerprint is for the caller to change, if it has to.

        # Arguments
            rule: Given indices and labels, two arrays of one length, returns the new labels.
            class_names: Names of the new labels; `None` if they stay.
        """
        read = self.read
        names: dict[str, Any] = {} if class_names is None else {"classes": len(class_names), "class_names": class_names}

        def read_anew(index: int) -> tuple[bytes, int]:
            data, label = read(index)  # type: ignore[misc]  # only called where there is one
            return data, int(rule(np.array([index]), np.array([label]))[0])

        return dataclasses.replace(
            self,
            read=None if read is None else read_anew,
            targets=None if self.targets is None else rule(np.arange(self.size), self.targets),
            **names,
        )


class NothingHeldOutError(ValueError):
    """A data set has no part to validate with, and none of its training images were asked to be held out."""


def in_memory(dataset: ImageDataset) -> ImageDataset:
    """The data set with its images kept decoded, if they are of one size, small, few enough and all good."""
    if dataset.images is not None:
        return dataset
    try:
        width, height = decode(dataset.encoded(0)[0]).size
    except (BadImageError, OSError):
        return dataset
    if max(height, width) > MEMORY_SIDE or dataset.size * height * width * 3 > MEMORY_BYTES:
        return dataset
    images = np.empty((dataset.size, height, width, 3), np.uint8)
    labels = np.empty(dataset.size, np.int64)

    def load(index: int) -> bool:
        try:
            data, labels[index] = dataset.encoded(index)
            image = decode(data)
        except (BadImageError, OSError):
            return False
        if image.size != (width, height):
            return False
        images[index] = np.asarray(image)
        return True

    with futures.ThreadPoolExecutor() as pool:
        if not all(pool.map(load, range(dataset.size))):
            return dataset
    return dataclasses.replace(dataset, read=None, images=images, targets=labels)


def fingerprint(*parts: str | bytes) -> str:
    """16 hexadecimal digits that change when a part does."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:16]


def _random_order(labels: np.ndarray, seed: int) -> np.ndarray:
    """All indices, so ordered that every beginning has the classes in their proportions."""
    draws = rng.bits(seed, 0, np.arange(len(labels), dtype=np.int64), 0, int(rng.Op.SUBSET), 0)
    order = np.lexsort((np.arange(len(labels)), draws, labels))
    _, counts = np.unique(labels, return_counts=True)
    rank = np.concatenate([(np.arange(c) + 0.5) / c for c in counts])
    return order[np.lexsort((draws[order], rank))]


def balanced_order(labels: np.ndarray, seed: int, draw: int = 1) -> np.ndarray:
    """All indices, so ordered that every beginning has equally many of each class (as far as there are so many)."""
    draws = rng.bits(seed, 0, np.arange(len(labels), dtype=np.int64), 0, int(rng.Op.SUBSET), draw)
    order = np.lexsort((np.arange(len(labels)), draws, labels))
    _, counts = np.unique(labels, return_counts=True)
    rank = np.concatenate([np.arange(c) for c in counts])
    return order[np.lexsort((draws[order], rank))]


def split_indices(labels: np.ndarray, val_count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A seeded stratified split, each part in the original order."""
    order = _random_order(labels, seed)
    return np.sort(order[val_count:]), np.sort(order[:val_count])


@functools.lru_cache(maxsize=1)
def _digits_arrays() -> tuple[np.ndarray, np.ndarray]:
    # Imported where it is used: it takes a second, and other data sets do not need it.
    from sklearn.datasets import load_digits

    bunch = load_digits()
    grey = np.floor(bunch.images * (255.0 / 16.0) + 0.5).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1), bunch.target.astype(np.int64)


def _digits(split: str) -> ImageDataset:
    """scikit-learn's 1,797 handwritten digits of 8x8 pixels: 1,400 to train on, 397 held out."""
    images, labels = _digits_arrays()
    train, val = split_indices(labels, len(labels) - 1400, seed=0)
    indices = train if split == "train" else val
    return ImageDataset(
        name="digits",
        split=split,
        size=len(indices),
        classes=10,
        class_names=tuple("0123456789"),
        fingerprint=fingerprint("digits", images[indices].tobytes(), labels[indices].tobytes()),
        targets=labels[indices],
        describe=lambda i: f"digit {indices[i]}",
        images=images[indices],
    )


def is_voc(name: str) -> bool:
    """Whether a name is that of images with several labels each, which `voc.load_voc` finds."""
    return name == "voc_folder" or name.replace(":", "/").partition("/")[0] == "voc"


def load_dataset(
    name: str,
    split: str = "train",
    data_dir: str | None = None,
    val_fraction: float = 0.0,
    seed: int = 0,
    limit: int | None = None,
    classes_list: str | None = None,
) -> ImageDataset:
    """Finds a data set. Small images of one size are read into memory; others are read when they are needed.

    # Arguments
        name: "digits" (scikit-learn's), "folder" (`train/` and `val/` or `test/` under `data_dir`, with or without a
            folder per class) or a prepared data set of TensorFlow Datasets, such as "cifar10" or "imagenet2012".
            "imagenet100" is "imagenet2012" with `classes_list="imagenet100"`. "voc/2007", "voc/2012" and
            "voc_folder" have several labels per image, see `voc.load_voc`.
        split: "train" or "val". For TensorFlow Datasets "val" is the validation split, else the test split.
        data_dir: Where the folders, or the prepared data sets, lie.
        val_fraction: Fraction of the training images held out as "val", where the data set has no such part.
        seed: Of that split and of `limit`.
        limit: Takes only a fixed subset of so many images, with equally many of each class.
        classes_list: Takes only images of these classes: "imagenet100" or a file, see `class_lists.read_class_list`.
    """
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}: it must be one of {SPLITS}")
    if not 0.0 <= val_fraction < 1.0:
        raise ValueError(f"val_fraction is {val_fraction}: it must lie in [0, 1)")
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}: it must be at least 1")
    if name == "digits":
        if data_dir is not None:
            raise ValueError(
                f"data_dir is {data_dir!r}: it must not be given, because the digits come with scikit-learn"
            )
        if val_fraction > 0.0:
            raise ValueError(f"val_fraction is {val_fraction}: it must be 0, because the digits have images to test on")
        dataset = _digits(split)
    elif name == "folder":
        from larq_ssl.data.folder import load_folder

        dataset = load_folder(split, data_dir, val_fraction, seed)
    elif is_voc(name):
        from larq_ssl.data.voc import load_voc

        if val_fraction > 0.0:
            raise ValueError(f"val_fraction is {val_fraction}: it must be 0, because {name!r} has images to test on")
        dataset = load_voc(name, split, data_dir)
    else:
        from larq_ssl.data.tfds_source import load_tfds

        dataset = load_tfds("imagenet2012" if name == "imagenet100" else name, split, data_dir, val_fraction, seed)
    if classes_list is not None or name == "imagenet100":
        from larq_ssl.data.class_lists import read_class_list, restrict

        restricted = restrict(dataset, read_class_list(classes_list or name))
        dataset = dataclasses.replace(restricted, name=name)
    if limit is not None and limit < dataset.size:
        order = balanced_order(dataset.labels(), seed)
        dataset = dataset.subset(np.sort(order[:limit]), f"limit {limit}")
    return in_memory(dataset)

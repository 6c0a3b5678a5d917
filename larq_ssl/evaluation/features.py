"""Features of a labelled data set, extracted once and kept in a cache that cannot be mistaken."""

import dataclasses
import hashlib
import json
import os
import pathlib
import struct
import warnings
import weakref
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import tensorflow as tf

from larq_ssl import files
from larq_ssl.checkpoints import NotFiniteError
from larq_ssl.data import pipeline
from larq_ssl.data.datasets import ImageDataset
from larq_ssl.evaluation.outputs import named_output
from larq_ssl.models.folder import encoder_hash

Batch = Mapping[str, tf.Tensor]
Progress = Callable[[int, int], object]
"""Called with the number of images (or epochs) done and their total."""

READ_ERRORS = (
    ValueError,
    KeyError,
    OSError,
    EOFError,
    TypeError,
    AttributeError,
    NotImplementedError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)
"""What numpy and zipfile raise for files that are truncated, altered, or no archive at all."""
# Part of the cache key: raise it when the evaluation view or the file format changes.
_CACHE_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Features:
    """What a protocol sees of a data set.

    # Arguments
        features: Float32 array `[images, dim]`.
        labels: Int64 array `[images]`; -1 where there is none.
        ids: Int64 array `[images]`, the examples' ids in their data set.
    """

    features: np.ndarray
    labels: np.ndarray
    ids: np.ndarray

    def __post_init__(self) -> None:
        if self.features.ndim != 2:
            raise ValueError(f"`features` must be [images, dim], got shape {self.features.shape}.")
        for name in ("labels", "ids"):
            shape = getattr(self, name).shape
            if shape != (len(self),):
                raise ValueError(f"`{name}` must be one per row of `features` ({len(self)}), got shape {shape}.")

    def __len__(self) -> int:
        return len(self.features)

    def select(self, rows: np.ndarray) -> "Features":
        """The features of some rows (indices or a mask)."""
        return Features(self.features[rows], self.labels[rows], self.ids[rows])


def extract(
    encoder: tf.keras.Model,
    dataset: ImageDataset,
    image_size: int,
    batch_size: int = 256,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    output: str | None = None,
    view: str = "torchvision",
) -> Features:
    """Run a frozen encoder once over all images of a data set, in their order.

    The encoder runs in inference mode, under its own preprocessing and precision; what comes out is float32.
    It sees each image once, as probes see it (`pipeline.image_batches`).

    # Arguments
        encoder: An `Encoder`; its output must be `[batch, dim]`.
        dataset: Labelled images; without labels, all labels are -1.
        image_size: Side of the images that the encoder sees.
        batch_size: Images per step. It does not alter the result beyond rounding.
        cache_dir: Folder of cached features, or `None`. A file is used if encoder (weights and structure),
            data set, image size, precision and preprocessing are the same; a damaged or foreign file is
            recomputed with a warning. Files hold plain arrays, nothing is unpickled.
        progress: Called with images done and in all, after each batch.
        output: One of the encoder's `named_outputs` at that size; by default its features.
        view: What is done to an image before, see `reader.evaluation_image`.
    # Returns
        `Features`.
    # Raises
        ValueError: If the features are not `[batch, dim]`, or there is no such output.
        NotFiniteError: If a feature is not finite; it is a `ValueError`.
    """
    encode = frozen(encoder, image_size, output)
    if cache_dir is None:
        return _run(encode, dataset, image_size, batch_size, progress, view)
    key = _cache_key(encoder, dataset, image_size, output, view)
    path = _cache_path(cache_dir, dataset, image_size, key)
    features = _read_cache(path, key)
    if features is None:
        features = _run(encode, dataset, image_size, batch_size, progress, view)
        # Not `dataclasses.asdict`, which copies what it finds.
        arrays = {"features": features.features, "labels": features.labels, "ids": features.ids}
        files.write_whole(path, lambda file: np.savez(file, key=np.array(key), **arrays), overwrite=True)
    return features


def holdout(train: Features, per_class: int, seed: int = 0) -> tuple[Features, Features]:
    """Set some training images of each class aside, to choose hyper-parameters without the test images.

    # Arguments
        train: Features with labels.
        per_class: Images of each class to set aside.
        seed: Chooses which.
    # Returns
        The remaining training features, and those set aside.
    # Raises
        ValueError: If a class has not more than `per_class` images.
    """
    aside = held_out(train.labels, per_class, seed)
    return train.select(~aside), train.select(aside)


def held_out(labels: np.ndarray, per_class: int, seed: int = 0) -> np.ndarray:
    """Which images `holdout` sets aside: a mask `[images]`, given their labels."""
    counts = np.unique(labels, return_counts=True)[1]
    if not 0 < per_class < counts.min():
        raise ValueError(
            f"`per_class` must be above 0 and below the size of the smallest class ({counts.min()}), "
            f"got {per_class}."
        )
    order = np.random.default_rng(seed).permutation(len(labels))
    # A stable sort keeps the shuffled order within each class.
    by_class = order[np.argsort(labels[order], kind="stable")]
    place_in_class = np.concatenate([np.arange(count) for count in counts])
    aside = np.zeros(len(labels), bool)
    aside[by_class[place_in_class < per_class]] = True
    return aside


Encode = Callable[[tf.Tensor], tf.Tensor]
_COMPILED: "weakref.WeakKeyDictionary[tf.keras.Model, dict[tuple[int, str | None], Encode]]" = (
    weakref.WeakKeyDictionary()
)


def frozen(encoder: tf.keras.Model, image_size: int, output: str | None = None) -> Encode:
    """The encoder in inference mode as one graph, traced once, however often features are extracted.

    # Arguments
        encoder, image_size, output: See `extract`.
    # Returns
        A function from images uint8 `[batch, image_size, image_size, 3]` to features float32 `[batch, dim]`.
    """
    graphs = _COMPILED.setdefault(encoder, {})
    if (image_size, output) not in graphs:
        network = _network(encoder, image_size, output)

        # A signature with a free batch size: a smaller last batch would trace the network again.
        @tf.function(input_signature=[tf.TensorSpec([None, image_size, image_size, 3], tf.uint8)])
        def encode(images: tf.Tensor) -> tf.Tensor:
            output = network()(images, training=False)
            if not tf.is_tensor(output) or output.shape.rank != 2:
                raise ValueError(f"`encoder` must map images to [batch, dim], not to {output}.")
            return tf.cast(output, tf.float32)

        graphs[image_size, output] = encode
    return graphs[image_size, output]


def _network(encoder: tf.keras.Model, image_size: int, output: str | None) -> Callable[[], tf.keras.Model]:
    if output is None:
        # The table must not keep alive what it is keyed by.
        return weakref.ref(encoder)
    # A model of its own, of the same layers.
    other = named_output(encoder, image_size, output)
    return lambda: other


def _run(
    encode: Encode,
    dataset: ImageDataset,
    image_size: int,
    batch_size: int,
    progress: Progress | None,
    view: str,
) -> Features:
    def parts() -> Iterator[tuple[tf.Tensor, Batch]]:
        done = 0
        for batch in pipeline.image_batches(dataset, image_size, batch_size, protocol=view):
            yield encode(batch["image"]), batch
            done += len(batch["id"])
            if progress is not None:
                progress(done, dataset.size)

    return _collect(parts(), dataset.size)


def _collect(parts: Iterable[tuple[tf.Tensor, Batch]], size: int) -> Features:
    """Features of at most `size` images; no second copy of them is ever held."""
    features = np.empty((0, 0), np.float32)
    labels, ids = np.empty(size, np.int64), np.empty(size, np.int64)
    count = 0
    for rows, batch in parts:
        if not count:
            features = np.empty((size, rows.shape[1]), np.float32)
        place = slice(count, count + len(rows))
        features[place], labels[place], ids[place] = rows.numpy(), batch["label"].numpy(), batch["id"].numpy()
        count += len(rows)
    if not count:
        raise ValueError("`dataset` holds no image.")
    result = Features(features[:count], labels[:count], ids[:count])
    # A sum is finite only if all that it adds is: no mask as large as the features is made.
    bad = ~np.isfinite(np.einsum("ij->i", result.features, dtype=np.float64))
    if bad.any():
        raise NotFiniteError(
            f"`encoder` gave features that are not finite for {bad.sum()} of {len(bad)} images, "
            f"first for the image with id {result.ids[bad][0]}."
        )
    return result


def _cache_key(encoder: tf.keras.Model, dataset: ImageDataset, image_size: int, output: str | None, view: str) -> str:
    # What is as it always was is left out, so that earlier files stay valid.
    special = {**({} if output is None else {"output": output}), **({} if view == "torchvision" else {"view": view})}
    return json.dumps(
        {
            "version": _CACHE_VERSION,
            "encoder": encoder_hash(encoder),
            "dataset": dataset.fingerprint,
            "image_size": image_size,
            "preprocessing": encoder.spec.preprocessing,
            "precision": sorted({layer.compute_dtype or "" for layer in encoder.layers}),
            **special,
        },
        sort_keys=True,
    )


def _cache_path(cache_dir: str | os.PathLike[str], dataset: ImageDataset, image_size: int, key: str) -> pathlib.Path:
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    name = dataset.name.replace("/", "_")
    return pathlib.Path(cache_dir) / f"{name}-{dataset.split}-{image_size}-{digest}.npz"


def _read_cache(path: pathlib.Path, key: str) -> Features | None:
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if str(arrays["key"]) != key:
                raise ValueError("it was made by another encoder or of other data")
            return Features(arrays["features"], arrays["labels"], arrays["ids"])
    except READ_ERRORS as error:
        warnings.warn(f"Cached features {str(path)!r} are unusable ({error}); they are computed again.", stacklevel=3)
        return None

"""What an encoder makes of images: their neighbours, which classes are taken for which, and a map."""

import dataclasses
import io
import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from larq_ssl.data import datasets
from larq_ssl.data.datasets import ImageDataset
from larq_ssl.data.reader import Reader, evaluation_image
from larq_ssl.evaluation.features import Features, Progress, extract
from larq_ssl.evaluation.knn import class_scores
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.models.folder import load_encoder
from larq_ssl.report.collect import Run

NEIGHBOURS = 8
_VOTERS = 20
_RANDOM, _WRONG = 4, 2
# Side of a picture in the page, for images that are larger.
_THUMBNAIL = 96
_PERPLEXITY = 30.0


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image as PNG, the name of its class, and its cosine with the query (1 of the query itself)."""

    png: bytes
    name: str
    similarity: float = 1.0


@dataclasses.dataclass(frozen=True)
class Example:
    """A query, what the vote of 20 neighbours says it is, and the 8 nearest of them."""

    query: Picture
    predicted: str
    neighbours: tuple[Picture, ...]


@dataclasses.dataclass(frozen=True)
class Look:
    """What an encoder makes of images held out.

    # Arguments
        examples: Some at random, then some that the vote gets wrong.
        counts: How many images of a class (row) are taken for which (column); `None` without labels.
        class_names: In the order of the labels.
        points: The images held out on a plane, `[images, 2]`.
        labels: Of the points, -1 where there is none.
        drawn_by: What put them there.
        gallery, queries: Numbers of images to find neighbours in, and held out.
    """

    examples: tuple[Example, ...]
    counts: np.ndarray | None
    class_names: tuple[str, ...]
    points: np.ndarray
    labels: np.ndarray
    drawn_by: str
    gallery: int
    queries: int


def look(
    run: Run,
    cache_dir: pathlib.Path,
    gallery_images: int = 5000,
    query_images: int = 500,
    drawn_by: str = "t-SNE",
    progress: Progress | None = None,
) -> Look:
    """Run an encoder over some images of both splits of the run's data set, drawn by a fixed seed.

    # Arguments
        run: Finished; its student is looked at.
        cache_dir: Where features are kept.
        gallery_images, query_images: How many at most.
        drawn_by: "t-SNE" or "PCA".
        progress: Called with images done and in all.
    # Raises
        ValueError: If the images or the encoder cannot be read.
    """
    if run.spec is None or not run.dataset:
        raise ValueError("there is no encoder, or no data set that it was trained on")
    encoder = load_encoder(RunFolder(run.path).encoder("student"))
    size = run.image_size
    parts = [_some(_images(run, split), limit) for split, limit in (("train", gallery_images), ("val", query_images))]
    gallery, queries = (extract(encoder, part, size, cache_dir=cache_dir, progress=progress) for part in parts)
    names = parts[0].class_names
    labelled = bool(names) and min(gallery.labels.min(), queries.labels.min()) >= 0
    predicted = _predict(gallery, queries, len(names)) if labelled else np.full(len(queries), -1)
    counts = None
    if labelled:
        counts = np.zeros((len(names), len(names)), np.int64)
        np.add.at(counts, (queries.labels, predicted), 1)
    return Look(
        examples=_examples(parts, gallery, queries, predicted, size),
        counts=counts,
        class_names=names,
        points=plane(queries.features, drawn_by),
        labels=queries.labels,
        drawn_by=drawn_by,
        gallery=len(gallery),
        queries=len(queries),
    )


def _images(run: Run, split: str) -> ImageDataset:
    told = run.flags
    return datasets.load_dataset(
        run.dataset,
        split,
        told.get("data_dir"),
        val_fraction=float(told.get("val_fraction", 0)),
        classes_list=told.get("classes_list"),
    )


def _some(images: ImageDataset, limit: int) -> ImageDataset:
    if images.size <= limit:
        return images
    order = np.random.default_rng(0).permutation(images.size)[:limit]
    return images.subset(np.sort(order), f"report {limit}")


def _predict(gallery: Features, queries: Features, classes: int) -> np.ndarray:
    return class_scores(gallery, queries, classes, (min(_VOTERS, len(gallery)),))[0].argmax(axis=-1)


def _unit(features: np.ndarray) -> np.ndarray:
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def plane(features: np.ndarray, drawn_by: str) -> np.ndarray:
    """Features of unit length on a plane, by t-SNE or, also of fewer than four, by their principal components."""
    if drawn_by not in ("t-SNE", "PCA"):
        raise ValueError(f"`drawn_by` must be 't-SNE' or 'PCA', got {drawn_by!r}.")
    rows = _unit(features)
    if drawn_by == "t-SNE" and len(rows) > 3:
        perplexity = min(_PERPLEXITY, (len(rows) - 1) / 3)
        return TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(rows)
    found = PCA(min(2, *rows.shape), random_state=0).fit_transform(rows)
    return np.pad(found, [(0, 0), (0, 2 - found.shape[1])])


def _examples(
    parts: Sequence[ImageDataset], gallery: Features, queries: Features, predicted: np.ndarray, size: int
) -> tuple[Example, ...]:
    order = np.random.default_rng(0).permutation(len(queries))
    drawn = order[:_RANDOM]
    wrong = [row for row in order[_RANDOM:] if predicted[row] >= 0 and predicted[row] != queries.labels[row]]
    readers = [Reader(part, max_bad_images=1.0) for part in parts]
    names = parts[0].class_names

    def picture(split: int, features: Features, row: int, similarity: float = 1.0) -> Picture:
        return Picture(
            _png(readers[split], int(features.ids[row]), size), _name(names, features.labels[row]), similarity
        )

    examples = []
    for row in [*drawn, *wrong[:_WRONG]]:
        similarity = _unit(gallery.features) @ _unit(queries.features[row : row + 1])[0]
        nearest = np.argsort(-similarity, kind="stable")[:NEIGHBOURS]
        neighbours = tuple(picture(0, gallery, near, float(similarity[near])) for near in nearest)
        examples.append(Example(picture(1, queries, row), _name(names, predicted[row]), neighbours))
    return tuple(examples)


def _name(names: Sequence[str], label: int) -> str:
    return names[label] if 0 <= label < len(names) else ""


def _png(reader: Reader, index: int, size: int) -> bytes:
    found = reader.read(index)
    if found is None:
        raise ValueError(f"an image cannot be decoded any more: {reader.bad[index]}")
    image = Image.fromarray(evaluation_image(found[0], size))
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    with io.BytesIO() as stream:
        image.save(stream, "PNG", optimize=True)
        return stream.getvalue()

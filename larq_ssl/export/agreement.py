"""Whether a file and Keras agree from end to end: on features, on what is decided by them, and on each sign."""

from collections.abc import Iterator, Sequence

import numpy as np

from larq_ssl.evaluation.features import Features
from larq_ssl.evaluation.knn import class_scores, fitting
from larq_ssl.evaluation.neighbours import nearest
from larq_ssl.export.flatbuffer import LiteFile
from larq_ssl.export.packing import PackedLayer
from larq_ssl.export.parity import reference_of, sources
from larq_ssl.export.product import Product
from larq_ssl.export.running import Reference, ends_of, run

_NEIGHBOURS = 20
# Pixels of the images that are looked at together: all maps of a network are held for them, twice.
_PIXELS = 2**18


def agreement(
    file: LiteFile,
    product: Product,
    layers: Sequence[PackedLayer],
    images: np.ndarray,
    labels: np.ndarray | None = None,
    bank: Features | None = None,
    compute: Reference | None = None,
) -> tuple[dict[str, float], dict[str, float]]:
    """Compares a file and Keras on images, nothing in between being equalised.

    # Arguments
        file, product: What is compared.
        layers: Of `packed_layers`.
        images: `[images, size, size, 3]`, of the type that the file takes.
        labels: Of the images, from 0 on, or `None`.
        bank: Features of other images, by Keras, for kNN; labels from 0 on, or all -1.
        compute: `parity.reference_of` the file, where it is there already.
    # Returns
        Numbers by name, and the share of the signs before each binary layer that are not those of Keras.
    """
    taps = sources(file, layers)
    signs, totals = dict.fromkeys(taps, 0), dict.fromkeys(taps, 0)
    ends: list[tuple[list[np.ndarray], list[np.ndarray]]] = []
    for own, keras in _both(file, product, list(taps), images, compute or reference_of(file, product, layers)):
        for tensor, mine, theirs in zip(taps, own, keras, strict=False):
            signs[tensor] += int(np.sum((mine < 0) != (theirs < 0)))
            totals[tensor] += mine.size
        ends.append((own[len(taps) :], keras[len(taps) :]))
    own_ends, keras_ends = (
        [np.concatenate(part) for part in zip(*side, strict=True)] for side in zip(*ends, strict=True)
    )
    numbers = of_features(own_ends[0], keras_ends[0], bank)
    if product.classes is not None:
        numbers |= of_scores(own_ends[1], keras_ends[1], labels)
    flips = {layer.name: signs[layer.source] / totals[layer.source] for layer in layers if layer.source is not None}
    return {"images": len(images), **numbers}, flips


def of_features(own: np.ndarray, keras: np.ndarray, bank: Features | None) -> dict[str, float]:
    """Agreement of features `[images, dim]`.

    The centred cosine is that of what is left when the mean of Keras's features is taken away from both: without that
    it would be near 1 whatever the images.
    """
    numbers: dict[str, float] = {}
    if len(keras) > 1:  # one image is its own mean
        mean = keras.mean(axis=0)
        cosines = _cosines(own - mean, keras - mean)
        numbers = {"centred_cosine": float(cosines.mean()), "centred_cosine_min": float(cosines.min())}
    if bank is None:
        return numbers
    found = [np.concatenate([rows for _, _, rows in nearest(bank.features, side, 1)]) for side in (own, keras)]
    numbers["nearest_agreement"] = float(np.mean(found[0] == found[1]))
    if bank.labels.min() >= 0:
        votes = [_vote(bank, side) for side in (own, keras)]
        numbers["knn_agreement"] = float(np.mean(votes[0] == votes[1]))
    return numbers


def of_scores(own: np.ndarray, keras: np.ndarray, labels: np.ndarray | None) -> dict[str, float]:
    """Agreement of class scores `[images, classes]` and, with labels, both accuracies."""
    chosen = own.argmax(axis=1), keras.argmax(axis=1)
    numbers = {"top1_agreement": float(np.mean(chosen[0] == chosen[1]))}
    if labels is not None and labels.min() >= 0:
        sides = zip(("file", "keras"), chosen, strict=True)
        numbers |= {f"{side}_top1": float(np.mean(classes == labels)) for side, classes in sides}
    return numbers


def _both(
    file: LiteFile, product: Product, taps: list[int], images: np.ndarray, compute: Reference
) -> Iterator[tuple[list[np.ndarray], list[np.ndarray]]]:
    """What both have before each sign, as features and as output, a few images at a time."""
    features = ends_of(file, product).features
    shown = file.showing([*taps, features])
    at_once = max(1, _PIXELS // product.image_size**2)
    for start in range(0, len(images), at_once):
        part = images[start : start + at_once]
        *signs, own, output = run(shown, [part])
        *others, _, keras, scores = compute(part)
        yield [*signs, file.numbers(features, own), output], [*others, keras, scores]


def _cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.sum(first * second, axis=1) / np.maximum(lengths, 1e-12)


def _vote(bank: Features, queries: np.ndarray) -> np.ndarray:
    unlabelled = np.zeros(len(queries), np.int64)
    test = Features(queries, unlabelled, unlabelled)
    classes = int(bank.labels.max()) + 1
    return class_scores(bank, test, classes, fitting((_NEIGHBOURS,), len(bank)))[0].argmax(axis=1)

"""Weighted nearest neighbours on frozen features, as DINO evaluates, and SSLight's monitor."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from larq_ssl.evaluation.accuracy import check_labels, label_ranks
from larq_ssl.evaluation.features import Features
from larq_ssl.evaluation.neighbours import Search, nearest

DEFAULT_KS = (10, 20, 100, 200)
Vote = tuple[int, slice, np.ndarray]
"""Number of a k, slice of the test images, and their votes float64 `[n, classes]`."""


@dataclasses.dataclass(frozen=True)
class KnnPreset:
    """Settings of a vote of neighbours.

    # Arguments
        name: Name of the preset.
        ks: Numbers of neighbours.
        temperature: Of the vote's weights.
        leave_one_out: Whether the test images are looked up among themselves (`knn_leave_one_out`).
    """

    name: str
    ks: tuple[int, ...]
    temperature: float = 0.07
    leave_one_out: bool = False


PRESETS = {
    preset.name: preset
    for preset in (
        # DINO's released code; 20 is usually the best. (DINO looks at its teacher: --which=ema.)
        KnnPreset("dino", DEFAULT_KS),
        # MSBReg, supplement, Sec. 2.3, which names the weighting of InstDisc; its temperature is taken to be 0.07, too.
        KnnPreset("msbreg", (20, 200)),
        # What SSLight's released code shows while it trains. No published kNN accuracy is measured in this way.
        KnnPreset("sslight_monitor", (20,), leave_one_out=True),
    )
}


def knn_preset(name: str, **overrides: Any) -> KnnPreset:
    """A preset by name, with some of its fields replaced.

    # Raises
        ValueError: If there is no such preset.
    """
    if name not in PRESETS:
        raise ValueError(f"`preset` must be one of {sorted(PRESETS)}, got {name!r}.")
    return dataclasses.replace(PRESETS[name], **overrides)


def knn(
    train: Features,
    test: Features,
    classes: int,
    ks: Sequence[int] | None = None,
    temperature: float = 0.07,
    search: Search = nearest,
) -> dict[str, float]:
    """Accuracy of the weighted vote of the k most similar training images.

    \\[ \\mathrm{score}(c) = \\sum_{i \\in N_k,\\, y_i = c} \\exp(\\cos(x, x_i) / T) \\]

    Exact, and in little more memory than the features take (see `neighbours.working_bytes`).

    Differences from the released code: a class without a vote never counts as one of the top 5 (the release
    fills up with arbitrary ones), for k below 5 five classes are counted like for every other k (the release
    counts k), and small test sets work.

    # Arguments
        train: Features and labels that vote.
        test: Features and labels to classify.
        classes: Number of classes.
        ks: Numbers of neighbours. By default those of 10, 20, 100 and 200 that are not more than the training
            images (fewer than 10 vote all together).
        temperature: T of the weights.
        search: Finds neighbours and their similarities; of features that are codes, `codes.HammingSearch.nearest`.
    # Returns
        `{"20/top1": ..., "20/top5": ..., ...}`, fractions.
    # Raises
        ValueError: If a k exceeds the training set, a label is missing, or an argument is out of range.
    # References
        - Caron et al., Emerging Properties in Self-Supervised Vision Transformers (DINO), Sec. 4
        - Wu et al., Unsupervised Feature Learning via Non-Parametric Instance Discrimination (InstDisc), Sec. 3.4
    """
    check_labels("train", train.labels, classes)
    check_labels("test", test.labels, classes)
    if ks is None:
        ks = fitting(DEFAULT_KS, len(train))
    return _accuracies(test.labels, ks, _votes(train, test, classes, ks, temperature, search=search))


def knn_leave_one_out(
    images: Features, classes: int, ks: Sequence[int] | None = None, temperature: float = 0.07
) -> dict[str, float]:
    """SSLight's monitor: the same vote, of images among themselves, each without its most similar one.

    That one is taken to be the image itself. Only labels of the images that are classified are used, and none of the
    training images: the number watches a run, and stands beside no published kNN accuracy.

    # Arguments
        images: Features and labels, of the validation images in the release.
        classes: Number of classes.
        ks: Numbers of neighbours, by default 20 (or all others, if they are fewer).
        temperature: T of the weights.
    # Returns, # Raises
        As `knn`.
    # References
        - SSLight, released code
    """
    check_labels("images", images.labels, classes)
    if ks is None:
        ks = fitting(PRESETS["sslight_monitor"].ks, len(images) - 1)
    return _accuracies(images.labels, ks, _votes(images, images, classes, ks, temperature, left_out=1))


def fitting(ks: Sequence[int], bank: int) -> tuple[int, ...]:
    """Those numbers of neighbours that a bank of so many images has; all of it, if there is none."""
    return tuple(k for k in ks if k <= bank) or (bank,)


def class_scores(
    train: Features, test: Features, classes: int, ks: Sequence[int], temperature: float = 0.07
) -> np.ndarray:
    """The votes behind `knn`: float64 array `[len(ks), test images, classes]`; prediction = argmax."""
    scores = np.zeros((len(ks), len(test), classes))
    for number, rows, of_k in _votes(train, test, classes, ks, temperature):
        scores[number, rows] = of_k
    return scores


def _accuracies(labels: np.ndarray, ks: Sequence[int], votes: Iterator[Vote]) -> dict[str, float]:
    hits = np.zeros((len(ks), 2))
    for number, rows, scores in votes:
        own = labels[rows]
        ranks = label_ranks(tf.constant(scores), tf.constant(own)).numpy()
        voted = scores[np.arange(len(own)), own] > 0
        hits[number] += [np.sum((ranks < top) & voted) for top in (1, 5)]
    shares = hits / len(labels)
    return {f"{k}/top{top}": float(shares[i, j]) for i, k in enumerate(ks) for j, top in enumerate((1, 5))}


def _votes(
    train: Features,
    test: Features,
    classes: int,
    ks: Sequence[int],
    temperature: float,
    left_out: int = 0,
    search: Search = nearest,
) -> Iterator[Vote]:
    """The votes of some test images after the others, for each k; the nearest neighbours may be left out."""
    _check(train, test, ks, temperature, left_out)
    for rows, similarity, neighbours in search(train.features, test.features, max(ks) + left_out):
        labels = train.labels[neighbours[:, left_out:]]
        weights = np.exp(similarity[:, left_out:].astype(np.float64) / temperature)
        cells = labels + classes * np.arange(len(labels))[:, None]
        for number, k in enumerate(ks):
            scores = np.bincount(cells[:, :k].ravel(), weights[:, :k].ravel(), len(labels) * classes)
            yield number, rows, scores.reshape(-1, classes)


def _check(train: Features, test: Features, ks: Sequence[int], temperature: float, left_out: int) -> None:
    if not ks or min(ks) < 1:
        raise ValueError(f"`ks` must be one or more numbers of at least 1, got {tuple(ks)}.")
    if max(ks) > len(train) - left_out:
        raise ValueError(f"`ks` asks for {max(ks)} neighbours, but `train` has only {len(train) - left_out} images.")
    if not temperature > 0:
        raise ValueError(f"`temperature` must be above 0, got {temperature}.")
    if train.features.shape[1] != test.features.shape[1]:
        raise ValueError(
            f"`train` and `test` must have features of equal size, got {train.features.shape[1]} and "
            f"{test.features.shape[1]}."
        )

"""Weighted nearest neighbours on frozen features, as DINO evaluates."""

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from larq_ssl.evaluation.accuracy import check_labels, label_ranks
from larq_ssl.evaluation.features import Features

DEFAULT_KS = (10, 20, 100, 200)

# Similarities held at once, in numbers: 256 MiB.
_CHUNK = 2**26


def knn(
    train: Features,
    test: Features,
    classes: int,
    ks: Sequence[int] | None = None,
    temperature: float = 0.07,
) -> dict[str, float]:
    """Accuracy of the weighted vote of the k most similar training images.

    \\[ \\mathrm{score}(c) = \\sum_{i \\in N_k,\\, y_i = c} \\exp(\\cos(x, x_i) / T) \\]

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
    # Returns
        `{"20/top1": ..., "20/top5": ..., ...}`, fractions.
    # Raises
        ValueError: If a k exceeds the training set, a label is missing, or an argument is out of range.
    # References
        - Caron et al., Emerging Properties in Self-Supervised Vision Transformers (DINO), Sec. 4
    """
    check_labels("train", train.labels, classes)
    check_labels("test", test.labels, classes)
    if ks is None:
        ks = tuple(k for k in DEFAULT_KS if k <= len(train)) or (len(train),)
    metrics = {}
    for k, scores in zip(ks, class_scores(train, test, classes, ks, temperature), strict=True):
        ranks = label_ranks(tf.constant(scores), tf.constant(test.labels)).numpy()
        voted = scores[np.arange(len(test)), test.labels] > 0
        metrics[f"{k}/top1"] = float(np.mean((ranks < 1) & voted))
        metrics[f"{k}/top5"] = float(np.mean((ranks < 5) & voted))
    return metrics


def class_scores(
    train: Features, test: Features, classes: int, ks: Sequence[int], temperature: float = 0.07
) -> np.ndarray:
    """The votes behind `knn`: float64 array `[len(ks), test images, classes]`; prediction = argmax."""
    _check(train, test, ks, temperature)
    scores = np.zeros((len(ks), len(test), classes))
    bank = tf.constant(_unit(train.features))
    queries = _unit(test.features)
    chunk = max(1, _CHUNK // len(train))
    with _full_precision():
        for start in range(0, len(test), chunk):
            similarity = tf.matmul(queries[start : start + chunk], bank, transpose_b=True)
            values, indices = tf.math.top_k(similarity, max(ks))
            weights = np.exp(values.numpy().astype(np.float64) / temperature)
            labels = train.labels[indices.numpy()]
            for i, k in enumerate(ks):
                scores[i, start : start + chunk] = _votes(labels[:, :k], weights[:, :k], classes)
    return scores


def _votes(labels: np.ndarray, weights: np.ndarray, classes: int) -> np.ndarray:
    cells = labels + classes * np.arange(len(labels))[:, None]
    return np.bincount(cells.ravel(), weights.ravel(), len(labels) * classes).reshape(-1, classes)


def _unit(features: np.ndarray) -> np.ndarray:
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


@contextlib.contextmanager
def _full_precision() -> Iterator[None]:
    # The temperature multiplies TensorFloat-32's rounding of similarities by 14: votes would be off by 1 %.
    kept = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(kept)


def _check(train: Features, test: Features, ks: Sequence[int], temperature: float) -> None:
    if not ks or min(ks) < 1:
        raise ValueError(f"`ks` must be one or more numbers of at least 1, got {tuple(ks)}.")
    if max(ks) > len(train):
        raise ValueError(f"`ks` asks for {max(ks)} neighbours, but `train` has only {len(train)} images.")
    if not temperature > 0:
        raise ValueError(f"`temperature` must be above 0, got {temperature}.")
    if train.features.shape[1] != test.features.shape[1]:
        raise ValueError(
            f"`train` and `test` must have features of equal size, got {train.features.shape[1]} and "
            f"{test.features.shape[1]}."
        )

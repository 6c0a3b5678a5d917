"""Image retrieval with frozen features: are the images most like a query of its class?"""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from larq_ssl.evaluation.accuracy import check_labels
from larq_ssl.evaluation.features import Features, Progress
from larq_ssl.evaluation.normalise import unit_rows

# Similarities held at once, in numbers; sorting them takes four times their room: 256 MiB.
_CHUNK = 2**23
# Cosines are compared to so many decimals: what is beyond is the rounding of float32.
_DECIMALS = 6


@dataclasses.dataclass(frozen=True)
class RetrievalPreset:
    """What is measured.

    # Arguments
        name: Name of the preset.
        ks: Recall is measured at these numbers of neighbours.
    """

    name: str
    ks: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.ks or min(self.ks) < 1 or len(set(self.ks)) < len(self.ks):
            raise ValueError(f"`ks` must be different numbers of at least 1, got {self.ks}.")


PRESETS = {
    # The numbers of neighbours in the literature on metric learning (Oh Song et al., Sec. 5, on CUB-200).
    "metric_learning": RetrievalPreset("metric_learning", ks=(1, 2, 4, 8)),
}

Similarities = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Given what describes some queries and all images, float32 `[queries, images]`; the larger, the more alike."""

SETTINGS = ("leave_one_out", "gallery")
"""Whether a query is looked for among the other queries, or in images that are no queries."""


def retrieval(
    queries: Features,
    gallery: Features | None,
    classes: int,
    preset: str | RetrievalPreset = "metric_learning",
    progress: Progress | None = None,
    similarities: Similarities | None = None,
) -> dict[str, float]:
    """Recall at k and mean average precision of images ordered by the cosine of their features with a query's.

    \\[ R@k = \\frac{1}{Q} \\sum_q [\\text{one of the } k \\text{ first is of q's class}], \\quad
        mAP = \\frac{1}{Q} \\sum_q \\frac{1}{|P_q|} \\sum_{p \\in P_q} \\mathrm{precision}(\\mathrm{rank}(p)) \\]

    Equal similarities have no order, so none is made up: recall is its expectation over all orders of equal ones, and
    precision is taken behind the last of them (as scikit-learn's `average_precision_score` does). A collapsed encoder,
    to which all images are alike, gets what chance would get, in whatever order the images come. A query that has no
    other image of its class is left out, and counted.

    # Arguments
        queries: Features and labels.
        gallery: Where to look for them. `None`: among the queries, each without itself.
        classes: Number of classes.
        preset: Name of a preset, or a `RetrievalPreset`.
        progress: Called with queries done and in all.
        similarities: Those of all pairs; by default cosines. Of features that are codes,
            `codes.HammingSearch.similarities`.
    # Returns
        `{"recall_at_1": ..., "map": ..., "queries": ..., "without_match": ...}`: fractions, and numbers of queries.
    # Raises
        ValueError: If labels are missing, sizes disagree, or no query has an image of its class to be found.
    # References
        - Oh Song et al., Deep Metric Learning via Lifted Structured Feature Embedding, Sec. 5 (recall at k)
    """
    config = _preset(preset) if isinstance(preset, str) else preset
    _check(queries, gallery, classes)
    recalls, precisions = [], []
    done = 0
    for similarity, relevant in _rankings(queries, gallery, similarities):
        found = relevant.any(axis=1)
        similarity, relevant = similarity[found], relevant[found]
        recalls.append(np.stack([expected_recall(similarity, relevant, k) for k in config.ks], axis=1))
        precisions.append(average_precision(similarity, relevant))
        done += len(found)
        if progress is not None:
            progress(done, len(queries))
    recall, precision = np.concatenate(recalls), np.concatenate(precisions)
    if not len(recall):
        raise ValueError("No query of `queries` has another image of its class to be found.")
    metrics = {f"recall_at_{k}": float(value) for k, value in zip(config.ks, recall.mean(axis=0), strict=True)}
    without = len(queries) - len(recall)
    return {**metrics, "map": float(precision.mean()), "queries": float(len(recall)), "without_match": float(without)}


def expected_recall(similarity: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """The probability that one of the k most similar images is relevant, if equal ones come in any order.

    # Arguments
        similarity: Float array `[queries, images]`; -inf where an image does not count.
        relevant: Bool array of that shape, with at least one in each row.
        k: Number of neighbours.
    # Returns
        Float64 array `[queries]`.
    """
    best = np.where(relevant, similarity, -np.inf).max(axis=1, keepdims=True)
    places = k - (similarity > best).sum(axis=1)
    equal = similarity == best
    hits, others = (equal & relevant).sum(axis=1), (equal & ~relevant).sum(axis=1)
    missed = np.ones(len(similarity))
    # Drawn one after the other from the equal ones, none of them relevant.
    for place in range(k):
        left = np.maximum(others - place, 0)
        missed = np.where(place < places, missed * left / (left + hits), missed)
    return 1.0 - missed


def average_precision(similarity: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Mean over the relevant images of the precision down to each of them and what is equal to it.

    # Arguments
        similarity, relevant: See `expected_recall`.
    # Returns
        Float64 array `[queries]`.
    """
    order = np.argsort(-similarity, axis=1)
    similarity, relevant = (np.take_along_axis(part, order, axis=1) for part in (similarity, relevant))
    count = similarity.shape[1]
    last = np.append(similarity[:, 1:] != similarity[:, :-1], np.ones((len(similarity), 1), bool), axis=1)
    # Of each image the place of the last one that is equal to it.
    places = np.where(last, np.arange(count), count - 1)
    places = np.minimum.accumulate(places[:, ::-1], axis=1)[:, ::-1]
    precision = np.take_along_axis(relevant.cumsum(axis=1), places, axis=1) / (places + 1)
    return (precision * relevant).sum(axis=1) / relevant.sum(axis=1)


def _rankings(
    queries: Features, gallery: Features | None, similarities: Similarities | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Similarities and whether classes are the same, `[queries, images]`, in chunks of queries."""
    images = queries if gallery is None else gallery
    bank, rows = images.features, queries.features
    if similarities is None:
        bank, rows, similarities = unit_rows(bank), unit_rows(rows), _cosines
    chunk = max(1, _CHUNK // len(images))
    for start in range(0, len(queries), chunk):
        part = slice(start, start + chunk)
        similarity = np.round(similarities(rows[part], bank), _DECIMALS)
        relevant = queries.labels[part, None] == images.labels[None]
        if gallery is None:
            itself = np.arange(len(similarity))
            similarity[itself, start + itself] = -np.inf
            relevant[itself, start + itself] = False
        yield similarity, relevant


def _cosines(rows: np.ndarray, bank: np.ndarray) -> np.ndarray:
    return rows @ bank.T


def _preset(name: str) -> RetrievalPreset:
    if name not in PRESETS:
        raise ValueError(f"`preset` must be one of {sorted(PRESETS)}, got {name!r}.")
    return PRESETS[name]


def _check(queries: Features, gallery: Features | None, classes: int) -> None:
    check_labels("queries", queries.labels, classes)
    if gallery is None:
        return
    check_labels("gallery", gallery.labels, classes)
    if gallery.features.shape[1] != queries.features.shape[1]:
        raise ValueError(
            f"`queries` and `gallery` must have features of equal size, got {queries.features.shape[1]} and "
            f"{gallery.features.shape[1]}."
        )

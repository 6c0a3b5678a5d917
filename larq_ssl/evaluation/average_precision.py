"""Average precision as PASCAL VOC has it: by the area, or at eleven points, difficult images left out."""

import numpy as np
from sklearn.metrics import precision_recall_curve

METHODS = ("area", "eleven_points")
PRECISIONS = ("map", "map_eleven_points")
"""What is reported of images with several labels each, means over the classes by `METHODS`; the first decides."""
# Recall at which VOC2007 read the curve.
_POINTS = np.arange(11) / 10


def average_precision(presence: np.ndarray, scores: np.ndarray, method: str = "area") -> float:
    """How well scores put the images with an object before those without.

    \\[ \\mathrm{AP} = \\sum_i (r_i - r_{i-1}) \\max_{j \\geq i} p_j, \\qquad
        \\mathrm{AP}_{11} = \\frac{1}{11} \\sum_{r \\in \\{0, 0.1, \\dots, 1\\}} \\max_{j: r_j \\geq r} p_j \\]

    with precision p and recall r of the images scored at or above each threshold. Images of equal score are on the same
    side of every threshold: so ties count as if the negatives among them came first, in whatever order they lie.

    Differences from the released code: with ties, it depends there on the order that an unstable sort leaves, of which
    this is the worst.

    # Arguments
        presence: Integers `[images]`: 1 with the object, 0 without, -1 difficult: left out.
        scores: Floats `[images]`.
        method: "area" (VOC since 2010, and what papers report of VOC2007 by SVMs) or "eleven_points" (VOC2007's own).
    # Returns
        A number in 0..1.
    # Raises
        ValueError: If no image has the object, or the arguments are not as described.
    # References
        - Everingham et al., The PASCAL Visual Object Classes Challenge, Sec. 4.2
    """
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {METHODS}, got {method!r}.")
    if presence.shape != scores.shape or presence.ndim != 1:
        raise ValueError(f"`presence` and `scores` must be one per image, got shapes {presence.shape}, {scores.shape}.")
    counted = presence >= 0
    if not np.any(presence == 1):
        raise ValueError(f"`presence` must have an image with the object, got {len(presence)} images without it.")
    precision, recall, _ = precision_recall_curve(presence[counted] == 1, scores[counted])
    # From the largest recall down to 0: the best precision at this recall or a larger one.
    envelope = np.maximum.accumulate(precision)
    if method == "area":
        return float(-np.sum(np.diff(recall) * envelope[:-1]))
    # Both are quotients of whole numbers: where the fractions are equal, so are their roundings.
    reached = recall[:-1, None] >= _POINTS
    return float(np.mean(np.max(reached * precision[:-1, None], axis=0)))


def average_precisions(presence: np.ndarray, scores: np.ndarray, method: str = "area") -> np.ndarray:
    """`average_precision` of each class, float64 `[classes]`, of arrays `[images, classes]`."""
    columns = zip(presence.T, scores.T, strict=True)
    return np.array([average_precision(present, score, method) for present, score in columns])


def mean_average_precisions(presence: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Means over the classes of `average_precisions`, by the names of `PRECISIONS`."""
    pairs = zip(PRECISIONS, METHODS, strict=True)
    return {name: float(np.mean(average_precisions(presence, scores, method))) for name, method in pairs}

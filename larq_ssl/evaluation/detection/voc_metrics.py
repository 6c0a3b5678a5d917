"""Average precision as PASCAL VOC defines it: the interpolation at eleven points of 2007, and the area since 2010.

A detection, best first, is right if the object of its class that it overlaps most is overlapped by more than a
threshold and was not found before; if that one is difficult, the detection does not count.

\\[ AP_{11} = \\frac{1}{11} \\sum_{r \\in \\{0, 0.1, \\ldots, 1\\}} \\max_{r' \\ge r} p(r') \\]

The papers' AP, AP50 and AP75 on VOC07 are of this kind, at overlaps of 0.5 to 0.95, 0.5 and 0.75: so Detectron2
computes them.

# References
    - The PASCAL Visual Object Classes Challenge (IJCV 2010), development kit of 2007
"""

from collections.abc import Sequence

import numpy as np

from larq_ssl.evaluation.detection.found import Detections
from larq_ssl.evaluation.detection.overlaps import overlaps
from larq_ssl.evaluation.detection.truth import DetectionImages

METHODS = ("11_point", "area")

_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))


def voc_metrics(images: DetectionImages, found: Sequence[Detections]) -> dict[str, float]:
    """Means over the classes that have an object.

    # Returns
        `voc07/ap`, `voc07/ap50` and `voc07/ap75` by eleven points, `voc_area/ap50` by the area, and
        `voc07/class/<name>/ap50`.
    # Raises
        ValueError: If no image has an object that is not difficult.
    """
    curves = {kind: _of_class(images, found, kind) for kind in range(1, len(images.class_names) + 1)}
    curves = {kind: matches for kind, matches in curves.items() if matches[2]}
    if not curves:
        raise ValueError("There is nothing to be found in these images: none has an object that is not difficult.")
    by_threshold = {
        threshold: {kind: _precision(*matches, threshold, "11_point") for kind, matches in curves.items()}
        for threshold in _THRESHOLDS
    }
    means = {threshold: float(np.mean(list(by_class.values()))) for threshold, by_class in by_threshold.items()}
    names = {kind: images.class_names[kind - 1].replace("/", "_") for kind in curves}
    return {
        "voc07/ap": float(np.mean(list(means.values()))),
        "voc07/ap50": means[0.5],
        "voc07/ap75": means[0.75],
        "voc_area/ap50": float(np.mean([_precision(*matches, 0.5, "area") for matches in curves.values()])),
        **{f"voc07/class/{names[kind]}/ap50": value for kind, value in by_threshold[0.5].items()},
    }


def voc_average_precision(hits: np.ndarray, objects: int, method: str = "11_point") -> float:
    """Average precision of detections in the order of their scores.

    # Arguments
        hits: Bool `[detections]`: whether each is right.
        objects: How many there are to be found, at least one.
        method: One of `METHODS`.
    # Raises
        ValueError: If there is no such method.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {list(METHODS)}, got {method!r}.")
    right = np.cumsum(np.asarray(hits, bool))
    recall, precision = right / objects, right / np.maximum(np.arange(1, len(right) + 1), 1)
    if method == "11_point":
        # Compared as whole numbers: 0.1 * 3 is not 0.3.
        reached = [precision[10 * right >= tenth * objects] for tenth in range(11)]
        return float(np.mean([part.max() if part.size else 0.0 for part in reached]))
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))


def _of_class(
    images: DetectionImages, found: Sequence[Detections], kind: int
) -> tuple[list[tuple[int, float, np.ndarray]], list[np.ndarray], int]:
    """Detections (image, score, overlaps with its objects) by score; which objects are ignored; how many count."""
    rows: list[tuple[int, float, np.ndarray]] = []
    ignored = []
    for number, (truth, one) in enumerate(zip(images.truths, found, strict=True)):
        of_class = truth.classes == kind
        ignored.append(truth.ignored[of_class])
        own = one.classes == kind
        shared = overlaps(one.boxes[own], truth.boxes[of_class])
        rows += [(number, float(score), row) for score, row in zip(one.scores[own], shared, strict=True)]
    rows.sort(key=lambda row: -row[1])
    return rows, ignored, int(sum(np.sum(~part) for part in ignored))


def _precision(
    rows: list[tuple[int, float, np.ndarray]], ignored: list[np.ndarray], objects: int, threshold: float, method: str
) -> float:
    taken = [np.zeros(len(part), bool) for part in ignored]
    hits = []
    for number, _, shared in rows:
        best = int(np.argmax(shared)) if len(shared) else -1
        if best < 0 or not shared[best] > threshold:
            hits.append(False)
        elif not ignored[number][best]:
            hits.append(not taken[number][best])
            taken[number][best] = True
    return voc_average_precision(np.array(hits, bool), objects, method)

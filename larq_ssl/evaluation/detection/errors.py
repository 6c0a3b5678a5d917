"""What kind of errors a detector makes, by class and by size.

Detections above a score are looked at, best first. Each is a *hit* (it overlaps an object of its class that was not
found yet by half), a *duplicate* (that object was found), *confused* (it so overlaps an object of another class),
*misplaced* (it overlaps one of its class by a tenth), or *background*. Objects are *found* or *missed*.

# References
    - Diagnosing Error in Object Detectors (Hoiem et al., 2012), whose kinds these are
"""

from collections.abc import Sequence

import numpy as np

from larq_ssl.evaluation.detection.found import Detections
from larq_ssl.evaluation.detection.overlaps import overlaps
from larq_ssl.evaluation.detection.truth import DetectionImages, Truth

KINDS = ("hit", "duplicate", "confused", "misplaced", "background")
SIZES = ("small", "medium", "large")

_HIT, _NEAR = 0.5, 0.1
# COCO's: sides of 32 and of 96 pixels.
_BOUNDS = (32.0**2, 96.0**2)

Breakdown = dict[str, dict[str, dict[str, int]]]


def errors(images: DetectionImages, found: Sequence[Detections], score: float = 0.5) -> Breakdown:
    """Counts of detections and objects.

    # Arguments
        images: With what is true.
        found: In each of them.
        score: Detections below it are not looked at.
    # Returns
        By `class` and by `size` (of the object that is found, missed, or nearest, else of the detection), for each name
        the numbers of detections of each of `KINDS`, and of `objects` and `missed` ones.
    """
    table: Breakdown = {
        "class": {name: _zeros() for name in images.class_names},
        "size": {name: _zeros() for name in SIZES},
    }
    for truth, one in zip(images.truths, found, strict=True):
        _count(table, images.class_names, truth, one, score)
    return table


def rates(table: Breakdown) -> dict[str, float]:
    """Shares, as `errors/<class or size>/<name>/missed` of the objects, and of each kind of the detections."""
    shares = {}
    for group, names in table.items():
        for name, counts in names.items():
            detections = sum(counts[kind] for kind in KINDS)
            prefix = f"errors/{group}/{name.replace('/', '_')}"
            if counts["objects"]:
                shares[f"{prefix}/missed"] = counts["missed"] / counts["objects"]
            if detections:
                shares |= {f"{prefix}/{kind}": counts[kind] / detections for kind in KINDS[1:]}
    return shares


def _zeros() -> dict[str, int]:
    return dict.fromkeys((*KINDS, "objects", "missed"), 0)


def _size(area: float) -> str:
    return SIZES[sum(area >= bound for bound in _BOUNDS)]


def _count(table: Breakdown, names: tuple[str, ...], truth: Truth, one: Detections, score: float) -> None:
    taken = np.zeros(len(truth.classes), bool)
    shared = overlaps(one.boxes, truth.boxes)
    for row, box, kind, value in zip(shared, one.boxes, one.classes, one.scores, strict=True):
        if value < score:
            continue
        judged, place = _judge(row, int(kind), truth, taken)
        if judged is None:
            continue
        area = float(truth.areas[place] if place is not None else np.prod(box[2:] - box[:2]))
        for counts in (table["class"][names[int(kind) - 1]], table["size"][_size(area)]):
            counts[judged] += 1
    for place in np.flatnonzero(~truth.ignored):
        for counts in (
            table["class"][names[truth.classes[place] - 1]],
            table["size"][_size(float(truth.areas[place]))],
        ):
            counts["objects"] += 1
            counts["missed"] += int(not taken[place])


def _judge(shared: np.ndarray, kind: int, truth: Truth, taken: np.ndarray) -> tuple[str | None, int | None]:
    """The kind of a detection, `None` if it is of an object that is ignored, and the object that it is about."""
    own = np.flatnonzero(truth.classes == kind)
    over = [place for place in own if shared[place] >= _HIT]
    free = [place for place in over if not taken[place] and not truth.ignored[place]]
    if free:
        best = max(free, key=lambda place: shared[place])
        taken[best] = True
        return "hit", best
    if over:
        best = max(over, key=lambda place: shared[place])
        return (None, best) if truth.ignored[best] else ("duplicate", best)
    if len(shared) and shared.max() >= _HIT:
        best = int(shared.argmax())
        return (None, best) if truth.ignored[best] else ("confused", best)
    near = [place for place in own if shared[place] >= _NEAR]
    return ("misplaced", max(near, key=lambda place: shared[place])) if near else ("background", None)

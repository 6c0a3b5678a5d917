"""Average precision as COCO defines it, by pycocotools.

pycocotools is used itself, not the Model Garden's wrapper of it, which cuts the truth of an image off behind a fixed
number of objects and gives nothing by class.

# References
    - https://cocodataset.org/#detection-eval
"""

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from larq_ssl.evaluation.detection.extra import coco_tools
from larq_ssl.evaluation.detection.found import Detections
from larq_ssl.evaluation.detection.truth import DetectionImages

_KINDS = {"bbox": "", "segm": "mask/"}
_SIZES = ("all", "small", "medium", "large")
_AT_50, _AT_75, _MOST = 0, 5, -1


def truth_json(images: DetectionImages, masks: bool = False) -> dict[str, Any]:
    """What is true of images, as an annotation file of COCO; what is to be ignored is a crowd there."""
    annotations: list[dict[str, Any]] = []
    for number, truth in zip(images.ids, images.truths, strict=True):
        runs: list[Any] = list(truth.runs()) if masks else [None for _ in truth.classes]
        for box, kind, ignored, area, run in zip(
            truth.boxes.tolist(), truth.classes, truth.ignored, truth.areas, runs, strict=True
        ):
            entry = {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": int(kind),
                "bbox": _corner_and_sides(box),
                "area": float(area),
                "iscrowd": int(ignored),
            }
            annotations.append(entry if run is None else {**entry, "segmentation": _as_text(run)})
    return {
        "images": [
            {"id": number, "height": truth.height, "width": truth.width}
            for number, truth in zip(images.ids, images.truths, strict=True)
        ],
        "annotations": annotations,
        "categories": [{"id": place, "name": name} for place, name in enumerate(images.class_names, start=1)],
    }


def detections_json(images: DetectionImages, found: Sequence[Detections]) -> list[dict[str, Any]]:
    """Detections as a results file of COCO."""
    entries: list[dict[str, Any]] = []
    for number, one in zip(images.ids, found, strict=True):
        runs: Sequence[Any] = one.runs if one.runs is not None else [None] * len(one.classes)
        for box, kind, score, run in zip(one.boxes.tolist(), one.classes, one.scores, runs, strict=True):
            entry = {
                "image_id": number,
                "category_id": int(kind),
                "bbox": _corner_and_sides(box),
                "score": float(score),
            }
            entries.append(entry if run is None else {**entry, "segmentation": _as_text(run)})
    return entries


def coco_metrics(truth: dict[str, Any], detections: list[dict[str, Any]], masks: bool = False) -> dict[str, float]:
    """Average precision and recall of boxes, and of masks.

    # Arguments
        truth, detections: Of `truth_json` and `detections_json`.
        masks: Whether masks are measured, too.
    # Returns
        `ap`, `ap50`, `ap75`, by size of the object `ap_small`, `ap_medium`, `ap_large`, the recall `ar` with 100
        detections per image, and `class/<name>/ap`, ...; of masks the same with `mask/` in front. Where there is no
        object of a class or size, there is no number.
    # Raises
        ValueError: If no image has an object.
    """
    if not any(not entry["iscrowd"] for entry in truth["annotations"]):
        raise ValueError("There is nothing to be found in these images: none has an object that counts.")
    metrics: dict[str, float] = {}
    for kind, prefix in _KINDS.items():
        if kind == "bbox" or masks:
            metrics |= {f"{prefix}{name}": value for name, value in _measured(truth, detections, kind).items()}
    return metrics


def _measured(truth: dict[str, Any], detections: list[dict[str, Any]], kind: str) -> dict[str, float]:
    precision, recall = _accumulated(truth, detections, kind)
    found = {name: _mean(precision[..., size, _MOST]) for size, name in enumerate(_SIZES)}
    metrics = {
        "ap": found["all"],
        "ap50": _mean(precision[_AT_50, ..., 0, _MOST]),
        "ap75": _mean(precision[_AT_75, ..., 0, _MOST]),
        **{f"ap_{name}": found[name] for name in _SIZES[1:]},
        "ar": _mean(recall[..., 0, _MOST]),
    }
    for place, category in enumerate(truth["categories"]):
        own = precision[:, :, place, 0, _MOST]
        parts = {"ap": own, "ap50": own[_AT_50], "ap75": own[_AT_75]}
        metrics |= {f"class/{category['name'].replace('/', '_')}/{name}": _mean(part) for name, part in parts.items()}
    return {name: value for name, value in metrics.items() if value is not None}


def _accumulated(truth: dict[str, Any], detections: list[dict[str, Any]], kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Precision `[thresholds, recalls, classes, sizes, counts]` and recall, -1 where there is no object."""
    with contextlib.redirect_stdout(io.StringIO()):
        known = coco_tools("coco").COCO()
        known.dataset = truth
        known.createIndex()
        own = coco_tools("coco").COCO()
        if detections:
            # It writes into what it is given.
            own = known.loadRes([dict(entry) for entry in detections])
        else:
            own.dataset = {**truth, "annotations": []}
            own.createIndex()
        evaluation = coco_tools("cocoeval").COCOeval(known, own, kind)
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"], evaluation.eval["recall"]


def _mean(values: np.ndarray) -> Any:
    counted = values[values > -1]
    return float(np.mean(counted)) if counted.size else None


def _corner_and_sides(box: Sequence[float]) -> list[float]:
    top, left, bottom, right = box
    return [left, top, right - left, bottom - top]


def _as_text(run: dict[str, Any]) -> dict[str, Any]:
    counts = run["counts"]
    return {"size": list(run["size"]), "counts": counts.decode() if isinstance(counts, bytes) else counts}

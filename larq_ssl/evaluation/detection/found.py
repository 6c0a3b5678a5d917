"""What a detector finds in images, in the pixels of the images themselves."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from larq_ssl.evaluation.detection.batches import test_batches
from larq_ssl.evaluation.detection.detector import Detector
from larq_ssl.evaluation.detection.extra import coco_tools, tf_models
from larq_ssl.evaluation.detection.truth import DetectionImages


@dataclasses.dataclass(frozen=True)
class Detections:
    """Detections in one image, best first.

    # Arguments
        boxes: Float32 `[detections, 4]`: top, left, bottom, right in pixels, within the image.
        classes: Int64 `[detections]`, from 1 on.
        scores: Float32 `[detections]` in 0..1.
        runs: Masks as compressed run lengths, as pycocotools has them; `None` without.
    """

    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    runs: tuple[dict[str, Any], ...] | None = None


def find(
    detector: Detector,
    images: DetectionImages,
    batch_size: int = 8,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Detections]:
    """The detections in all images, in their order.

    # Arguments
        detector: In inference mode.
        images: What it looks at.
        batch_size: Images per step.
        progress: Called with the number of images that are done, and of all.
    """
    found: list[Detections] = []
    for batch in test_batches(images, detector.settings, batch_size):
        outputs = {name: value.numpy() for name, value in detector.detect(batch).items()}
        scales = batch["labels"]["image_info"].numpy()[:, 2, :]
        for place, index in enumerate(batch["id"].numpy()):
            truth = images.truths[index]
            one = {name: value[place] for name, value in outputs.items()}
            found.append(_in_pixels(one, scales[place], truth.height, truth.width))
        progress(len(found), images.size)
    return found


def _in_pixels(outputs: dict[str, np.ndarray], scale: np.ndarray, height: int, width: int) -> Detections:
    count = int(outputs["count"])
    boxes = outputs["boxes"][:count] / np.tile(scale, 2)
    boxes = np.clip(boxes, 0, [height, width, height, width]).astype(np.float32)
    order = np.argsort(-outputs["scores"][:count], kind="stable")
    runs = None
    if "masks" in outputs:
        runs = _runs(outputs["masks"][:count][order], boxes[order], height, width)
    return Detections(
        boxes[order], outputs["classes"][:count][order].astype(np.int64), outputs["scores"][:count][order], runs
    )


def _runs(masks: np.ndarray, boxes: np.ndarray, height: int, width: int) -> tuple[dict[str, Any], ...]:
    """Masks within boxes as run lengths of the whole image."""
    if not len(masks):
        return ()
    corners = np.concatenate([boxes[:, 1::-1], (boxes[:, 2:] - boxes[:, :2])[:, ::-1]], axis=1)
    pasted = tf_models("vision.ops.mask_ops").paste_instance_masks(masks, corners, height, width)
    return tuple(coco_tools("mask").encode(np.asfortranarray((mask > 0).astype(np.uint8))) for mask in pasted)

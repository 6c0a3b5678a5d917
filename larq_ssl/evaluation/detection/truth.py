"""Images with the boxes, classes and outlines of what is in them."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from larq_ssl.data.datasets import fingerprint
from larq_ssl.data.decode import BadImageError, decode
from larq_ssl.evaluation.detection.extra import coco_tools


@dataclasses.dataclass(frozen=True)
class Truth:
    """What is in one image.

    # Arguments
        height, width: Of the image, in pixels.
        boxes: Float32 `[objects, 4]`: top, left, bottom, right in pixels; an object of one pixel has a box of side 1.
        classes: Int64 `[objects]`, from 1 on.
        ignored: Bool `[objects]`: who finds it gains nothing, who misses it loses nothing (VOC's difficult objects,
            COCO's crowds).
        crowd: Bool `[objects]`: a box around many objects, which nothing is trained on.
        areas: Float32 `[objects]`, in pixels: of the outline where there is one, else of the box.
        outlines: For each object its segmentation as COCO writes it, polygons or run lengths; `None` without.
    """

    height: int
    width: int
    boxes: np.ndarray
    classes: np.ndarray
    ignored: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray
    outlines: tuple[Any, ...] | None = None

    def runs(self) -> list[dict[str, Any]]:
        """The outlines as compressed run lengths, as pycocotools has them.

        # Raises
            ValueError: If there are none.
        """
        if self.outlines is None:
            raise ValueError("There are no outlines: masks need segmentations in the annotations.")
        return [self._runs_of(outline) for outline in self.outlines]

    def _runs_of(self, outline: Any) -> dict[str, Any]:
        tools = coco_tools("mask")
        if isinstance(outline, list):
            return tools.merge(tools.frPyObjects(outline, self.height, self.width))
        if isinstance(outline["counts"], list):
            return tools.frPyObjects(outline, self.height, self.width)
        return outline

    def masks(self) -> np.ndarray:
        """Uint8 `[objects, height, width]` of 0 and 1."""
        found = [coco_tools("mask").decode(runs) for runs in self.runs()]
        return np.stack(found) if found else np.zeros((0, self.height, self.width), np.uint8)


@dataclasses.dataclass(frozen=True)
class DetectionImages:
    """Images by index `0 .. size - 1`, and what is in each.

    # Arguments
        name, split: Where they come from.
        class_names: Of classes 1, 2, ..., in this order.
        truths: One per image.
        ids: Numbers by which results name the images.
        read: Gives the encoded image of an index.
        describe: Names the image of an index in messages.
    """

    name: str
    split: str
    class_names: tuple[str, ...]
    truths: tuple[Truth, ...]
    ids: tuple[int, ...]
    read: Callable[[int], bytes]
    describe: Callable[[int], str] = str

    @property
    def size(self) -> int:
        return len(self.truths)

    @property
    def has_outlines(self) -> bool:
        """Whether each object has an outline."""
        return all(truth.outlines is not None for truth in self.truths)

    @property
    def fingerprint(self) -> str:
        """Changes when the images, their order, or what is in them does."""
        parts = [
            part.tobytes()
            for t in self.truths
            for part in (t.boxes, t.classes, t.ignored, np.array([t.height, t.width], np.int64))
        ]
        outlines = [repr(truth.outlines) for truth in self.truths if truth.outlines is not None]
        return fingerprint(self.name, self.split, "\n".join(self.class_names), repr(self.ids), *parts, *outlines)

    def pixels(self, index: int) -> np.ndarray:
        """The image of an index, uint8 `[height, width, 3]`.

        # Raises
            ValueError: If it cannot be decoded, or is not as large as its annotation says.
        """
        try:
            image = np.asarray(decode(self.read(index)))
        except BadImageError as error:
            raise BadImageError(f"{self.describe(index)} cannot be read: its boxes need it ({error}).") from error
        wanted = self.truths[index].height, self.truths[index].width
        if image.shape[:2] != wanted:
            raise BadImageError(
                f"{self.describe(index)} has {image.shape[0]} x {image.shape[1]} pixels, and its annotation says "
                f"{wanted[0]} x {wanted[1]}: its boxes are those of another image."
            )
        return image

    def subset(self, indices: Sequence[int]) -> "DetectionImages":
        """Some of the images, in this order."""
        chosen = [int(index) for index in indices]
        return dataclasses.replace(
            self,
            truths=tuple(self.truths[i] for i in chosen),
            ids=tuple(self.ids[i] for i in chosen),
            read=lambda index: self.read(chosen[index]),
            describe=lambda index: self.describe(chosen[index]),
        )

    def to_train_on(self) -> "DetectionImages":
        """Those that show an object; from the others the published detectors do not learn either.

        # Raises
            ValueError: If there is none.
        """
        found = [index for index, truth in enumerate(self.truths) if not np.all(truth.crowd)]
        if not found:
            raise ValueError(f"None of the {self.size} images of {self.name} ({self.split}) shows an object.")
        return self.subset(found)


def is_outside(box: Sequence[float], height: int, width: int) -> bool:
    """Whether nothing of a box (top, left, bottom, right) lies within an image of this size."""
    top, left, bottom, right = box
    return not (top < height and left < width and bottom > 0 and right > 0)


def truth(
    height: int,
    width: int,
    boxes: npt.ArrayLike,
    classes: npt.ArrayLike,
    ignored: npt.ArrayLike,
    crowd: npt.ArrayLike | None = None,
    areas: npt.ArrayLike | None = None,
    outlines: Sequence[Any] | None = None,
) -> Truth:
    """A `Truth` of lists or arrays; without `areas`, those of the boxes, and without `crowd`, no crowds."""
    box_array = np.array(boxes, np.float32).reshape(-1, 4)
    sides = box_array[:, 2:] - box_array[:, :2]
    return Truth(
        int(height),
        int(width),
        box_array,
        np.array(classes, np.int64),
        np.array(ignored, bool),
        np.zeros(len(box_array), bool) if crowd is None else np.array(crowd, bool),
        sides.prod(axis=1) if areas is None else np.array(areas, np.float32),
        None if outlines is None else tuple(outlines),
    )

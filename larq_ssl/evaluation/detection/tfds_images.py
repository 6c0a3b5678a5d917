"""VOC 2007 and 2012 and COCO 2017 from TensorFlow Datasets.

VOC: trained on the trainval images of both years, tested on those of test of 2007, as all published tables are. COCO
2017 has no outlines there: Mask R-CNN needs a folder in COCO format.
"""

import io
from collections.abc import Callable, Mapping
from concurrent import futures
from typing import Any

import numpy as np
from PIL import Image

from larq_ssl.data import tfds_source
from larq_ssl.data.decode import decode
from larq_ssl.evaluation.detection.truth import DetectionImages, Truth, truth

_PARTS: dict[str, dict[str, tuple[tuple[str, str], ...]]] = {
    "voc": {
        "train": (("voc/2007", "train"), ("voc/2007", "validation"), ("voc/2012", "train"), ("voc/2012", "validation")),
        "test": (("voc/2007", "test"),),
    },
    "coco": {"train": (("coco/2017", "train"),), "test": (("coco/2017", "validation"),)},
}
"""Data sets and splits of TensorFlow Datasets that are put together."""

_Example = Callable[[int], Mapping[str, Any]]


def builders(dataset: str, split: str, data_dir: str | None) -> list[tuple[Any, str]]:
    """The prepared data sets and their splits that make up images to train or to test on.

    # Arguments
        dataset, split, data_dir: See `load_tfds_images`.
    # Raises
        ValueError: If one of them is not prepared.
    """
    found = []
    for name, part in _PARTS[dataset][split]:
        builder = tfds_source.find_builder(name, data_dir)
        if part not in builder.info.splits:
            raise ValueError(f"{name!r} has no split {part!r}: its splits are {list(builder.info.splits)}")
        found.append((builder, part))
    return found


def load_tfds_images(dataset: str, split: str, data_dir: str | None) -> DetectionImages:
    """The images of prepared data sets, in the order of their file names.

    # Arguments
        dataset: `voc` (07+12, tested on 07) or `coco` (2017).
        split: `train` or `test`.
        data_dir: TFDS's own folder, where it is not the default one.
    # Raises
        ValueError: If one of them is not prepared.
    """
    read = _READERS[dataset]
    examples: list[_Example] = []
    names: tuple[str, ...] = ()
    places = []
    for builder, part in builders(dataset, split, data_dir):
        names = tuple(builder.info.features["objects"].feature["label"].names)
        places += [(len(examples), index) for index in range(builder.info.splits[part].num_examples)]
        examples.append(tfds_source.examples(builder, part, "image"))

    def noted(place: tuple[int, int]) -> tuple[str, int | None, Truth]:
        return read(examples[place[0]](place[1]))

    with futures.ThreadPoolExecutor() as pool:
        notes = list(pool.map(noted, places))
    order = sorted(range(len(places)), key=lambda index: notes[index][0])
    numbers = [notes[index][1] for index in order]

    def encoded(index: int) -> bytes:
        part, number = places[order[index]]
        return bytes(examples[part](number)["image"])

    return DetectionImages(
        name=dataset,
        split=split,
        class_names=names,
        truths=tuple(notes[index][2] for index in order),
        ids=tuple(place if number is None else number for place, number in enumerate(numbers, start=1)),
        read=encoded,
        describe=lambda index: f"{dataset} {notes[order[index]][0]}",
    )


def _voc(example: Mapping[str, Any]) -> tuple[str, int | None, Truth]:
    height, width, boxes = _pixels(example)
    # Corners are VOC's own numbers: pixels from 1 on, of which the last is inside.
    boxes[:, :2] = np.maximum(np.round(boxes[:, :2]) - 1, 0)
    boxes[:, 2:] = np.round(boxes[:, 2:])
    objects = example["objects"]
    found = truth(height, width, boxes, 1 + np.asarray(objects["label"], np.int64), objects["is_difficult"])
    return tfds_source.text(example["image/filename"]), None, found


def _coco(example: Mapping[str, Any]) -> tuple[str, int | None, Truth]:
    height, width, boxes = _pixels(example)
    objects = example["objects"]
    kept = np.all(boxes[:, 2:] > boxes[:, :2], axis=1)
    crowd = np.asarray(objects["is_crowd"], bool)[kept]
    areas = np.asarray(objects["area"], np.float32)[kept]
    found = truth(height, width, boxes[kept], 1 + np.asarray(objects["label"], np.int64)[kept], crowd, crowd, areas)
    return tfds_source.text(example["image/filename"]), int(example["image/id"]), found


_READERS: dict[str, Callable[[Mapping[str, Any]], tuple[str, int | None, Truth]]] = {"voc": _voc, "coco": _coco}


def _pixels(example: Mapping[str, Any]) -> tuple[int, int, np.ndarray]:
    """Height, width, and boxes in pixels; TFDS keeps them as shares, and does not keep the size."""
    height, width = _size(bytes(example["image"]))
    boxes = np.asarray(example["objects"]["bbox"], np.float64).reshape(-1, 4)
    return height, width, boxes * [height, width, height, width]


def _size(data: bytes) -> tuple[int, int]:
    """Height and width, by the header alone unless the image may have to be turned."""
    if b"Exif" in data[:4096]:
        image = decode(data)
        return image.height, image.width
    with Image.open(io.BytesIO(data)) as header:
        return header.height, header.width

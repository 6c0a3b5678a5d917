"""Boxes and outlines of folders in the format of COCO.

A folder holds `annotations/instances_<list>.json` and, for each list, a folder `<list>` of images: `train2017` and
`val2017` of COCO itself, or any two whose names begin with `train` and with `val` or `test`.
"""

import math
import pathlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from larq_ssl.evaluation.detection.truth import DetectionImages, Truth, is_outside, truth
from larq_ssl.files import read_object

_LISTS = {"train": ("train*",), "test": ("val*", "test*")}


def is_coco_folder(root: pathlib.Path) -> bool:
    """Whether a folder is meant to be one in COCO format."""
    return (root / "annotations").is_dir()


def load_coco_folder(split: str, data_dir: str, name: str) -> DetectionImages:
    """The images of a folder in COCO format, in the order of their numbers.

    # Arguments
        split: `train` or `test`; COCO calls the images that papers test on `val`.
        data_dir: The folder.
        name: What the data set is called.
    # Raises
        ValueError: If it is not such a folder, or an annotation is damaged.
    """
    file = _file(pathlib.Path(data_dir), split)
    content = read_object(file, "images", "annotations", "categories")
    pictures = pathlib.Path(data_dir) / file.stem.removeprefix("instances_")
    try:
        categories = sorted((int(entry["id"]), str(entry["name"])) for entry in content["categories"])
        _refuse_twice("category number", (number for number, _ in categories))
        _refuse_twice("category name", (title for _, title in categories))
        for kind in ("images", "annotations"):
            _refuse_twice(f"{kind.removesuffix('s')} number", (int(entry["id"]) for entry in content[kind]))
        classes = {number: place for place, (number, _) in enumerate(categories, start=1)}
        objects: dict[int, list[Mapping[str, Any]]] = {int(entry["id"]): [] for entry in content["images"]}
        for entry in content["annotations"]:
            objects[int(entry["image_id"])].append(entry)
        images = sorted(content["images"], key=lambda entry: int(entry["id"]))
        truths = tuple(_truth(entry, objects[int(entry["id"])], classes) for entry in images)
        files = [pictures / str(entry["file_name"]) for entry in images]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ValueError(f"{str(file)!r} is not in COCO format: {type(error).__name__} {error}") from error
    if not images or not categories:
        raise ValueError(f"{str(file)!r} names no image or no category")
    missing = [picture for picture in files if not picture.is_file()]
    if missing:
        raise ValueError(f"{len(missing)} of the {len(files)} images of {str(file)!r} are missing, as {missing[0]}")
    return DetectionImages(
        name=name,
        split=split,
        class_names=tuple(title for _, title in categories),
        truths=truths,
        ids=tuple(int(entry["id"]) for entry in images),
        read=lambda index: files[index].read_bytes(),
        describe=lambda index: str(files[index]),
    )


def _file(root: pathlib.Path, split: str) -> pathlib.Path:
    found = [file for mark in _LISTS[split] for file in sorted((root / "annotations").glob(f"instances_{mark}.json"))]
    if len(found) != 1:
        wanted = " or ".join(f"instances_{mark}.json" for mark in _LISTS[split])
        there = f"these: {', '.join(file.name for file in found)}" if found else "none"
        raise ValueError(f"{str(root / 'annotations')!r} must hold one file {wanted}, and has {there}")
    return found[0]


def _refuse_twice(what: str, values: Iterable[int | str]) -> None:
    for value, count in Counter(values).items():
        if count > 1:
            raise ValueError(f"the {what} {value!r} is there {count} times")


def _truth(image: Mapping[str, Any], objects: list[Mapping[str, Any]], classes: Mapping[int, int]) -> Truth:
    for entry in objects:
        if not (_are_numbers(entry["bbox"]) and len(entry["bbox"]) == 4 and _are_numbers([entry.get("area", 0)])):
            raise ValueError(f"the box or the area of annotation {entry['id']} is made of other things than numbers")
    # COCO itself has two boxes without any area.
    kept = [entry for entry in objects if entry["bbox"][2] > 0 and entry["bbox"][3] > 0]
    boxes = [(y, x, y + height, x + width) for x, y, width, height in (entry["bbox"] for entry in kept)]
    crowd = [bool(entry.get("iscrowd", 0)) for entry in kept]
    areas = [float(entry.get("area", entry["bbox"][2] * entry["bbox"][3])) for entry in kept]
    height, width = int(image["height"]), int(image["width"])
    for entry, box in zip(kept, boxes, strict=True):
        if is_outside(box, height, width):
            raise ValueError(f"the box of annotation {entry['id']} is outside of its image of {height} x {width}")
    outlined = all(entry.get("segmentation") for entry in kept)
    for entry in kept if outlined else []:
        if not _is_outline(entry["segmentation"], height, width):
            raise ValueError(f"the segmentation of annotation {entry['id']} is no outline in {height} x {width}")
    return truth(
        height,
        width,
        boxes,
        [classes[int(entry["category_id"])] for entry in kept],
        crowd,
        crowd,
        areas,
        [entry["segmentation"] for entry in kept] if outlined else None,
    )


def _is_outline(outline: Any, height: int, width: int) -> bool:
    """Whether it is polygons of three corners and more, or run lengths of an image of this size."""
    if isinstance(outline, dict):
        counts = outline["counts"]
        counts = _run_lengths(counts) if isinstance(counts, str) else counts
        whole = isinstance(counts, list) and all(type(count) is int and count >= 0 for count in counts)
        return whole and outline["size"] == [height, width] and sum(counts) == height * width
    if not isinstance(outline, list):
        return False
    return all(_are_numbers(polygon) and len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in outline)


def _are_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, int | float) and math.isfinite(value) for value in values)


def _run_lengths(text: str) -> list[int]:
    """What a compressed outline says: five bits of a number in each letter, a number from the third on being a
    difference to the one two before; nothing if the text ends within a number."""
    counts: list[int] = []
    number = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        number |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            number -= 1 << shift
        counts.append(number + (counts[-2] if len(counts) > 2 else 0))
        number = shift = 0
    return [] if shift else counts

"""Boxes of folders in the format of PASCAL VOC.

VOC counts pixels from 1, and the last one is inside the box; here a box begins where its first pixel begins and ends
where its last one ends, counted from 0.
"""

import pathlib
import xml.etree.ElementTree as ET

from PIL import Image

from larq_ssl.data import voc
from larq_ssl.evaluation.detection.truth import DetectionImages, Truth, is_outside, truth

_CORNERS = ("ymin", "xmin", "ymax", "xmax")


def is_voc_folder(root: pathlib.Path) -> bool:
    """Whether a folder is meant to be one in VOC format."""
    return (root / "JPEGImages").is_dir() or (root / "ImageSets").is_dir()


def load_voc_folder(split: str, data_dir: str, name: str) -> DetectionImages:
    """The images of a folder that holds JPEGImages, Annotations and ImageSets/Main.

    # Arguments
        split: `train`: those of trainval.txt (or train.txt); `test`: those of test.txt (or val.txt).
        data_dir: The folder.
        name: What the data set is called.
    # Raises
        ValueError: If it is not such a folder, an annotation is damaged, or a class of `test` has no object in `train`.
    """
    root = voc.voc_root(data_dir)
    lists = voc.voc_lists(root)
    train_ids = voc.listed(lists[0])
    ids = train_ids if split == "train" else voc.listed(lists[1])
    files = voc.image_files(root, ids, lists)
    trained = {name for image in train_ids for name in _names(root, image)}
    class_names = tuple(sorted(trained))
    if not class_names:
        raise ValueError(f"data_dir is {data_dir!r}: none of the images in {lists[0].name} has an object")
    truths = tuple(_truth(root, image, file, class_names) for image, file in zip(ids, files, strict=True))
    return DetectionImages(
        name=name,
        split=split,
        class_names=class_names,
        truths=truths,
        ids=tuple(range(1, len(ids) + 1)),
        read=lambda index: files[index].read_bytes(),
        describe=lambda index: str(files[index]),
    )


def _names(root: pathlib.Path, image: str) -> set[str]:
    file = voc.annotation_file(root, image)
    return {voc.object_name(entry, file) for entry in voc.annotation(root, image).findall("object")}


def _truth(root: pathlib.Path, image: str, picture: pathlib.Path, class_names: tuple[str, ...]) -> Truth:
    file, entries = voc.annotation_file(root, image), voc.annotation(root, image)
    height, width = _size(entries, picture)
    boxes, classes, difficult = [], [], []
    for entry in entries.findall("object"):
        name = voc.object_name(entry, file)
        if name not in class_names:
            raise ValueError(f"{str(file)!r} has an object {name!r}, of a class that no image to train on has")
        boxes.append(_box(entry, file))
        if is_outside(boxes[-1], height, width):
            raise ValueError(f"{str(file)!r} has a box outside of its image of {height} x {width}: {boxes[-1]}")
        classes.append(1 + class_names.index(name))
        difficult.append(voc.is_difficult(entry))
    return truth(height, width, boxes, classes, difficult)


def _box(entry: ET.Element, file: pathlib.Path) -> list[float]:
    try:
        top, left, bottom, right = (float(entry.findtext(f"bndbox/{corner}") or "") for corner in _CORNERS)
    except ValueError:
        raise ValueError(f"{str(file)!r} has an object whose box lacks one of {', '.join(_CORNERS)}") from None
    if not (bottom >= top >= 0 and right >= left >= 0):
        raise ValueError(f"{str(file)!r} has a box that ends before it begins: {[top, left, bottom, right]}")
    return [max(top - 1, 0.0), max(left - 1, 0.0), bottom, right]


def _size(entries: ET.Element, picture: pathlib.Path) -> tuple[int, int]:
    """Height and width, of the file where the annotation does not say them."""
    told = [(entries.findtext(f"size/{side}") or "").strip() for side in ("height", "width")]
    if all(text.isdecimal() and int(text) > 0 for text in told):
        return int(told[0]), int(told[1])
    with Image.open(picture) as image:
        return image.height, image.width

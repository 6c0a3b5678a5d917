"""Tiny folders in the format of PASCAL VOC."""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

Objects = Sequence[tuple[str, bool]]
"""Class of each object of an image, and whether it is difficult."""

_OBJECT = (
    "<object><name>{name}</name><pose>Frontal</pose><truncated>0</truncated>{difficult}"
    "<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>20</xmax><ymax>25</ymax></bndbox></object>"
)


def annotation(objects: Objects) -> str:
    """The XML of an image; of objects that are not difficult every second one does not say so."""
    entries = []
    for number, (name, difficult) in enumerate(objects):
        mark = f"<difficult>{int(difficult)}</difficult>" if difficult or number % 2 == 0 else ""
        entries.append(_OBJECT.format(name=name, difficult=mark))
    return f"<annotation><size><width>48</width><height>32</height></size>{''.join(entries)}</annotation>"


def write(root: pathlib.Path, images: Mapping[str, Objects], lists: Mapping[str, Sequence[str]]) -> pathlib.Path:
    """Writes images with a bright stripe per class (at its first letter), annotations and lists; returns the root."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for number, (image, objects) in enumerate(images.items()):
        pixels = np.random.default_rng(number).integers(0, 80, (32 + number % 3, 48, 3), np.uint8)
        for name, _ in objects:
            place = 8 * (ord(name[0]) % 6)
            pixels[:, place : place + 8] = 200
        Image.fromarray(pixels).save(root / "JPEGImages" / f"{image}.jpg", quality=95)
        (root / "Annotations" / f"{image}.xml").write_text(annotation(objects))
    for name, members in lists.items():
        (root / "ImageSets" / "Main" / f"{name}.txt").write_text("".join(f"{image}\n" for image in members))
    return root


def pets(root: pathlib.Path) -> pathlib.Path:
    """18 images to train on and 9 to test on, of cats and dogs, some with both, one with neither, two difficult."""
    images: dict[str, Objects] = {}
    for number in range(27):
        kinds = ((("cat", False),), (("dog", False), ("dog", True)), (("cat", False), ("dog", False)))
        images[f"{number:06}"] = kinds[number % 3]
    images["000003"] = (("cat", True), ("dog", False))
    images["000007"] = ()
    images["000020"] = (("dog", True), ("cat", False))
    names = list(images)
    return write(root, images, {"trainval": names[17::-1], "test": names[18:]})

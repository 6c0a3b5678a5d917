"""Tiny folders of detection in VOC format and in COCO's: bright boxes and discs on dark noise."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ("box", "disc")
HEIGHT, WIDTH = 48, 64
COLOURS = {"box": (230, 60, 60), "disc": (60, 230, 60)}

Object = tuple[str, int, int, int, int]
"""Class and left, top, width, height in pixels, from 0 on."""


def objects(number: int, count: int = 2) -> list[Object]:
    """What image `number` shows: `count` objects side by side, of 12 to 20 pixels."""
    draw = np.random.default_rng(number)
    found = []
    for place in range(count):
        width, height = (int(side) for side in draw.integers(12, 21, 2))
        left = place * WIDTH // count + int(draw.integers(0, WIDTH // count - width + 1))
        top = int(draw.integers(0, HEIGHT - height + 1))
        found.append((CLASSES[(number + place) % 2], left, top, width, height))
    return found


def picture(number: int, shown: Sequence[Object]) -> Image.Image:
    noise = np.random.default_rng(number).integers(0, 60, (HEIGHT, WIDTH, 3), np.uint8)
    image = Image.fromarray(noise)
    draw = ImageDraw.Draw(image)
    for name, left, top, width, height in shown:
        shape = draw.rectangle if name == "box" else draw.ellipse
        shape((left, top, left + width - 1, top + height - 1), fill=COLOURS[name])
    return image


def voc_annotation(shown: Sequence[Object], difficult: Sequence[bool] = (), size: bool = True) -> str:
    """The XML of an image; VOC's pixels are counted from 1, the last one inside."""
    entries = []
    for place, (name, left, top, width, height) in enumerate(shown):
        mark = int(place < len(difficult) and difficult[place])
        entries.append(
            f"<object><name>{name}</name><pose>Unspecified</pose><truncated>0</truncated><difficult>{mark}</difficult>"
            f"<bndbox><xmin>{left + 1}</xmin><ymin>{top + 1}</ymin><xmax>{left + width}</xmax>"
            f"<ymax>{top + height}</ymax></bndbox></object>"
        )
    told = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>" if size else ""
    return f"<annotation>{told}{''.join(entries)}</annotation>"


def voc_folder(root: pathlib.Path, train: int = 8, test: int = 4) -> pathlib.Path:
    """`train` images to train on, the first of them empty, and `test` to test on, the last with a difficult object."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    names = [f"{number:06}" for number in range(train + test)]
    for number, name in enumerate(names):
        shown = objects(number) if number else []
        picture(number, shown).save(root / "JPEGImages" / f"{name}.jpg", quality=95)
        difficult = [number == len(names) - 1]
        (root / "Annotations" / f"{name}.xml").write_text(voc_annotation(shown, difficult))
    for part, members in (("trainval", names[:train]), ("test", names[train:])):
        (root / "ImageSets" / "Main" / f"{part}.txt").write_text("".join(f"{name}\n" for name in members))
    return root


def outline(shown: Object) -> Any:
    """A polygon of a box; uncompressed run lengths of a disc."""
    name, left, top, width, height = shown
    if name == "box":
        right, bottom = left + width, top + height
        return [[left, top, right, top, right, bottom, left, bottom]]
    mask = np.asarray(picture(0, [shown]))[..., 1] > 200
    flat = mask.T.reshape(-1)
    changes = np.flatnonzero(np.diff(np.concatenate([[False], flat]).astype(int))) if flat.any() else np.array([], int)
    ends = np.concatenate([[0], changes, [len(flat)]])
    return {"size": [HEIGHT, WIDTH], "counts": np.diff(ends).tolist()}


def coco_content(numbers: Sequence[int], categories: Sequence[tuple[int, str]]) -> dict[str, Any]:
    """The annotations of images; the last one has a crowd besides."""
    kinds = {name: number for number, name in categories}
    annotations: list[dict[str, Any]] = []
    for number in numbers:
        for shown in objects(number):
            name, left, top, width, height = shown
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 100 + number,
                    "category_id": kinds[name],
                    "bbox": [left, top, width, height],
                    "area": width * height if name == "box" else 0.785 * width * height,
                    "iscrowd": 0,
                    "segmentation": outline(shown),
                }
            )
    crowd = {**annotations[-1], "id": len(annotations) + 1, "iscrowd": 1, "bbox": [0, 0, 10, 10], "area": 100}
    annotations.append({**crowd, "segmentation": {"size": [HEIGHT, WIDTH], "counts": [0, 10, HEIGHT * WIDTH - 10]}})
    images = [
        {"id": 100 + number, "file_name": f"{number:06}.jpg", "height": HEIGHT, "width": WIDTH} for number in numbers
    ]
    listed = [{"id": number, "name": name, "supercategory": "thing"} for number, name in categories]
    return {"images": images[::-1], "annotations": annotations, "categories": listed}


def coco_folder(
    root: pathlib.Path, train: int = 8, test: int = 4, categories: Sequence[tuple[int, str]] = ((3, "box"), (7, "disc"))
) -> pathlib.Path:
    """`train2017` and `val2017` as COCO's own archives unpack, with outlines."""
    (root / "annotations").mkdir(parents=True)
    for part, numbers in (("train2017", range(train)), ("val2017", range(train, train + test))):
        (root / part).mkdir()
        for number in numbers:
            picture(number, objects(number)).save(root / part / f"{number:06}.jpg", quality=95)
        content = coco_content(list(numbers), categories)
        (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(content))
    return root

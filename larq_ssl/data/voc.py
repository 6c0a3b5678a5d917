"""Images of PASCAL VOC: its own years from TensorFlow Datasets, or any folder in its format.

Classes are those of image-level VOC labels: an object is present if one of its class is not marked as difficult; if all
are, the image is neither a positive nor a negative of the class (-1), and each protocol says what becomes of it.
"""

import itertools
import os
import pathlib
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from concurrent import futures
from typing import Any

import numpy as np
from absl import logging

from larq_ssl.data import tfds_source
from larq_ssl.data.datasets import fingerprint
from larq_ssl.data.folder import EXTENSIONS
from larq_ssl.data.multi_label import MultiLabelDataset, presence
from larq_ssl.files import read_text

# Lists of images to train and to test on, in the order in which they are looked for.
_PAIRS = (("trainval", "test"), ("train", "val"))
# Of VOC2012 the labels of the test images were never published.
_TFDS_PARTS = {"2012": {"train": ("train",), "val": ("validation",)}}
_TFDS_DEFAULT = {"train": ("train", "validation"), "val": ("test",)}


def load_voc(name: str, split: str, data_dir: str | None) -> MultiLabelDataset:
    """See `datasets.load_dataset`. Images are in the order of their names.

    # Arguments
        name: "voc/2007" or "voc/2012" of TensorFlow Datasets, or "voc_folder": `data_dir` holds JPEGImages,
            Annotations and ImageSets/Main.
        split: "train" are VOC's images of train and val together, "val" those of test; of VOC2012 and of folders
            without trainval.txt and test.txt, train and val themselves.
        data_dir: Where the folder, or the prepared data set, lies.
    """
    if name == "voc_folder":
        return _load_folder(split, data_dir)
    return _load_tfds(name, split, data_dir)


def _load_folder(split: str, data_dir: str | None) -> MultiLabelDataset:
    root = voc_root(data_dir)
    lists = voc_lists(root)
    train_ids, ids = listed(lists[0]), listed(lists[1] if split == "val" else lists[0])
    files = image_files(root, ids, lists)
    # The classes are those to train on, whichever split is asked for.
    trained = [_objects(root, image) for image in train_ids]
    names = tuple(sorted(set().union(*(every for every, _ in trained))))
    if not names:
        raise ValueError(f"data_dir is {data_dir!r}: none of the images in {lists[0].name} has an object")
    found = trained if split == "train" else [_objects(root, image) for image in ids]
    for image, (every, _) in zip(ids, found, strict=True):
        if not every <= set(names):
            stranger = sorted(every - set(names))[0]
            raise ValueError(
                f"{str(annotation_file(root, image))!r} has an object {stranger!r}, of a class that no image in "
                f"{lists[0].name} has: its classes are {names[:20]}"
            )
    table = presence([every for every, _ in found], [clear for _, clear in found], names)
    sizes = np.array([file.stat().st_size for file in files], np.int64)
    return MultiLabelDataset(
        name="voc_folder",
        split=split,
        size=len(ids),
        classes=None,
        class_names=(),
        fingerprint=fingerprint("voc_folder", "\n".join(ids), "\n".join(names), sizes.tobytes(), table.tobytes()),
        read=lambda i: (files[i].read_bytes(), -1),
        describe=lambda i: str(files[i]),
        file_name=lambda i: files[i].name,
        presence=table,
        object_names=names,
    )


def voc_root(data_dir: str | None) -> pathlib.Path:
    """The folder, if it is one in VOC format."""
    needed = ("JPEGImages", "Annotations", os.path.join("ImageSets", "Main"))
    if not data_dir:
        raise ValueError(f"data_dir is not given: dataset 'voc_folder' needs the folder that holds {', '.join(needed)}")
    root = pathlib.Path(data_dir)
    missing = [folder for folder in needed if not (root / folder).is_dir()]
    if missing:
        raise ValueError(f"data_dir is {data_dir!r}: it must be a folder in VOC format, but has no {missing[0]}")
    return root


def voc_lists(root: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """The files that name the images to train and to test on."""
    main = root / "ImageSets" / "Main"
    for first, second in _PAIRS:
        train, test = main / f"{first}.txt", main / f"{second}.txt"
        if train.is_file() and test.is_file():
            return train, test
    raise ValueError(f"data_dir: {str(main)!r} must hold trainval.txt and test.txt, or train.txt and val.txt")


def listed(file: pathlib.Path) -> list[str]:
    """Names of the images of a list, sorted; what stands after them on a line is not looked at."""
    ids = sorted(line.split()[0] for line in read_text(file).splitlines() if line.strip())
    twice = next((one for one, other in itertools.pairwise(ids) if one == other), None)
    if twice or not ids:
        raise ValueError(f"{str(file)!r} " + (f"names the image {twice!r} twice" if twice else "names no image"))
    return ids


def image_files(root: pathlib.Path, ids: list[str], lists: tuple[pathlib.Path, ...]) -> list[pathlib.Path]:
    """The files of images that some lists name."""
    folder = root / "JPEGImages"
    files = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in EXTENSIONS}
    missing = [image for image in ids if image not in files]
    if missing:
        raise ValueError(
            f"data_dir: {len(missing)} of the {len(ids)} images that {lists[0].name} or {lists[1].name} names are not "
            f"in {str(folder)!r}, the first is {missing[0]!r}"
        )
    return [files[image] for image in ids]


def annotation_file(root: pathlib.Path, image: str) -> pathlib.Path:
    """Where the annotation of an image lies."""
    return root / "Annotations" / f"{image}.xml"


def annotation(root: pathlib.Path, image: str) -> ET.Element:
    """The annotation of an image.

    # Raises
        ValueError: If there is none, or it is no XML.
    """
    file = annotation_file(root, image)
    if not file.is_file():
        raise ValueError(f"data_dir: the image {image!r} has no annotation {str(file)!r}")
    try:
        return ET.parse(file).getroot()
    except ET.ParseError as error:
        raise ValueError(f"{str(file)!r} is not an annotation in VOC format: {error}") from error


def object_name(entry: ET.Element, file: pathlib.Path) -> str:
    """The class of an object of an annotation.

    # Raises
        ValueError: If it has none.
    """
    name = (entry.findtext("name") or "").strip()
    if not name:
        raise ValueError(f"{str(file)!r} is not an annotation in VOC format: it has an object without a name")
    return name


def is_difficult(entry: ET.Element) -> bool:
    """Whether an object is marked so; annotation tools leave the mark out where it is 0."""
    return (entry.findtext("difficult") or "0").strip() == "1"


def _objects(root: pathlib.Path, image: str) -> tuple[set[str], set[str]]:
    """Classes of all objects of an image, and of those that are not difficult."""
    every, clear = set(), set()
    for entry in annotation(root, image).findall("object"):
        name = object_name(entry, annotation_file(root, image))
        every.add(name)
        if not is_difficult(entry):
            clear.add(name)
    return every, clear


def _load_tfds(name: str, split: str, data_dir: str | None) -> MultiLabelDataset:
    builder = tfds_source.find_builder(name, data_dir)
    parts = _TFDS_PARTS.get(getattr(builder.builder_config, "name", ""), _TFDS_DEFAULT)[split]
    missing = [part for part in parts if part not in builder.info.splits]
    if missing:
        raise ValueError(f"{name!r} has no split {missing[0]!r}: its splits are {list(builder.info.splits)}")
    readers = [tfds_source.examples(builder, part, "image") for part in parts]
    places = [(r, i) for r, part in enumerate(parts) for i in range(builder.info.splits[part].num_examples)]

    def example(place: tuple[int, int]) -> Mapping[str, Any]:
        return readers[place[0]](place[1])

    def told(place: tuple[int, int]) -> tuple[str, set[str], set[str]]:
        found = example(place)
        every, clear = ({names[int(i)] for i in found[key]} for key in ("labels", "labels_no_difficult"))
        return tfds_source.text(found["image/filename"]), every, clear

    names = tuple(builder.info.features["labels"].feature.names)
    logging.info("Reading %d records of %s for their labels", len(places), name)
    with futures.ThreadPoolExecutor() as pool:
        notes = list(pool.map(told, places))
    # TFDS shuffles them; folds of cross-validation are cut in VOC's own order.
    order = sorted(range(len(places)), key=lambda i: notes[i][0])
    files = [notes[i][0] for i in order]
    table = presence([notes[i][1] for i in order], [notes[i][2] for i in order], names)
    return MultiLabelDataset(
        name=name,
        split=split,
        size=len(places),
        classes=None,
        class_names=(),
        fingerprint=fingerprint("voc", builder.info.full_name, "\n".join(files), table.tobytes()),
        read=lambda i: (bytes(example(places[order[i]])["image"]), -1),
        describe=lambda i: f"{builder.info.full_name} {files[i]}",
        file_name=lambda i: files[i],
        presence=table,
        object_names=names,
    )

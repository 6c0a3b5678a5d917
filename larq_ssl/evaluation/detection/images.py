"""Where the images of a detector come from."""

import pathlib

from larq_ssl.evaluation.detection.coco_format import is_coco_folder, load_coco_folder
from larq_ssl.evaluation.detection.tfds_images import builders, load_tfds_images
from larq_ssl.evaluation.detection.truth import DetectionImages
from larq_ssl.evaluation.detection.voc_format import is_voc_folder, load_voc_folder

DATASETS = ("voc", "coco", "folder")
SPLITS = ("train", "test")


def load_images(dataset: str, split: str, data_dir: str | None = None, name: str | None = None) -> DetectionImages:
    """Images and what is in them.

    # Arguments
        dataset: `voc` (07+12, tested on 07) and `coco` (2017) are of TensorFlow Datasets, or of a folder as their own
            archives make it, if `data_dir` is one; `folder` is any folder in VOC format or in COCO's.
        split: `train` or `test`.
        data_dir: The folder.
        name: What the data set is called in results, by default `dataset`.
    # Raises
        ValueError: If there is no such data set there.
    """
    if dataset not in DATASETS:
        raise ValueError(f"dataset must be one of {list(DATASETS)}, got {dataset!r}.")
    if split not in SPLITS:
        raise ValueError(f"split must be one of {list(SPLITS)}, got {split!r}.")
    check(dataset, data_dir)
    name = name or dataset
    form = _format(data_dir)
    if data_dir is None or form is None:
        return load_tfds_images(dataset, split, data_dir)
    return {"voc": load_voc_folder, "coco": load_coco_folder}[form](split, data_dir, name)


def check(dataset: str, data_dir: str | None) -> None:
    """Raises a `ValueError` if there are no such images, without reading any."""
    form = _format(data_dir)
    if form is not None:
        if dataset not in (form, "folder"):
            raise ValueError(
                f"data_dir is {data_dir!r}, a folder in the format of {form}, and dataset is {dataset!r}: give "
                f"dataset {form!r} if it is that one, else 'folder'."
            )
        return
    if dataset == "folder":
        raise ValueError(
            f"data_dir is {data_dir!r}: dataset 'folder' needs a folder in VOC format, which holds JPEGImages, "
            "Annotations and ImageSets/Main, or in COCO's, which holds annotations/instances_*.json and the images."
        )
    for split in SPLITS:
        builders(dataset, split, data_dir)


def _format(data_dir: str | None) -> str | None:
    """`voc` or `coco` if a folder is in the format of one of them."""
    forms = {"voc": is_voc_folder, "coco": is_coco_folder}
    return next((form for form, is_one in forms.items() if data_dir and is_one(pathlib.Path(data_dir))), None)

"""Encoders in use, from what runs leave behind."""

import json
import os
import pathlib

from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.inference.checks import check_count
from larq_ssl.inference.frozen_encoder import CLASSES_FILE, CLASSIFIER, HEAD, FrozenEncoder
from larq_ssl.models import folder as model_folder

_ENCODER_FILE, _HEAD_FILE = "encoder.json", "head.json"
_STUDENT = "student"


def load_encoder(
    path: str | os.PathLike[str], which: str | None = None, image_size: int | None = None
) -> FrozenEncoder:
    """The encoder of a run or of an encoder folder, ready to be used; with the classifier, if there is one.

    `larq_ssl.models.load_encoder` reads the network of an encoder folder alone, to train it or to build on it.

    # Arguments
        path: Folder of a finished run, or of an encoder: of a run, or written by `FrozenEncoder.save`.
        which: Encoder of a run, "student" or "ema" (where the method keeps one); by default "student". The folder of an
            encoder holds only one: it has none to choose from.
        image_size: Side of the images that it sees, in pixels; by default as in its run, or as it was saved with.
    # Returns
        `FrozenEncoder`.
    # Raises
        ValueError: If it is no such folder, or is damaged, or nothing tells the size of the images, or an argument is
            not allowed.
    """
    path = pathlib.Path(path)
    if image_size is not None:
        check_count("image_size", image_size)
    if (path / _ENCODER_FILE).is_file():
        if which is not None:
            raise ValueError(f"`which` must be None for the folder of an encoder, {str(path)!r}, got {which!r}.")
        in_run = path.parent.name == "encoders" and RunFolder(path.parent.parent).finished
        return _of_run(path, image_size) if in_run else _of_folder(path, image_size)
    run = RunFolder(path)
    if not run.finished:
        kind = (
            "an unfinished run" if run.flags_file.is_file() else "neither a finished run nor the folder of an encoder"
        )
        raise ValueError(f"`path` {str(path)!r} is {kind}.")
    folder = run.encoder(which or _STUDENT)
    if not (folder / _ENCODER_FILE).is_file():
        found = sorted(place.name for place in folder.parent.glob("*/"))
        raise ValueError(f"`which` must be one of {', '.join(found) or 'nothing'} for the run {path}, got {which!r}.")
    return _of_run(folder, image_size)


def _of_run(folder: pathlib.Path, image_size: int | None) -> FrozenEncoder:
    run = RunFolder(folder.parent.parent)
    told = run.flags().get("image_size")
    size = image_size or (int(told) if told else None)
    # Classifiers are trained on the student's features.
    if folder.name != _STUDENT:
        return _load(folder, size, None, None)
    return _load(folder, size, run.head(CLASSIFIER).parent.parent, run.classes_file)


def _of_folder(folder: pathlib.Path, image_size: int | None) -> FrozenEncoder:
    return _load(folder, image_size, folder, folder / CLASSES_FILE)


def _load(
    folder: pathlib.Path, image_size: int | None, heads: pathlib.Path | None, classes: pathlib.Path | None
) -> FrozenEncoder:
    encoder = model_folder.load_encoder(folder)
    size = image_size or encoder.spec.image_size
    if size is None:
        raise ValueError(f"`image_size` is missing: nothing in {folder} tells the size of the images.")
    names = json.loads(classes.read_text()) if classes is not None and classes.is_file() else None
    if heads is None or not (heads / CLASSIFIER / _HEAD_FILE).is_file():
        return FrozenEncoder(encoder, size, classes=names if encoder.spec.classes else None)
    parts = {name: model_folder.load_head(heads / name) for name in (CLASSIFIER, HEAD) if (heads / name).is_dir()}
    return FrozenEncoder(encoder, size, parts[CLASSIFIER], parts.get(HEAD), names)

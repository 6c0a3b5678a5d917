"""Which images keep their label, where only few are to: chosen by class and seed, or by a list of file names."""

import dataclasses
import json
import math
import os
import pathlib
import re
from collections.abc import Sequence

import numpy as np

from larq_ssl.data.datasets import ImageDataset, balanced_order, fingerprint
from larq_ssl.files import read_text

_FORMAT = "larq_ssl labels, version 1"
_DRAW = 2
_ALL = "all images"
# Lines, and sums over all lines `n<class>_<number>.JPEG` of class and number, of the lists of google-research/simclr.
_PUBLISHED = {
    (12811, 44611871920, 150172006): "SimCLR's 1 % of ImageNet",
    (128116, 446113235828, 1505685346): "SimCLR's 10 % of ImageNet",
}
_IMAGENET_NAME = re.compile(r"n(\d{8})_(\d+)\.JPEG")


@dataclasses.dataclass(frozen=True)
class LabelSubset:
    """The images of a data set that keep their label.

    # Arguments
        ids: Their indices, int64, ascending.
        data: Fingerprint of the data set.
        origin: How they were chosen, for people.
    """

    ids: np.ndarray
    data: str
    origin: str

    @property
    def fingerprint(self) -> str:
        """Changes with the images that are chosen."""
        return fingerprint(self.data, self.ids.tobytes())

    def only(self, dataset: ImageDataset) -> ImageDataset:
        """These images, and no others."""
        self._check(dataset)
        return dataset.subset(self.ids, "labelled")

    def hide_others(self, dataset: ImageDataset) -> ImageDataset:
        """All images, of which the others have the label -1."""
        self._check(dataset)
        keeps = np.zeros(dataset.size, bool)
        keeps[self.ids] = True
        hidden = dataset.relabelled(lambda ids, labels: np.where(keeps[ids], labels, -1))
        return dataclasses.replace(hidden, fingerprint=fingerprint(dataset.fingerprint, self.fingerprint))

    def to_json(self) -> str:
        """What `read_labels` reads."""
        content = {"format": _FORMAT, "data": self.data, "origin": self.origin, "ids": self.ids.tolist()}
        return json.dumps(content) + "\n"

    def _check(self, dataset: ImageDataset) -> None:
        if dataset.fingerprint != self.data:
            raise ValueError(
                f"labels were chosen of other images ({self.origin}; fingerprint {self.data}) than {dataset.name} "
                f"({dataset.split}) has, with its fingerprint {dataset.fingerprint}"
            )


def balanced_labels(
    dataset: ImageDataset, fraction: float | None = None, per_class: int | None = None, seed: int = 0
) -> LabelSubset:
    """A share of the images, or so many of each class: equally many of all classes, as far as there are so many.

    Of one seed, the smaller subset is part of the larger one. On ImageNet, 1 % and 10 % have exactly the numbers of
    images per class of SimCLR's lists (12 or 13, 128 or 129), but are other images.

    # Arguments
        dataset: With labels.
        fraction: Share of all images that keep their label, in (0, 1]; the number is rounded down.
        per_class: Images of each class, instead of a share.
        seed: Of the choice.
    # Raises
        ValueError: If not exactly one of share and number is given, or it leaves a class without images.
    """
    if (fraction is None) == (per_class is None):
        raise ValueError(f"either fraction or per_class must be given, got {fraction} and {per_class}")
    classes = dataset.class_count()
    if fraction == 1:
        return LabelSubset(np.arange(dataset.size), dataset.fingerprint, _ALL)
    labels = dataset.labels()
    if per_class is not None:
        smallest = int(np.bincount(labels[labels >= 0], minlength=classes).min())
        if not 1 <= per_class <= smallest:
            raise ValueError(
                f"per_class is {per_class}: it must lie in [1, {smallest}], the size of the smallest class"
            )
        count, origin = per_class * classes, f"{per_class} images of each class, seed {seed}"
    else:
        # A product that should be whole may lie just below.
        count = math.floor(fraction * dataset.size + 1e-6)  # type: ignore[operator]  # one of the two is given
        if not 0 < fraction < 1 or count < classes:  # type: ignore[operator]
            raise ValueError(
                f"fraction is {fraction}: it must lie in ({classes / dataset.size:.3g}, 1], or some of the {classes} "
                f"classes would have none of the {dataset.size} images"
            )
        origin = f"{fraction:g} of the images, seed {seed}"
    labelled = np.flatnonzero(labels >= 0)
    chosen = labelled[balanced_order(labels[labelled], seed, _DRAW)[:count]]
    return LabelSubset(np.sort(chosen), dataset.fingerprint, origin)


def listed_labels(dataset: ImageDataset, file: str | os.PathLike[str]) -> LabelSubset:
    """The images whose file names are the lines of a file, such as `n01440764_10026.JPEG` (SimCLR's lists).

    Of lists for all of ImageNet, images of classes that the data set has not are left out.

    # Raises
        ValueError: If the images have no file names, or a line names none of them, or two.
    """
    if dataset.file_name is None:
        raise ValueError(f"label_list is {str(file)!r}, but the images of {dataset.name} have no file names")
    path = pathlib.Path(file)
    if not path.is_file():
        raise ValueError(f"label_list is {str(file)!r}: there is no such file")
    listed = read_text(path).split()
    wanted = [name for name in listed if not _of_other_class(name, dataset)]
    places: dict[str, list[int]] = {name: [] for name in wanted}
    for index in range(dataset.size):
        places.get(dataset.file_name(index), []).append(index)
    missing = [name for name in wanted if not places[name]]
    if missing or not wanted:
        first = f", the first is {missing[0]!r}" if missing else ""
        raise ValueError(
            f"label_list is {str(file)!r}: {len(missing)} of its {len(listed)} lines name no image of {dataset.name} "
            f"({dataset.split}){first}"
        )
    several = next((name for name in wanted if len(places[name]) > 1), None)
    if several is not None:
        raise ValueError(f"label_list is {str(file)!r}: {len(places[several])} images have the name {several!r}")
    ids = np.unique(np.array([places[name][0] for name in wanted], np.int64))
    return LabelSubset(ids, dataset.fingerprint, known_list(listed) or f"the list {path.name}")


def known_list(names: Sequence[str]) -> str | None:
    """What a published list of file names is called, `None` if it is none that is known here."""
    matches = [_IMAGENET_NAME.fullmatch(name) for name in names]
    found = [(int(match[1]), int(match[2])) for match in matches if match is not None]
    if len(found) < len(names):
        return None
    return _PUBLISHED.get((len(found), sum(wordnet for wordnet, _ in found), sum(number for _, number in found)))


def known_share(origin: str) -> float | None:
    """About which share of the images the origin of a subset says that it is, `None` if it does not."""
    if origin in _PUBLISHED.values():
        return float(origin.split()[1]) / 100
    match = re.fullmatch(r"(\S+) of the images, seed \d+", origin)
    return float(match[1]) if match is not None else 1.0 if origin == _ALL else None


def read_labels(file: str | os.PathLike[str]) -> LabelSubset:
    """The subset in a file of `LabelSubset.to_json`.

    # Raises
        ValueError: If it is not such a file.
    """
    try:
        content = json.loads(read_text(file))
        if content["format"] != _FORMAT:
            raise ValueError(f"its format is {content['format']!r}")
        ids = np.array(content["ids"], np.int64)
        if ids.ndim != 1 or not len(ids) or ids[0] < 0 or np.any(np.diff(ids) <= 0):
            raise ValueError("its ids do not ascend")
        return LabelSubset(ids, str(content["data"]), str(content["origin"]))
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{str(file)!r} is not a file of labels: {error}") from error


def _of_other_class(name: str, dataset: ImageDataset) -> bool:
    return _IMAGENET_NAME.fullmatch(name) is not None and name.partition("_")[0] not in dataset.class_names

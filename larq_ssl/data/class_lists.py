"""Data sets restricted to some of their classes, such as ImageNet-100."""

import os
import pathlib

import numpy as np

from larq_ssl.data.datasets import ImageDataset
from larq_ssl.files import read_text

CLASS_LISTS = {name: pathlib.Path(__file__).with_name(f"{name}.txt") for name in ("imagenet100",)}
"""Files of class names that come with this package, by the name of the list."""


def read_class_list(name: str | os.PathLike[str]) -> tuple[str, ...]:
    """The class names of a list.

    # Arguments
        name: A key of `CLASS_LISTS`, or a file with a name per line; lines that begin with # are comments.
    # Raises
        ValueError: If there is no such list, or a name is in it twice.
    """
    file = CLASS_LISTS.get(str(name), pathlib.Path(name))
    if not file.is_file():
        raise ValueError(f"classes_list is {str(name)!r}: it must be one of {sorted(CLASS_LISTS)}, or a file")
    lines = (line.strip() for line in read_text(file).splitlines())
    names = [line for line in lines if line and not line.startswith("#")]
    twice = [line for line in names if names.count(line) > 1]
    if twice or not names:
        raise ValueError(f"classes_list is {str(name)!r}: " + (f"{twice[0]!r} is in it twice" if twice else "no names"))
    return tuple(names)


def restrict(dataset: ImageDataset, names: tuple[str, ...]) -> ImageDataset:
    """Only the images of these classes, which are numbered anew, in the order in which the data set has them.

    Where only the records know the labels, all of them are read, once.

    # Raises
        ValueError: If the data set has not all of these classes.
    """
    missing = [name for name in names if name not in dataset.class_names]
    if missing:
        raise ValueError(
            f"classes_list has {len(missing)} of {len(names)} classes that {dataset.name} ({dataset.split}) has not, "
            f"the first is {missing[0]!r}"
        )
    kept = [number for number, name in enumerate(dataset.class_names) if name in names]
    number = np.full(len(dataset.class_names) + 1, -1, np.int64)  # the last is that of no label
    number[kept] = np.arange(len(kept))
    part = dataset.subset(np.flatnonzero(number[dataset.labels()] >= 0), "classes")
    return part.relabelled(lambda _, labels: number[labels], tuple(dataset.class_names[i] for i in kept))

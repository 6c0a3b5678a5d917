"""Images that hold several things at once: not one label each, but what is in them and what is not."""

import dataclasses
from typing import cast

import numpy as np

from larq_ssl.data.datasets import ImageDataset


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultiLabelDataset(ImageDataset):
    """Images of which each may show objects of several classes.

    To all that needs one label per image it is a data set without labels: `classes` is `None`, labels are -1.

    # Arguments
        presence: Int8 `[size, objects]`: 1 where an object of the class is in the image, 0 where none is, -1 where
            all that are in it are marked as difficult.
        object_names: Names of the classes, in the order of the columns.
    """

    presence: np.ndarray
    object_names: tuple[str, ...]

    def class_count(self) -> int:
        """There is no such number: an image has any number of classes.

        # Raises
            ValueError: Always.
        """
        raise ValueError(
            f"{self.name} ({self.split}) has several labels per image, where one is needed: it can be trained on "
            "without labels or by fine_tune and supervised, and measured by svm, linear and transfer"
        )

    def subset(self, indices: np.ndarray, note: str) -> "MultiLabelDataset":
        """See `ImageDataset.subset`."""
        part = cast(MultiLabelDataset, super().subset(indices, note))
        return dataclasses.replace(part, presence=self.presence[np.asarray(indices, np.int64)])


def presence(present: list[set[str]], clear: list[set[str]], names: tuple[str, ...]) -> np.ndarray:
    """What is in each image, as `MultiLabelDataset` has it.

    # Arguments
        present: For each image the classes of all its objects.
        clear: For each image the classes of those that are not difficult.
        names: All classes.
    # Returns
        Int8 `[images, classes]` of 1, 0 and -1.
    """
    table = np.zeros((len(present), len(names)), np.int8)
    column = {name: number for number, name in enumerate(names)}
    for row, every, plain in zip(table, present, clear, strict=True):
        row[[column[name] for name in every]] = -1
        row[[column[name] for name in plain]] = 1
    return table


def presence_of(dataset: ImageDataset) -> tuple[np.ndarray, tuple[str, ...]]:
    """What is in each image of any labelled data set, and the names of the classes.

    With one label per image, that class is present and all others are absent.

    # Raises
        ValueError: If the images have no labels, or not all of them have one.
    """
    if isinstance(dataset, MultiLabelDataset):
        return dataset.presence, dataset.object_names
    classes, labels = dataset.class_count(), dataset.labels()
    if np.any(labels < 0):
        raise ValueError(f"{np.sum(labels < 0)} images of {dataset.name} ({dataset.split}) have no label: all need one")
    return np.eye(classes, dtype=np.int8)[labels], dataset.class_names


def output_count(dataset: ImageDataset) -> int:
    """How many logits a classifier of these images gives: one per class, whether an image has one of them or several.

    # Raises
        ValueError: If the images have no labels.
    """
    return len(dataset.object_names) if isinstance(dataset, MultiLabelDataset) else dataset.class_count()

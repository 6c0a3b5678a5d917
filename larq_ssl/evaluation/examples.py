"""Features of images that may show several things at once, as SVMs are trained and tested with."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from larq_ssl.data.datasets import ImageDataset, fingerprint
from larq_ssl.data.multi_label import MultiLabelDataset, presence_of
from larq_ssl.evaluation.accuracy import TOPS
from larq_ssl.evaluation.average_precision import PRECISIONS
from larq_ssl.evaluation.features import Features
from larq_ssl.evaluation.normalise import unit_rows


@dataclasses.dataclass(frozen=True)
class Examples:
    """Features of images, and what is in them.

    # Arguments
        features: Floats `[images, dim]`.
        presence: Int8 `[images, classes]`: 1 with an object of the class, 0 without, -1 with difficult ones alone.
        names: Names of the classes.
    """

    features: np.ndarray
    presence: np.ndarray
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        expected = (len(self.features), len(self.names))
        if self.presence.shape != expected:
            raise ValueError(f"`presence` must be [images, classes] = {expected}, got shape {self.presence.shape}.")

    @property
    def fingerprint(self) -> str:
        """Changes when a number does."""
        arrays = (np.ascontiguousarray(array).tobytes() for array in (self.features, self.presence))
        return fingerprint(*arrays, "\n".join(self.names))


def examples(features: Features, dataset: ImageDataset) -> Examples:
    """The features of a data set beside what is in its images, whether they have one label each or several."""
    presence, names = presence_of(dataset)
    return Examples(features.features, presence[features.ids], names)


def measures_of(dataset: ImageDataset) -> tuple[str, str]:
    """What is reported of classifiers of images, with one label each or several; the first decides."""
    return PRECISIONS if isinstance(dataset, MultiLabelDataset) else TOPS


def normalise(features: np.ndarray, epsilon: float = 1e-5) -> np.ndarray:
    """Float64 `x / (|x| + epsilon)`, row by row."""
    return unit_rows(features.astype(np.float64), epsilon)


def signs(presence: np.ndarray) -> np.ndarray:
    """What the SVMs are trained for, `[images, classes]`: +1 with the object, -1 without. Difficult is without."""
    return np.where(presence == 1, 1, -1)


def check_test(presence: np.ndarray, names: Sequence[str]) -> None:
    """Refuses images of which none shows a class: it has no average precision.

    # Raises
        ValueError: Names the class.
    """
    for name, column in zip(names, presence.T, strict=True):
        if not np.any(column == 1):
            raise ValueError(f"The class {name!r} is in none of the {len(column)} test images: it has no precision.")


def check_train(presence: np.ndarray, names: Sequence[str], folds: int) -> None:
    """Refuses images with too few of a class, or without one, for a cross-validation.

    # Raises
        ValueError: Names the class.
    """
    for name, column in zip(names, signs(presence).T, strict=True):
        positives, negatives = int(np.sum(column == 1)), int(np.sum(column == -1))
        # All parts to validate on need a positive, all others together one of both.
        if positives < folds or negatives < 2:
            raise ValueError(
                f"The class {name!r} is in {positives} of the {len(column)} training images: cross-validation in "
                f"{folds} parts needs it in at least {folds}, and at least 2 without it."
            )


def check_pair(train: Examples, test: Examples) -> None:
    """Refuses training and test images that do not belong together, or no class of which is in a test image.

    # Raises
        ValueError: Says which.
    """
    if train.names != test.names:
        raise ValueError(f"`test` must have the classes of `train`, {train.names}, got {test.names}.")
    if train.features.shape[1] != test.features.shape[1]:
        raise ValueError(
            f"`train` and `test` must have features of equal size, got {train.features.shape[1]} and "
            f"{test.features.shape[1]}."
        )
    check_test(test.presence, test.names)

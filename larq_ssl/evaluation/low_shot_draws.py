"""Which few images SVMs are trained with: for each class k with it and so many more without."""

import dataclasses
from collections.abc import Sequence

import numpy as np

DEFAULT_KS = (1, 2, 4, 8, 16, 32, 64, 96)


@dataclasses.dataclass(frozen=True)
class Draw:
    """Images that the SVMs of all classes are trained with.

    # Arguments
        positives: Int64 `[classes, k]`: rows of images with the class.
        negatives: Int64 `[classes, (classes - 1) k]`: rows of images without it; -1 where there are no more.
    """

    positives: np.ndarray
    negatives: np.ndarray

    def of_class(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows in ascending order, and +1 or -1 for each."""
        negatives = self.negatives[number][self.negatives[number] >= 0]
        rows = np.concatenate([self.positives[number], negatives])
        order = np.argsort(rows)
        return rows[order], np.where(order < self.positives.shape[1], 1, -1)


def fitting_ks(presence: np.ndarray) -> tuple[int, ...]:
    """Those of the protocol's k that no class has too few images for.

    # Raises
        ValueError: If a class is in no image.
    """
    smallest = int(np.min(np.sum(presence == 1, axis=0)))
    if not smallest:
        raise ValueError("`presence` must have an image of each class, but one class is in none.")
    return tuple(k for k in DEFAULT_KS if k <= smallest)


def check_low_shot(presence: np.ndarray, names: Sequence[str], ks: Sequence[int]) -> tuple[str, ...]:
    """Refuses a k that cannot be drawn, and says where there are fewer images without a class than the protocol draws.

    # Arguments
        presence: What is in the training images, `[images, classes]`.
        names: Of the classes.
        ks: Images of a class.
    # Returns
        A sentence for each class with too few images without it: from some k on all of them are taken.
    # Raises
        ValueError: Names the class of which there are not k images, or none without it.
    """
    if len(names) < 2:
        raise ValueError(f"`names` must be at least 2 classes, to draw images of the others; got {tuple(names)}.")
    if not ks or min(ks) < 1 or len(set(ks)) < len(ks):
        raise ValueError(f"`ks` must be different numbers of at least 1, got {tuple(ks)}.")
    notes = []
    for name, column in zip(names, presence.T, strict=True):
        positives, negatives = int(np.sum(column == 1)), int(np.sum(column == 0))
        if max(ks) > positives:
            raise ValueError(f"`ks` asks for {max(ks)} images of the class {name!r}, of which there are {positives}.")
        if not negatives:
            raise ValueError(f"The class {name!r} is in all training images: nothing can be learned about it.")
        short = [k for k in ks if (len(names) - 1) * k > negatives]
        if short:
            notes.append(
                f"Without the class {name!r} there are only {negatives} images: from k = {min(short)} on all are taken."
            )
    return tuple(notes)


def draw(presence: np.ndarray, k: int, seed: int, sample: int) -> Draw:
    """For each class k images with it and (classes - 1) k without, drawn without replacement.

    Classes are drawn independently, and so are samples and numbers k. Difficult images are never drawn.

    Differences from the paper: the draw is seeded; and where there are not so many images without a class, as never in
    VOC2007, all of them are taken.

    # Arguments
        presence: What is in the images, `[images, classes]`.
        k: Images of a class.
        seed, sample: Of the draw.
    """
    classes = presence.shape[1]
    positives = np.empty((classes, k), np.int64)
    negatives = np.full((classes, (classes - 1) * k), -1, np.int64)
    for number, column in enumerate(presence.T):
        rng = np.random.default_rng([seed, sample, k, number])
        positives[number] = rng.choice(np.flatnonzero(column == 1), k, replace=False)
        others = rng.permutation(np.flatnonzero(column == 0))[: negatives.shape[1]]
        negatives[number, : len(others)] = others
    return Draw(positives, negatives)


def drawn_ids(
    presence: np.ndarray, ids: np.ndarray, ks: Sequence[int], samples: int, seed: int
) -> dict[str, np.ndarray]:
    """Ids of all images that `low_shot` draws, for the record: `k<k>/sample<number>/positives` and `.../negatives`.

    # Arguments
        ids: Of the images, one per row of `presence`.
    # Returns
        Int64 arrays like those of `Draw`.
    """
    found = {}
    for sample in range(samples):
        for k in ks:
            drawn = draw(presence, k, seed, sample)
            for kind, rows in (("positives", drawn.positives), ("negatives", drawn.negatives)):
                found[f"k{k}/sample{sample}/{kind}"] = np.where(rows < 0, -1, ids[rows])
    return found

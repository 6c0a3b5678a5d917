"""The real images that an export is audited with, and the features that its kNN and its classifier learn from."""

import dataclasses

import numpy as np

from larq_ssl.data import pipeline
from larq_ssl.data.datasets import ImageDataset, NothingHeldOutError
from larq_ssl.evaluation.features import Features, extract
from larq_ssl.experiments import common
from larq_ssl.experiments.probed import Probed
from larq_ssl.export import AuditImages, feature_name
from larq_ssl.models import Encoder

_BANK, _CALIBRATION = 4096, 64


@dataclasses.dataclass(frozen=True)
class Images:
    """Images of an export.

    # Attributes
        train: What a classifier and kNN learn from.
        test: What the file is tried on; of images without a part for that, others of `train`.
        image_size: Side of the images.
        batch_size: Images per step of the feature extraction.
    """

    train: ImageDataset
    test: ImageDataset
    image_size: int
    batch_size: int

    def features(self, encoder: Encoder, images: ImageDataset) -> Features:
        """Features of images by Keras, those before its classes of a network that ends in some."""
        output = feature_name(encoder) if encoder.spec.classes is not None else None
        bar = common.bar(f"features of {images.split}")
        return extract(encoder, images, self.image_size, self.batch_size, progress=bar, output=output)

    def bank(self, encoder: Encoder, known: Features | None) -> Features:
        """Features of up to 4,096 training images, some of those that are known."""
        rows = _some(self.train.size if known is None else len(known), _BANK)
        return self.features(encoder, self.train.subset(rows, "bank")) if known is None else known.select(rows)

    def audit_images(self, count: int, bank: Features, with_labels: bool = True) -> AuditImages:
        """Up to so many of the test images, and some of the training images for the ranges of 8 bits."""
        images, labels = self._pixels(self.test, count)
        calibration, _ = self._pixels(self.train, _CALIBRATION)
        return AuditImages(images, labels if with_labels else None, bank, calibration)

    def _pixels(self, dataset: ImageDataset, count: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = dataset.subset(_some(dataset.size, count), "audit")
        parts = list(pipeline.image_batches(chosen, self.image_size, self.batch_size).as_numpy_iterator())
        if not parts:
            raise ValueError(f"{dataset.name} ({dataset.split}) holds no image to audit the file with.")
        images, labels = (np.concatenate([part[key] for part in parts]) for key in ("image", "label"))
        return images, labels


def load(source: Probed, batch_size: int) -> Images:
    """The images of the flags; where no part of them is held out, a tenth of them is for the audit alone."""
    train = source.load("train")
    try:
        return Images(train, source.load("val"), source.image_size, batch_size)
    except NothingHeldOutError as error:
        order = np.random.default_rng(0).permutation(train.size)
        held_out, kept = np.split(order, [max(1, train.size // 10)])
        common.say(f"{error}; the file is audited with {len(held_out)} of the training images instead.")
        parts = train.subset(kept, "not audited"), train.subset(held_out, "audited")
        return Images(*parts, source.image_size, batch_size)


def _some(size: int, count: int) -> np.ndarray:
    """Fixed, mixed rows: folders come sorted by class."""
    return np.random.default_rng(1).permutation(size)[:count]

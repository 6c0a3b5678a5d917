"""A binary encoder as a transformer of scikit-learn."""

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from larq_ssl.data.datasets import ImageDataset
from larq_ssl.inference.frozen_encoder import FrozenEncoder
from larq_ssl.inference.images import image_dataset, is_column
from larq_ssl.inference.loading import load_encoder
from larq_ssl.inference.pretraining import Pretraining, pretrain

_SEEDS = 2**31


class BinaryEncoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Features of images by a binary network, which is trained without labels, or given.

    `fit` trains with one of the methods of larq_ssl, without a teacher; for all others, and for many images, there are
    its commands, and their run folders are taken as `encoder`. `transform` extracts features: float32 `[images, dim]`.

    X are images as `FrozenEncoder.encode` takes them (arrays uint8 `[images, height, width, 3]`, lists of them, paths,
    patterns), or, as scikit-learn's own data sets have them, a row of pixels for each image. Rows of numbers that are
    not uint8 go from black, the smallest number that `fit` sees, to white, the largest.

    # Arguments
        encoder: A `FrozenEncoder`, or a folder that `larq_ssl.load_encoder` reads; `None`: `fit` trains one. With an
            encoder, the arguments up to `learning_rate` have no meaning.
        method: "simclr" or "byol".
        network: One of `larq_ssl.models.ARCHITECTURES`.
        binarization: "full" trains with binary activations first, then with binary weights too, each for `epochs`;
            "activations" and "none" (a float network) once.
        width, stem: See `larq_ssl.models.build`.
        image_size: Side of the images that the network sees, in pixels.
        views: Views that it learns from, one of `larq_ssl.data.POLICIES` with two views and no patches.
        epochs: Passes over the images, of each stage.
        batch_size: Images per step, at most; also of `transform`.
        learning_rate: Of Adam; it falls to 0 along half a cosine.
        image_shape: Height and width, or height, width and 3, of images that come as rows; one of the numbers may be
            -1, as in `numpy.reshape`. `None`: they are square and grey.
        random_state: Seed of the weights and views; as usual in scikit-learn.
        verbose: 1 shows the progress of training, 0 does not.
    # Attributes
        encoder_: The `FrozenEncoder`.
        pixel_range_: What black and white are in rows.
        n_features_in_: Length of the rows, if X has rows.
    """

    def __init__(
        self,
        encoder: FrozenEncoder | str | os.PathLike[str] | None = None,
        *,
        method: str = "simclr",
        network: str = "reactnet_18",
        binarization: str = "full",
        width: float = 0.25,
        stem: str = "cifar",
        image_size: int = 32,
        views: str = "cifar",
        epochs: int = 30,
        batch_size: int = 128,
        learning_rate: float = 2e-3,
        image_shape: Sequence[int] | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.encoder = encoder
        self.method = method
        self.network = network
        self.binarization = binarization
        self.width = width
        self.stem = stem
        self.image_size = image_size
        self.views = views
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.image_shape = image_shape
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> "BinaryEncoder":  # noqa: N803  scikit-learn's name
        """Trains the encoder on images, or takes the one that is given.

        # Arguments
            X: Images.
            y: Not used.
        # Returns
            Itself.
        # Raises
            ValueError: If X are no images, or too few, or a parameter is not allowed.
        """
        images = self._images(X, reset=True)
        if isinstance(self.encoder, FrozenEncoder):
            self.encoder_ = self.encoder
        elif self.encoder is not None:
            self.encoder_ = load_encoder(self.encoder)
        else:
            self.encoder_ = self._trained(images)
        return self

    def transform(self, X: Any) -> np.ndarray:  # noqa: N803
        """Features of images.

        # Arguments
            X: Images, rows if `fit` saw rows.
        # Returns
            Float32 array `[images, dim]`.
        # Raises
            ValueError: If X are no images, or of another length than those that `fit` saw.
        """
        check_is_fitted(self, "encoder_")
        return self.encoder_.encode(self._images(X, reset=False), self.batch_size)

    @property
    def _n_features_out(self) -> int:
        return self.encoder_.feature_dim

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # features are float32, whatever comes in
        return tags

    def _trained(self, images: ImageDataset | tf.data.Dataset) -> FrozenEncoder:
        if isinstance(images, tf.data.Dataset):
            raise ValueError("`X` must be images by index to train on, got a tf.data.Dataset; give an array or paths.")
        settings = Pretraining(
            self.method,
            self.network,
            self.binarization,
            self.width,
            self.stem,
            self.image_size,
            self.views,
            self.epochs,
            self.batch_size,
            self.learning_rate,
        )
        seed = int(check_random_state(self.random_state).randint(_SEEDS))
        return FrozenEncoder(pretrain(images, settings, seed, self.verbose), self.image_size)

    def _images(self, X: Any, reset: bool) -> ImageDataset | tf.data.Dataset:  # noqa: N803
        if _are_images(X):
            if reset:
                self.pixel_range_ = (0.0, 255.0)
                self._forget_rows()
            return X if isinstance(X, tf.data.Dataset) else image_dataset(X)
        rows = validate_data(self, X, reset=reset, dtype=np.float64)
        if reset:
            whole = np.asarray(X).dtype == np.uint8
            self.pixel_range_ = (0.0, 255.0) if whole else (float(rows.min()), float(rows.max()))
        low, high = self.pixel_range_
        levels = np.clip((rows - low) / (high - low or 1.0), 0, 1) * 255
        return image_dataset(self._shaped(np.floor(levels + 0.5).astype(np.uint8)))

    def _forget_rows(self) -> None:
        """What an earlier `fit` saw of rows."""
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self, name):
                delattr(self, name)

    def _shaped(self, rows: np.ndarray) -> np.ndarray:
        """Rows as images `[images, height, width, 1 or 3]`."""
        length = rows.shape[1]
        side = math.isqrt(length)
        height, width, *channels = self.image_shape if self.image_shape is not None else (side, side)
        shape = (height, width, *(channels or [1]))
        known = math.prod(number for number in shape if number != -1)
        fits = known > 0 and (length % known == 0 if -1 in shape else length == known)
        if shape.count(-1) > 1 or shape[2:] not in ((1,), (3,)) or not fits:
            raise ValueError(
                f"`image_shape` must be (height, width) or (height, width, 3) of images with {length} features, one of "
                f"the first two may be -1, and None is for square grey images; got {self.image_shape}."
            )
        return rows.reshape(len(rows), *shape)


def _are_images(X: Any) -> bool:  # noqa: N803
    """Whether it is something else than rows of numbers."""
    if isinstance(X, str | os.PathLike | ImageDataset | tf.data.Dataset):
        return True
    if is_column(X):
        X = np.asarray(X)
    if isinstance(X, np.ndarray) and X.ndim != 1:
        return X.ndim == 4
    first = X[0] if isinstance(X, list | tuple | np.ndarray) and len(X) else None
    return isinstance(first, str | os.PathLike | Image.Image) or (isinstance(first, np.ndarray) and first.ndim > 1)

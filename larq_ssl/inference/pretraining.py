"""Self-supervised training in one call, for a few thousand images in memory; the commands do it for more."""

import contextlib
import dataclasses
import random
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from larq_ssl import data, models
from larq_ssl.data.datasets import ImageDataset
from larq_ssl.heads import byol_head, simclr_head
from larq_ssl.inference.checks import check_count
from larq_ssl.inference.images import told
from larq_ssl.methods import BYOL, SimCLR
from larq_ssl.methods.base import NOT_FINITE, SelfSupervisedModel
from larq_ssl.models.encoder import BINARIZATIONS, Encoder
from larq_ssl.models.transfer import copy_weights
from larq_ssl.optimizers import Adam
from larq_ssl.schedules import WarmupCosine

# Those of the recipes for the digits.
_EMBEDDING, _HIDDEN = 64, 256
_TEMPERATURE, _MOMENTUM = 0.5, 0.8


@dataclasses.dataclass(frozen=True)
class Pretraining:
    """How an encoder is trained without labels; see `BinaryEncoder`."""

    method: str
    network: str
    binarization: str
    width: float
    stem: str
    image_size: int
    views: str
    epochs: int
    batch_size: int
    learning_rate: float

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"`method` must be one of {', '.join(METHODS)}, got {self.method!r}.")
        if self.binarization not in BINARIZATIONS:
            raise ValueError(f"`binarization` must be one of {', '.join(BINARIZATIONS)}, got {self.binarization!r}.")
        for name in ("image_size", "epochs", "batch_size"):
            check_count(name, getattr(self, name))
        policy = self.policy()
        if len(policy.global_views) != 2 or policy.local_views or policy.jigsaw is not None:
            raise ValueError(
                f"`views` must be a policy of two views, without local ones and patches, got {self.views!r}."
            )

    @property
    def stages(self) -> tuple[str, ...]:
        """Binarizations that are trained one after the other: binary activations come before binary weights."""
        return ("activations", "full") if self.binarization == "full" else (self.binarization,)

    def policy(self) -> data.ViewPolicy:
        """The views."""
        return data.policy(self.views, self.image_size)

    def build(self, binarization: str) -> Encoder:
        """A network with fresh weights."""
        return models.build(self.network, binarization=binarization, stem=self.stem, width=self.width)


def pretrain(images: ImageDataset, settings: Pretraining, seed: int, verbose: int = 0) -> Encoder:
    """Trains an encoder on images without labels, a binary one in the two stages of the methods' commands.

    # Arguments
        images: At least two.
        settings: How.
        seed: Of weights, views and order; numbers that others draw from NumPy and Python are as they would be without.
        verbose: Of `fit`.
    # Raises
        ValueError: If there are too few images, one cannot be read, a setting is not allowed, or training diverges.
    """
    if images.size < 2:
        raise ValueError(f"Training needs at least 2 images, got {images.size} sample.")
    batch_size = min(settings.batch_size, images.size)
    steps = data.steps_per_epoch(images, batch_size)
    before: SelfSupervisedModel | None = None
    for stage in settings.stages:
        with _seeded(seed):
            method = METHODS[settings.method](settings, stage)
        if before is not None:
            for name, network in method.networks.items():
                copy_weights(before.networks[name], network)
        schedule = WarmupCosine(settings.learning_rate, 0.0, settings.epochs * steps)
        method.compile(Adam(schedule))
        batches = data.view_batches(images, settings.policy(), batch_size, seed)
        with _told():
            method.fit(batches, epochs=settings.epochs, steps_per_epoch=steps, verbose=verbose)
        before = method
    return method.encoders["student"]


def _simclr(settings: Pretraining, stage: str) -> SimCLR:
    student = settings.build(stage)
    return SimCLR(student, simclr_head("student_head", student.feature_dim, _EMBEDDING), _TEMPERATURE)


def _byol(settings: Pretraining, stage: str) -> BYOL:
    student, momentum_encoder = settings.build(stage), settings.build(stage)
    heads = [byol_head(name, student.feature_dim, _HIDDEN, _EMBEDDING) for name in ("student_head", "momentum_head")]
    predictor = byol_head("predictor", _EMBEDDING, _HIDDEN, _EMBEDDING)
    return BYOL(student, heads[0], predictor, momentum_encoder, heads[1], _MOMENTUM)


METHODS: dict[str, Callable[[Pretraining, str], SelfSupervisedModel]] = {"simclr": _simclr, "byol": _byol}
"""Methods that need neither a teacher nor a queue, by their names."""


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Finds the sentence that concerns the user in what TensorFlow makes of an error while it trains."""
    try:
        with told():
            yield
    except tf.errors.InvalidArgumentError as error:
        if NOT_FINITE in str(error):
            raise ValueError(f"{NOT_FINITE} A lower `learning_rate` may help.") from error
        raise


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    # Keras draws initial weights from global generators alone.
    numpy_state, python_state = np.random.get_state(), random.getstate()
    tf.keras.utils.set_random_seed(seed)
    try:
        yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)

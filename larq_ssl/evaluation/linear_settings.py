"""What a linear evaluation needs to know, as data; see `linear_presets` for the published ones."""

import dataclasses
import math
from typing import Any

import numpy as np

from larq_ssl.data import views
from larq_ssl.data.reader import PROTOCOLS
from larq_ssl.data.views import ViewPolicy
from larq_ssl.models import Encoder

OPTIMIZERS = ("sgd", "nesterov", "lars")
SCHEDULES = ("steps", "epoch_cosine", "cosine")


@dataclasses.dataclass(frozen=True)
class LinearPreset:
    """How linear classifiers are trained on frozen features: by cross-entropy, kernel N(0, `init_std`), bias 0.

    # Arguments
        name: Name of the preset.
        learning_rates: The sweep.
        scaled_to: Batch size that the rates are for; of another B they are multiplied by B / `scaled_to`. `None`: of
            any.
        batch_size: Images per step; the last, smaller batch of an epoch is used too.
        epochs: Passes over the images.
        optimizer: "sgd"; "nesterov", SGD with Nesterov's momentum; or "lars", DINO's variant.
        schedule: "steps": the rate is multiplied by `drop_factor` after each of `drops`, fractions of the epochs. Half
            a cosine to `min_learning_rate`, with a value per epoch ("epoch_cosine") or per step ("cosine").
        drops, drop_factor, min_learning_rate: See `schedule`; the smallest rate is never scaled.
        momentum: Of the optimizer.
        weight_decay: L2 penalty, added to the gradient of the kernel and, but for LARS, of the bias.
        normalise: Divide each feature vector by its length.
        init_std: Standard deviation of the initial kernel.
        class_tokens: Whether the features of a vision transformer are the class tokens of its last four blocks.
        which: Encoder of a run that is probed, "student" or "ema".
        views, interpolation, family: View policy of augmented training, and what is changed of it; `None`: nothing.
        evaluation: How images are cut for features that are extracted once (`pipeline.image_batches`).
    """

    name: str
    learning_rates: tuple[float, ...]
    scaled_to: int | None = None
    batch_size: int = 256
    epochs: int = 100
    optimizer: str = "sgd"
    schedule: str = "steps"
    drops: tuple[float, ...] = (0.6, 0.8)
    drop_factor: float = 0.1
    min_learning_rate: float = 0.0
    momentum: float = 0.9
    weight_decay: float = 0.0
    normalise: bool = False
    init_std: float = 0.01
    class_tokens: bool = False
    which: str = "student"
    views: str = "crop_flip"
    interpolation: str | None = "bilinear"
    family: str | None = None
    evaluation: str = "torchvision"

    def __post_init__(self) -> None:
        rates = self.learning_rates
        if not rates or min(rates) <= 0 or len(set(rates)) < len(rates):
            raise ValueError(f"`learning_rates` must be different numbers above 0, got {rates}.")
        for name in ("batch_size", "epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if not all(0 < drop < 1 for drop in self.drops):
            raise ValueError(f"`drops` must be fractions of the epochs between 0 and 1, got {self.drops}.")
        for name, allowed in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES), ("evaluation", PROTOCOLS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"`{name}` must be one of {', '.join(allowed)}, got {getattr(self, name)!r}.")
        if not 0 <= self.min_learning_rate <= min(self.peak_rates):
            raise ValueError(
                f"`min_learning_rate` must be at least 0 and at most the smallest of the rates that it ends, "
                f"{min(self.peak_rates):g}, got {self.min_learning_rate}."
            )

    @property
    def peak_rates(self) -> tuple[float, ...]:
        """The rates that training begins with, scaled to the batch."""
        factor = self.batch_size / self.scaled_to if self.scaled_to else 1.0
        return tuple(rate * factor for rate in self.learning_rates)

    def rates_of(self, epoch: int, steps: int) -> np.ndarray:
        """Learning rates of the steps of an epoch (from 0), float32 `[steps, rates]`."""
        peak = np.tile(self.peak_rates, (steps, 1))
        if self.schedule == "steps":
            passed = sum(epoch >= round(drop * self.epochs, 6) for drop in self.drops)
            return (peak * self.drop_factor**passed).astype(np.float32)
        within = np.arange(steps)[:, None] / steps if self.schedule == "cosine" else 0.0
        cosine = (1 + np.cos(math.pi * (epoch + within) / self.epochs)) / 2
        return (self.min_learning_rate + (peak - self.min_learning_rate) * cosine).astype(np.float32)

    def policy(self, image_size: int) -> ViewPolicy:
        """One view of augmented training."""
        changes = {"interpolation": self.interpolation, "family": self.family}
        given: dict[str, Any] = {field: value for field, value in changes.items() if value is not None}
        return views.policy(self.views, image_size, **given).first(1)

    def output(self, encoder: Encoder) -> str | None:
        """The named output of an encoder that is its features; `None`: what it gives out anyway."""
        return "class_tokens" if self.class_tokens and "class_tokens" in encoder.named_outputs else None

"""How published methods fine-tune a pre-trained network: their numbers, and the sweeps whose best run they report.

Where few images have a label, which numbers apply depends on how few: up to `FEW` those that are published for 1 % of
ImageNet, above it those for 10 %.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

FEW = 0.01
"""Share of images with a label up to which what is published for 1 % applies."""


@dataclasses.dataclass(frozen=True)
class FineTuning:
    """One run of fine-tuning.

    # Arguments
        lr: Peak learning rate; of a frozen encoder, that of the classifier.
        epochs, batch_size: Passes over the images that have a label, and images per step.
        classifier_lr: Peak learning rate of the classifier, `None` if it is `lr`.
        head_layer: Layers of the projection head that are kept and trained.
        freeze_encoder: Whether the encoder stays as it is, its BatchNorm in inference mode.
        classifier_init: Kernel of the classifier.
        optimizer: A name of `larq_ssl.optimizers.OPTIMIZERS`.
        weight_decay: Of all variables that the optimizer decays.
        schedule: Of the learning rate; `step` multiplies it by `step_factor` at 60 % and 80 % of the epochs.
        step_factor: See `schedule`.
        min_lr: End of a cosine.
        views: View policy of the training images.
    """

    lr: float
    epochs: int
    batch_size: int
    classifier_lr: float | None = None
    head_layer: int = 0
    freeze_encoder: bool = False
    classifier_init: str = "pytorch"
    optimizer: str = "sgd"
    weight_decay: float = 0.0
    schedule: str = "step"
    step_factor: float = 0.1
    min_lr: float = 0.0
    views: str = "crop_flip"

    def flags(self) -> dict[str, Any]:
        """The numbers by the names that they have as flags of training; without those that are not set."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


Sweep = tuple[FineTuning, ...]


def sweep(name: str, share: float | None = None, batch_size: int | None = None, larger: bool = False) -> Sweep:
    """All runs of a preset, of which the best is reported; one where nothing is swept.

    # Arguments
        name: A key of `PRESETS`.
        share: Share of the images that have a label; `None` if it is not known, but small.
        batch_size: Images per step instead of the preset's; learning rates that are given per batch follow.
        larger: Whether the network is wider than 1 or has selective kernels, for SimCLRv2.
    # Raises
        ValueError: If there is no such preset.
    # References
        - `simclr`: Big Self-Supervised Models are Strong Semi-Supervised Learners (Chen et al., 2020), Sec. 3.1
        - `sslight`: released code of SSLight, for the head of DINO
        - `swav`: Unsupervised Learning of Visual Features by Contrasting Cluster Assignments (Caron et al., 2020),
          released code
        - `bssl`: BSSL, App. A.1; `bssl_released`: code of BURN, whose weight decay for 10 % is another
        - `msbreg`: MSBReg, supplement, Sec. 2.2: learning rates, batch size, momentum, and that the encoder is frozen
          for 1 %. Epochs, schedule and weight decay are not published; it follows BYOL, and so do they here
        - `byol`: Bootstrap Your Own Latent (Grill et al., 2020), appendix on semi-supervised training; learning rates
          and epochs have not been compared with its text. No schedule is known: it is that of its linear evaluation
        - `s2bnn_transfer`: S2-BNN, Sec. 4, for other data sets with all of their labels. It gives the initial learning
          rate alone: its end and the kernel of the classifier are those of its linear evaluation
    """
    if name not in PRESETS:
        raise ValueError(f"`preset` must be one of {sorted(PRESETS)}, got {name!r}.")
    return PRESETS[name](FEW if share is None else share, batch_size, larger)


def setting(name: str, share: float | None = None, batch_size: int | None = None, larger: bool = False) -> FineTuning:
    """The run in the middle of a sweep; arguments as those of `sweep`."""
    runs = sweep(name, share, batch_size, larger)
    return runs[len(runs) // 2]


def trial_names(runs: Sweep) -> tuple[str, ...]:
    """What tells the runs of a sweep apart, such as `lr_0.1-classifier_lr_1`."""
    fields = [field.name for field in dataclasses.fields(FineTuning)]
    varied = [field for field in fields if len({getattr(run, field) for run in runs}) > 1]
    if not varied:
        return ("only",)
    return tuple("-".join(f"{field}_{getattr(run, field):g}" for field in varied) for run in runs)


def _simclr(share: float, batch_size: int | None, larger: bool) -> Sweep:
    batch_size = batch_size or 1024
    run = FineTuning(
        lr=(0.002 if larger else 0.005) * math.sqrt(batch_size),
        epochs=60 if share <= FEW else 30,
        batch_size=batch_size,
        head_layer=1 if share < 1 else 0,
        classifier_init="zeros",
        optimizer="lars_simclr",
        schedule="simclr",
        views="simclr_crop_flip",
    )
    return (run,)


def _sslight(share: float, batch_size: int | None, larger: bool) -> Sweep:
    batch_size = batch_size or 1024
    run = FineTuning(
        lr=0.03 * batch_size / 256,
        epochs=60 if share <= FEW else 30,
        batch_size=batch_size,
        head_layer=2,
        optimizer="sgd_nesterov",
        schedule="epoch_cosine",
        min_lr=1e-6,
    )
    return (run,)


def _swav(share: float, batch_size: int | None, larger: bool) -> Sweep:
    lr, classifier_lr = (0.02, 5.0) if share <= FEW else (0.01, 0.2)
    return (FineTuning(lr, 20, batch_size or 256, classifier_lr, step_factor=0.2),)


def _bssl(share: float, batch_size: int | None, larger: bool, released: bool = False) -> Sweep:
    decay = 1e-4 if released and share > FEW else 5e-4
    run = FineTuning(0.0, 20, batch_size or 256, classifier_init="normal_0.01", weight_decay=decay, step_factor=0.2)
    pairs = itertools.product((0.1, 0.01, 0.001), (1, 10, 100))
    # Without the last digits of a product.
    return tuple(dataclasses.replace(run, lr=lr, classifier_lr=round(lr * factor, 6)) for lr, factor in pairs)


def _msbreg(share: float, batch_size: int | None, larger: bool) -> Sweep:
    run = FineTuning(2.0, 50, batch_size or 1024, optimizer="sgd_nesterov", schedule="cosine")
    if share <= FEW:
        return (dataclasses.replace(run, freeze_encoder=True),)
    return (dataclasses.replace(run, lr=2.5e-4, classifier_lr=0.25),)


def _byol(share: float, batch_size: int | None, larger: bool) -> Sweep:
    pairs = itertools.product((0.005, 0.01, 0.02, 0.05, 0.1), (30, 50))
    return tuple(
        FineTuning(lr, epochs, batch_size or 1024, optimizer="sgd_nesterov", schedule="cosine") for lr, epochs in pairs
    )


def _s2bnn_transfer(share: float, batch_size: int | None, larger: bool) -> Sweep:
    return (FineTuning(0.01, 180, batch_size or 128, classifier_init="normal_0.01", weight_decay=1e-4),)


PRESETS: dict[str, Callable[[float, int | None, bool], Sweep]] = {
    "simclr": _simclr,
    "sslight": _sslight,
    "swav": _swav,
    "bssl": _bssl,
    "bssl_released": functools.partial(_bssl, released=True),
    "msbreg": _msbreg,
    "byol": _byol,
    "s2bnn_transfer": _s2bnn_transfer,
}

SEMI_SUPERVISED = tuple(name for name in PRESETS if name != "s2bnn_transfer")
"""Presets that are published for few labels."""

"""The settings of published linear evaluations.

All begin with a kernel N(0, 0.01) and a bias of 0 and train with random crops and flips. "steps" without more is a
tenth of the learning rate after 60 % and 80 % of the epochs.

Differences from the papers: see those of `linear` and `linear_augmented`. Test images are resized bicubically, as
SSLight, DINO and SimCLR do; torchvision's own default, with which MoCo, SwAV, BURN and S2-BNN leave it, is bilinear.
Those of at most 64 pixels are not cut (`reader.evaluation_image`), where S2-BNN resizes CIFAR's to 256 and cuts 224.
BYOL cuts its test images first and resizes them afterwards; here that is done in torchvision's order.

# References
    - BSSL, App. A.1, and the released code of BURN: `bssl`, `places205`
    - S2-BNN, Sec. 6 and Table 2: `s2bnn`
    - MSBReg, supplement, Sec. 2.4: `msbreg_transfer`
    - MoCo, SwAV and DINO, released codes
    - SSLight, Table 8 and released code
    - SimCLR and BYOL, released codes
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from larq_ssl.evaluation.linear_settings import LinearPreset

PRESETS = {
    preset.name: preset
    for preset in (
        # The paper's App. A.1 has 30, its released code 0.01; untrained networks of small width are best at 0.001.
        # The code also trains a dense layer before the classifier, which is frozen here like the rest.
        LinearPreset("bssl", learning_rates=(0.001, 0.01, 0.1, 1.0, 10.0, 30.0)),
        # BSSL, App. A.1: Places205. Learning rate 0.01, a tenth every 7 epochs.
        LinearPreset("places205", (0.01,), epochs=28, drops=(0.25, 0.5, 0.75), weight_decay=1e-5),
        # MSBReg, supplement, Sec. 2.4: a tenth, twice at equal distances; 28 epochs on Places205, 84 on iNaturalist.
        LinearPreset("msbreg_transfer", (0.2,), epochs=84, drops=(1 / 3, 2 / 3), weight_decay=1e-4),
        # S2-BNN: the paper's Table 2. Its commands have 0.1, which is best for two of its three schemes.
        LinearPreset("s2bnn", (0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 20.0, 30.0)),
        # MoCo's released code.
        LinearPreset("moco", learning_rates=(30.0,)),
        # SwAV's released code.
        LinearPreset("swav", (0.3,), schedule="epoch_cosine", weight_decay=1e-6),
        # SSLight's released code; the rate of an epoch is that of its first step. Transformers: see `TRANSFORMERS`.
        LinearPreset(
            "sslight",
            (0.05,),
            scaled_to=256,
            batch_size=4096,
            optimizer="lars",
            schedule="epoch_cosine",
            min_learning_rate=1e-6,
            class_tokens=True,
            interpolation="bicubic",
        ),
        # DINO's released code and defaults: the teacher, and of its small transformers four class tokens. (For the base
        # ones, which are not here, it takes the last and the mean of the patches. ResNet-50's own log begins at 0.3.)
        LinearPreset(
            "dino",
            (0.001,),
            scaled_to=256,
            batch_size=1024,
            schedule="epoch_cosine",
            class_tokens=True,
            which="ema",
        ),
        # SimCLR's own evaluation. (SimCLRv2 trains its classifier while it trains the network.)
        LinearPreset(
            "simclr",
            (0.1,),
            scaled_to=256,
            batch_size=4096,
            epochs=90,
            optimizer="nesterov",
            schedule="cosine",
            weight_decay=1e-6,
            interpolation=None,
            family="simclr",
            evaluation="simclr",
        ),
        # BYOL's released code, which has one rate; the paper takes the best of five on training images held out (--lr
        # and --holdout_per_class).
        LinearPreset(
            "byol",
            (0.2,),
            scaled_to=256,
            batch_size=1024,
            epochs=80,
            optimizer="nesterov",
            schedule="cosine",
            interpolation=None,
            family="byol",
        ),
    )
}

TRANSFORMERS: Mapping[str, Mapping[str, Any]] = {
    # The released code; the paper's Table 8 has batches of 4096 and ends at 1e-5.
    "sslight": {"optimizer": "sgd", "learning_rates": (0.01,), "batch_size": 1024},
}
"""What a preset changes for vision transformers."""


def linear_preset(name: str, transformer: bool = False, **overrides: Any) -> LinearPreset:
    """A preset by name, with some of its fields replaced.

    # Arguments
        name: A key of `PRESETS`.
        transformer: Whether it is for a vision transformer.
        overrides: Fields of `LinearPreset`.
    # Raises
        ValueError: If there is no such preset or field.
    """
    if name not in PRESETS:
        raise ValueError(f"`preset` must be one of {sorted(PRESETS)}, got {name!r}.")
    fields = {field.name for field in dataclasses.fields(LinearPreset)} - {"name"}
    for field in overrides:
        if field not in fields:
            raise ValueError(f"`preset` has no field {field!r}; its fields are {sorted(fields)}.")
    changes = dict(TRANSFORMERS.get(name, {})) if transformer else {}
    return dataclasses.replace(PRESETS[name], **{**changes, **overrides})

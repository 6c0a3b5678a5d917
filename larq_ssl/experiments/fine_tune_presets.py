"""How published methods fine-tune with few labels: the flags that each of them sets, unless they are typed."""

import math
from typing import Any

FEW = 0.01
"""Up to this share, what is published for 1 % of the labels applies, above it what is for 10 %."""


def preset(name: str, share: float | None, batch_size: int, larger: bool) -> dict[str, Any]:
    """The flags of a preset.

    # Arguments
        name: A key of `PRESETS`.
        share: Share of the images that have a label; `None` if it is not known, but small.
        batch_size: Images per step.
        larger: Whether the network is wider than 1 or has selective kernels.
    # References
        - `simclr`: Big Self-Supervised Models are Strong Semi-Supervised Learners (Chen et al., 2020), Sec. 3.1
        - `sslight`: released code of SSLight, for the head of DINO
        - `swav`: Unsupervised Learning of Visual Features by Contrasting Cluster Assignments (Caron et al., 2020),
          released code
        - `bssl`: BSSL, App. A.1, which tries nine pairs of learning rates and reports the best: --lr 0.1, 0.01, 0.001,
          and 1, 10, 100 times as much for the classifier. This is the one in the middle.
    """
    return PRESETS[name](FEW if share is None else share, batch_size, larger)


BATCH_SIZES = {"simclr": 1024, "sslight": 1024, "swav": 256, "bssl": 256}


def _simclr(share: float, batch_size: int, larger: bool) -> dict[str, Any]:
    return {
        "head_layer": 1 if share < 1 else 0,
        "classifier_init": "zeros",
        "optimizer": "lars_simclr",
        "lr": (0.002 if larger else 0.005) * math.sqrt(batch_size),
        "weight_decay": 0.0,
        "schedule": "simclr",
        "epochs": 60 if share <= FEW else 30,
    }


def _sslight(share: float, batch_size: int, larger: bool) -> dict[str, Any]:
    return {
        "head_layer": 2,
        "classifier_init": "pytorch",
        "optimizer": "sgd_nesterov",
        "lr": 0.03 * batch_size / 256,
        "min_lr": 1e-6,
        "weight_decay": 0.0,
        "schedule": "epoch_cosine",
        "epochs": 60 if share <= FEW else 30,
    }


def _swav(share: float, batch_size: int, larger: bool) -> dict[str, Any]:
    return {
        "head_layer": 0,
        "classifier_init": "pytorch",
        "optimizer": "sgd",
        "lr": 0.02 if share <= FEW else 0.01,
        "classifier_lr": 5.0 if share <= FEW else 0.2,
        "weight_decay": 0.0,
        "schedule": "step",
        "step_factor": 0.2,
        "epochs": 20,
    }


def _bssl(share: float, batch_size: int, larger: bool) -> dict[str, Any]:
    published = {"lr": 0.01, "classifier_lr": 0.1, "weight_decay": 5e-4, "classifier_init": "normal_0.01"}
    return _swav(share, batch_size, larger) | published


PRESETS = {"simclr": _simclr, "sslight": _sslight, "swav": _swav, "bssl": _bssl}

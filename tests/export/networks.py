"""Small networks in which nothing is zero, one or positive by accident."""

import numpy as np

from larq_ssl import models
from larq_ssl.models import Encoder


def vary(encoder: Encoder, seed: int = 0) -> Encoder:
    """Gives all weights but the kernels values that a mistake would show in, gammas below zero among them."""
    generator = np.random.default_rng(seed)
    for name, weight in models.named_weights(encoder).items():
        kind, shape = name.split("/")[-1], weight.shape
        if kind in ("bias_in", "bias_out", "bias", "beta", "moving_mean"):
            weight.assign(generator.normal(0, 0.2, shape))
        elif kind in ("slope", "moving_variance"):
            weight.assign(generator.uniform(0.2, 1.5, shape))
        elif kind == "gamma":
            weight.assign(generator.uniform(0.5, 1.5, shape) * generator.choice([-1.0, 1.0], shape))
    return encoder


def binary(name: str = "reactnet_short", seed: int = 0, **arguments) -> Encoder:
    """A narrow binary network for small images."""
    return vary(models.build(name, **{"stem": "cifar", "width": 0.125, **arguments}), seed)


def photos(count: int, size: int, seed: int = 0) -> np.ndarray:
    """Smooth images, as neighbouring pixels of photographs are alike."""
    coarse = np.random.default_rng(seed).integers(0, 256, [count, 4, 4, 3])
    steps = np.linspace(0, 3, size)
    low = np.minimum(steps.astype(int), 2)
    share = (steps - low)[:, None]
    rows = coarse[:, low] * (1 - share)[..., None] + coarse[:, low + 1] * share[..., None]
    images = rows[:, :, low] * (1 - share) + rows[:, :, low + 1] * share
    return images.round().astype(np.uint8)

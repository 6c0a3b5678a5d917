"""Projection heads and classifiers: small networks on top of an encoder, never part of it."""

from larq_ssl.heads.mlp import build_head, first_layers, mlp_head
from larq_ssl.heads.named import byol_head, dino_head, linear_classifier, prototypes, simclr_head
from larq_ssl.heads.spec import HeadSpec

__all__ = [
    "HeadSpec",
    "build_head",
    "byol_head",
    "dino_head",
    "first_layers",
    "linear_classifier",
    "mlp_head",
    "prototypes",
    "simclr_head",
]

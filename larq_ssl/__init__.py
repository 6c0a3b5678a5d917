"""Self-supervised learning for binary neural networks."""

import importlib
from typing import Any

from larq_ssl.version import __version__

_MODULES = (
    "callbacks",
    "checkpoints",
    "data",
    "distribute",
    "evaluation",
    "export",
    "heads",
    "inference",
    "layers",
    "losses",
    "methods",
    "models",
    "optimizers",
    "quantizers",
    "roles",
    "schedules",
    "torch_import",
)

# What most users need, from `inference`.
_NAMES = ("BinaryEncoder", "FrozenEncoder", "load_encoder")

__all__ = ["__version__", *_MODULES, *_NAMES]


def __getattr__(name: str) -> Any:
    # On first use: whoever asks for the version alone should not wait for TensorFlow.
    if name in _MODULES:
        return importlib.import_module(f"larq_ssl.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module("larq_ssl.inference"), name)
    raise AttributeError(f"module 'larq_ssl' has no attribute {name!r}")

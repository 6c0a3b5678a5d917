"""Self-supervised learning for binary neural networks."""

import importlib
from types import ModuleType

from larq_ssl.version import __version__

_MODULES = (
    "callbacks",
    "checkpoints",
    "data",
    "distribute",
    "evaluation",
    "export",
    "heads",
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

__all__ = ["__version__", *_MODULES]


def __getattr__(name: str) -> ModuleType:
    # On first use: whoever asks for the version alone should not wait for TensorFlow.
    if name in _MODULES:
        return importlib.import_module(f"larq_ssl.{name}")
    raise AttributeError(f"module 'larq_ssl' has no attribute {name!r}")

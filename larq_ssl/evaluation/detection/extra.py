"""What detection is built on, imported where it is used: no other part of the package needs it."""

import importlib
import warnings
from typing import Any


def tf_models(module: str) -> Any:
    """A module of the TensorFlow Model Garden, by its name behind `official.`, such as `vision.modeling.factory`.

    # Raises
        ValueError: If it is not installed; says how to install it.
    """
    return _imported(f"official.{module}")


def coco_tools(module: str) -> Any:
    """A module of pycocotools, such as `mask` or `cocoeval`.

    # Raises
        ValueError: If it is not installed; says how to install it.
    """
    return _imported(f"pycocotools.{module}")


def require() -> None:
    """Raises a `ValueError` that says what to install, unless all that detection needs is there."""
    coco_tools("mask")
    tf_models("vision.modeling.factory")


def _imported(name: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pkg_resources, by tensorflow_hub
            return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            "Detection needs the TensorFlow Model Garden and pycocotools: install them with `make detection`, or with "
            f"`pip install 'larq_ssl[detection]'`. The reason: {error}."
        ) from error

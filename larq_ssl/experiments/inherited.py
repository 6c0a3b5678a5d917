"""Flags that a command takes over from an earlier run, unless they are typed."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from larq_ssl.experiments import common
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.models.folder import read_spec

FLAGS = flags.FLAGS

_IMAGES = ("data_dir", "val_fraction", "max_train_images", "classes_list")
_NETWORK = ("name", "width", "stem", "preprocessing")


def fill(values: Mapping[str, Any]) -> None:
    """Gives flags that nobody typed a value."""
    for name, value in values.items():
        if FLAGS[name].using_default_value and value is not None:
            setattr(FLAGS, name, value)


def images(run: RunFolder) -> None:
    """Takes over the images of a run, and their size; where they lie, only if they are the same."""
    told = run.flags()
    fill({"dataset": told.get("dataset"), "image_size": _number(told.get("image_size"), int)})
    if FLAGS.dataset == told.get("dataset"):
        kinds = {"val_fraction": float, "max_train_images": int}
        fill({name: _number(told.get(name), kinds.get(name, str)) for name in _IMAGES})


def network(folder: pathlib.Path) -> None:
    """Takes over what the encoder in a folder is, apart from its binarization."""
    spec = read_spec(folder)
    fill({"encoder" if field == "name" else field: getattr(spec, field) for field in _NETWORK})


def same_network(folder: pathlib.Path) -> None:
    """Takes over what the encoder in a folder is, and refuses flags that say something else.

    # Raises
        ValueError: If a flag of the network contradicts it.
    """
    network(folder)
    spec = read_spec(folder)
    fill({"binarization": spec.binarization})
    for field in (*_NETWORK, "binarization"):
        flag = "encoder" if field == "name" else field
        if FLAGS[flag].value != getattr(spec, field):
            raise ValueError(
                f"--{flag}={FLAGS[flag].value} contradicts the network in {folder}, which has {getattr(spec, field)}."
            )


def digits_recipe(method: str, flag: str, argv: Sequence[str]) -> str | None:
    """The recipe of a method for the digits, if the run that a flag names, or `--dataset`, is of the digits.

    # Arguments
        method: What the names of its recipes begin with.
        flag: Name of the flag.
        argv: The command line, before any parsing.
    """
    dataset, name = common.argument("dataset", argv), common.argument(flag, argv)
    if dataset is None and name is not None:
        path = pathlib.Path(name)
        runs = (RunFolder(folder) for folder in (path, path.parent.parent))
        # What is wrong with the name is told later.
        dataset = next((run.flags().get("dataset") for run in runs if run.flags_file.is_file()), "unknown")
    return common.digits_recipe(method, [*argv, f"--dataset={dataset or 'digits'}"])


def _number(text: str | None, kind: type) -> Any:
    return None if text is None else kind(text)

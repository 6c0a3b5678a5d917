"""The flags that say which images keep their label, for the commands that learn from labels."""

import pathlib
import sys

from absl import flags

from larq_ssl.data.datasets import ImageDataset
from larq_ssl.data.label_subsets import (
    LabelSubset,
    balanced_labels,
    known_list,
    known_share,
    listed_labels,
    read_labels,
)
from larq_ssl.experiments import common
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.files import read_text

FLAGS = flags.FLAGS

flags.DEFINE_float(
    "label_fraction", None, "Share of the images that keep their label, as many of each class; by default all.", 0, 1
)
flags.DEFINE_integer("labels_per_class", None, "Images of each class that keep their label, instead of a share.", 1)
flags.DEFINE_integer(
    "label_seed", 0, "Of that choice, not of the training: runs of other --seed learn from the same labels.", 0
)
flags.DEFINE_string("labels", None, "Run folder (or its labels.json) whose choice of images is taken over.")
flags.DEFINE_string("label_list", None, "File with the names of the images that keep their label (SimCLR's lists).")

_CHOICES = ("label_fraction", "labels_per_class", "labels", "label_list")


def given() -> list[str]:
    """The flags of a choice that have a value, as they would be typed."""
    return [f"--{name}={FLAGS[name].value}" for name in _CHOICES if FLAGS[name].value is not None]


def settle() -> None:
    """Lets a choice that is typed take the place of another kind of choice in the recipe."""
    typed = [name for name in _CHOICES if common.argument(name, sys.argv) is not None]
    if FLAGS.recipe and len(typed) == 1 and len(given()) > 1:
        for name in set(_CHOICES) - set(typed):
            setattr(FLAGS, name, None)


def share() -> float | None:
    """About which share of the images keeps its label, as far as flags and what they name tell: `None` if not.

    # Raises
        ValueError: If they name no choice.
    """
    if FLAGS.label_fraction is not None:
        return FLAGS.label_fraction
    if len(given()) == 1 and FLAGS.labels is not None:
        return known_share(read_labels(_labels_file(FLAGS.labels)).origin)
    if len(given()) == 1 and FLAGS.label_list is not None and pathlib.Path(FLAGS.label_list).is_file():
        return known_share(known_list(read_text(FLAGS.label_list).split()) or "")
    if given():
        return None
    # Of TFDS, the images that have a label in SimCLR's lists alone.
    return {"1pct": 0.01, "10pct": 0.1}.get((FLAGS.dataset or "").partition("/")[2], 1.0)


def chosen(dataset: ImageDataset) -> LabelSubset | None:
    """The choice of the flags among these images, `None` for all of them.

    # Raises
        ValueError: If flags contradict each other, or a choice cannot be made among these images.
    """
    dataset.class_count()
    if len(given()) > 1:
        raise ValueError(f"{' and '.join(given())} contradict each other: give one of them.")
    if FLAGS.labels is not None:
        return _check(read_labels(_labels_file(FLAGS.labels)), dataset)
    if FLAGS.label_list is not None:
        return listed_labels(dataset, FLAGS.label_list)
    for flag, argument in (("labels_per_class", "per_class"), ("label_fraction", "fraction")):
        if (value := FLAGS[flag].value) is not None:
            try:
                return balanced_labels(dataset, **{argument: value}, seed=FLAGS.label_seed)
            except ValueError as error:
                raise ValueError(f"--{flag}={value} cannot be had: {error}.") from error
    return None


def _labels_file(name: str) -> pathlib.Path:
    path = pathlib.Path(name)
    if path.is_file():
        return path
    file = RunFolder(path).labels_file
    if not file.is_file():
        why = "it learned from all labels" if RunFolder(path).flags_file.is_file() else "it is not the folder of a run"
        raise ValueError(f"--labels={name} has no {file.name}: {why}.")
    return file


def _check(subset: LabelSubset, dataset: ImageDataset) -> LabelSubset:
    if subset.data != dataset.fingerprint:
        raise ValueError(
            f"--labels={FLAGS.labels} are those of other images than these ({subset.origin}): --dataset, --data_dir, "
            "--max_train_images, --val_fraction and --classes_list must be as they were there."
        )
    return subset

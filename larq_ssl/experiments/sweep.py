"""A sweep of the command `fine_tune`: its runs, and what trains each of them."""

import dataclasses
import json
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from larq_ssl.data.label_subsets import LabelSubset
from larq_ssl.evaluation import fine_tuning
from larq_ssl.evaluation.accuracy import TOPS
from larq_ssl.experiments import common
from larq_ssl.experiments.probed import Probed
from larq_ssl.experiments.run_folder import RunFolder

FLAGS = flags.FLAGS

flags.DEFINE_integer("epochs", None, "Epochs of training, instead of the protocol's.", 1)
flags.DEFINE_string("with_flags", "", "Further flags of the command that trains, which win over the protocol's.")

_OWN = (
    *("run", "encoder_dir", "which", "random", "dataset", "data_dir", "classes_list", "val_fraction", "image_size"),
    *("max_train_images", "labels", "label_list", "label_fraction", "labels_per_class", "label_seed"),
    *("preset", "recipe", "epochs", "batch_size", "seed", "workdir"),
)


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What is swept.

    Attributes:
        protocol: First part of the names of its metrics: `semi_supervised` or `transfer`.
        preset: Of `fine_tuning.PRESETS`.
        probed: The network, and on which images.
        settings: Of its runs.
        setting: Part of the names of the metrics, `None` for none.
        labels: Which images have a label, `None` for all of them.
        fingerprints: Of the images.
        folder: Of the sweep.
        measures: What is reported of its runs, by the first of which one is chosen.
    """

    protocol: str
    preset: str
    probed: Probed
    settings: fine_tuning.Sweep
    setting: str | None
    labels: LabelSubset | None
    fingerprints: Mapping[str, str]
    folder: pathlib.Path
    measures: tuple[str, str] = TOPS

    @property
    def trials(self) -> dict[str, fine_tuning.FineTuning]:
        """The runs by their names."""
        return dict(zip(fine_tuning.trial_names(self.settings), self.settings, strict=True))

    def run(self, name: str) -> RunFolder:
        return RunFolder(self.folder / name)

    def command(self, name: str) -> list[str]:
        """What trains a run."""
        settings = [_typed(flag, value) for flag, value in self.trials[name].flags().items()]
        labels = [] if self.labels is None else [f"--labels={self.labels_file}"]
        words = [*self.probed.flags(), *labels, f"--preset={self.preset}", *settings, *further_flags(self.varied)]
        return ["fine_tune", *words, f"--seed={FLAGS.seed}", f"--workdir={self.run(name).path}"]

    @property
    def labels_file(self) -> pathlib.Path:
        return RunFolder(self.folder).labels_file

    @property
    def varied(self) -> tuple[str, ...]:
        """Flags that are not the same in all runs."""
        first, *others = (trial.flags() for trial in self.settings)
        return tuple(flag for flag, value in first.items() if any(other.get(flag) != value for other in others))

    def description(self) -> dict[str, Any]:
        """What a sweep that goes on must have in common with the one that began, as JSON keeps it."""
        told = {
            "preset": self.preset,
            "runs": {name: trial.flags() for name, trial in self.trials.items()},
            "with_flags": further_flags(self.varied),
            "seed": FLAGS.seed,
            "random": FLAGS.random,
            "image_size": self.probed.image_size,
            "encoder_hash": self.probed.encoder_hash,
            **self.fingerprints,
            "labels": None if self.labels is None else self.labels.fingerprint,
        }
        return json.loads(json.dumps(told))


def further_flags(varied: Sequence[str] = ()) -> list[str]:
    """The words of `--with_flags`.

    # Arguments
        varied: Flags that the sweep gives each run.
    # Raises
        ValueError: If it gives a flag that is not free.
    """
    words = shlex.split(FLAGS.with_flags)
    for word in words:
        name = word.lstrip("-").partition("=")[0]
        if not word.startswith("-"):
            raise ValueError(f"--with_flags must hold flags as --name=value, got {word!r}.")
        if name.removeprefix("no") in _OWN or name in (*_OWN, *varied):
            raise ValueError(f"--with_flags must not give --{name}, which the sweep sets.")
    if common.argument("validate_every", words) == "0":
        raise ValueError("--with_flags must not give --validate_every=0: without accuracies there is no best run.")
    if common.argument("optimizer", words) is not None and common.argument("lr", words) is None:
        raise ValueError("--with_flags gives --optimizer and no --lr: the protocol's learning rate is of another one.")
    return words


def adapted(settings: fine_tuning.Sweep, labelled: int, start: Probed) -> fine_tuning.Sweep:
    """The runs with the epochs that are typed, and without flips of digits.

    # Arguments
        settings: The runs as published.
        labelled: How many images have a label.
        start: The network and the images.
    # Raises
        ValueError: If there are not enough images for a batch, or no network.
    """
    if FLAGS.raw_pixels:
        raise ValueError("--raw_pixels is for frozen features: without a network there is nothing to fine-tune.")
    changes: dict[str, Any] = {} if FLAGS.epochs is None else {"epochs": FLAGS.epochs}
    if start.images["dataset"] == "digits":
        changes["views"] = "digits_plain"
    # Runs that differed in their epochs alone may be the same now.
    changed = tuple(dict.fromkeys(dataclasses.replace(run, **changes) for run in settings))
    largest = max(run.batch_size for run in changed)
    if largest > labelled:
        raise ValueError(
            f"--batch_size={largest} is more than the {labelled} images that have a label; give at most {labelled}."
        )
    return changed


def _typed(flag: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"--{'' if value else 'no'}{flag}"
    return f"--{flag}={value}"

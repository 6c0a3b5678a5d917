"""What the commands share that train a classifier: flags, labelled images, validation and results."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf
from absl import flags

from larq_ssl import callbacks
from larq_ssl.data.label_subsets import LabelSubset, known_share, read_labels
from larq_ssl.data.multi_label import MultiLabelDataset, output_count
from larq_ssl.evaluation.accuracy import TOPS
from larq_ssl.evaluation.examples import measures_of
from larq_ssl.evaluation.results import named
from larq_ssl.experiments import common, label_flags, training_data
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.files import Content
from larq_ssl.heads import linear_classifier
from larq_ssl.methods.multi_label import MultiLabel
from larq_ssl.methods.supervised import Supervised
from larq_ssl.optimizers import PRESETS

FLAGS = flags.FLAGS

_INITIALIZERS = ("pytorch", "zeros", "normal_0.01")

flags.DEFINE_float("classifier_lr", None, "Peak learning rate of the classifier, where it is another than --lr.", 1e-9)
flags.DEFINE_enum("classifier_init", "pytorch", _INITIALIZERS, "Kernel of a classifier that begins anew.")
flags.DEFINE_integer(
    "validate_every", 1, "Epochs between two accuracies on the images held out (always after the last); 0 for none.", 0
)


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Training images, and which of them keep their label.

    # Attributes
        data: Images and view policy.
        subset: The choice, `None` if all do.
    """

    data: training_data.Data
    subset: LabelSubset | None

    @property
    def classes(self) -> int:
        return output_count(self.data.train)

    @property
    def several(self) -> bool:
        """Whether an image has several labels."""
        return isinstance(self.data.train, MultiLabelDataset)

    @property
    def measures(self) -> tuple[str, str]:
        """What is reported of them."""
        return measures_of(self.data.train)

    @property
    def inputs(self) -> dict[str, str]:
        """For `training.Job`."""
        return {} if self.subset is None else {"labels": self.subset.fingerprint}

    @property
    def files(self) -> dict[str, Content]:
        """For `training.Job`."""
        run = RunFolder("")
        classes: dict[str, Content] = {
            run.classes_file.name: json.dumps(self.data.train.class_names, ensure_ascii=False) + "\n"
        }
        return classes if self.subset is None else {**classes, run.labels_file.name: self.subset.to_json()}

    def warn_of_others(self, before: RunFolder) -> None:
        """Says so if other images keep their label than in stage 1, however they were chosen."""
        earlier = read_labels(before.labels_file) if before.labels_file.is_file() else None
        if not before.imported and _told_apart(earlier) != _told_apart(self.subset):
            chosen = "all images" if self.subset is None else self.subset.origin
            common.say(f"Warning: stage 2 learns from other labels than {before.path}: {chosen}.")


def _told_apart(subset: LabelSubset | None) -> str | None:
    """Another for other labels; all of them are the same whether somebody asked for all of them or not."""
    return None if subset is None or known_share(subset.origin) == 1 else subset.fingerprint


def load(keep_others: bool = False, several: bool = False) -> Labelled:
    """The images of the flags of which the label flags keep the label.

    # Arguments
        keep_others: Keep the others, too, without their label.
        several: Whether the images may have several labels each; these come as `targets` of the batches.
    # Raises
        ValueError: If the images have no labels, or flags contradict each other.
    """
    train = training_data.load_train()
    if several and isinstance(train, MultiLabelDataset):
        return _load_several(train)
    subset = label_flags.chosen(train)
    if subset is not None:
        common.say(f"{len(subset.ids):,} of {train.size:,} images keep their label: {subset.origin}.")
        train = subset.hide_others(train) if keep_others else subset.only(train)
    return Labelled(training_data.load_data(FLAGS.views, 1, train), subset)


def _load_several(train: MultiLabelDataset) -> Labelled:
    """All images of a data set with several labels each: there is no share of them with as many of each class."""
    if label_flags.given():
        raise ValueError(f"{label_flags.given()[0]} has no meaning for {train.name}: its images have several labels.")
    data = training_data.load_data(FLAGS.views, 1, train)
    return Labelled(dataclasses.replace(data, targets=train.presence), None)


def classifier(dim: int, classes: int) -> tf.keras.Sequential:
    """The classifier of the flags, with fresh weights."""
    return linear_classifier("classifier", dim, classes, FLAGS.classifier_init)


def arguments() -> dict[str, Any]:
    """Arguments that all methods with a classifier take, as the flags say.

    # Raises
        ValueError: If the classifier is to learn at a multiple of nothing, or its decay is to change.
    """
    rate = 1.0
    if FLAGS.classifier_lr is not None:
        if not FLAGS.lr:
            raise ValueError(f"--classifier_lr={FLAGS.classifier_lr} is a multiple of --lr, which must not be 0.")
        rate = FLAGS.classifier_lr / FLAGS.lr
    return {
        "classifier_rate": rate,
        "classifier_decay": _classifier_decay(),
        "gradient_clip": FLAGS.gradient_clip,
        "accumulate": FLAGS.accumulate,
    }


def method(
    student: tf.keras.Model,
    classifier: tf.keras.Model,
    head: tf.keras.Model | None = None,
    train_student: bool = True,
    several: bool = False,
) -> Supervised:
    """Training with labels as the flags describe it, `--label_smoothing` among them.

    # Arguments
        student, classifier, head, train_student: See `Supervised`.
        several: Whether an image has several labels.
    # Raises
        ValueError: If flags contradict each other.
    """
    options = {**arguments(), "train_student": train_student}
    if not several:
        return Supervised(student, classifier, head, FLAGS.label_smoothing, **options)
    if FLAGS.label_smoothing:
        raise ValueError(
            f"--label_smoothing={FLAGS.label_smoothing} has no meaning for {FLAGS.dataset}, whose images have several "
            "labels: leave it out."
        )
    return MultiLabel(student, classifier, head, **options)


def _classifier_decay() -> float:
    """What SimCLR adds to the loss, because its optimizer leaves the classifier out."""
    if FLAGS.optimizer != "lars_simclr":
        return 0.0
    if FLAGS.final_weight_decay is not None:
        raise ValueError(
            f"--final_weight_decay={FLAGS.final_weight_decay} does not reach the classifier, whose decay is constant "
            "with --optimizer=lars_simclr: leave one of them out."
        )
    return PRESETS["simclr"]["weight_decay"] if FLAGS.weight_decay is None else FLAGS.weight_decay


def validation() -> tuple[callbacks.Validation, ...]:
    """The callback of `--validate_every`, if there is to be one.

    # Raises
        ValueError: If there are no images to validate on.
    """
    if not FLAGS.validate_every:
        return ()
    try:
        held_out = training_data.load_split("val")
    except ValueError as error:
        raise ValueError(f"{error}; or train without validation, by --validate_every=0") from error
    kind = callbacks.MultiLabelValidation if isinstance(held_out, MultiLabelDataset) else callbacks.Validation
    return (kind(held_out, FLAGS.image_size, FLAGS.validate_every),)


def summary(
    protocol: str, preset: str, reported: tuple[str, str] = TOPS
) -> Callable[[Sequence[Mapping[str, float]]], dict[str, float]]:
    """Makes of the rows of a run the accuracies after the last and the best epoch, as probes name them.

    # Arguments
        protocol, preset: First parts of their names.
        reported: See `measures_of`; the first decides which epoch was best.
    """
    decides = f"val_{reported[0]}"

    def of_rows(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
        measured = [row for row in rows if decides in row]
        if not measured:
            return {}
        best = max(measured, key=lambda row: row[decides])
        of = {"last": measured[-1], "best": best}
        metrics = {f"{when}/{measure}": row[f"val_{measure}"] for when, row in of.items() for measure in reported}
        return named(protocol, preset, FLAGS.dataset, {**metrics, "best/epoch": float(best["epoch"])})

    return of_rows

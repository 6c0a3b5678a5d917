"""The classifier of an export, by the flags `--head`, `--linear_probe` and those of a linear evaluation."""

import pathlib

import tensorflow as tf
from absl import flags

from larq_ssl.data.datasets import ImageDataset
from larq_ssl.evaluation.features import Features
from larq_ssl.evaluation.linear import linear
from larq_ssl.evaluation.results import FILE_NAME, read_results
from larq_ssl.experiments import common, linear_flags
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.files import read_json
from larq_ssl.layers import UnitRows
from larq_ssl.models import Encoder, load_head
from larq_ssl.models.folder import encoder_hash

HEADS = ("none", "linear", "classifier")
_WORDS = {"encoder_hash": "the encoder", "image_size": "images of side", "train": "training images with fingerprint"}

flags.adopt_module_key_flags(linear_flags)

HEAD = flags.DEFINE_enum(
    "head",
    "none",
    HEADS,
    "What follows the encoder: nothing, so that features come out; a linear classifier of frozen features; or the "
    "classifier that it was trained with (supervised, fine_tune, distill).",
)
_PROBE = flags.DEFINE_string(
    "linear_probe", None, "Folder of a linear evaluation whose classifier --head=linear takes; else one is trained."
)


def check_flags() -> None:
    """Refuses flags that have no meaning for the head.

    # Raises
        ValueError: Naming the flag.
    """
    if _PROBE.value is not None and HEAD.value != "linear":
        raise ValueError(f"--linear_probe={_PROBE.value} has no meaning with --head={HEAD.value}: leave it out.")
    if flags.FLAGS.random and not needs_features() and HEAD.value != "none":
        raise ValueError("--random has no classifier that is trained already: give --head=linear, or --head=none.")
    if linear_flags.AUGMENTED.value:
        raise ValueError(
            "--augmented is of a linear evaluation: run `linear --augmented`, and give its folder as --linear_probe."
        )


def needs_features() -> bool:
    """Whether a classifier is to be trained."""
    return HEAD.value == "linear" and _PROBE.value is None


def of_encoder(
    encoder: Encoder, folder: pathlib.Path, image_size: int, images: ImageDataset
) -> tf.keras.Sequential | None:
    """The head that is there already, `None` if there is to be none.

    # Arguments
        encoder: What it follows.
        folder: Of the encoder.
        image_size: Side of the images.
        images: Of the flags, which a linear classifier must have been trained on.
    # Raises
        ValueError: If there is no such head, or it is another encoder's, or the encoder ends in classes of its own.
    """
    if HEAD.value == "classifier":
        return _of_run(encoder, folder)
    if encoder.spec.classes is not None:
        raise ValueError(f"--head={HEAD.value}, but the network ends in a classifier: give --head=classifier.")
    if _PROBE.value is None:
        return None
    return _of_probe(encoder, pathlib.Path(_PROBE.value), image_size, images.fingerprint)


def class_names(folder: pathlib.Path, images: ImageDataset) -> tuple[str, ...]:
    """Names of the classes of the head, as far as they are known.

    A linear classifier has those of the images that it was trained on; a run wrote down its own.

    # Arguments
        folder: Of the encoder.
        images: Training images of the flags.
    """
    if HEAD.value == "none":
        return ()
    if HEAD.value == "linear":
        return images.class_names
    run = RunFolder(folder.parent.parent)
    if run.classes_file.is_file():
        return tuple(read_json(run.classes_file))
    trained_on = run.inputs().get("data") if run.finished else None
    return images.class_names if trained_on == images.fingerprint else ()


def train(train_features: Features, test: Features, classes: int, encoder: Encoder, seed: int) -> tf.keras.Sequential:
    """A linear classifier of features, as `linear` trains it.

    # Arguments
        train_features, test: With labels; the learning rate is chosen on `test`, as the papers do.
        classes: Number of classes.
        encoder: Where the features come from.
        seed: Of the classifier.
    """
    preset = linear_flags.chosen(encoder)
    result = linear(train_features, test, classes, preset, seed, progress=common.bar("linear classifiers"))
    common.say(f"linear classifier: top 1 {result.metrics['last/top1']:.4f} at learning rate {result.learning_rate:g}.")
    return _on_features(result.classifier(), preset.normalise)


def _of_run(encoder: Encoder, folder: pathlib.Path) -> tf.keras.Sequential | None:
    if encoder.spec.classes is not None:
        return None  # it ends in one of its own
    heads = folder.parent.parent / "heads"
    if not (heads / "classifier").is_dir():
        raise ValueError(
            f"--head=classifier, but there is none in {heads}: it is of runs that are trained with labels (supervised, "
            "fine_tune, distill). --head=linear trains one on frozen features."
        )
    names = [name for name in ("student_head", "classifier") if (heads / name / "head.json").is_file()]
    parts = [load_head(heads / name) for name in names]
    return tf.keras.Sequential([tf.keras.Input(parts[0].input_shape[1:]), *parts], name="classifier_of_run")


def _of_probe(encoder: Encoder, folder: pathlib.Path, image_size: int, images: str) -> tf.keras.Sequential:
    if not (folder / "head").is_dir() or not (folder / FILE_NAME).is_file():
        raise ValueError(
            f"--linear_probe={folder} has no folder `head` and {FILE_NAME}: it is none of a linear evaluation that is "
            "finished, or an old one."
        )
    settings = read_results(folder).settings
    for name, own in (("encoder_hash", encoder_hash(encoder)), ("image_size", image_size), ("train", images)):
        if settings.get(name) != own:
            raise ValueError(
                f"--linear_probe={folder} is of {_WORDS[name]} {settings.get(name)}, and here it is {own}."
            )
    return _on_features(load_head(folder / "head"), bool(settings.get("normalise")))


def _on_features(head: tf.keras.Sequential, normalise: bool) -> tf.keras.Sequential:
    """The head of features that are divided by their length, if they are to be."""
    if not normalise:
        return head
    return tf.keras.Sequential([tf.keras.Input(head.input_shape[1:]), UnitRows(name="unit"), head], name="on_unit_rows")

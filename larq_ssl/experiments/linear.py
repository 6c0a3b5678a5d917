"""Linear evaluation of a frozen encoder: `python -m larq_ssl.experiments.linear --run=<run folder>`.

Images with several labels each (`--dataset=voc_folder`) get a sigmoid per class, and are measured by mAP.

By default on features that are extracted once; with `--augmented` on new views in each epoch, as it is published. Then
the same command goes on, after its last whole epoch, where it was stopped. The chosen classifier is kept in `head/`.
"""

import dataclasses

import numpy as np
from absl import flags

from larq_ssl.data.datasets import ImageDataset
from larq_ssl.data.multi_label import MultiLabelDataset, output_count
from larq_ssl.evaluation import pictures
from larq_ssl.evaluation.examples import Examples, check_test, examples, measures_of
from larq_ssl.evaluation.features import Features, held_out, holdout
from larq_ssl.evaluation.linear import linear
from larq_ssl.evaluation.linear_augmented import linear_augmented
from larq_ssl.evaluation.linear_results import LinearResult
from larq_ssl.evaluation.linear_settings import LinearPreset
from larq_ssl.experiments import common, linear_flags, probes
from larq_ssl.models import save_head

flags.adopt_module_key_flags(probes)
flags.adopt_module_key_flags(linear_flags)

_HOLDOUT = flags.DEFINE_integer(
    "holdout_per_class",
    0,
    "Choose learning rate and best epoch on that many training images of each class, set aside, instead of on the "
    "test images as the papers do.",
    0,
)
_PROGRESS = "progress.npz"
HEAD = "head"


def check_several(probe: probes.Probe) -> None:
    """Refuses, before anything is extracted, what cannot be measured with several labels per image."""
    if not isinstance(probe.test, MultiLabelDataset):
        return
    if _HOLDOUT.value:
        raise ValueError(
            f"--holdout_per_class={_HOLDOUT.value} has no meaning for {probe.test.name}, whose images have several "
            "labels: leave it out."
        )
    check_test(probe.test.presence, probe.test.object_names)


def labelled(features: Features, images: ImageDataset) -> Features | Examples:
    """Features of images, with one label each or several."""
    return examples(features, images) if isinstance(images, MultiLabelDataset) else features


def on_cached_features(probe: probes.Probe, preset: LinearPreset) -> tuple[LinearResult, Features]:
    """Classifiers of features that are extracted once, and the test features."""
    train, test = probe.features(preset.output(probe.encoder), preset.evaluation)
    validation = None
    if _HOLDOUT.value:
        train, validation = holdout(train, _HOLDOUT.value, probes.FLAGS.seed)
    bar = common.bar("linear classifiers")
    parts = labelled(train, probe.train), labelled(test, probe.test)
    classes = output_count(probe.train)
    return linear(*parts, classes, preset, probes.FLAGS.seed, validation, progress=bar), test


def on_views(probe: probes.Probe, preset: LinearPreset) -> tuple[LinearResult, Features]:
    """Classifiers of new views in each epoch, and the test features."""
    output, train, validation = preset.output(probe.encoder), probe.train, None
    if _HOLDOUT.value:
        aside = held_out(train.labels(), _HOLDOUT.value, probes.FLAGS.seed)
        validation = probe.features_of(train.subset(np.flatnonzero(aside), "held out"), output, preset.evaluation)
        train = train.subset(np.flatnonzero(~aside), "not held out")
    test = probe.features_of(probe.test, output, preset.evaluation)
    result = linear_augmented(
        probe.encoder,
        train,
        labelled(test, probe.test),
        probe.image_size,
        preset,
        probes.FLAGS.seed,
        validation,
        probes.FLAGS.batch_size,
        probe.folder / _PROGRESS,
        common.bar("views of linear classifiers"),
    )
    return result, test


def main() -> int:
    augmented = linear_flags.AUGMENTED.value
    with common.user_errors():
        preset = linear_flags.default()
        tag = f"{preset.name}-augmented" if augmented else preset.name
        probe = probes.load("linear", tag, which=preset.which, multi_label=True)
        check_several(probe)
        preset = linear_flags.chosen(probe.encoder)

    def measure() -> dict[str, float]:
        result, test = (on_views if augmented else on_cached_features)(probe, preset)
        if not isinstance(probe.test, MultiLabelDataset):
            pictures.confusion_matrix(
                probe.folder / "confusion.png",
                test.labels,
                result.predictions,
                probe.train.class_names,
                overwrite=True,
            )
        save_head(result.classifier(), probe.folder / HEAD, overwrite=True)
        # Not the same number, so not by the same name.
        return {f"augmented/{name}": value for name, value in result.metrics.items()} if augmented else result.metrics

    settings = {**dataclasses.asdict(preset), "holdout_per_class": _HOLDOUT.value, "augmented": augmented}
    code = probes.record(probe, "linear", preset.name, measure, settings, f"/last/{measures_of(probe.test)[0]}")
    (probe.folder / _PROGRESS).unlink(missing_ok=True)  # the result is there
    return code


if __name__ == "__main__":
    common.run(main)

"""What corruption of the test images leaves of the accuracy of classifiers that saw clean ones only."""

import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from larq_ssl.data.datasets import ImageDataset
from larq_ssl.evaluation.accuracy import check_labels
from larq_ssl.evaluation.corruptions import CORRUPTIONS, SEVERITIES, CorruptionPreset, corrupted
from larq_ssl.evaluation.features import Features, Progress, extract
from larq_ssl.evaluation.knn import knn

CLEAN = "clean/0"
_K = 20
# More iterations than this hardly change a prediction; scikit-learn warns where they are not enough.
_ITERATIONS = 1000

Classifier = Callable[[Features], float]
"""Top-1 accuracy on some features."""


def knn_classifier(train: Features, classes: int) -> Classifier:
    """The weighted vote of the 20 nearest clean training images (of all, if there are fewer): see `knn`."""
    k = min(_K, len(train))
    return lambda test: knn(train, test, classes, ks=(k,))[f"{k}/top1"]


def linear_classifier(train: Features, classes: int) -> Classifier:
    """A multinomial logistic regression on clean features, each divided by its standard deviation.

    It is scikit-learn's, with its penalty (C = 1), and not one of the published linear evaluations: those choose their
    settings on the test images, of which there are many sets here.
    """
    check_labels("train", train.labels, classes)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=_ITERATIONS))
    model.fit(train.features, train.labels)

    def accuracy(test: Features) -> float:
        check_labels("test", test.labels, classes)
        return float(np.mean(model.predict(test.features) == test.labels))

    return accuracy


CLASSIFIERS: dict[str, Callable[[Features, int], Classifier]] = {"knn": knn_classifier, "linear": linear_classifier}


def conditions(kinds: Sequence[str]) -> list[tuple[str, int]]:
    """Every corruption in every severity, in the order in which they are measured."""
    return [(kind, severity) for kind in kinds for severity in SEVERITIES]


def robustness(
    encoder: tf.keras.Model,
    train: Features,
    test: Features,
    images: ImageDataset,
    image_size: int,
    classifiers: Sequence[str],
    preset: CorruptionPreset,
    kinds: Sequence[str] = tuple(CORRUPTIONS),
    seed: int = 0,
    batch_size: int = 256,
    known: Mapping[str, float] | None = None,
    measured: Callable[[Mapping[str, float]], object] | None = None,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Accuracies on clean and on corrupted test images.

    # Arguments
        encoder: The frozen network.
        train, test: Clean features and labels.
        images: The test images.
        image_size: Side of the images that the encoder sees; they are corrupted at that size.
        classifiers: Of `CLASSIFIERS`.
        preset: How strong corruptions are.
        kinds: Of `corruptions.CORRUPTIONS`.
        seed: Of the noise.
        batch_size: Images per step.
        known: Accuracies that need not be measured again, by the names that they have in the result.
        measured: Called with all that is measured so far, after each severity.
        progress: Called with severities done and in all.
    # Returns
        `clean/0/<classifier>_top1`, `<kind>/<severity>/<classifier>_top1`, and the mean over severities and over all,
        `<kind>/mean/<classifier>_top1` and `corrupted/mean/<classifier>_top1`.
    # Raises
        ValueError: If labels are missing, or the preset is not for images of that size.
    """
    preset.check(image_size)
    found = dict(known or {})
    classes = images.class_count()
    # Trained when the first accuracy is missing, which of a probe that goes on may be none.
    trained = {name: functools.lru_cache(lambda name=name: CLASSIFIERS[name](train, classes)) for name in classifiers}

    def complete(condition: str, features: Callable[[], Features]) -> None:
        missing = [name for name in classifiers if f"{condition}/{name}_top1" not in found]
        if missing:
            part = features()
            found.update({f"{condition}/{name}_top1": trained[name]()(part) for name in missing})
            if measured is not None:
                measured(found)

    complete(CLEAN, lambda: test)
    todo = conditions(kinds)
    for done, (kind, severity) in enumerate(todo, 1):
        changed = corrupted(images, kind, severity, preset, image_size, seed)
        complete(f"{kind}/{severity}", functools.partial(extract, encoder, changed, image_size, batch_size))
        if progress is not None:
            progress(done, len(todo))
    return found | means(found, classifiers, kinds)


def means(found: Mapping[str, float], classifiers: Sequence[str], kinds: Sequence[str]) -> dict[str, float]:
    """Means over severities, and over these of all corruptions."""
    metrics: dict[str, float] = {}
    for name in classifiers:
        table = np.array([[found[f"{kind}/{severity}/{name}_top1"] for severity in SEVERITIES] for kind in kinds])
        metrics |= {f"{kind}/mean/{name}_top1": float(row.mean()) for kind, row in zip(kinds, table, strict=True)}
        metrics[f"corrupted/mean/{name}_top1"] = float(table.mean())
    return metrics

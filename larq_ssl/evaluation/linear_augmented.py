"""Linear evaluation as it is published: a new random crop of each image in each epoch, through the frozen encoder."""

import dataclasses
import hashlib
import json
import math
import os
import pathlib
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from larq_ssl import files
from larq_ssl.data import pipeline
from larq_ssl.data.datasets import ImageDataset
from larq_ssl.data.multi_label import MultiLabelDataset, output_count
from larq_ssl.evaluation.accuracy import check_labels
from larq_ssl.evaluation.examples import Examples
from larq_ssl.evaluation.features import READ_ERRORS, Features, Progress, frozen
from larq_ssl.evaluation.linear_multi_label import MultiLabelSweep
from larq_ssl.evaluation.linear_presets import linear_preset
from larq_ssl.evaluation.linear_results import LinearResult, Scores
from larq_ssl.evaluation.linear_settings import LinearPreset
from larq_ssl.evaluation.linear_sweep import Sweep
from larq_ssl.evaluation.normalise import unit_rows
from larq_ssl.models import Encoder
from larq_ssl.models.folder import encoder_hash

# Images of which views are made at once. Part of what is trained: the views of an epoch are whole groups of so many.
_GROUP = 256
Encode = Callable[[tf.Tensor], tf.Tensor]
Trained = Iterator[tuple[tf.Tensor, tf.Tensor]]


def linear_augmented(
    encoder: Encoder,
    train: ImageDataset,
    test: Features | Examples,
    image_size: int,
    preset: str | LinearPreset = "bssl",
    seed: int = 0,
    validation: Features | Examples | None = None,
    batch_size: int = 256,
    progress_file: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> LinearResult:
    """Train one linear classifier per learning rate on features of random views and test them after every epoch.

    A view goes through the encoder once, in inference mode, and all learning rates learn from it: next to the encoder a
    sweep costs hardly more than one rate. As the encoder is frozen, the features of the test images are extracted once,
    by the caller.

    Differences from the papers: in each epoch up to 255 images are left out (less than a group of views), others each
    time; and learning rates are swept where some papers state one.

    # Arguments
        encoder: An `Encoder`; nothing of it changes.
        train: Labelled images to train on, with one label each or several.
        test: Features and labels to report on, of the same encoder and output (`LinearPreset.output`); `Examples` of
            images with several labels.
        image_size: Side of the views.
        preset: Name of a preset, or a `LinearPreset`.
        seed: Of the kernel, of the order of the images and of their views.
        validation: What learning rate and best epoch are chosen on; by default the test set, as the papers do.
        batch_size: Images that go through the encoder at once. It does not alter the result beyond rounding.
        progress_file: Where the classifiers are kept after each epoch, so that the same call goes on there after it was
            stopped; `None`: nowhere.
        progress: Called with images done and in all.
    # Returns
        `LinearResult`. A rate at which the classifier diverged has accuracy 0 and is never chosen.
    # Raises
        ValueError: If labels are missing, sizes disagree, all rates diverge, or the file is of another measurement.
    # References
        - Those of `linear_presets`
    """
    config = linear_preset(preset) if isinstance(preset, str) else preset
    classes, dim = output_count(train), test.features.shape[1]
    names = train.object_names if isinstance(train, MultiLabelDataset) else None
    scores = Scores(config, {"test": test, "validation": validation}, dim, classes, names)
    sweep = (Sweep if names is None else MultiLabelSweep)(config, dim, classes, seed)
    kept = _Kept(progress_file, _key(encoder, train, scores, image_size, config, seed))
    done = kept.restore(sweep, scores)
    group = min(_GROUP, config.batch_size, train.size)
    groups = pipeline.steps_per_epoch(train, group)
    views = iter(pipeline.view_batches(train, config.policy(image_size), group, seed, done * groups))
    encode = frozen(encoder, image_size, config.output(encoder))
    for epoch in range(done, config.epochs):
        rates = config.rates_of(epoch, math.ceil(groups * group / config.batch_size))
        tell = _count(progress, epoch * groups * group, config.epochs * groups * group)
        features = _features(views, groups, encode, batch_size, train, tell)
        for batch, rate in zip(_batches(features, config), rates, strict=True):
            sweep.train_batch(*batch, tf.constant(rate))
        sweep.end_epoch()
        scores.add(sweep)
        kept.save(sweep, scores)
    return scores.result(sweep)


def _features(
    views: Iterator[pipeline.Batch], groups: int, encode: Encode, batch_size: int, train: ImageDataset, tell: Callable
) -> Trained:
    """Features and labels of the next groups of views."""
    for _ in range(groups):
        batch = next(views)
        labels = _labels(batch, train)
        images = batch["global"][:, 0]
        parts = [encode(images[start : start + batch_size]) for start in range(0, len(images), batch_size)]
        features = tf.concat(parts, axis=0)
        if not np.isfinite(features).all():
            raise ValueError(f"`encoder` gave features that are not finite, in views of images {batch['id'].numpy()}.")
        yield features, labels
        tell(len(images))


def _labels(batch: pipeline.Batch, train: ImageDataset) -> tf.Tensor:
    """Int32 `[batch]`; of images with several labels float32 `[batch, classes]`."""
    if isinstance(train, MultiLabelDataset):
        return tf.constant(train.presence[batch["id"].numpy()], tf.float32)
    check_labels("train", batch["label"].numpy(), train.class_count())
    return tf.cast(batch["label"], tf.int32)


def _batches(parts: Trained, config: LinearPreset) -> Trained:
    """The same in batches of the classifiers, the last of which may be smaller."""
    size, held = config.batch_size, None
    for features, labels in parts:
        if config.normalise:
            features = tf.constant(unit_rows(features.numpy()))
        if held is not None:
            features, labels = (tf.concat(pair, axis=0) for pair in zip(held, (features, labels), strict=True))
        whole = len(labels) // size * size
        for start in range(0, whole, size):
            yield features[start : start + size], labels[start : start + size]
        held = features[whole:], labels[whole:]
    if held is not None and len(held[1]):
        yield held


def _count(progress: Progress | None, before: int, total: int) -> Callable[[int], None]:
    """Adds up what is done, and tells it."""
    done = before

    def tell(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    return tell


def _key(
    encoder: Encoder, train: ImageDataset, scores: Scores, image_size: int, config: LinearPreset, seed: int
) -> str:
    """All that decides what comes out, as text."""
    labels = {name: hashlib.sha256(part.tobytes()).hexdigest() for name, part in scores.labels.items()}
    settings = {"image_size": image_size, "seed": seed, "preset": dataclasses.asdict(config), "labels": labels}
    return json.dumps({"encoder": encoder_hash(encoder), "train": train.fingerprint, **settings}, sort_keys=True)


class _Kept:
    """The file that an evaluation which was stopped goes on from; it is there whole or not at all."""

    def __init__(self, file: str | os.PathLike[str] | None, key: str) -> None:
        self._file, self._key = None if file is None else pathlib.Path(file), key

    def restore(self, sweep: Sweep, scores: Scores) -> int:
        """Puts back what was kept; returns how many epochs are done."""
        if self._file is None or not self._file.exists():
            return 0
        try:
            with np.load(self._file, allow_pickle=False) as held:
                arrays = dict(held)
        except READ_ERRORS as error:
            raise ValueError(f"{self._file} is unusable ({error}); move it away to begin anew.") from error
        if str(arrays.get("key")) != self._key:
            raise ValueError(f"{self._file} is of another measurement; move it away to measure this one.")
        sweep.restore(arrays)
        for name, history in scores.history.items():
            history.extend(arrays[f"history_{name}"])
        return len(scores.history["test"])

    def save(self, sweep: Sweep, scores: Scores) -> None:
        """Keeps classifiers and accuracies as they are at the end of an epoch."""
        if self._file is None:
            return
        arrays = {name: variable.numpy() for name, variable in sweep.state.items()}
        arrays |= {f"history_{name}": np.stack(history) for name, history in scores.history.items()}
        key = np.array(self._key)
        files.write_whole(self._file, lambda file: np.savez(file, key=key, **arrays), overwrite=True)

"""Linear evaluation: a softmax classifier on frozen features, at all learning rates of a sweep at once.

Of images with several labels each, a sigmoid per class.
"""

import math

import numpy as np
import tensorflow as tf

from larq_ssl.evaluation.examples import Examples
from larq_ssl.evaluation.features import Features, Progress
from larq_ssl.evaluation.linear_multi_label import MultiLabelSweep
from larq_ssl.evaluation.linear_presets import PRESETS, linear_preset
from larq_ssl.evaluation.linear_results import LinearResult, Scores, check, inputs, wanted
from larq_ssl.evaluation.linear_settings import LinearPreset
from larq_ssl.evaluation.linear_sweep import Sweep

__all__ = ["PRESETS", "LinearPreset", "LinearResult", "linear", "linear_preset"]


def linear(
    train: Features | Examples,
    test: Features | Examples,
    classes: int,
    preset: str | LinearPreset = "bssl",
    seed: int = 0,
    validation: Features | Examples | None = None,
    progress: Progress | None = None,
) -> LinearResult:
    """Train one linear classifier per learning rate on frozen features and test them after every epoch.

    All of them start from the same kernel and see the same batches, so a sweep equals its runs one by one, at
    the price of little more than one. The best epoch has the highest top-1; the learning rate is chosen by
    the last epoch's top-1 (then by the best epoch's, then the smaller one).

    Of `Examples`, whose images may show several things at once, the classifiers have a sigmoid per class
    (`MultiLabelSweep`), and in the place of top-1 counts the mean average precision over the classes.

    Differences from the papers: each image has one feature vector, of its centre crop, where they draw a new
    crop in each epoch, as `linear_augmented` does; and learning rates are swept, where they state one.

    # Arguments
        train: Features and labels to train on: `Features` of one label per image, `Examples` of several.
        test: Features and labels to report on, likewise.
        classes: Number of classes.
        preset: Name of a preset, or a `LinearPreset` (see `linear_preset`).
        seed: Of the kernel and of the order of the images.
        validation: What learning rate and best epoch are chosen on (see `features.holdout`). By default the
            test set, as the papers do.
        progress: Called with epochs done and in all.
    # Returns
        `LinearResult`. A rate at which the classifier diverged has accuracy 0 and is never chosen.
    # Raises
        ValueError: If labels are missing, sizes disagree, or all rates diverge.
    # References
        - Those of `linear_presets`
    """
    config = linear_preset(preset) if isinstance(preset, str) else preset
    dim = train.features.shape[1]
    names = train.names if isinstance(train, Examples) else None
    if names is not None and classes != len(names):
        raise ValueError(f"`classes` must be the number of those of `train`, {len(names)}, got {classes}.")
    check("train", train, dim, classes, names)
    scores = Scores(config, {"test": test, "validation": validation}, dim, classes, names)
    sweep = (Sweep if names is None else MultiLabelSweep)(config, dim, classes, seed)
    features, labels, count = inputs(train, config), wanted(train), len(train.features)
    if names is None:
        labels = tf.cast(labels, tf.int32)
    steps = math.ceil(count / config.batch_size)
    for epoch in range(config.epochs):
        order = np.random.default_rng((seed, 1, epoch)).permutation(count)
        sweep.train_epoch(features, labels, tf.constant(order, tf.int32), tf.constant(config.rates_of(epoch, steps)))
        sweep.end_epoch()
        scores.add(sweep)
        if progress is not None:
            progress(epoch + 1, config.epochs)
    return scores.result(sweep)

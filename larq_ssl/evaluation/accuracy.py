"""Top-1 and top-5, counted the same way by every protocol."""

import numpy as np
import tensorflow as tf

TOPS = ("top1", "top5")
"""What is reported of images with one label each; the first decides."""


def label_ranks(scores: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Place of each label among the classes, best score first.

    Equal scores are ordered by class, as `argmax` does: rank 0 is exactly "the prediction is right". Scores that are no
    numbers stand for nothing: a label that has one comes last, and other classes that have one come before the label.

    # Arguments
        scores: Float tensor `[..., classes]`.
        labels: Integer tensor `[...]`.
    # Returns
        Int32 tensor `[...]` in `0..classes - 1`.
    """
    own = tf.gather(scores, labels, axis=-1, batch_dims=labels.shape.rank)[..., None]
    classes, label = tf.range(scores.shape[-1]), tf.cast(labels, tf.int32)[..., None]
    behind = (scores < own) | ((scores == own) & (classes > label)) | (classes == label)
    return tf.math.count_nonzero(~behind, axis=-1, dtype=tf.int32)


def check_labels(name: str, labels: np.ndarray, classes: int) -> None:
    """Refuse labels that are not all in `0..classes - 1`.

    # Raises
        ValueError: Names the argument, an offending label and what is allowed.
    """
    if len(labels) == 0:
        raise ValueError(f"`{name}` holds no image.")
    bad = labels[(labels < 0) | (labels >= classes)]
    if len(bad):
        raise ValueError(
            f"`{name}` must have a label in 0..{classes - 1} for each image; "
            f"{len(bad)} do not, e.g. {bad[0]} (-1 means not labelled)."
        )

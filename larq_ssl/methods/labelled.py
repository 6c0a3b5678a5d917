"""Means over the images of a batch that have a label."""

import tensorflow as tf

from larq_ssl import distribute


def labelled_share(labels: tf.Tensor) -> tf.Tensor:
    """Factors with which a mean over all images, on all replicas, is one over those that have a label.

    # Arguments
        labels: Integer tensor `[batch]`, -1 for none.
    # Returns
        Float32 tensor `[batch]`; zeros where there is no label, and if none of the images has one.
    """
    known = tf.cast(labels >= 0, tf.float32)
    (total,) = distribute.all_reduce_sum([tf.reduce_mean(known)])
    return known / tf.maximum(total / distribute.replicas(), 1e-12)


def labelled_mean(values: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Numbers whose mean over all images is that of the values of images that have a label.

    # Arguments
        values: Float32 tensor `[batch]`, to be looked at: it must not be part of a loss.
        labels: Integer tensor `[batch]`, -1 for none.
    # Returns
        Float32 tensor `[batch]`; NaN if none of the images has a label, which the means of an epoch leave out.
    """
    share = labelled_share(labels)
    (total,) = distribute.all_reduce_sum([tf.reduce_sum(share)])
    return tf.where(total > 0, values * share, float("nan"))


def labelled_accuracy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Whether the largest logit is that of the label, as `labelled_mean`."""
    right = tf.argmax(logits, axis=-1) == tf.cast(labels, tf.int64)
    return labelled_mean(tf.cast(right, tf.float32), labels)

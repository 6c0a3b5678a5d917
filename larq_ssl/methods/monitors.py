"""Numbers that tell whether a method collapses; none of them carries a gradient."""

import tensorflow as tf


def embedding_std(features: tf.Tensor) -> tf.Tensor:
    """Spread of a batch of embeddings: 1 for independent directions, 0 when all images look the same.

    \\[ \\sqrt{D} \\cdot \\frac{1}{D} \\sum_d \\mathrm{std}_n \\frac{x_{nd}}{\\|x_n\\|_2} \\]

    # Arguments
        features: Float tensor `[batch, dim]`.
    # Returns
        Float32 scalar.
    """
    unit = tf.math.l2_normalize(tf.stop_gradient(tf.cast(features, tf.float32)), axis=-1)
    dim = tf.cast(tf.shape(unit)[-1], tf.float32)
    return tf.sqrt(dim) * tf.reduce_mean(tf.math.reduce_std(unit, axis=0))


def target_entropy(logits: tf.Tensor, temperature: float) -> tf.Tensor:
    """Mean entropy in nats of the softmax of each row: \\( \\ln C \\) for uniform targets, 0 for one-hot ones.

    # Arguments
        logits: Float tensor `[batch, classes]`.
        temperature: Divides the logits.
    # Returns
        Float32 scalar.
    """
    log_p = tf.nn.log_softmax(tf.stop_gradient(tf.cast(logits, tf.float32)) / temperature)
    return -tf.reduce_mean(tf.reduce_sum(tf.exp(log_p) * log_p, axis=-1))


def mean_entropy(probabilities: tf.Tensor) -> tf.Tensor:
    """Mean entropy in nats of the rows: \\( \\ln C \\) for uniform ones, 0 for one-hot ones.

    # Arguments
        probabilities: Float tensor `[batch, classes]`; rows sum to 1.
    # Returns
        Float32 scalar.
    """
    p = tf.stop_gradient(tf.cast(probabilities, tf.float32))
    return -tf.reduce_mean(tf.reduce_sum(tf.math.xlogy(p, p), axis=-1))


def class_usage(logits: tf.Tensor, temperature: float) -> tf.Tensor:
    """How many classes a batch uses: the exponential of the entropy of its mean softmax.

    1 when every image falls into the same class, the number of classes when all are used alike. Together with
    `target_entropy` it tells constant targets (usage high, entropy high) from one class for all (both low).

    # Arguments
        logits: Float tensor `[batch, classes]`.
        temperature: Divides the logits.
    # Returns
        Float32 scalar in `[1, classes]`.
    """
    mean = tf.reduce_mean(tf.nn.softmax(tf.stop_gradient(tf.cast(logits, tf.float32)) / temperature), axis=0)
    return tf.exp(-tf.reduce_sum(tf.math.xlogy(mean, mean)))

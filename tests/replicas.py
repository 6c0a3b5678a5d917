"""Two replicas on one CPU."""

import functools

import tensorflow as tf


@functools.cache
def two_replicas() -> tf.distribute.MirroredStrategy:
    """The one strategy of all tests: a second would use the numbers of the first's collectives again."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

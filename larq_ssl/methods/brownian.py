"""Random directions for the Brownian loss, without state."""

import math

import tensorflow as tf

from larq_ssl.data import rng


def brownian_directions(seed: int, step: tf.Tensor | int, ids: tf.Tensor, views: int, dim: int) -> tf.Tensor:
    """Directions that are uniform on the sphere, a function of what they are drawn for alone.

    So an image has the same ones on whatever replica, in whatever part of a batch and after whatever restart.

    # Arguments
        seed: Of the run.
        step: Number of updates so far.
        ids: int64 `[batch]`, the numbers of the images.
        views: How many directions each image gets.
        dim: Length of a direction.
    # Returns
        Float32 tensor `[views * batch, dim]` of unit rows, view-major.
    """
    pairs = -(-dim // 2)
    columns = [(rng.Op.BROWNIAN, draw) for draw in range(2 * pairs)]
    steps = tf.fill(tf.shape(ids), tf.cast(step, tf.int64))
    uniforms = rng.view_uniforms(seed, steps, ids, range(views), columns)
    # Box-Muller: a pair of uniforms makes a pair of normals, and rows of normals have no preferred direction.
    radius = tf.sqrt(-2.0 * tf.math.log(1.0 - uniforms[..., :pairs]))
    angle = 2.0 * math.pi * uniforms[..., pairs:]
    normals = tf.concat([radius * tf.cos(angle), radius * tf.sin(angle)], axis=-1)[..., :dim]
    rows = tf.reshape(tf.transpose(normals, [1, 0, 2]), [-1, dim])
    return tf.cast(tf.math.l2_normalize(rows, axis=-1), tf.float32)

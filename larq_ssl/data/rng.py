"""Random numbers without state: every draw is a hash of what it is drawn for.

A draw is the 32-bit MurmurHash3 of eight words: seed (two words), epoch, example id (two words), view, op, draw.
So the pixels of a view depend on neither batch size, number of workers, order of execution nor restarts.
The arithmetic is done in int64 and masked to 32 bits, which NumPy and TensorFlow both do exactly: every function here
takes NumPy arrays (or Python integers) as well as tensors, and gives the same numbers for both.

# References
    - MurmurHash3 (public domain), Austin Appleby
"""

import enum
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

_MASK = 0xFFFFFFFF
_WORDS = 8


class Op(enum.IntEnum):
    """What a draw is for. Frozen: a new number for a new op, never another number for an old one."""

    ORDER = 0
    CROP = 1
    FLIP = 2
    JITTER = 3
    GREY = 4
    BLUR = 5
    SOLARISE = 6
    REPLACEMENT = 7
    SUBSET = 8
    RAND_AUGMENT = 9
    JIGSAW = 10
    # What a method draws for an image; its numbers are kept apart from those of the views.
    BROWNIAN = 64


def _shift_right(x: Any, bits: int) -> Any:
    return tf.bitwise.right_shift(x, tf.constant(bits, tf.int64)) if tf.is_tensor(x) else x >> bits


def _rotate_left(x: Any, bits: int) -> Any:
    return ((x * (1 << bits)) & _MASK) | _shift_right(x, 32 - bits)


def _absorb(h: Any, word: Any) -> Any:
    """One block of MurmurHash3."""
    k = (word * 0xCC9E2D51) & _MASK
    k = (_rotate_left(k, 15) * 0x1B873593) & _MASK
    return (_rotate_left(h ^ k, 13) * 5 + 0xE6546B64) & _MASK


def _finish(h: Any) -> Any:
    """MurmurHash3's length word and final mix."""
    h = h ^ (4 * _WORDS)
    h = ((h ^ _shift_right(h, 16)) * 0x85EBCA6B) & _MASK
    h = ((h ^ _shift_right(h, 13)) * 0xC2B2AE35) & _MASK
    return h ^ _shift_right(h, 16)


def bits(seed: int, epoch: Any, example: Any, view: Any, op: Any, draw: Any) -> Any:
    """32 random bits (as int64) for each combination of the arguments, which broadcast against each other.

    # Arguments
        seed: Python integer, the seed of the run.
        epoch, example, view, op, draw: Integers, or int64 arrays or tensors.
    """
    h: Any = _absorb(_absorb(0, seed & _MASK), (seed >> 32) & _MASK)
    h = _absorb(h, epoch)
    h = _absorb(_absorb(h, example & _MASK), _shift_right(example, 32) & _MASK)
    return _finish(_absorb(_absorb(_absorb(h, view), op), draw))


def uniform(seed: int, epoch: Any, example: Any, view: Any, op: Any, draw: Any) -> Any:
    """Float64 in `[0, 1)`, a multiple of 2^-24: see `bits`."""
    high = _shift_right(bits(seed, epoch, example, view, op, draw), 8)
    return (tf.cast(high, tf.float64) if tf.is_tensor(high) else np.asarray(high, np.float64)) * 2.0**-24


def view_uniforms(seed: int, epochs: Any, ids: Any, views: Sequence[int], columns: Sequence[tuple[Op, int]]) -> Any:
    """All draws of some views of some examples at once.

    # Arguments
        epochs, ids: int64 `[n]`.
        views: The numbers of the views.
        columns: Pairs `(op, draw)`.
    # Returns
        Float64 `[n, len(views), len(columns)]`.
    """
    view = np.array(views, np.int64)[None, :, None]
    op = np.array([c[0] for c in columns], np.int64)
    draw = np.array([c[1] for c in columns], np.int64)
    if tf.is_tensor(ids):
        view, op, draw = tf.constant(view), tf.constant(op), tf.constant(draw)
    return uniform(seed, epochs[:, None, None], ids[:, None, None], view, op, draw)


def shuffled(index: tf.Tensor, seed: int, epoch: tf.Tensor, size: int) -> tf.Tensor:
    """Element `index` of a random permutation of `0 .. size - 1`, one permutation per epoch, in O(1).

    # Arguments
        index, epoch: int64 `[n]`.
    # Returns
        int64 `[n]`.
    """
    draw = tf.range(3, dtype=tf.int64)
    key = bits(seed, epoch[:, None], tf.constant(0, tf.int64), 0, int(Op.ORDER), draw)
    # `tf.random.experimental.index_shuffle` is this op, but takes only one seed.
    return tf.raw_ops.RandomIndexShuffle(
        index=index, seed=tf.cast(key, tf.uint32), max_index=tf.constant(size - 1, tf.int64), rounds=4
    )

"""Exact nearest neighbours by cosine similarity, in memory that does not grow with the bank."""

import contextlib
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from larq_ssl.evaluation.normalise import unit_rows

_QUERIES = 512
# Numbers that a block of the bank, and its similarities with a chunk of queries, have at most: 32 MiB each.
_NUMBERS = 2**23

Found = tuple[slice, np.ndarray, np.ndarray]
Search = Callable[[np.ndarray, np.ndarray, int], Iterator[Found]]
"""`nearest`, or what does the same for images that are described by something else than float features."""


def chunk_sizes(bank: int, queries: int, dim: int) -> tuple[int, int]:
    """Queries that are looked up at once, and images of the bank that they are compared with at once.

    \\[ q = \\min(512, M), \\qquad b = \\min(N, \\max(1, \\lfloor 2^{23} / \\max(q, d) \\rfloor)) \\]

    # Arguments
        bank: Images N to be found.
        queries: Images M to look up.
        dim: Length d of their features.
    """
    at_once = min(_QUERIES, queries)
    return at_once, min(bank, max(1, _NUMBERS // max(at_once, dim)))


def working_bytes(bank: int, queries: int, dim: int, k: int, classes: int = 0) -> int:
    """Memory that a search takes beside the features, at most, and with `classes` a vote of its neighbours.

    With q and b of `chunk_sizes` and C classes, in numbers of 4 bytes:

    \\[ q \\, (3 d + 3 b + 20 k + 5 C) + 2 b d + N \\]

    for the queries (normalised, and as a tensor), similarities with the block of the bank (also scaled, and while they
    are sorted), the block itself (as a tensor, and as the product has it), the lengths of the bank's features, the best
    so far (with those of the block, values and rows, and labels, weights and cells of their vote), and the vote of one
    k. With the features themselves, 4 N d bytes, a million images with features of up to 1,024 numbers and 1,000
    classes fit into 4 GiB.
    """
    at_once, block = chunk_sizes(bank, queries, dim)
    return 4 * (at_once * (3 * dim + 3 * block + 20 * k + 5 * classes) + 2 * block * dim + bank)


def nearest(bank: np.ndarray, queries: np.ndarray, k: int) -> Iterator[Found]:
    """The k rows of the bank that are most similar to each query, chunk by chunk.

    Every pair is compared. The bank is passed through once per chunk of queries, block by block; of each block only the
    k best go on to the next.

    # Arguments
        bank: Float32 `[N, d]`, N at least `k`; of any length, and not copied.
        queries: Float32 `[M, d]`.
        k: Number of neighbours.
    # Returns
        Iterator of: slice of the queries, cosine similarities float32 `[n, k]` from the largest on, rows int32
        `[n, k]`. Rows that are as similar come in their order.
    """
    at_once, block = chunk_sizes(len(bank), len(queries), bank.shape[1])
    inverse = _inverse_lengths(bank, block)
    with _full_precision():
        for start in range(0, len(queries), at_once):
            chunk = tf.constant(unit_rows(queries[start : start + at_once]))
            best = tf.zeros([len(chunk), 0]), tf.zeros([len(chunk), 0], tf.int32)
            for row in range(0, len(bank), block):
                part = slice(row, row + block)
                best = _closer(chunk, tf.constant(bank[part]), tf.constant(inverse[part]), *best, row, k)
            yield slice(start, start + len(chunk)), best[0].numpy(), best[1].numpy()


def _inverse_lengths(bank: np.ndarray, block: int) -> np.ndarray:
    """One over the length of each row, as `unit_rows` has it, without a copy of them all."""
    parts = (bank[row : row + block] for row in range(0, len(bank), block))
    return np.concatenate([1 / np.maximum(np.linalg.norm(part, axis=1), 1e-12) for part in parts]).astype(np.float32)


@tf.function(
    input_signature=[
        *(tf.TensorSpec([None, None]) for _ in range(2)),
        tf.TensorSpec([None]),
        tf.TensorSpec([None, None]),
        tf.TensorSpec([None, None], tf.int32),
        *(tf.TensorSpec([], tf.int32) for _ in range(2)),
    ]
)
def _closer(
    queries: tf.Tensor,
    block: tf.Tensor,
    inverse: tf.Tensor,
    values: tf.Tensor,
    rows: tf.Tensor,
    first: tf.Tensor,
    k: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The k best of a block, whose first row has the number `first`, and of those found before."""
    # Scaled afterwards: the block itself would have to be copied for it.
    similarity = tf.matmul(queries, block, transpose_b=True) * inverse
    found = tf.math.top_k(similarity, tf.minimum(k, tf.shape(block)[0]))
    values = tf.concat([values, found.values], axis=1)
    rows = tf.concat([rows, found.indices + first], axis=1)
    # Of equal ones, the op takes the first: those of the blocks before stand in front.
    best = tf.math.top_k(values, tf.minimum(k, tf.shape(values)[1]))
    return best.values, tf.gather(rows, best.indices, batch_dims=1)


@contextlib.contextmanager
def _full_precision() -> Iterator[None]:
    # The temperature multiplies TensorFloat-32's rounding of similarities by 14: votes would be off by 1 %.
    kept = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(kept)

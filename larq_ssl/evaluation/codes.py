"""Binary codes of images: the signs of their features, one bit each, and exact search among them.

\\[ b_i = [x_i > c_i], \\qquad d_H(b, b') = \\sum_i b_i \\oplus b'_i, \\qquad s(b, b') = 1 - 2 d_H / D \\]

The similarity \\( s \\) is the cosine of the two codes as vectors of -1 and +1, so codes are voted with and ranked as
features are.

Where the signs are taken at (the centre \\( c \\)) is learned from training images alone. By default it is their
**mean**, as in iterative quantisation and in hashing by random hyperplanes: planes through the middle of the features,
whose angle is what Hamming distance then approximates. The **median** makes both values of every bit equally frequent
(the balance that spectral hashing asks for), but of features behind a ReLU, which are zero for more than half of the
images, it is 0. **Zero** takes the signs as they are: features behind a ReLU have only one. `None` of them changes what
the encoder learned; the loss against float features is measured by `python -m larq_ssl.experiments.codes`.

# References
    - Gong, Lazebnik: Iterative Quantization: A Procrustean Approach to Learning Binary Codes (CVPR 2011), Sec. 2.1
    - Charikar: Similarity Estimation Techniques from Rounding Algorithms (STOC 2002)
    - Weiss, Torralba, Fergus: Spectral Hashing (NIPS 2008), Sec. 2
"""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from larq_ssl.evaluation.features import Features
from larq_ssl.evaluation.neighbours import Found

CENTRES = ("mean", "median", "zero")
_QUERIES = 512
# Words of 64 bits that queries and a block of the bank are compared in at once: 32 MiB.
_WORDS = 2**22


def code_centre(features: np.ndarray, kind: str = "mean") -> np.ndarray:
    """Where the signs of features are taken at.

    # Arguments
        features: Of training images, float `[images, dim]`.
        kind: One of `CENTRES`.
    # Returns
        Float32 array `[dim]`.
    # Raises
        ValueError: If there is no such kind, or no image.
    """
    if kind not in CENTRES:
        raise ValueError(f"`kind` must be one of {', '.join(CENTRES)}, got {kind!r}.")
    if features.ndim != 2 or not len(features):
        raise ValueError(f"`features` must be [images, dim] of at least one image, got shape {features.shape}.")
    if kind == "zero":
        return np.zeros(features.shape[1], np.float32)
    centre = np.median(features, axis=0) if kind == "median" else np.mean(features, axis=0, dtype=np.float64)
    return centre.astype(np.float32)


def codes(features: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """The signs of centred features, packed: the first feature is the highest bit of the first byte.

    # Arguments
        features: Float `[images, dim]`.
        centre: Float `[dim]`, see `code_centre`.
    # Returns
        Uint8 array `[images, ceil(dim / 8)]`; bits that are left over are 0.
    # Raises
        ValueError: If the two do not fit together.
    """
    if features.ndim != 2 or centre.shape != features.shape[1:]:
        raise ValueError(
            f"`centre` must have a number for each feature in `features`, got shapes {centre.shape} and "
            f"{features.shape}."
        )
    return np.ascontiguousarray(np.packbits(features > centre, axis=1))


def coded(features: Features, centre: np.ndarray) -> Features:
    """The same images with codes in the place of their features, for searches that know them."""
    return Features(codes(features.features, centre), features.labels, features.ids)


class HammingSearch:
    """Searches among codes in the place of searches among features, for `knn` and `retrieval`.

    # Arguments
        dim: Number of bits that count; the codes have up to 7 more, which are 0.
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def nearest(self, bank: np.ndarray, queries: np.ndarray, k: int) -> Iterator[Found]:
        """As `neighbours.nearest`, of codes: similarities are \\( 1 - 2 d_H / D \\)."""
        for rows, distances, found in nearest_codes(bank, queries, k):
            yield rows, self._similarity(distances), found

    def similarities(self, queries: np.ndarray, bank: np.ndarray) -> np.ndarray:
        """Those of all pairs, float32 `[queries, images]`."""
        return self._similarity(hamming_distances(queries, bank))

    def _similarity(self, distances: np.ndarray) -> np.ndarray:
        return (1 - 2 * distances / self.dim).astype(np.float32)


def hamming_distances(queries: np.ndarray, bank: np.ndarray) -> np.ndarray:
    """In how many bits each pair of codes differs, int32 `[queries, images]`.

    # Arguments
        queries, bank: Uint8 `[.., bytes]`, see `codes`.
    # Raises
        ValueError: If they are not codes of one length.
    """
    _check(queries, bank)
    distances = np.empty((len(queries), len(bank)), np.int32)
    for rows in _slices(len(queries), _QUERIES):
        chunk = _words(queries[rows])
        for part in _blocks(bank, chunk):
            distances[rows, part] = _distances(chunk, _words(bank[part])).numpy()
    return distances


def nearest_codes(bank: np.ndarray, queries: np.ndarray, k: int) -> Iterator[Found]:
    """The k codes of a bank that differ from each query in the fewest bits, chunk by chunk of the queries.

    Every pair is compared, by exclusive or and a count of bits, block by block of the bank: beside the codes, at most
    about 100 MiB are taken, whatever the size of the bank.

    # Arguments
        bank: Uint8 `[N, bytes]`, see `codes`.
        queries: Uint8 `[M, bytes]`.
        k: Number of neighbours, at most N.
    # Returns
        Iterator of: slice of the queries, Hamming distances int32 `[n, k]` from the smallest on, rows of the bank int32
        `[n, k]`. Codes that are as near come in the order of their rows.
    # Raises
        ValueError: If `k` does not fit, or these are not codes of one length.
    """
    _check(queries, bank)
    if not 1 <= k <= len(bank):
        raise ValueError(f"`k` must be at least 1 and at most the number of codes in `bank`, {len(bank)}, got {k}.")
    for rows in _slices(len(queries), _QUERIES):
        chunk = _words(queries[rows])
        best = tf.zeros([len(chunk), 0], tf.int32), tf.zeros([len(chunk), 0], tf.int32)
        for part in _blocks(bank, chunk):
            best = _nearer(chunk, _words(bank[part]), *best, part.start, k)
        yield rows, best[0].numpy(), best[1].numpy()


_WORD_SPEC = tf.TensorSpec([None, None], tf.int64)
_FOUND_SPEC = tf.TensorSpec([None, None], tf.int32)
_NUMBER = tf.TensorSpec([], tf.int32)


@tf.function(input_signature=[_WORD_SPEC, _WORD_SPEC])
def _distances(queries: tf.Tensor, block: tf.Tensor) -> tf.Tensor:
    different = tf.bitwise.bitwise_xor(queries[:, None], block[None])
    return tf.reduce_sum(tf.cast(tf.raw_ops.PopulationCount(x=different), tf.int32), axis=-1)


@tf.function(input_signature=[_WORD_SPEC, _WORD_SPEC, _FOUND_SPEC, _FOUND_SPEC, _NUMBER, _NUMBER])
def _nearer(
    queries: tf.Tensor, block: tf.Tensor, distances: tf.Tensor, rows: tf.Tensor, first: tf.Tensor, k: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The k nearest of a block, whose first row has the number `first`, and of those found before."""
    # Of equal ones, the op takes the first: those of the blocks before stand in front.
    found = tf.math.top_k(-_distances(queries, block), tf.minimum(k, tf.shape(block)[0]))
    distances = tf.concat([distances, -found.values], axis=1)
    rows = tf.concat([rows, found.indices + first], axis=1)
    best = tf.math.top_k(-distances, tf.minimum(k, tf.shape(distances)[1]))
    return -best.values, tf.gather(rows, best.indices, batch_dims=1)


def _check(queries: np.ndarray, bank: np.ndarray) -> None:
    for array in (queries, bank):
        if array.ndim != 2 or array.dtype != np.uint8 or array.shape[1] != queries.shape[1]:
            shapes = " and ".join(f"{array.dtype} {list(array.shape)}" for array in (queries, bank))
            raise ValueError(f"`queries` and `bank` must be codes, uint8 [images, bytes] of one length, got {shapes}.")


def _words(part: np.ndarray) -> tf.Tensor:
    """Codes as words of 64 bits, filled up with zeros."""
    filled = np.pad(part, ((0, 0), (0, -part.shape[1] % 8)))
    # Columns may lie one behind the other (of features in Fortran's order): a word is eight bytes of a row.
    return tf.constant(np.ascontiguousarray(filled).view(np.int64))


def _blocks(bank: np.ndarray, queries: tf.Tensor) -> Iterator[slice]:
    return _slices(len(bank), max(1, _WORDS // (queries.shape[0] * queries.shape[1])))


def _slices(total: int, size: int) -> Iterator[slice]:
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))

"""Places of labels among scores, equal ones and those that are no numbers included."""

import numpy as np
import tensorflow as tf

from larq_ssl.evaluation.accuracy import label_ranks

NAN = float("nan")


def ranks(scores, labels):
    return label_ranks(tf.constant(scores, tf.float32), tf.constant(labels)).numpy().tolist()


def test_the_place_of_a_label_is_that_of_a_stable_sort():
    random = np.random.default_rng(0)
    scores, labels = random.integers(0, 3, (50, 6)).astype(np.float32), random.integers(0, 6, 50)
    order = np.argsort(-scores, axis=1, kind="stable")
    assert ranks(scores, labels) == [list(row).index(label) for row, label in zip(order, labels, strict=True)]
    assert [rank == 0 for rank in ranks(scores, labels)] == (scores.argmax(axis=1) == labels).tolist()


def test_what_is_no_number_is_never_right():
    assert ranks([[NAN, NAN, NAN]] * 3, [0, 1, 2]) == [2, 2, 2]
    assert ranks([[NAN, 1, 2], [0, NAN, 2], [0, 1, 2]], [0, 2, 2]) == [2, 1, 0]
    assert ranks([[float("inf"), 1, float("inf")]] * 2, [0, 2]) == [0, 1]

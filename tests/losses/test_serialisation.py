"""Every loss is rebuilt from its configuration, and works in a graph with an unknown batch."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import losses

LOSSES = [
    losses.JointClassifierKL(0.3, name="kl"),
    losses.FeatureSimilarity("l1", reduction=tf.keras.losses.Reduction.SUM),
    losses.InfoNCE(0.1),
    losses.DistillationCrossEntropy(0.1),
]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_round_trip(loss):
    again = tf.keras.losses.deserialize(tf.keras.losses.serialize(loss))
    assert type(again) is type(loss)
    assert again.get_config() == loss.get_config()
    rows = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    truth = (rows[0], rows[2]) if isinstance(loss, losses.InfoNCE) else rows[0]
    assert again(truth, rows[1]) == loss(truth, rows[1])


@pytest.mark.parametrize(
    "function",
    [
        losses.joint_classifier_kl,
        losses.feature_similarity,
        losses.distillation_cross_entropy,
        lambda first, second: losses.info_nce(first, second, second),
    ],
    ids=["joint_classifier_kl", "feature_similarity", "distillation", "info_nce"],
)
def test_in_a_graph_with_unknown_shapes(function):
    rows = np.random.default_rng(0).normal(size=(2, 4, 5)).astype(np.float32)
    graph = tf.function(function, input_signature=[tf.TensorSpec(None)] * 2)
    np.testing.assert_allclose(graph(*rows), function(*rows), rtol=1e-5, atol=1e-6)

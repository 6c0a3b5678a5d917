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
    losses.DINOCrossEntropy(2, 3, 0.4, teacher_temperature=0.07, student_temperature=0.2),
    losses.SwAVCrossEntropy(2, 0, 0.4, 0.1, 2, 0.2),
    losses.NTXent(0.3),
    losses.BYOLLoss(name="byol"),
    losses.CentroidLoss(2, "all"),
    losses.BrownianLoss(2),
    losses.SingularValueLoss(2, "cov", "view"),
    losses.Alignment(1.5),
    losses.Uniformity(3.0),
    losses.LabelCrossEntropy(0.1),
    losses.SigmoidCrossEntropy(name="sigmoid"),
    losses.KnowledgeDistillation(0.5, 0.3),
]
ROWS = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)


def truth_and_prediction(loss):
    """What a loss takes: a pair of tensors as truth where it needs a queue, a centre or labels."""
    labels = np.array([1, -1, 4, 0])
    if isinstance(loss, losses.LabelCrossEntropy):
        return labels, ROWS[1]
    if isinstance(loss, losses.KnowledgeDistillation):
        return (ROWS[0], labels), ROWS[1]
    if isinstance(loss, losses.InfoNCE):
        return (ROWS[0], ROWS[2]), ROWS[1]
    if isinstance(loss, losses.DINOCrossEntropy):
        return (ROWS[0], ROWS[2, 0]), np.tile(ROWS[1], [3, 1])[:10]
    if isinstance(loss, losses.SingularValueLoss):
        return ROWS[0], ROWS[1, :, :3]
    return ROWS[0], ROWS[1]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_round_trip(loss):
    again = tf.keras.losses.deserialize(tf.keras.losses.serialize(loss))
    assert type(again) is type(loss)
    assert again.get_config() == loss.get_config()
    truth, prediction = truth_and_prediction(loss)
    assert again(truth, prediction) == loss(truth, prediction)


@pytest.mark.parametrize(
    "function",
    [
        losses.joint_classifier_kl,
        losses.feature_similarity,
        losses.distillation_cross_entropy,
        lambda first, second: losses.info_nce(first, second, second),
        lambda first, second: losses.dino_cross_entropy(first, second, second[0], losses.pair_weights(2, 0)),
        lambda first, second: losses.swav_cross_entropy(first, second, losses.pair_weights(2, 0)),
        losses.nt_xent,
        losses.byol_loss,
        lambda first, second: losses.centroid_loss(first, second, 2),
        lambda first, second: losses.centroid_loss(first, second, 2, "centroid_to_centroid"),
        lambda first, second: losses.brownian_loss(first[:2], second, 2),
        lambda first, second: losses.singular_value_loss(losses.embedding_rows(second, 1)[:, :3]) + first[0, 0],
        losses.alignment,
        losses.mean_uniformity,
        losses.knowledge_distillation,
        lambda first, second: losses.label_cross_entropy(tf.argmax(first, axis=-1), second, 0.1),
        losses.sigmoid_cross_entropy,
    ],
    ids=[
        *("joint_classifier_kl", "feature_similarity", "distillation", "info_nce", "dino", "swav", "nt_xent"),
        *("byol", "centroid", "centroid_to_centroid", "brownian", "singular_values", "alignment", "uniformity"),
        *("knowledge_distillation", "label_cross_entropy", "sigmoid_cross_entropy"),
    ],
)
def test_in_a_graph_with_unknown_shapes(function):
    graph = tf.function(function, input_signature=[tf.TensorSpec(None)] * 2)
    np.testing.assert_allclose(graph(*ROWS[:2]), function(*ROWS[:2]), rtol=1e-5, atol=1e-6)

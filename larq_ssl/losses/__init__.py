"""Loss functions: pure functions that return one number per example, each with a thin Keras `Loss`."""

from larq_ssl.losses.feature_similarity import FeatureSimilarity, feature_similarity
from larq_ssl.losses.info_nce import InfoNCE, info_nce, info_nce_logits
from larq_ssl.losses.joint_classifier import JointClassifierKL, joint_classifier_kl
from larq_ssl.losses.unit_rows import unit_rows

__all__ = [
    "FeatureSimilarity",
    "InfoNCE",
    "JointClassifierKL",
    "feature_similarity",
    "info_nce",
    "info_nce_logits",
    "joint_classifier_kl",
    "unit_rows",
]

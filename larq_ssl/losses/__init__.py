"""Loss functions: pure functions that return one number per example, each with a thin Keras `Loss`."""

from larq_ssl.losses.dino import DINOCrossEntropy, dino_cross_entropy, dino_targets
from larq_ssl.losses.distillation import DistillationCrossEntropy, distillation_cross_entropy
from larq_ssl.losses.feature_similarity import FeatureSimilarity, feature_similarity
from larq_ssl.losses.info_nce import InfoNCE, info_nce, info_nce_logits, info_nce_of_logits
from larq_ssl.losses.joint_classifier import JointClassifierKL, joint_classifier_kl
from larq_ssl.losses.nt_xent import NTXent, between_views, nt_xent, nt_xent_logits, nt_xent_of_logits
from larq_ssl.losses.swav import SwAVCrossEntropy, sinkhorn, swav_cross_entropy, swav_targets
from larq_ssl.losses.unit_rows import unit_rows
from larq_ssl.losses.view_pairs import pair_weights, query_weights, view_pair_cross_entropy

__all__ = [
    "DINOCrossEntropy",
    "DistillationCrossEntropy",
    "FeatureSimilarity",
    "InfoNCE",
    "JointClassifierKL",
    "NTXent",
    "SwAVCrossEntropy",
    "between_views",
    "dino_cross_entropy",
    "dino_targets",
    "distillation_cross_entropy",
    "feature_similarity",
    "info_nce",
    "info_nce_logits",
    "info_nce_of_logits",
    "joint_classifier_kl",
    "nt_xent",
    "nt_xent_logits",
    "nt_xent_of_logits",
    "pair_weights",
    "query_weights",
    "sinkhorn",
    "swav_cross_entropy",
    "swav_targets",
    "unit_rows",
    "view_pair_cross_entropy",
]

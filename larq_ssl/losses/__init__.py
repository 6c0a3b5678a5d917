"""Loss functions: pure functions, one number per example (or for all that see each other), with a thin Keras `Loss`."""

from larq_ssl.losses.alignment_uniformity import Alignment, Uniformity, alignment, mean_uniformity, uniformity
from larq_ssl.losses.byol import BYOLLoss, byol_loss
from larq_ssl.losses.dino import DINOCrossEntropy, dino_cross_entropy, dino_targets
from larq_ssl.losses.distillation import DistillationCrossEntropy, distillation_cross_entropy
from larq_ssl.losses.feature_similarity import FeatureSimilarity, feature_similarity
from larq_ssl.losses.info_nce import InfoNCE, info_nce, info_nce_logits, info_nce_of_logits
from larq_ssl.losses.joint_classifier import JointClassifierKL, joint_classifier_kl
from larq_ssl.losses.knowledge_distillation import KnowledgeDistillation, knowledge_distillation
from larq_ssl.losses.label_cross_entropy import LabelCrossEntropy, label_cross_entropy
from larq_ssl.losses.msbreg import BrownianLoss, CentroidLoss, brownian_loss, centroid_loss
from larq_ssl.losses.nt_xent import NTXent, between_views, nt_xent, nt_xent_logits, nt_xent_of_logits
from larq_ssl.losses.sigmoid_cross_entropy import SigmoidCrossEntropy, sigmoid_cross_entropy
from larq_ssl.losses.singular_values import SingularValueLoss, embedding_rows, singular_value_loss
from larq_ssl.losses.swav import SwAVCrossEntropy, sinkhorn, swav_cross_entropy, swav_targets
from larq_ssl.losses.unit_rows import unit_rows
from larq_ssl.losses.view_pairs import pair_weights, query_weights, view_pair_cross_entropy

__all__ = [
    "Alignment",
    "BYOLLoss",
    "BrownianLoss",
    "CentroidLoss",
    "DINOCrossEntropy",
    "DistillationCrossEntropy",
    "FeatureSimilarity",
    "InfoNCE",
    "JointClassifierKL",
    "KnowledgeDistillation",
    "LabelCrossEntropy",
    "NTXent",
    "SigmoidCrossEntropy",
    "SingularValueLoss",
    "SwAVCrossEntropy",
    "Uniformity",
    "alignment",
    "between_views",
    "brownian_loss",
    "byol_loss",
    "centroid_loss",
    "dino_cross_entropy",
    "dino_targets",
    "distillation_cross_entropy",
    "embedding_rows",
    "feature_similarity",
    "info_nce",
    "info_nce_logits",
    "info_nce_of_logits",
    "joint_classifier_kl",
    "knowledge_distillation",
    "label_cross_entropy",
    "mean_uniformity",
    "nt_xent",
    "nt_xent_logits",
    "nt_xent_of_logits",
    "pair_weights",
    "query_weights",
    "sigmoid_cross_entropy",
    "singular_value_loss",
    "sinkhorn",
    "swav_cross_entropy",
    "swav_targets",
    "uniformity",
    "unit_rows",
    "view_pair_cross_entropy",
]

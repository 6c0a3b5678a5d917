"""Methods of self-supervised learning, one per file: Keras models that are trained with `fit`."""

from larq_ssl.methods.base import SelfSupervisedModel
from larq_ssl.methods.bssl import BSSL
from larq_ssl.methods.moco import MoCo

__all__ = ["BSSL", "MoCo", "SelfSupervisedModel"]

"""Methods of self-supervised learning, one per file: Keras models that are trained with `fit`."""

from larq_ssl.methods.base import SelfSupervisedModel
from larq_ssl.methods.bssl import BSSL
from larq_ssl.methods.byol import BYOL
from larq_ssl.methods.dino import DINO
from larq_ssl.methods.distill import Distill
from larq_ssl.methods.infomin import InfoMin
from larq_ssl.methods.moco import MoCo
from larq_ssl.methods.moco_star import MoCoStar
from larq_ssl.methods.msbreg import MSBReg
from larq_ssl.methods.multi_label import MultiLabel
from larq_ssl.methods.s2bnn import S2BNN
from larq_ssl.methods.simclr import SimCLR
from larq_ssl.methods.supervised import Supervised
from larq_ssl.methods.swav import SwAV

__all__ = [
    "BSSL",
    "BYOL",
    "DINO",
    "S2BNN",
    "Distill",
    "InfoMin",
    "MSBReg",
    "MoCo",
    "MoCoStar",
    "MultiLabel",
    "SelfSupervisedModel",
    "SimCLR",
    "Supervised",
    "SwAV",
]

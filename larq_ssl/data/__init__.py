"""Where images come from, and the views of them that a method trains on."""

from larq_ssl.data.datasets import ImageDataset, load_dataset
from larq_ssl.data.label_subsets import LabelSubset, balanced_labels
from larq_ssl.data.pipeline import image_batches, steps_per_epoch, view_batches
from larq_ssl.data.views import POLICIES, View, ViewPolicy, policy

__all__ = [
    "POLICIES",
    "ImageDataset",
    "LabelSubset",
    "View",
    "ViewPolicy",
    "balanced_labels",
    "image_batches",
    "load_dataset",
    "policy",
    "steps_per_epoch",
    "view_batches",
]

"""Detection and instance segmentation on any encoder, by the detectors of the TensorFlow Model Garden.

Its models, anchors, target assignment, losses, samplers and non-maximum suppression are used as they are; here are the
backbone, the data, the training step, what is measured, and the pictures. Everything but building and training a
detector works without the extra `detection`.
"""

from larq_ssl.evaluation.detection.backbone import LEVELS, DetectionBackbone

__all__ = ["LEVELS", "DetectionBackbone"]

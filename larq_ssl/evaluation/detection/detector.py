"""A detector of the Model Garden on one of our encoders, trained as all methods here are.

The training step is that of `SelfSupervisedModel`: a loss or gradient that is not finite stops the run before the
update, gradients are watched and clipped, and optimizers see the role of each variable.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from larq_ssl.evaluation.detection.backbone import DetectionBackbone
from larq_ssl.evaluation.detection.extra import tf_models
from larq_ssl.evaluation.detection.settings import DetectorSettings, task_config
from larq_ssl.methods.base import Batch, SelfSupervisedModel
from larq_ssl.models import Encoder
from larq_ssl.roles import Role, variable_roles

_TERMS = {
    "faster_rcnn": ("loss", "rpn_score_loss", "rpn_box_loss", "frcnn_cls_loss", "frcnn_box_loss"),
    "mask_rcnn": ("loss", "rpn_score_loss", "rpn_box_loss", "frcnn_cls_loss", "frcnn_box_loss", "mask_loss"),
    "retinanet": ("loss", "cls_loss", "box_loss"),
}


class Detector(SelfSupervisedModel):
    """Faster R-CNN, Mask R-CNN or RetinaNet.

    # Arguments
        encoder: The backbone's weights and shape; it is trained in place, its layers being shared.
        settings: What is built on it.
        freeze_stages, batch_norm: See `DetectionBackbone`.
        gradient_clip: Largest L2 norm of all gradients together, or `None`.
    # Attributes
        backbone: The encoder as the detector sees it.
        encoder: What was given.
        settings: What was given.
    # Raises
        ValueError: If the encoder cannot be a backbone, or the extra `detection` is not installed.
    """

    def __init__(
        self,
        encoder: Encoder,
        settings: DetectorSettings,
        freeze_stages: int = 0,
        batch_norm: str = "train",
        gradient_clip: float | None = None,
    ):
        backbone = DetectionBackbone(encoder, settings.min_level, freeze_stages, batch_norm)
        config = task_config(settings)
        garden = _built(backbone, settings, config)
        super().__init__({"detector": garden}, ("detector",), gradient_clip=gradient_clip, name=settings.task)
        self.term_names = _TERMS[settings.task]
        self.encoder, self.settings, self.backbone = encoder, settings, backbone
        self._config = config
        module = "maskrcnn" if settings.has_regions else "retinanet"
        names = {"maskrcnn": "MaskRCNNTask", "retinanet": "RetinaNetTask"}
        self._task = getattr(tf_models(f"vision.tasks.{module}"), names[module])(config)

    @property
    def encoders(self) -> dict[str, tf.keras.Model]:
        return {"student": self.encoder}

    def _optimized_roles(self) -> list[tuple[tf.Variable, Role]]:
        frozen = {id(variable) for variable in self.backbone.frozen_variables}
        return [pair for pair in variable_roles(self.networks["detector"]) if id(pair[0]) not in frozen]

    def _gradient_norms(self, squares: tf.Tensor) -> dict[str, tf.Tensor]:
        return {}  # of no groups

    def variables_without_gradient(self) -> list[str]:
        """Names of optimised variables of the backbone whose gradient was exactly zero in the first three steps.

        Not of heads: those of a level rightly get none while no object is of its size.
        """
        trained = {id(variable) for variable in self.backbone.trained_variables}
        seen = zip(self.optimized_variables, self.gradient_seen.numpy(), strict=True)
        return [variable.name for variable, largest in seen if largest == 0 and id(variable) in trained]

    def loss_terms(self, batch: Batch) -> dict[str, tf.Tensor]:
        """The losses of the Model Garden, by its names; `loss` is their sum."""
        labels = batch["labels"]
        if self.settings.has_regions:
            masks = {"gt_masks": labels["gt_masks"]} if self.settings.has_masks else {}
            outputs = self.networks["detector"](
                batch["image"],
                image_shape=labels["image_info"][:, 1, :],
                anchor_boxes=labels["anchor_boxes"],
                gt_boxes=labels["gt_boxes"],
                gt_classes=labels["gt_classes"],
                **masks,
                training=True,
            )
        else:
            outputs = self.networks["detector"](batch["image"], training=True)
        outputs = tf.nest.map_structure(lambda value: tf.cast(value, tf.float32), outputs)
        losses = self._named_losses(outputs, labels)
        return {name: losses[name] for name in self.term_names}

    def _named_losses(self, outputs: Mapping[str, Any], labels: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        found = self._task.build_losses(outputs=outputs, labels=labels)
        if self.settings.has_regions:
            return {**found, "loss": found["total_loss"]}
        return dict(zip(("loss", "cls_loss", "box_loss"), found[:3], strict=True))

    @tf.function(reduce_retracing=True)
    def detect(self, batch: Batch) -> dict[str, tf.Tensor]:
        """Detections of a batch of `test_batches`, in inference mode.

        # Returns
            `boxes` float32 `[b, detections, 4]` in pixels of the scaled image, `scores` `[b, detections]`, best first,
            `classes` int32 `[b, detections]` from 1 on, `count` int32 `[b]`, how many of them there are, and, of Mask
            R-CNN, `masks` float32 `[b, detections, m, m]` in 0..1 within each box.
        """
        labels = batch["labels"]
        found = self.networks["detector"](
            batch["image"],
            image_shape=labels["image_info"][:, 1, :],
            anchor_boxes=labels["anchor_boxes"],
            training=False,
        )
        names = {"boxes": "boxes", "scores": "scores", "classes": "classes", "masks": "masks"}
        detections = {name: found[f"detection_{key}"] for name, key in names.items() if f"detection_{key}" in found}
        return {**detections, "count": found["num_detections"]}


def _built(backbone: DetectionBackbone, settings: DetectorSettings, config: Any) -> tf.keras.Model:
    """The network with all its variables, which Keras would make in the first step only."""
    factory = tf_models("vision.modeling.factory")
    build = factory.build_maskrcnn if settings.has_regions else factory.build_retinanet
    specs = tf.keras.layers.InputSpec(shape=[None, *settings.padded, 3])
    network = build(input_specs=specs, model_config=config.model, backbone=backbone)
    generator = tf_models("vision.ops.anchor").build_anchor_generator(
        min_level=settings.min_level,
        max_level=settings.max_level,
        num_scales=settings.anchor_scales,
        aspect_ratios=config.model.anchor.aspect_ratios,
        anchor_size=settings.anchor_size,
    )
    anchors = {level: boxes[None] for level, boxes in generator(image_size=settings.padded).items()}
    network(
        tf.zeros([1, *settings.padded, 3]),
        image_shape=tf.constant(np.array([settings.padded], np.float32)),
        anchor_boxes=anchors,
        training=False,
    )
    return network

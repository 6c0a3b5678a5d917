"""What is built of a detector, and the Model Garden's configuration of it.

Differences from Detectron2, which the papers use: feature pyramid, region proposal network and heads have
BatchNormalization behind their layers (SSLight's have none); the coarsest level of the pyramid is a convolution of
stride 2, not a max-pooling; images are scaled into one fixed size and cropped, instead of to a random shorter side;
there is no C4 head.
"""

import dataclasses
from typing import Any

from larq_ssl.evaluation.detection.extra import tf_models

TASKS = ("faster_rcnn", "mask_rcnn", "retinanet")
MOST_OBJECTS = 100
"""Objects of an image that a detector is trained on, at most."""

# The defaults of the Model Garden are for runs of tens of thousands of steps; these are those of our encoders.
_NORM = {"norm_momentum": 0.9, "norm_epsilon": 1e-5}


@dataclasses.dataclass(frozen=True)
class DetectorSettings:
    """The shape of a detector; defaults are those of the papers' Faster R-CNN with a feature pyramid.

    # Arguments
        task: One of `TASKS`.
        classes: Number of classes, without the background.
        height, width: Of what images are scaled into, in pixels; padded to a multiple of `2^max_level`.
        min_level, max_level: Of the feature pyramid; RetinaNet is published with 3 to 7.
        anchor_size: Side of the anchors in strides of their level.
        anchor_scales: Sizes of anchors per level, from one power of two up to the next; RetinaNet is published with 3.
        filters: Channels of pyramid and heads.
        head_convs: Convolutions of the box head (of RetinaNet, of both heads, published as 4).
        head_dense: Dense layers of the box head.
        head_units: Of each of them.
        proposals: Regions that are proposed per image; before non-maximum suppression, twice as many per level.
        samples: Regions per image that the box head is trained on, at most.
        anchor_samples: Anchors per image that the region proposal network is trained on, at most.
        score_threshold: Detections of lower scores are left out.
        detections: Per image, at most.
        synchronized: Whether BatchNormalization of pyramid and heads takes its statistics over all replicas.
    # Raises
        ValueError: If a value is out of its range.
    """

    task: str
    classes: int
    height: int
    width: int
    min_level: int = 2
    max_level: int = 6
    anchor_size: float = 8.0
    anchor_scales: int = 1
    filters: int = 256
    head_convs: int = 0
    head_dense: int = 2
    head_units: int = 1024
    proposals: int = 1000
    samples: int = 512
    anchor_samples: int = 256
    score_threshold: float = 0.05
    detections: int = 100
    synchronized: bool = False

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ValueError(f"task must be one of {list(TASKS)}, got {self.task!r}.")
        if not 2 <= self.min_level <= 5:
            raise ValueError(f"min_level must be 2 to 5, the levels of an encoder, got {self.min_level}.")
        if not max(self.min_level + 1, 5) <= self.max_level <= 7:
            raise ValueError(
                f"max_level must be above min_level={self.min_level}, at least 5, the last level of an encoder, and at "
                f"most 7, got {self.max_level}."
            )
        if self.task == "retinanet" and self.head_convs < 1:
            raise ValueError(
                f"head_convs must be at least 1 for retinanet, which is published with 4, got {self.head_convs}."
            )
        stride = 2**self.max_level
        if min(self.height, self.width) < stride:
            raise ValueError(
                f"The coarsest level has a stride of {stride} pixels, and images of {self.height} x {self.width} are "
                "smaller: lower max_level, or enlarge them."
            )
        if self.has_regions and self.samples > self.proposals + MOST_OBJECTS:
            raise ValueError(
                f"samples must be at most proposals + {MOST_OBJECTS} = {self.proposals + MOST_OBJECTS}, what they are "
                f"drawn from, got {self.samples}."
            )

    @property
    def has_masks(self) -> bool:
        return self.task == "mask_rcnn"

    @property
    def has_regions(self) -> bool:
        """Whether regions are proposed first."""
        return self.task != "retinanet"

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width of the batches."""
        stride = 2**self.max_level
        return -(-self.height // stride) * stride, -(-self.width // stride) * stride


def task_config(settings: DetectorSettings) -> Any:
    """The configuration of a task of the Model Garden."""
    return _regions(settings) if settings.has_regions else _retinanet(settings)


def _shared(settings: DetectorSettings, module: Any) -> dict[str, Any]:
    decoders, common = tf_models("vision.configs.decoders"), tf_models("vision.configs.common")
    return {
        "num_classes": settings.classes + 1,
        "input_size": [*settings.padded, 3],
        "min_level": settings.min_level,
        "max_level": settings.max_level,
        "anchor": module.Anchor(num_scales=settings.anchor_scales, anchor_size=settings.anchor_size),
        "decoder": decoders.Decoder(type="fpn", fpn=decoders.FPN(num_filters=settings.filters)),
        "norm_activation": common.NormActivation(**_NORM, use_sync_bn=settings.synchronized),
        "detection_generator": module.DetectionGenerator(
            pre_nms_score_threshold=settings.score_threshold, max_num_detections=settings.detections
        ),
    }


def _regions(settings: DetectorSettings) -> Any:
    module = tf_models("vision.configs.maskrcnn")
    model = module.MaskRCNN(
        **_shared(settings, module),
        include_mask=settings.has_masks,
        rpn_head=module.RPNHead(num_filters=settings.filters),
        detection_head=module.DetectionHead(
            num_convs=settings.head_convs,
            num_filters=settings.filters,
            num_fcs=settings.head_dense,
            fc_dims=settings.head_units,
        ),
        roi_generator=module.ROIGenerator(
            pre_nms_top_k=2 * settings.proposals,
            num_proposals=settings.proposals,
            test_pre_nms_top_k=settings.proposals,
            test_num_proposals=settings.proposals,
        ),
        roi_sampler=module.ROISampler(num_sampled_rois=settings.samples),
        mask_head=module.MaskHead(num_filters=settings.filters) if settings.has_masks else None,
        mask_sampler=module.MaskSampler(num_sampled_masks=settings.samples // 4) if settings.has_masks else None,
        mask_roi_aligner=module.MaskROIAligner() if settings.has_masks else None,
    )
    return module.MaskRCNNTask(model=model)


def _retinanet(settings: DetectorSettings) -> Any:
    module = tf_models("vision.configs.retinanet")
    head = module.RetinaNetHead(num_convs=settings.head_convs, num_filters=settings.filters)
    return module.RetinaNetTask(model=module.RetinaNet(**_shared(settings, module), head=head))

"""Batches of a detector: images in an order of their own per epoch, put together by the Model Garden's parsers.

Which images batch number `s` holds is a function of the images, the batch size, the seed and `s`. How they are flipped,
scaled and cropped, and which anchors are sampled, is drawn in the parsers by TensorFlow's own generator, which begins
anew with each process: a run that was stopped and goes on sees the same images, in other crops.
"""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from larq_ssl.data import rng
from larq_ssl.evaluation.detection.extra import tf_models
from larq_ssl.evaluation.detection.settings import MOST_OBJECTS, DetectorSettings
from larq_ssl.evaluation.detection.truth import DetectionImages

Batch = dict[str, Any]

# What the parsers read, and of which types.
_FIELDS = {
    "image": (tf.uint8, [None, None, 3]),
    "groundtruth_boxes": (tf.float32, [None, 4]),
    "groundtruth_classes": (tf.int64, [None]),
    "groundtruth_is_crowd": (tf.bool, [None]),
    "groundtruth_area": (tf.float32, [None]),
    "groundtruth_instance_masks": (tf.float32, [None, None, None]),
}


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What happens to images in training.

    # Arguments
        flip: Whether half of them are flipped left to right.
        vertical_flip: Whether half of them are flipped upside down; not by RetinaNet.
        scale_min, scale_max: Range of the factor by which they are scaled, before they are cropped or padded.
    # Raises
        ValueError: If the range is empty.
    """

    flip: bool = True
    vertical_flip: bool = False
    scale_min: float = 1.0
    scale_max: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.scale_min <= self.scale_max:
            raise ValueError(
                f"scale_min must be above 0 and at most scale_max, got {self.scale_min}, {self.scale_max}."
            )


def training_batches(
    images: DetectionImages,
    settings: DetectorSettings,
    augmentation: Augmentation,
    batch_size: int,
    seed: int,
    start_step: int = 0,
) -> tf.data.Dataset:
    """Batches without end, from number `start_step` on.

    An epoch is `size // batch_size` batches; in it every image appears at most once.

    # Returns
        Dicts of `image` float32 `[b, H, W, 3]`, normalised, `id` int64 `[b]`, and `labels`, what the losses of the
        Model Garden ask for.
    # Raises
        ValueError: If there are fewer images than a batch has.
    """
    if not 1 <= batch_size <= images.size:
        raise ValueError(f"batch_size is {batch_size}: it must lie in [1, {images.size}], the number of images")
    steps = images.size // batch_size
    parse = _parser(settings, augmentation, settings.task).parse_fn(True)

    def example(position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, Any]:
        step = position // batch_size
        place = step % steps * batch_size + position % batch_size
        index = rng.shuffled(place[None], seed, (step // steps)[None], images.size)[0]
        return index, *parse(_read(images, index, settings.has_masks))

    positions = tf.data.Dataset.range(start_step * batch_size, 2**62)
    return _batched(positions.map(example, num_parallel_calls=tf.data.AUTOTUNE), batch_size, True)


def test_batches(images: DetectionImages, settings: DetectorSettings, batch_size: int) -> tf.data.Dataset:
    """All images once, in their order, as a detector is tested on them; the last batch may be smaller."""
    # What is true is taken from the images themselves, and not from here: all tasks can do with one parser.
    parse = _parser(settings, Augmentation(flip=False), "faster_rcnn").parse_fn(False)

    def example(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, Any]:
        fields = _read(images, index, False)
        shape = tf.shape(fields["image"])
        image, labels = parse(
            {**fields, "source_id": tf.strings.as_string(index), "height": shape[0], "width": shape[1]}
        )
        return index, image, {name: labels[name] for name in ("image_info", "anchor_boxes")}

    indices = tf.data.Dataset.range(images.size)
    return _batched(indices.map(example, num_parallel_calls=tf.data.AUTOTUNE), batch_size, False)


test_batches.__test__ = False  # type: ignore[attr-defined]  # no test of pytest's


def _batched(examples: tf.data.Dataset, batch_size: int, whole: bool) -> tf.data.Dataset:
    def named(index: tf.Tensor, image: tf.Tensor, labels: Any) -> Batch:
        return {"id": index, "image": image, "labels": labels}

    return examples.batch(batch_size, drop_remainder=whole).map(named).prefetch(2)


def _read(images: DetectionImages, index: tf.Tensor, masks: bool) -> Batch:
    """An image and what is in it, as a decoder of the Model Garden gives it."""

    def numpy_read(index: np.int64) -> list[np.ndarray]:
        truth, pixels = images.truths[index], images.pixels(int(index))
        sides = np.array([truth.height, truth.width] * 2, np.float32)
        outlines = truth.masks().astype(np.float32) if masks else np.zeros([0, 1, 1], np.float32)
        return [pixels, truth.boxes / sides, truth.classes, truth.crowd, truth.areas, outlines]

    found = tf.numpy_function(numpy_read, [index], [kind for kind, _ in _FIELDS.values()])
    return {
        name: tf.ensure_shape(value, shape)
        for (name, (_, shape)), value in zip(_FIELDS.items(), found, strict=True)
        if masks or name != "groundtruth_instance_masks"
    }


def _parser(settings: DetectorSettings, augmentation: Augmentation, task: str) -> Any:
    shared = {
        "output_size": [settings.height, settings.width],
        "min_level": settings.min_level,
        "max_level": settings.max_level,
        "num_scales": settings.anchor_scales,
        "aspect_ratios": [0.5, 1.0, 2.0],
        "anchor_size": settings.anchor_size,
        "aug_rand_hflip": augmentation.flip,
        "aug_scale_min": augmentation.scale_min,
        "aug_scale_max": augmentation.scale_max,
        "max_num_instances": MOST_OBJECTS,
    }
    if task == "retinanet":
        if augmentation.vertical_flip:
            raise ValueError("vertical_flip must be False for RetinaNet, whose parser has no such flip.")
        return tf_models("vision.dataloaders.retinanet_input").Parser(**shared)
    return tf_models("vision.dataloaders.maskrcnn_input").Parser(
        **shared,
        rpn_batch_size_per_im=settings.anchor_samples,
        aug_rand_vflip=augmentation.vertical_flip,
        include_mask=task == "mask_rcnn",
    )

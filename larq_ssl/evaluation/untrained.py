"""The baselines of every table: a network that has learned nothing, and no network at all."""

import dataclasses

import numpy as np
import tensorflow as tf

from larq_ssl.data import pipeline
from larq_ssl.data.datasets import ImageDataset
from larq_ssl.evaluation.calibrate import calibrate_batch_norm
from larq_ssl.models import Encoder, build
from larq_ssl.models.encoder import Architecture, EncoderSpec, LayerStore

_IMAGES = 4096


def untrained(like: Encoder, train: ImageDataset, image_size: int, seed: int) -> Encoder:
    """A network of the same kind with random weights, its BatchNorm (if any) calibrated on training images.

    Uncalibrated it would be a straw man: hardly anything passes through a binary network whose BatchNorm does not know
    its inputs.

    # Arguments
        like: The trained network; only its spec is read.
        train: Images to calibrate on, of which up to 4,096 are drawn: a folder comes sorted by class, and a batch of
            one class would normalise the differences between classes away.
        image_size: Side of the images in pixels.
        seed: Of the weights. Keras's global generator is seeded with it.
    # Returns
        A new `Encoder`.
    """
    tf.keras.utils.set_random_seed(seed)
    encoder = build(**{**dataclasses.asdict(like.spec), "image_size": None})
    if not any(isinstance(layer, tf.keras.layers.BatchNormalization) for layer in encoder.submodules):
        return encoder  # a vision transformer, which normalises every image by itself
    order = np.random.default_rng(0).permutation(train.size)[:_IMAGES]
    return calibrate_batch_norm(encoder, pipeline.image_batches(train.subset(order, "mixed"), image_size, 256))


def raw_pixels(image_size: int) -> Encoder:
    """The pixels themselves, in 0..1 and flattened: the row of a table that every encoder should beat.

    # Arguments
        image_size: Side of the images in pixels.
    # Returns
        An `Encoder` without weights, with `3 image_size^2` features.
    """
    spec = EncoderSpec("raw_pixels", image_size, binarization="none", preprocessing="unit")
    return Encoder(Architecture(_flat, binarizations=("none",), adjustable=False, maps=False), spec)


def _flat(images: tf.Tensor, spec: EncoderSpec, layers: LayerStore) -> dict[str, tf.Tensor]:
    return {"pixels": layers(tf.keras.layers.Flatten, "flatten", dtype="float32")(images)}

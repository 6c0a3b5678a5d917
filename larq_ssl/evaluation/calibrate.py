"""BatchNormalization statistics of a data set, put in place without training."""

from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf

Layers = list[tf.keras.layers.BatchNormalization]
Batches = Iterable[Mapping[str, tf.Tensor] | tf.Tensor]


def calibrate_batch_norm(encoder: tf.keras.Model, batches: Batches) -> tf.keras.Model:
    """Set every BatchNormalization's moving statistics to those of the given images.

    The images run through the encoder in training mode, so that each layer sees what it would see in
    training: inputs normalised by the layers before it with the statistics of the batch. Over the batches,
    weighted by their size, each layer's statistics are

    \\[ \\mu = \\sum_b w_b \\mu_b, \\quad \\sigma^2 = \\sum_b w_b (\\sigma_b^2 + \\mu_b^2) - \\mu^2 \\]

    Nothing else of the encoder changes, and equal batches give equal statistics. A network whose moving
    statistics are still those of its creation passes hardly anything on, most of all a binary one: as a
    baseline of random weights it would be a straw man.

    # Arguments
        encoder: The network, trainable or not.
        batches: Image batches, or dicts with the key `image`. They must be mixed: the images of a folder
            come sorted by class, and within a batch of one class the differences between classes are
            normalised away. (`image_batches` of `dataset.subset(permutation, "mixed")` does it.)
    # Returns
        The encoder.
    # Raises
        ValueError: If there is no batch, no BatchNormalization, or a layer that is random in training mode.
    # References
        - Wu and Johnson, Rethinking "Batch" in BatchNorm ("precise BatchNorm")
    """
    layers = [layer for layer in encoder.submodules if isinstance(layer, tf.keras.layers.BatchNormalization)]
    _check(encoder, layers)
    others = _other_state(encoder, layers)
    kept = [(layer.momentum, layer.trainable) for layer in layers]
    saved = [variable.numpy() for variable in others]
    try:
        for layer in layers:
            # Without momentum a pass leaves the batch's own statistics; not trainable means inference mode to
            # Keras.
            layer.momentum, layer.trainable = 0.0, True
        means, variances = _average(encoder, layers, batches)
    finally:
        for layer, (momentum, trainable) in zip(layers, kept, strict=True):
            layer.momentum, layer.trainable = momentum, trainable
        for variable, value in zip(others, saved, strict=True):
            variable.assign(value)
    for layer, mean, variance in zip(layers, means, variances, strict=True):
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(variance)
    return encoder


def _average(encoder: tf.keras.Model, layers: Layers, batches: Batches) -> tuple[list[np.ndarray], list[np.ndarray]]:
    def statistics(images: tf.Tensor) -> list[tuple[tf.Tensor, tf.Tensor]]:
        for layer in layers:
            # Old values would leave their rounding (or their NaN) behind.
            layer.moving_mean.assign(tf.zeros_like(layer.moving_mean))
            layer.moving_variance.assign(tf.zeros_like(layer.moving_variance))
        encoder(images, training=True)
        return [(tf.identity(layer.moving_mean), tf.identity(layer.moving_variance)) for layer in layers]

    # A graph of its own: one that was traced before has the layers' old momentum in it.
    graph = None
    total = 0
    means = [np.zeros(layer.moving_mean.shape) for layer in layers]
    squares = [np.zeros(layer.moving_mean.shape) for layer in layers]
    for batch in batches:
        images = tf.convert_to_tensor(batch["image"] if isinstance(batch, Mapping) else batch)
        if graph is None:
            free = tf.TensorSpec([None, *images.shape[1:]], images.dtype)  # the last batch may be smaller
            graph = tf.function(statistics, input_signature=[free])
        total += len(images)
        weight = len(images) / total
        for i, (mean, variance) in enumerate(graph(images)):
            mean, variance = mean.numpy().astype(np.float64), variance.numpy().astype(np.float64)
            means[i] += weight * (mean - means[i])
            squares[i] += weight * (variance + mean**2 - squares[i])
    if not total:
        raise ValueError("`batches` holds no batch; statistics need images.")
    return means, [np.maximum(square - mean**2, 0.0) for square, mean in zip(squares, means, strict=True)]


def _check(encoder: tf.keras.Model, layers: Layers) -> None:
    if not layers:
        raise ValueError(f"`encoder` {encoder.name!r} has no BatchNormalization to calibrate.")
    for layer in encoder.submodules:
        if isinstance(layer, tf.keras.__internal__.layers.BaseRandomLayer):
            raise ValueError(
                f"`encoder` must have no layer that is random in training mode, got {layer.name!r} "
                f"({type(layer).__name__})."
            )


def _other_state(encoder: tf.keras.Model, layers: Layers) -> list[tf.Variable]:
    """State that a pass in training mode may alter beside the statistics."""
    statistics = {id(variable) for layer in layers for variable in (layer.moving_mean, layer.moving_variance)}
    return [variable for variable in encoder.non_trainable_weights if id(variable) not in statistics]

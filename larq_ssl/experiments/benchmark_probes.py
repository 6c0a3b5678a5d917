"""What the benchmark measures of probes: sweeps against one learning rate, and kNN and extraction against bare ones."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from larq_ssl import models
from larq_ssl.data.datasets import ImageDataset
from larq_ssl.evaluation.features import Features, extract
from larq_ssl.evaluation.knn import DEFAULT_KS, knn
from larq_ssl.evaluation.linear import linear
from larq_ssl.evaluation.linear_augmented import linear_augmented
from larq_ssl.evaluation.linear_settings import LinearPreset
from larq_ssl.experiments.benchmark_workers import Turn, Variant, repeated

RATES = 8
BANK, QUERIES, DIM = 50_000, 5_000, 512
CLASSES = (10, 100)
_MEMORY_BYTES = 2**28


def groups(
    encoder: dict[str, Any], image_size: int, batch_size: int, precisions: Sequence[str]
) -> dict[str, list[Variant]]:
    """Variants of the probes, those with an encoder by precision; the reference first.

    # Arguments
        encoder: Arguments of `larq_ssl.models.build`.
        image_size: Side of its images.
        batch_size: Images per step of encoder and classifiers; classifiers of cached features have 256.
        precisions: Names of Keras precision policies.
    """
    common = {"encoder": encoder, "image_size": image_size, "batch_size": batch_size}
    result: dict[str, list[Variant]] = {}
    for precision in precisions:
        settings = {**common, "precision": precision}
        result[f"linear, augmented forward passes, {precision}"] = _sweeps(prepare_augmented, settings)
        result[f"extraction from images in memory, {precision}"] = [
            Variant("bare: encoder, training=False", prepare_bare, settings),
            Variant("extract", prepare_extract, settings),
        ]
    for classes in CLASSES:
        name = f"linear, cached features, {BANK:,} x {DIM}, {classes} classes"
        result[name] = _sweeps(prepare_cached, {"images": BANK, "dim": DIM, "classes": classes})
    sizes = {"bank": BANK, "queries": QUERIES, "dim": DIM}
    result[f"kNN of {QUERIES:,} images among {BANK:,} x {DIM}"] = [
        Variant("bare: matrix product, top k", prepare_search, sizes),
        Variant("knn, k = " + ", ".join(map(str, DEFAULT_KS)), prepare_knn, sizes),
    ]
    return result


def _sweeps(prepare: Any, settings: dict[str, Any]) -> list[Variant]:
    return [
        Variant(f"{rates} learning rate{'s' if rates > 1 else ''}", prepare, {**settings, "rates": rates})
        for rates in (1, RATES)
    ]


def prepare_cached(images: int, dim: int, classes: int, rates: int) -> Turn:
    """Turns of `evaluation.linear.linear`; a step is an epoch, with its test on a fifth as many images."""
    train, test = (_features(count, dim, classes, seed) for seed, count in enumerate((images, images // 5)))

    def turn(steps: int) -> tuple[int, float]:
        times: list[float] = []
        # The first epoch also makes the graph.
        preset = _preset(rates, epochs=steps + 1)
        linear(train, test, classes, preset, progress=lambda *_: times.append(time.perf_counter()))
        return steps * images, times[-1] - times[0]

    return turn


def prepare_augmented(encoder: dict[str, Any], image_size: int, batch_size: int, precision: str, rates: int) -> Turn:
    """Turns of `evaluation.linear_augmented.linear_augmented`: views, encoder, classifiers."""
    tf.keras.mixed_precision.set_global_policy(precision)
    network = models.build(**encoder)
    dataset = _images(image_size, batch_size)
    test = _features(CLASSES[0], network.feature_dim, CLASSES[0])

    def turn(steps: int) -> tuple[int, float]:
        times: list[float] = []
        # The first batch also begins the stream and makes the graphs.
        part = dataset.subset(np.arange((steps + 1) * batch_size) % dataset.size, "cycle")
        preset = _preset(rates, epochs=1, batch_size=batch_size)
        linear_augmented(network, part, test, image_size, preset, progress=lambda *_: times.append(time.perf_counter()))
        return steps * batch_size, times[-1] - times[0]

    return turn


def prepare_bare(encoder: dict[str, Any], image_size: int, batch_size: int, precision: str) -> Turn:
    """Turns of the bare encoder in inference mode, batch after batch of images that are there."""
    tf.keras.mixed_precision.set_global_policy(precision)
    network = models.build(**encoder)
    images = tf.constant(_images(image_size, batch_size).images)
    encode = tf.function(lambda batch: network(batch, training=False))
    starts = iter(_cycle(len(images), batch_size))

    def step() -> tf.Tensor:
        start = next(starts)
        return encode(images[start : start + batch_size])

    return repeated(step, batch_size)


def prepare_extract(encoder: dict[str, Any], image_size: int, batch_size: int, precision: str) -> Turn:
    """Turns of `evaluation.features.extract` of the same images."""
    tf.keras.mixed_precision.set_global_policy(precision)
    network = models.build(**encoder)
    dataset = _images(image_size, batch_size)

    def turn(steps: int) -> tuple[int, float]:
        times: list[float] = []
        part = dataset.subset(np.arange((steps + 1) * batch_size) % dataset.size, "cycle")
        extract(network, part, image_size, batch_size, progress=lambda *_: times.append(time.perf_counter()))
        return steps * batch_size, times[-1] - times[0]

    return turn


def prepare_search(bank: int, queries: int, dim: int) -> Turn:
    """Turns of what kNN cannot do without."""
    stored, asked = (_features(count, dim, CLASSES[0], seed).features for seed, count in enumerate((bank, queries)))

    def search() -> tf.Tensor:
        similarity = tf.matmul(asked, stored, transpose_b=True)
        return tf.math.top_k(similarity, min(max(DEFAULT_KS), bank)).values[0, 0]

    return repeated(search, queries)


def prepare_knn(bank: int, queries: int, dim: int) -> Turn:
    """Turns of `evaluation.knn.knn`."""
    stored, asked = (_features(count, dim, CLASSES[0], seed) for seed, count in enumerate((bank, queries)))

    def classify() -> tf.Tensor:
        return tf.constant(list(knn(stored, asked, CLASSES[0]).values()))

    return repeated(classify, queries)


def _preset(rates: int, **settings: Any) -> LinearPreset:
    return LinearPreset("benchmark", tuple(np.geomspace(1e-3, 1, rates).tolist()), **settings)


def _features(images: int, dim: int, classes: int, seed: int = 0) -> Features:
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((images, dim), np.float32)
    return Features(features, rng.integers(0, classes, images), np.arange(images))


def _images(image_size: int, batch_size: int) -> ImageDataset:
    """Some batches of noise that are kept decoded; as many as memory allows, but at most 16."""
    count = batch_size * max(1, min(16, _MEMORY_BYTES // (batch_size * image_size**2 * 3)))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, image_size, image_size, 3), np.uint8)
    return ImageDataset(
        name="noise",
        split="train",
        size=count,
        classes=CLASSES[0],
        class_names=tuple(map(str, range(CLASSES[0]))),
        fingerprint="noise",
        targets=rng.integers(0, CLASSES[0], count),
        images=images,
    )


def _cycle(size: int, step: int) -> Any:
    while True:
        yield from range(0, size, step)

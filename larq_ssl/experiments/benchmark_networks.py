"""What the benchmark measures of the networks: training steps, and the extraction of features."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from larq_ssl import callbacks, models
from larq_ssl.data.datasets import load_dataset
from larq_ssl.evaluation.features import Features, extract
from larq_ssl.evaluation.knn import DEFAULT_KS, knn
from larq_ssl.experiments import benchmark_multi_crop, benchmark_s2bnn
from larq_ssl.experiments.benchmark_workers import Turn, Variant, repeated
from larq_ssl.heads import mlp_head
from larq_ssl.methods.base import Batch, SelfSupervisedModel
from larq_ssl.methods.bssl import BSSL
from larq_ssl.methods.moco import MoCo
from larq_ssl.optimizers import build_optimizer

# So small that hours of steps on one batch change nothing about the numbers that are computed with.
_RATE = 1e-7
_FITS = {"encoder": "fit: the same step", "moco": "fit: MoCo v2", "bssl": "fit: BSSL, ResNet-50 teacher"}
METHODS = (*_FITS, "s2bnn", "multi_crop")
_KNN_BANK, _KNN_QUERIES, _KNN_CLASSES = 20_000, 2_000, 100


class EncoderOnly(SelfSupervisedModel):
    """A method without a method: the encoder, and the mean square of its features as the loss."""

    def __init__(self, student: models.Encoder):
        super().__init__({"student": student}, ("student",))

    def loss_terms(self, batch: Batch) -> dict[str, tf.Tensor]:
        return {"loss": _loss(self.networks["student"](batch["global"][:, 0], training=True))}


def _loss(features: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.square(tf.cast(features, tf.float32)), axis=-1)


def train_step_groups(
    encoder: dict[str, Any], image_size: int, batch_size: int, precisions: Sequence[str], methods: Sequence[str]
) -> dict[str, list[Variant]]:
    """Variants of a training step by precision, the reference first; S2-BNN and multi-crop in groups of their own.

    # Arguments
        encoder: Arguments of `larq_ssl.models.build`.
        precisions: Names of Keras precision policies.
        methods: Some of `METHODS`.
    """
    common = {"encoder": encoder, "image_size": image_size, "batch_size": batch_size}
    fits = {name: method for method, name in _FITS.items() if method in methods}
    result = {
        precision: [
            Variant("bare: forward, backward, Keras's Adam", prepare_bare, {**common, "precision": precision}),
            Variant(
                "bare: forward, backward", prepare_bare, {**common, "precision": precision, "with_optimizer": False}
            ),
            *(
                Variant(name, prepare_fit, {**common, "precision": precision, "method": method})
                for name, method in fits.items()
            ),
        ]
        for precision in (precisions if fits else ())
    }
    if "s2bnn" in methods:
        result |= benchmark_s2bnn.groups(common, precisions, prepare_fit)
    if "multi_crop" in methods:
        result |= benchmark_multi_crop.groups(common, precisions, prepare_fit)
    return result


def prepare_bare(
    encoder: dict[str, Any], image_size: int, batch_size: int, precision: str, with_optimizer: bool = True
) -> Turn:
    """Turns of a `tf.function` that does nothing but what must be done."""
    tf.keras.mixed_precision.set_global_policy(precision)
    network = models.build(**encoder)
    images = _images(batch_size, image_size)
    optimizer = tf.keras.optimizers.legacy.Adam(_RATE)

    @tf.function
    def step() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(_loss(network(images, training=True)))
        gradients = tape.gradient(loss, network.trainable_weights)
        if not with_optimizer:
            return [loss, *gradients]  # what is not returned is not computed
        optimizer.apply_gradients(zip(gradients, network.trainable_weights, strict=True))
        return [loss]

    return repeated(lambda: step()[0], batch_size)


def prepare_fit(encoder: dict[str, Any], image_size: int, batch_size: int, precision: str, method: str) -> Turn:
    """Turns of `fit` with the callbacks that a run calls at each step."""
    tf.keras.mixed_precision.set_global_policy(precision)
    family, _, scheme = method.partition("_")
    if family == "s2bnn":
        model = benchmark_s2bnn.method(scheme, encoder, batch_size)
    elif family == "dino":
        model = benchmark_multi_crop.method(encoder)
    else:
        model = {"encoder": _encoder_only, "moco": _moco, "bssl": _bssl}[method](encoder, batch_size)
    model.compile(build_optimizer("adam", _RATE))
    ids = tf.range(batch_size, dtype=tf.int64)
    batch = {"global": _views(batch_size, image_size, 1 if scheme == "guided" else 2), "id": ids, "label": ids}
    if family == "dino" and int(scheme):
        batch["local"] = _views(batch_size, benchmark_multi_crop.local_size(image_size), int(scheme))
    batches = tf.data.Dataset.from_tensors(batch)
    # Of a stream that knows its length, `fit` would skip what the optimizer has already done.
    batches = batches.repeat().take_while(lambda _: True)

    def turn(steps: int) -> tuple[int, float]:
        clock = _Clock()
        shown = [callbacks.EpochRecorder(batch_size), callbacks.ProgressBar(model.term_names), clock]
        # The first step of a `fit` also begins the stream and the epoch.
        model.fit(batches.take(steps + 1), callbacks=shown, verbose=1)
        return steps * batch_size, clock.times[-1] - clock.times[0]

    return turn


class _Clock(tf.keras.callbacks.Callback):
    def on_train_begin(self, logs: dict | None = None) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.times.append(time.perf_counter())


def _encoder_only(encoder: dict[str, Any], batch_size: int) -> SelfSupervisedModel:
    return EncoderOnly(models.build(**encoder))


def _moco(encoder: dict[str, Any], batch_size: int) -> SelfSupervisedModel:
    networks = [models.build(**encoder) for _ in range(2)]
    dim = networks[0].feature_dim
    heads = [mlp_head(name, dim, [dim], 128, norm="none") for name in ("student_head", "momentum_head")]
    return MoCo(networks[0], heads[0], networks[1], heads[1], queue_size=max(1, 65536 // batch_size) * batch_size)


def _bssl(encoder: dict[str, Any], batch_size: int) -> SelfSupervisedModel:
    return BSSL(benchmark_s2bnn.teacher(encoder), models.build(**encoder))


def encode_groups(
    encoder: dict[str, Any], image_size: int, batch_size: int, precisions: Sequence[str], folder: str
) -> dict[str, list[Variant]]:
    """Variants of the extraction of features by precision, and of kNN; the reference first.

    # Arguments
        folder: Images that the extraction reads.
    """
    common = {"encoder": encoder, "image_size": image_size, "batch_size": batch_size}
    result = {
        precision: [
            Variant("bare: encoder, training=False", prepare_inference, {**common, "precision": precision}),
            Variant("extract, from image files", prepare_extract, {**common, "precision": precision, "folder": folder}),
        ]
        for precision in precisions
    }
    settings = {"encoder": encoder}
    result[f"kNN of {_KNN_QUERIES:,} images among {_KNN_BANK:,}"] = [
        Variant("bare: matrix product, top k", prepare_knn, {**settings, "bare": True}),
        Variant("knn, k = " + ", ".join(map(str, DEFAULT_KS)), prepare_knn, {**settings, "bare": False}),
    ]
    return result


def prepare_inference(encoder: dict[str, Any], image_size: int, batch_size: int, precision: str) -> Turn:
    """Turns of the bare encoder in inference mode."""
    tf.keras.mixed_precision.set_global_policy(precision)
    network = models.build(**encoder)
    images = _images(batch_size, image_size)
    encode = tf.function(lambda: network(images, training=False))
    return repeated(encode, batch_size)


def prepare_extract(encoder: dict[str, Any], image_size: int, batch_size: int, precision: str, folder: str) -> Turn:
    """Turns of `evaluation.features.extract`: files read, decoded, cut, and encoded."""
    tf.keras.mixed_precision.set_global_policy(precision)
    network = models.build(**encoder)
    dataset = load_dataset("folder", "train", folder)

    def turn(steps: int) -> tuple[int, float]:
        # The first batch also begins the stream.
        part = dataset.subset(np.arange((steps + 1) * batch_size) % dataset.size, "cycle")
        times: list[float] = []
        extract(network, part, image_size, batch_size, progress=lambda *_: times.append(time.perf_counter()))
        return steps * batch_size, times[-1] - times[0]

    return turn


def prepare_knn(encoder: dict[str, Any], bare: bool) -> Turn:
    """Turns of `evaluation.knn.knn`, or of what it cannot do without."""
    dim = models.build(**encoder).feature_dim
    rng = np.random.default_rng(0)
    bank, queries = (
        Features(rng.standard_normal((size, dim), np.float32), rng.integers(0, _KNN_CLASSES, size), np.arange(size))
        for size in (_KNN_BANK, _KNN_QUERIES)
    )
    if not bare:
        return repeated(lambda: knn(bank, queries, _KNN_CLASSES), _KNN_QUERIES)

    def search() -> tf.Tensor:
        similarity = tf.matmul(queries.features, bank.features, transpose_b=True)
        return tf.math.top_k(similarity, max(DEFAULT_KS)).values[0, 0]

    return repeated(search, _KNN_QUERIES)


def _views(batch_size: int, image_size: int, count: int) -> tf.Tensor:
    return tf.stack([_images(batch_size, image_size, seed) for seed in range(count)], axis=1)


def _images(batch_size: int, image_size: int, seed: int = 0) -> tf.Tensor:
    shape = (batch_size, image_size, image_size, 3)
    return tf.constant(np.random.default_rng(seed).integers(0, 256, shape, np.uint8))

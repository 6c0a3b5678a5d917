"""What the benchmark measures of S2-BNN's training step: each network alone, and the schemes that put them together."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from larq_ssl import models
from larq_ssl.experiments.benchmark_workers import Measurement, Turn, Variant, repeated
from larq_ssl.heads import mlp_head
from larq_ssl.methods.s2bnn import S2BNN

_TEACHER, _STUDENT, _KEYS = "bare: teacher, forward", "bare: student, forward and backward", "bare: keys, forward"
_GUIDED, _BOTH = "fit: guided", "fit: contrastive and guided"


def groups(
    settings: Mapping[str, Any], precisions: Sequence[str], fit: Callable[..., Turn]
) -> dict[str, list[Variant]]:
    """Variants of the step of S2-BNN by precision, the reference first.

    # Arguments
        settings: `encoder`, `image_size` and `batch_size`.
        precisions: Names of Keras precision policies.
        fit: Prepares turns of `fit`, given the settings, a precision and `method`.
    """
    return {
        f"S2-BNN, ResNet-50 teacher, {precision}": [
            Variant(name, prepare, {**settings, "precision": precision, **more})
            for name, prepare, more in (
                (_STUDENT, prepare_alone, {"part": "student"}),
                (_TEACHER, prepare_alone, {"part": "teacher"}),
                (_KEYS, prepare_alone, {"part": "keys"}),
                (_GUIDED, fit, {"method": "s2bnn_guided"}),
                (_BOTH, fit, {"method": "s2bnn_contrastive_guided"}),
            )
        ]
        for precision in precisions
    }


def prepare_alone(encoder: dict[str, Any], image_size: int, batch_size: int, precision: str, part: str) -> Turn:
    """Turns of a `tf.function` of one encoder with its head: `student` and back, `teacher`, or `keys`."""
    tf.keras.mixed_precision.set_global_policy(precision)
    network, head = with_head(teacher(encoder) if part == "teacher" else models.build(**encoder), part)
    shape = (batch_size, image_size, image_size, 3)
    images = tf.constant(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    variables = [*network.trainable_weights, *head.trainable_weights]

    @tf.function
    def step() -> list[tf.Tensor]:
        if part != "student":
            training = part == "keys"
            return [head(network(images, training=training), training=training)]
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(tf.cast(head(network(images, training=True), training=True), tf.float32)))
        return [loss, *tape.gradient(loss, variables)]  # what is not returned is not computed

    return repeated(lambda: step()[0], batch_size)


def method(scheme: str, encoder: dict[str, Any], batch_size: int) -> S2BNN:
    """The method, of the networks that `prepare_alone` measures."""
    student, student_head = with_head(models.build(**encoder), "student_head")
    networks = dict(zip(("teacher", "teacher_head"), with_head(teacher(encoder), "teacher_head"), strict=True))
    if scheme == "guided":
        return S2BNN(student, student_head, scheme, **networks)
    keys = with_head(models.build(**encoder), "momentum_head")
    networks |= dict(zip(("momentum_encoder", "momentum_head"), keys, strict=True))
    queue_size = max(1, 65536 // batch_size) * batch_size
    return S2BNN(student, student_head, scheme, **networks, queue_size=queue_size)


def teacher(encoder: dict[str, Any]) -> models.Encoder:
    """A ResNet-50 that fits the encoder's size."""
    return models.build("resnet_50", binarization="none", stem=encoder["stem"], width=encoder["width"])


def with_head(encoder: models.Encoder, name: str) -> tuple[models.Encoder, tf.keras.Sequential]:
    """An encoder and the head of MoCo v2 for it."""
    return encoder, mlp_head(name, encoder.feature_dim, [encoder.feature_dim], 128, norm="none")


def summary(measured: Mapping[str, Sequence[Measurement]]) -> str:
    """For each group of `groups`, what its parts say about the whole, turn by turn."""
    text = ""
    for group, results in measured.items():
        times = {result.name: [1 / rate for rate in result.rates] for result in results}
        if _GUIDED not in times:
            continue
        student, alone, keys, guided, both = (times[name] for name in (_STUDENT, _TEACHER, _KEYS, _GUIDED, _BOTH))
        whole = [g / (s + t) for g, s, t in zip(guided, student, alone, strict=True)]
        more = [(b - g) / k for b, g, k in zip(both, guided, keys, strict=True)]
        text += (
            f"\n{group}: the guided step takes {_spread(whole)} times as long as the student's forward and backward "
            f"pass and the teacher's forward pass together. Contrastive and guided takes longer than guided by "
            f"{_spread(more)} times the forward pass of the keys.\n"
        )
    return text


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"

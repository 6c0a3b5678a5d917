"""MoCo v2: contrast each image with a queue of keys from a momentum encoder."""

from collections.abc import Mapping

import tensorflow as tf

from larq_ssl.losses.unit_rows import unit_rows
from larq_ssl.methods.base import Batch, SelfSupervisedModel
from larq_ssl.methods.momentum_contrast import MomentumContrast
from larq_ssl.methods.monitors import embedding_std


class MoCo(SelfSupervisedModel):
    """Momentum contrast with the head of MoCo v2.

    \\[ \\mathcal{L}(x) = -\\log \\frac{\\exp(q \\cdot k_+ / \\tau)}
       {\\exp(q \\cdot k_+ / \\tau) + \\sum_{i=1}^{K} \\exp(q \\cdot k_i / \\tau)} \\]

    \\( q \\) is the unit embedding of view 1 by the student, \\( k_+ \\) that of view 2 by the momentum encoder,
    \\( k_i \\) the queue before the keys of this batch enter it. Per step: the momentum encoder follows the
    weights of the last step, keys and queries are computed, the student is updated, the keys enter the queue.

    # Arguments
        student, student_head, momentum_encoder, momentum_head: The networks, see `MomentumContrast`.
        queue_size, temperature, momentum, batch_norm_groups, seed: See `MomentumContrast`.
    # References
        - He et al., Momentum Contrast for Unsupervised Visual Representation Learning, Algorithm 1
        - Chen et al., Improved Baselines with Momentum Contrastive Learning

    Differences from the paper: those of `MomentumContrast`.
    """

    term_names = ("loss", "accuracy", "embedding_std")
    gradient_groups: Mapping[str, tuple[str, ...]] = {"feature_extractor": ("student",), "head": ("student_head",)}
    allows_accumulation = False

    def __init__(
        self,
        student: tf.keras.Model,
        student_head: tf.keras.Model,
        momentum_encoder: tf.keras.Model,
        momentum_head: tf.keras.Model,
        queue_size: int = 65536,
        temperature: float = 0.2,
        momentum: float = 0.999,
        batch_norm_groups: int = 1,
        seed: int = 0,
        gradient_clip: float | None = None,
        accumulate: int = 1,
    ):
        networks = {
            "student": student,
            "student_head": student_head,
            "momentum_encoder": momentum_encoder,
            "momentum_head": momentum_head,
        }
        super().__init__(networks, ("student", "student_head"), gradient_clip, accumulate)
        self.contrast = MomentumContrast(
            **networks,
            queue_size=queue_size,
            temperature=temperature,
            momentum=momentum,
            batch_norm_groups=batch_norm_groups,
            seed=seed,
        )
        self.queue = self.contrast.queue

    @property
    def encoders(self) -> dict[str, tf.keras.Model]:
        return {"student": self.networks["student"], "ema": self.networks["momentum_encoder"]}

    @property
    def heads(self) -> dict[str, tf.keras.Model]:
        return {name: self.networks[name] for name in ("student_head", "momentum_head")}

    @property
    def memories(self) -> dict[str, tf.keras.layers.Layer]:
        return {"queue": self.queue}

    def before_update(self) -> None:
        self.contrast.follow()

    def loss_terms(self, batch: Batch) -> dict[str, tf.Tensor]:
        views = batch["global"]
        features = self.contrast.query(views[:, 0])
        query = unit_rows(self.networks["student_head"](features, training=True))
        loss, accuracy = self.contrast.loss(query, views[:, 1], self.optimizer.iterations)
        return {"loss": loss, "accuracy": accuracy, "embedding_std": embedding_std(features)}

    def after_update(self) -> None:
        self.contrast.enqueue()

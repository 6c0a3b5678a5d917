"""MoCo v2: contrast each image with a queue of keys from a momentum encoder."""

from collections.abc import Mapping

import tensorflow as tf

from larq_ssl import distribute
from larq_ssl.losses.info_nce import info_nce, info_nce_logits
from larq_ssl.losses.unit_rows import unit_rows
from larq_ssl.methods.base import Batch, SelfSupervisedModel
from larq_ssl.methods.momentum import follow
from larq_ssl.methods.monitors import embedding_std
from larq_ssl.models.transfer import copy_weights
from larq_ssl.queue import KeyQueue


class MoCo(SelfSupervisedModel):
    """Momentum contrast with the head of MoCo v2.

    \\[ \\mathcal{L}(x) = -\\log \\frac{\\exp(q \\cdot k_+ / \\tau)}
       {\\exp(q \\cdot k_+ / \\tau) + \\sum_{i=1}^{K} \\exp(q \\cdot k_i / \\tau)} \\]

    \\( q \\) is the unit embedding of view 1 by the student, \\( k_+ \\) that of view 2 by the momentum encoder,
    \\( k_i \\) the queue before the keys of this batch enter it. Per step: the momentum encoder follows the
    weights of the last step, keys and queries are computed, the student is updated, the keys enter the queue.

    # Arguments
        student: Encoder of the queries `[batch, height, width, 3] -> [batch, dim]`.
        student_head: Projection head `[batch, dim] -> [batch, embedding]`, not normalised.
        momentum_encoder: Encoder of the keys, of the same architecture; starts as a copy of `student`.
        momentum_head: Its projection head; starts as a copy of `student_head`.
        queue_size: Number of keys; a multiple of the global batch size, and well below the number of images:
            a queue as long as the data set is full of the query's own image.
        temperature: \\( \\tau \\).
        momentum: Of the momentum encoder, constant.
        batch_norm_groups: Into how many groups, each with BatchNormalization statistics of its own, the batch of
            a replica is cut. With more than one group or replica the keys are shuffled between them, so that
            a query does not share its statistics with its own key ("shuffling BN").
        seed: Of the queue's first content and of the shuffling.
    # References
        - He et al., Momentum Contrast for Unsupervised Visual Representation Learning, Algorithm 1
        - Chen et al., Improved Baselines with Momentum Contrastive Learning

    Differences from the paper: shuffling BN also on one device, by groups; otherwise none.
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
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, got {temperature}.")
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum must lie in [0, 1], got {momentum}.")
        if batch_norm_groups < 1:
            raise ValueError(f"batch_norm_groups must be at least 1, got {batch_norm_groups}.")
        self.temperature, self.momentum = temperature, momentum
        self.batch_norm_groups, self.seed = batch_norm_groups, seed
        self.queue = KeyQueue(queue_size, int(student_head.output_shape[-1]), seed)
        copy_weights(student, momentum_encoder)
        copy_weights(student_head, momentum_head)

    @property
    def encoders(self) -> dict[str, tf.keras.Model]:
        return {"student": self.networks["student"], "ema": self.networks["momentum_encoder"]}

    @property
    def heads(self) -> dict[str, tf.keras.Model]:
        return {name: self.networks[name] for name in ("student_head", "momentum_head")}

    def before_update(self) -> None:
        follow(self.networks["student"], self.networks["momentum_encoder"], self.momentum)
        follow(self.networks["student_head"], self.networks["momentum_head"], self.momentum)

    def loss_terms(self, batch: Batch) -> dict[str, tf.Tensor]:
        views = batch["global"]
        features = self._in_groups(self.networks["student"], views[:, 0])
        query = unit_rows(self.networks["student_head"](features, training=True))
        self._keys = self._shuffled_keys(views[:, 1])
        key = distribute.replica_slice(self._keys)
        queue = tf.convert_to_tensor(self.queue.keys)
        logits = info_nce_logits(query, key, queue, self.temperature)
        return {
            "loss": info_nce(query, key, queue, self.temperature),
            "accuracy": tf.cast(tf.argmax(logits, axis=-1) == 0, tf.float32),
            "embedding_std": embedding_std(features),
        }

    def after_update(self) -> None:
        self.queue.enqueue(self._keys)

    def _shuffled_keys(self, images: tf.Tensor) -> tf.Tensor:
        """Unit keys of the global batch `[global, embedding]`, in the order of the images."""
        encoder, head = self.networks["momentum_encoder"], self.networks["momentum_head"]
        if self.batch_norm_groups == 1 and distribute.replicas() == 1:
            return tf.stop_gradient(unit_rows(head(encoder(images, training=True), training=True)))
        of_replica, images = images.shape, distribute.all_gather(images)
        seed = tf.stack([tf.constant(self.seed, tf.int64), tf.cast(self.optimizer.iterations, tf.int64)])
        order = tf.random.experimental.stateless_shuffle(tf.range(tf.shape(images)[0]), seed)
        mine = tf.ensure_shape(distribute.replica_slice(tf.gather(images, order)), of_replica)
        keys = unit_rows(head(self._in_groups(encoder, mine), training=True))
        keys = distribute.all_gather(keys)
        return tf.stop_gradient(tf.gather(keys, tf.math.invert_permutation(order)))

    def _in_groups(self, encoder: tf.keras.Model, images: tf.Tensor) -> tf.Tensor:
        if self.batch_norm_groups == 1:
            return encoder(images, training=True)
        if images.shape[0] is None or images.shape[0] % self.batch_norm_groups:
            raise ValueError(
                f"batch_norm_groups must divide the batch size per replica ({images.shape[0]}), "
                f"got {self.batch_norm_groups}."
            )
        return tf.concat([encoder(part, training=True) for part in tf.split(images, self.batch_norm_groups)], axis=0)

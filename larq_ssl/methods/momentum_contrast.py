"""Momentum contrast: the part of MoCo v2 that methods share."""

import tensorflow as tf

from larq_ssl import distribute
from larq_ssl.losses.info_nce import info_nce_logits, info_nce_of_logits
from larq_ssl.losses.unit_rows import unit_rows
from larq_ssl.methods.momentum import follow
from larq_ssl.models.transfer import copy_weights
from larq_ssl.queue import KeyQueue


class MomentumContrast:
    """Query and key networks, the queue, and the loss between them.

    The method that owns it calls `follow` before its step, `query` and `loss` in it, and `enqueue` after it.

    # Arguments
        student: Encoder of the queries `[batch, height, width, 3] -> [batch, dim]`.
        student_head: Projection head `[batch, dim] -> [batch, embedding]`, not normalised.
        momentum_encoder: Encoder of the keys, of the same architecture; starts as a copy of `student`.
        momentum_head: Its projection head; starts as a copy of `student_head`.
        queue_size: Number of keys; a multiple of the global batch size, and well below the number of images:
            a queue as long as the data set is full of the query's own image.
        temperature: Of the contrastive softmax.
        momentum: Of the momentum encoder, constant.
        batch_norm_groups: Into how many groups, each with BatchNormalization statistics of its own, the batch of
            a replica is cut. With more than one group or replica the keys are shuffled between them, so that
            a query does not share its statistics with its own key ("shuffling BN").
        seed: Of the queue's first content and of the shuffling.
    # Attributes
        queue: The keys of the last images.
        momentum_networks: `momentum_encoder` and `momentum_head` by name.
    # Raises
        ValueError: If a number is out of range, or the momentum networks are not of the same architecture.
    # References
        - He et al., Momentum Contrast for Unsupervised Visual Representation Learning, Algorithm 1
        - Chen et al., Improved Baselines with Momentum Contrastive Learning

    Differences from the paper: shuffling BN also on one device, by groups; otherwise none.
    """

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
    ):
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, got {temperature}.")
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum must lie in [0, 1], got {momentum}.")
        if batch_norm_groups < 1:
            raise ValueError(f"batch_norm_groups must be at least 1, got {batch_norm_groups}.")
        self.temperature, self.momentum = temperature, momentum
        self.batch_norm_groups, self.seed = batch_norm_groups, seed
        self.queue = KeyQueue(queue_size, int(student_head.output_shape[-1]), seed)
        self.momentum_networks = {"momentum_encoder": momentum_encoder, "momentum_head": momentum_head}
        self._pairs = ((student, momentum_encoder), (student_head, momentum_head))
        for source, target in self._pairs:
            copy_weights(source, target)

    def follow(self) -> None:
        """Moves the momentum encoder towards the student of the last step."""
        for source, target in self._pairs:
            follow(source, target, self.momentum)

    def query(self, images: tf.Tensor) -> tf.Tensor:
        """Features of the student `[batch, dim]`, to go through its head."""
        return self._in_groups(self._pairs[0][0], images)

    def loss(self, query: tf.Tensor, images: tf.Tensor, step: tf.Tensor, views: int = 1) -> tuple[tf.Tensor, tf.Tensor]:
        """Contrasts queries with their keys and the queue; remembers the keys for `enqueue`.

        # Arguments
            query: Unit embeddings of this replica's images, `[views * batch, embedding]`, view-major.
            images: Another view of the same images, for the momentum encoder: one key for all queries of an image.
            step: Number of updates so far; draws the shuffling.
            views: Number of queries of each image.
        # Returns
            InfoNCE, and 1 where a query is nearest to its own key, else 0; both float32 `[views * batch]`.
        """
        self._keys = self._shuffled_keys(images, step)
        key = distribute.replica_slice(self._keys)
        if views > 1:
            key = tf.tile(key, [views, 1])
        queue = tf.convert_to_tensor(self.queue.keys)
        logits = info_nce_logits(query, key, queue, self.temperature)
        right = tf.cast(tf.argmax(logits, axis=-1) == 0, tf.float32)
        return info_nce_of_logits(logits), right

    def enqueue(self) -> None:
        """Puts the keys of the last `loss` into the queue, those of all replicas."""
        self.queue.enqueue(self._keys)

    def _shuffled_keys(self, images: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """Unit keys of the global batch `[global, embedding]`, in the order of the images."""
        encoder, head = self.momentum_networks.values()
        if self.batch_norm_groups == 1 and distribute.replicas() == 1:
            return tf.stop_gradient(unit_rows(head(encoder(images, training=True), training=True)))
        of_replica, images = images.shape, distribute.all_gather(images)
        seed = tf.stack([tf.constant(self.seed, tf.int64), tf.cast(step, tf.int64)])
        order = tf.random.experimental.stateless_shuffle(tf.range(tf.shape(images)[0]), seed)
        mine = tf.ensure_shape(distribute.replica_slice(tf.gather(images, order)), of_replica)
        keys = unit_rows(head(self._in_groups(encoder, mine), training=True))
        keys = distribute.all_gather(keys)
        return tf.stop_gradient(tf.gather(keys, tf.math.invert_permutation(order)))

    def _in_groups(self, encoder: tf.keras.Model, images: tf.Tensor) -> tf.Tensor:
        if self.batch_norm_groups == 1:
            return encoder(images, training=True)
        # One that is not known to the graph is looked at by `tf.split`.
        if images.shape[0] is not None and images.shape[0] % self.batch_norm_groups:
            raise ValueError(
                f"batch_norm_groups must divide the batch size per replica ({images.shape[0]}), "
                f"got {self.batch_norm_groups}."
            )
        return tf.concat([encoder(part, training=True) for part in tf.split(images, self.batch_norm_groups)], axis=0)

"""A linear classifier that is trained beside a method, on features that it leaves alone."""

from collections.abc import Mapping

import tensorflow as tf

from larq_ssl import distribute
from larq_ssl.methods.base import Batch


class JointProbe:
    """The cross-entropy of a linear classifier on detached features of the first view of the student.

    It shows how good the features are while they are trained, as the published scripts of SSLight do; no gradient
    reaches the encoder, and images without a label do not count. The method that owns it adds `networks` to its own and
    optimises them, and adds `loss` to its loss.

    # Arguments
        classifier: `[batch, dim] -> [batch, classes]`, or `None` for no probe.
    # Attributes
        networks: `{"linear_probe": classifier}`, or nothing.
        term_names: Names of what `terms` returns.
    """

    def __init__(self, classifier: tf.keras.Model | None):
        self.networks = {} if classifier is None else {"linear_probe": classifier}
        self.term_names = () if classifier is None else ("probe", "probe_accuracy")

    def terms(self, features: tf.Tensor, batch: Batch) -> dict[str, tf.Tensor]:
        """Cross-entropy and accuracy `[batch]`, whose means over all replicas are those over images that have a label.

        # Arguments
            features: Float tensor `[batch, dim]` of one view.
            batch: With `label` int64 `[batch]`, -1 for none.
        """
        if not self.networks:
            return {}
        logits = tf.cast(self.networks["linear_probe"](tf.stop_gradient(features), training=True), tf.float32)
        labels = batch["label"]
        known = tf.cast(labels >= 0, tf.float32)
        (total,) = distribute.all_reduce_sum([tf.reduce_mean(known)])
        share = known / tf.maximum(total / distribute.replicas(), 1e-12)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(labels, 0), logits)
        right = tf.cast(tf.argmax(logits, axis=-1) == labels, tf.float32)
        return {"probe": loss * share, "probe_accuracy": right * share}

    def loss(self, terms: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """What the probe adds to the loss of the method; zero without one."""
        return terms["probe"] if self.networks else tf.zeros([])

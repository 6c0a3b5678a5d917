"""A linear classifier that is trained beside a method, on features that it leaves alone."""

from collections.abc import Mapping

import tensorflow as tf

from larq_ssl.methods.base import Batch
from larq_ssl.methods.labelled import labelled_share
from larq_ssl.methods.penalty import kernel_penalty


class JointProbe:
    """The cross-entropy of a linear classifier on detached features of the student.

    It shows how good the features are while they are trained, as the published scripts of SSLight and SimCLR do; no
    gradient reaches the encoder, and images without a label do not count. The method that owns it adds `networks` to
    its own and optimises them, and adds `loss` to its loss.

    # Arguments
        classifier: `[batch, dim] -> [batch, classes]`, or `None` for no probe.
        weight_decay: \\( \\lambda \\) of \\( \\frac{\\lambda}{2} \\|W\\|^2 \\) in the loss, with the kernel
            \\( W \\), for a classifier that the optimizer does not decay itself.
    # Attributes
        networks: `{"linear_probe": classifier}`, or nothing.
        term_names: Names of what `terms` returns.
    # Raises
        ValueError: If the weight decay is negative.
    """

    def __init__(self, classifier: tf.keras.Model | None, weight_decay: float = 0.0):
        if not weight_decay >= 0:
            raise ValueError(f"weight_decay of the probe must be at least 0, got {weight_decay}.")
        self.networks = {} if classifier is None else {"linear_probe": classifier}
        self.term_names = () if classifier is None else ("probe", "probe_accuracy")
        self.weight_decay = weight_decay

    def terms(self, features: tf.Tensor, batch: Batch, views: int = 1) -> dict[str, tf.Tensor]:
        """Cross-entropy and accuracy `[batch]`, whose means over all replicas are those over images that have a label.

        # Arguments
            features: Float tensor `[views * batch, dim]`, view-major.
            batch: With `label` int64 `[batch]`, -1 for none.
            views: Number of views of each image; the label is that of all of them.
        """
        if not self.networks:
            return {}
        logits = tf.cast(self.networks["linear_probe"](tf.stop_gradient(features), training=True), tf.float32)
        share = labelled_share(batch["label"])
        labels = tf.tile(batch["label"], [views])
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(labels, 0), logits)
        right = tf.cast(tf.argmax(logits, axis=-1) == labels, tf.float32)
        of_image = [tf.reduce_mean(tf.reshape(values, [views, -1]), axis=0) for values in (loss, right)]
        return {name: share * values for name, values in zip(self.term_names, of_image, strict=True)}

    def loss(self, terms: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """What the probe adds to the loss of the method; zero without one."""
        if not self.networks:
            return tf.zeros([])
        return terms["probe"] + kernel_penalty(self.networks["linear_probe"], self.weight_decay)

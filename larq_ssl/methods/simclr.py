"""SimCLR, with the deeper head and the memory of SimCLRv2: two views of an image find each other in the batch."""

import math
from collections.abc import Mapping

import tensorflow as tf

from larq_ssl import distribute
from larq_ssl.losses.checks import check_temperature
from larq_ssl.losses.nt_xent import Keys, between_views, nt_xent_logits, nt_xent_of_logits
from larq_ssl.losses.unit_rows import unit_rows
from larq_ssl.methods import multi_crop
from larq_ssl.methods.base import Batch, SelfSupervisedModel
from larq_ssl.methods.joint_probe import JointProbe
from larq_ssl.methods.momentum import follow
from larq_ssl.methods.monitors import embedding_std, target_entropy
from larq_ssl.models.transfer import copy_weights
from larq_ssl.queue import KeyQueue

VIEWS = 2


class SimCLR(SelfSupervisedModel):
    """Each view looks for the other view of its image among both views of all images of the batch.

    \\[ \\mathcal{L} = \\ell(z_i, z_j) + \\ell(z_j, z_i), \\quad
       \\ell(z_i, z_j) = -\\log \\frac{\\exp(\\langle z_i, z_j \\rangle / \\tau)}
       {\\sum_{k \\ne i} \\exp(\\langle z_i, z_k \\rangle / \\tau)} \\]

    \\( z \\) are the unit embeddings of the views; those of all replicas are compared. Both views go through the
    student in one pass, so that BatchNormalization sees them together; it is to be synchronised over replicas.

    **The memory is a reconstruction.** SimCLRv2 says that it takes the momentum encoder and the buffer of MoCo, of 64K
    keys and with a decay of 0.999, and has published no more of it, nor its code. Here the momentum networks embed both
    views too, and \\( z_k \\) are their embeddings, without gradient: that of the other view is the right answer, those
    of other images and those of a queue are wrong ones, that of the very same view does not count. The momentum
    networks move before each step, as in MoCo; the keys of both views of the batch enter the queue after it.

    # Arguments
        student: Encoder of both views `[batch, height, width, 3] -> [batch, dim]`.
        student_head: `[batch, dim] -> [batch, embedding]`, not normalised: `larq_ssl.heads.simclr_head`.
        temperature: \\( \\tau \\).
        momentum_encoder, momentum_head: Networks of the same architecture, for the memory; start as copies. Both, or
            neither.
        queue_size: With a memory, the number of keys that are remembered, two for each image; a multiple of twice the
            global batch size, and below twice the number of images.
        momentum: Of the momentum networks, constant.
        seed: Of the queue's first content.
        linear_probe: Classifier that is trained beside on detached features of both views, see `JointProbe`; or `None`.
        probe_weight_decay: Of the probe's kernel, in the loss: for an optimizer that leaves it alone, as LARS does by
            the preset `simclr` if the kernel has the role of a last layer.
        gradient_clip: See `SelfSupervisedModel`.
    # Attributes
        queue: The keys of earlier images, or `None`.
    # Raises
        ValueError: If a number is out of its range, or the momentum networks are not both there or not of the same
            architecture.
    # References
        - A Simple Framework for Contrastive Learning of Visual Representations (Chen et al., 2020)
        - Big Self-Supervised Models are Strong Semi-Supervised Learners (SimCLRv2, Chen et al., 2020), Sec. 2, App. D

    Differences from the paper: none without memory. The sum of the two directions and the probe are those of the
    released code.
    """

    gradient_groups: Mapping[str, tuple[str, ...]] = {"feature_extractor": ("student",), "head": ("student_head",)}
    allows_accumulation = False

    def __init__(
        self,
        student: tf.keras.Model,
        student_head: tf.keras.Model,
        temperature: float = 0.1,
        momentum_encoder: tf.keras.Model | None = None,
        momentum_head: tf.keras.Model | None = None,
        queue_size: int = 65536,
        momentum: float = 0.999,
        seed: int = 0,
        linear_probe: tf.keras.Model | None = None,
        probe_weight_decay: float = 0.0,
        gradient_clip: float | None = None,
    ):
        trained = {"student": student, "student_head": student_head}
        followers = _followers(momentum_encoder, momentum_head)
        probe = JointProbe(linear_probe, probe_weight_decay)
        super().__init__({**trained, **followers, **probe.networks}, (*trained, *probe.networks), gradient_clip)
        check_temperature(temperature)
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum must lie in [0, 1], got {momentum}.")
        self._probe, self.temperature, self.momentum = probe, temperature, momentum
        self._pairs = tuple(zip(trained.values(), followers.values(), strict=False))
        for source, target in self._pairs:
            copy_weights(source, target)
        self.queue = KeyQueue(queue_size, int(student_head.output_shape[-1]), seed) if followers else None
        self.term_names = ("loss", "contrastive", "accuracy", "entropy", "embedding_std", *probe.term_names)
        self.collapse_values = {}

    @property
    def encoders(self) -> dict[str, tf.keras.Model]:
        names = {"student": "student", "ema": "momentum_encoder"}
        return {product: self.networks[name] for product, name in names.items() if name in self.networks}

    @property
    def heads(self) -> dict[str, tf.keras.Model]:
        return {name: self.networks[name] for name in ("student_head", "momentum_head") if name in self.networks}

    @property
    def memories(self) -> dict[str, tf.keras.layers.Layer]:
        return {} if self.queue is None else {"queue": self.queue}

    def before_update(self) -> None:
        for source, target in self._pairs:
            follow(source, target, self.momentum)

    def loss_terms(self, batch: Batch) -> dict[str, tf.Tensor]:
        views = multi_crop.views_of(batch)
        if views != (VIEWS, 0):
            raise ValueError(f"SimCLR compares {VIEWS} global views, got {views[0]}, and {views[1]} local ones.")
        (images,) = multi_crop.groups_of_views(batch)
        features = self.networks["student"](images, training=True)
        embeddings = unit_rows(self.networks["student_head"](features, training=True))
        first, second = tf.split(embeddings, VIEWS)
        queue = None if self.queue is None else tf.convert_to_tensor(self.queue.keys)
        logits = nt_xent_logits(first, second, self.temperature, self._memory_keys(images), queue)
        self._note_collapse_value(images)
        compared, own = between_views(logits)
        terms = {
            "contrastive": nt_xent_of_logits(logits),
            "accuracy": tf.cast(tf.argmax(compared, axis=-1, output_type=tf.int32) == own, tf.float32),
            "entropy": target_entropy(compared, temperature=1.0),
            "embedding_std": embedding_std(tf.split(features, VIEWS)[0]),
            **self._probe.terms(features, batch, VIEWS),
        }
        return {"loss": terms["contrastive"] + self._probe.loss(terms), **terms}

    def after_update(self) -> None:
        if self.queue is not None:
            self.queue.enqueue(self._keys)

    def _memory_keys(self, images: tf.Tensor) -> Keys | None:
        """Embeddings of both views of all replicas' images by the momentum networks, also kept for the queue."""
        if self.queue is None:
            return None
        encoder, head = self.networks["momentum_encoder"], self.networks["momentum_head"]
        first, second = tf.split(unit_rows(head(encoder(images, training=True), training=True)), VIEWS)
        gathered = distribute.all_gather(tf.stop_gradient(tf.concat([first, second], axis=1)))
        first, second = tf.split(gathered, VIEWS, axis=1)
        # Equal on all replicas, whose threads share this attribute.
        self._keys = tf.concat([first, second], axis=0)
        return first, second

    def _note_collapse_value(self, images: tf.Tensor) -> None:
        """The loss if all answers are alike, which is known once the size of a batch is."""
        if images.shape[0] is not None:
            others = images.shape[0] * distribute.replicas() - 1 + (0 if self.queue is None else self.queue.size)
            self.collapse_values = {"contrastive": VIEWS * math.log(others)}


def _followers(encoder: tf.keras.Model | None, head: tf.keras.Model | None) -> dict[str, tf.keras.Model]:
    """The momentum networks, if there are any."""
    if (encoder is None) != (head is None):
        missing = "momentum_encoder" if encoder is None else "momentum_head"
        raise ValueError(f"{missing} must be given too: the memory needs an encoder and a head.")
    return {} if encoder is None else {"momentum_encoder": encoder, "momentum_head": head}

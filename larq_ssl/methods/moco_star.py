"""MoCo-v2*: momentum contrast with multi-crop, one key for all the other views of an image."""

from collections.abc import Mapping

import tensorflow as tf

from larq_ssl.losses.unit_rows import unit_rows
from larq_ssl.losses.view_pairs import pair_weights, query_weights
from larq_ssl.methods import multi_crop
from larq_ssl.methods.base import Batch, SelfSupervisedModel
from larq_ssl.methods.joint_probe import JointProbe
from larq_ssl.methods.momentum_contrast import MomentumContrast
from larq_ssl.methods.monitors import embedding_std


class MoCoStar(SelfSupervisedModel):
    """Momentum contrast in which global and local views look for the first global one.

    \\[ \\mathcal{L} = \\alpha \\, \\ell(q_{g_2}) + (1 - \\alpha) \\, \\overline{\\ell(q_l)}, \\quad
       \\ell(q) = -\\log \\frac{\\exp(q \\cdot k_+ / \\tau)}
       {\\exp(q \\cdot k_+ / \\tau) + \\sum_{i=1}^{K} \\exp(q \\cdot k_i / \\tau)} \\]

    \\( k_+ \\) is the unit embedding of the first global view by the momentum encoder, in training mode and with
    BatchNormalization statistics of its own; \\( q \\) is that of any other view by the student, whose encoder runs
    once per size and whose head runs once. All queries of an image share its key and the queue \\( k_i \\) before the
    keys of this batch enter it. The mean is over the local views; without any there is the first term alone.

    # Arguments
        student: Encoder of the queries `[batch, height, width, 3] -> [batch, dim]`, of any size where there are local
            views.
        student_head: `[batch, dim] -> [batch, embedding]`, not normalised: SSLight's is `larq_ssl.heads.mlp_head` with
            2,048 hidden units, 128 outputs and `normal_0.02`.
        momentum_encoder, momentum_head: Key networks of the same architecture; start as copies.
        alpha: Share of the global query, in `[0, 1]`; `None` for the mean over all queries.
        queue_size, temperature, momentum, seed: See `MomentumContrast`.
        linear_probe: Classifier that is trained beside on detached features of the first query, see `JointProbe`; or
            `None`.
        gradient_clip: See `SelfSupervisedModel`.
    # Raises
        ValueError: If a number is out of its range, or the momentum networks are not of the same architecture.
    # References
        - Effective Self-supervised Pre-training on Low-compute Networks without Distillation (SSLight), Eq. 3
        - Momentum Contrast for Unsupervised Visual Representation Learning (He et al., 2020), Algorithm 1

    Differences from the paper: none. BatchNormalization is to be synchronised over replicas, as in the released code.
    """

    gradient_groups: Mapping[str, tuple[str, ...]] = {"feature_extractor": ("student",), "head": ("student_head",)}
    allows_accumulation = False

    def __init__(
        self,
        student: tf.keras.Model,
        student_head: tf.keras.Model,
        momentum_encoder: tf.keras.Model,
        momentum_head: tf.keras.Model,
        alpha: float | None = None,
        queue_size: int = 65536,
        temperature: float = 0.2,
        momentum: float = 0.999,
        seed: int = 0,
        linear_probe: tf.keras.Model | None = None,
        gradient_clip: float | None = None,
    ):
        networks = {
            "student": student,
            "student_head": student_head,
            "momentum_encoder": momentum_encoder,
            "momentum_head": momentum_head,
        }
        probe = JointProbe(linear_probe)
        optimized = ("student", "student_head", *probe.networks)
        super().__init__({**networks, **probe.networks}, optimized, gradient_clip)
        self._probe = probe
        pair_weights(2, 0, alpha)  # refuses an alpha out of its range
        self.alpha = alpha
        self.contrast = MomentumContrast(
            **networks, queue_size=queue_size, temperature=temperature, momentum=momentum, seed=seed
        )
        self.queue = self.contrast.queue
        self.term_names = ("loss", "contrastive", "accuracy", "embedding_std", *probe.term_names)

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
        features = multi_crop.embed(self.networks["student"], multi_crop.groups_of_views(batch, skip=1))
        query = unit_rows(self.networks["student_head"](features, training=True))
        weights = query_weights(*multi_crop.views_of(batch), self.alpha)
        losses, right = self.contrast.loss(query, batch["global"][:, 0], self.optimizer.iterations, len(weights))
        losses, right = (tf.reshape(values, [len(weights), -1]) for values in (losses, right))
        of_view = features[: tf.shape(batch["id"])[0]]
        terms = {
            "contrastive": tf.tensordot(tf.constant(weights), losses, axes=1),
            "accuracy": tf.reduce_mean(right, axis=0),
            "embedding_std": embedding_std(of_view),
            **self._probe.terms(of_view, batch),
        }
        return {"loss": terms["contrastive"] + self._probe.loss(terms), **terms}

    def after_update(self) -> None:
        self.contrast.enqueue()

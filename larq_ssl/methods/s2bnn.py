"""S2-BNN: a binary network learns by momentum contrast, from the embeddings of a frozen float network, or from both."""

from collections.abc import Collection, Mapping

import tensorflow as tf

from larq_ssl.losses.distillation import distillation_cross_entropy
from larq_ssl.losses.unit_rows import unit_rows
from larq_ssl.methods.base import Batch, SelfSupervisedModel
from larq_ssl.methods.momentum_contrast import MomentumContrast
from larq_ssl.methods.monitors import embedding_std, target_entropy

_CONTRAST = ("momentum_encoder", "momentum_head")
_GUIDE = ("teacher", "teacher_head")
SCHEMES: Mapping[str, tuple[str, ...]] = {
    "contrastive": _CONTRAST,
    "contrastive_guided": _CONTRAST + _GUIDE,
    "guided": _GUIDE,
}
"""The networks that each scheme has besides the student and its head."""


class S2BNN(SelfSupervisedModel):
    """Contrastive and guided learning of a binary network.

    \\[ \\mathcal{L} = \\mathcal{L}_{CL} + \\mathcal{L}_{CE}, \\quad
       \\mathcal{L}_{CL} = -\\log \\frac{\\exp(q \\cdot k_+ / \\tau)}
       {\\exp(q \\cdot k_+ / \\tau) + \\sum_i \\exp(q \\cdot k_i / \\tau)}, \\quad
       \\mathcal{L}_{CE} = -\\sum_d \\mathrm{softmax}_d(t / \\tau) \\log \\mathrm{softmax}_d(q / \\tau) \\]

    \\( q \\) is the unit embedding of view 1 by the binary student and its head, \\( t \\) that of the very same view
    by the teacher and the head that it was trained with. \\( k_+ \\) is the embedding of view 2 by the momentum
    encoder, which follows the latent real-valued weights of the student, and \\( k_i \\) are the keys of the queue.
    The scheme `contrastive` has the first term (this is MoCo v2), `guided` the second, `contrastive_guided` both. What
    a scheme does not use is not there: with `guided` no momentum encoder and no queue, and one view is enough.

    The metric `distillation_kl` is the second term less the entropy of its target, below which it cannot fall.

    # Arguments
        student: Encoder in the binarization of the stage.
        student_head: Projection head `[batch, dim] -> [batch, embedding]`, not normalised.
        scheme: `contrastive`, `contrastive_guided` or `guided`.
        teacher: Frozen float encoder of the guided schemes, in inference mode.
        teacher_head: Its projection head, with as many outputs as `student_head`.
        momentum_encoder, momentum_head: Key networks of the contrastive schemes, see `MomentumContrast`.
        temperature: \\( \\tau \\) of both terms.
        distillation_temperature: Another one for the guided term.
        queue_size, momentum, batch_norm_groups, seed: See `MomentumContrast`; `guided` has no use for them.
    # Raises
        ValueError: If the scheme is unknown, a network of it is missing or one of another scheme is given, the heads
            of teacher and student differ in width, or a number is out of range.
    # References
        - S2-BNN (Shen et al., 2021), Sec. 5, Eq. 1-3, Fig. 8

    Differences from the paper: the temperature divides the embeddings, as in the released code, not the probabilities,
    as in Eq. 2 and 3; the teacher sees view 1, as in the released code, Algorithm 1 has view 2 (the views are drawn
    alike); those of `MomentumContrast`. The online scheme of Algorithm 1 is out of scope: it trains the teacher beside
    the student, by a momentum contrast of its own in every run; the paper uses the offline one in all its experiments,
    and nothing else was released.
    """

    gradient_groups: Mapping[str, tuple[str, ...]] = {"feature_extractor": ("student",), "head": ("student_head",)}

    def __init__(
        self,
        student: tf.keras.Model,
        student_head: tf.keras.Model,
        scheme: str = "guided",
        teacher: tf.keras.Model | None = None,
        teacher_head: tf.keras.Model | None = None,
        momentum_encoder: tf.keras.Model | None = None,
        momentum_head: tf.keras.Model | None = None,
        temperature: float = 0.2,
        distillation_temperature: float | None = None,
        queue_size: int = 65536,
        momentum: float = 0.999,
        batch_norm_groups: int = 1,
        seed: int = 0,
        gradient_clip: float | None = None,
        accumulate: int = 1,
    ):
        networks = {
            "student": student,
            "student_head": student_head,
            "teacher": teacher,
            "teacher_head": teacher_head,
            "momentum_encoder": momentum_encoder,
            "momentum_head": momentum_head,
        }
        networks = {name: network for name, network in networks.items() if network is not None}
        _check_networks(scheme, networks.keys() - {"student", "student_head"})
        super().__init__(networks, ("student", "student_head"), gradient_clip, accumulate)
        for name, value in (("temperature", temperature), ("distillation_temperature", distillation_temperature)):
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be above 0, got {value}.")
        self.scheme, self.guided = scheme, teacher is not None
        self.contrast = None
        if scheme != "guided":
            self.contrast = MomentumContrast(
                student,
                student_head,
                momentum_encoder,
                momentum_head,
                queue_size,
                temperature,
                momentum,
                batch_norm_groups,
                seed,
            )
            self.queue = self.contrast.queue
        self.distillation_temperature = temperature if distillation_temperature is None else distillation_temperature
        if self.guided:
            _check_widths(teacher_head, student_head)
        self.term_names = (
            "loss",
            *(("contrastive", "accuracy") if self.contrast is not None else ()),
            *(("distillation", "distillation_kl", "target_entropy") if self.guided else ()),
            "embedding_std",
        )

    @property
    def allows_accumulation(self) -> bool:  # type: ignore[override]
        """Examples see each other through the queue alone."""
        return "momentum_encoder" not in self.networks

    @property
    def encoders(self) -> dict[str, tf.keras.Model]:
        ema = {} if self.contrast is None else {"ema": self.networks["momentum_encoder"]}
        return {"student": self.networks["student"], **ema}

    @property
    def heads(self) -> dict[str, tf.keras.Model]:
        """Those of the student and of the momentum encoder; the teacher's stays with the teacher."""
        return {name: self.networks[name] for name in ("student_head", "momentum_head") if name in self.networks}

    @property
    def memories(self) -> dict[str, tf.keras.layers.Layer]:
        return {} if self.contrast is None else {"queue": self.queue}

    def before_update(self) -> None:
        if self.contrast is not None:
            self.contrast.follow()

    def loss_terms(self, batch: Batch) -> dict[str, tf.Tensor]:
        images = batch["global"][:, 0]
        if self.contrast is None:
            features = self.networks["student"](images, training=True)
        else:
            features = self.contrast.query(images)
        query = unit_rows(self.networks["student_head"](features, training=True))
        terms = {"embedding_std": embedding_std(features)}
        if self.contrast is not None:
            other = batch["global"][:, 1]
            terms["contrastive"], terms["accuracy"] = self.contrast.loss(query, other, self.optimizer.iterations)
        if self.guided:
            terms |= self._guidance(query, images)
        return {"loss": tf.add_n([terms[name] for name in ("contrastive", "distillation") if name in terms]), **terms}

    def _guidance(self, query: tf.Tensor, images: tf.Tensor) -> dict[str, tf.Tensor]:
        features = tf.stop_gradient(self.networks["teacher"](images, training=False))
        target = tf.stop_gradient(unit_rows(self.networks["teacher_head"](features, training=False)))
        loss = distillation_cross_entropy(target, query, self.distillation_temperature)
        entropy = target_entropy(target, self.distillation_temperature)
        return {"distillation": loss, "distillation_kl": loss - entropy, "target_entropy": entropy}

    def after_update(self) -> None:
        if self.contrast is not None:
            self.contrast.enqueue()


def _check_networks(scheme: str, given: Collection[str]) -> None:
    if scheme not in SCHEMES:
        raise ValueError(f"scheme must be one of {', '.join(SCHEMES)}, got {scheme!r}.")
    for name in (*_CONTRAST, *_GUIDE):
        if (name in given) != (name in SCHEMES[scheme]):
            raise ValueError(
                f"scheme={scheme!r} takes {', '.join(SCHEMES[scheme])} besides the student and its head, and "
                f"{name} is {'not one of them' if name in given else 'missing'}."
            )


def _check_widths(teacher_head: tf.keras.Model, student_head: tf.keras.Model) -> None:
    widths = [int(head.output_shape[-1]) for head in (teacher_head, student_head)]
    if widths[0] != widths[1]:
        raise ValueError(
            "teacher_head and student_head outputs must have the same width to be compared, "
            f"got {widths[0]} and {widths[1]}."
        )

"""DINO: the student predicts, from any view of an image, what its own moving average sees in a global one."""

import math
from collections.abc import Mapping

import tensorflow as tf

from larq_ssl.center import Center
from larq_ssl.losses.dino import dino_cross_entropy
from larq_ssl.losses.view_pairs import pair_weights
from larq_ssl.methods import multi_crop
from larq_ssl.methods.base import Batch, SelfSupervisedModel
from larq_ssl.methods.joint_probe import JointProbe
from larq_ssl.methods.momentum import follow
from larq_ssl.methods.monitors import class_usage, embedding_std, target_entropy
from larq_ssl.models.transfer import copy_weights
from larq_ssl.schedules import Schedule, at_step


class DINO(SelfSupervisedModel):
    """Self-distillation without labels, with multi-crop.

    \\[ \\mathcal{L} = \\alpha \\, \\overline{\\ell}_{gg} + (1 - \\alpha) \\, \\overline{\\ell}_{gl}, \\quad
       \\ell(g, v) = -\\sum_k \\mathrm{softmax}_k\\Big(\\frac{t_g - c}{\\tau_t}\\Big) \\log
       \\mathrm{softmax}_k\\Big(\\frac{s_v}{\\tau_s}\\Big) \\]

    The means are over the pairs of two different global views and over the pairs of a global and a local view. The
    momentum network \\( t \\) sees the global views, in training mode, and follows the student \\( s \\) after each
    update; the centre \\( c \\) follows the mean of its logits.

    # Arguments
        student: Encoder of all views `[batch, height, width, 3] -> [batch, dim]`, of any size where there are
            local ones.
        student_head: `[batch, dim] -> [batch, classes]`, see `larq_ssl.heads.dino_head`.
        momentum_encoder: Encoder of the targets, of the same architecture; starts as a copy of `student`.
        momentum_head: Its head; starts as a copy of `student_head`.
        alpha: Share of the global pairs, `None` for the mean over all pairs; see `larq_ssl.losses.view_pairs`.
        student_temperature: \\( \\tau_s \\).
        teacher_temperature: \\( \\tau_t \\), a number or a schedule.
        momentum: Of the momentum network, a number or a schedule.
        center_momentum: Of the centre.
        linear_probe: Classifier that is trained beside on detached features, see `JointProbe`; or `None`.
        gradient_clip, clip_norm: See `SelfSupervisedModel`; the published clipping is of each variable alone.
    # Attributes
        center: The centre of the logits.
    # Raises
        ValueError: If a number is out of its range, or the momentum networks are not of the same architecture.
    # References
        - Emerging Properties in Self-Supervised Vision Transformers (Caron et al., 2021), Algorithm 1
        - Effective Self-supervised Pre-training on Low-compute Networks without Distillation (SSLight), Eq. 3

    Differences from the paper: none. The last layer stays untouched in the first epoch by
    `larq_ssl.callbacks.FreezeRoles`.
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
        student_temperature: float = 0.1,
        teacher_temperature: float | Schedule = 0.04,
        momentum: float | Schedule = 0.996,
        center_momentum: float = 0.9,
        linear_probe: tf.keras.Model | None = None,
        gradient_clip: float | None = None,
        clip_norm: str = "variable",
    ):
        networks = {
            "student": student,
            "student_head": student_head,
            "momentum_encoder": momentum_encoder,
            "momentum_head": momentum_head,
        }
        probe = JointProbe(linear_probe)
        optimized = ("student", "student_head", *probe.networks)
        super().__init__({**networks, **probe.networks}, optimized, gradient_clip, clip_norm=clip_norm)
        self._probe = probe
        _check_numbers(student_temperature, teacher_temperature, momentum)
        pair_weights(2, 0, alpha)  # refuses an alpha out of its range
        self.alpha, self.student_temperature = alpha, student_temperature
        self.teacher_temperature, self.momentum = teacher_temperature, momentum
        self.center = Center(int(student_head.output_shape[-1]), center_momentum)
        self._pairs = ((student, momentum_encoder), (student_head, momentum_head))
        for source, target in self._pairs:
            copy_weights(source, target)
        self.term_names = ("loss", "dino", "target_entropy", "class_usage", "embedding_std", *probe.term_names)
        self.collapse_values = {"dino": math.log(self.center.dim)}

    @property
    def encoders(self) -> dict[str, tf.keras.Model]:
        return {"student": self.networks["student"], "ema": self.networks["momentum_encoder"]}

    @property
    def heads(self) -> dict[str, tf.keras.Model]:
        return {name: self.networks[name] for name in ("student_head", "momentum_head")}

    @property
    def memories(self) -> dict[str, tf.keras.layers.Layer]:
        return {"center": self.center}

    def loss_terms(self, batch: Batch) -> dict[str, tf.Tensor]:
        groups, step = multi_crop.groups_of_views(batch), self.optimizer.iterations
        encoder, head = self.networks["momentum_encoder"], self.networks["momentum_head"]
        teacher_logits = tf.stop_gradient(head(encoder(groups[0], training=True), training=True))
        self._teacher_mean = self.center.mean_of(teacher_logits)
        features = multi_crop.embed(self.networks["student"], groups)
        logits = self.networks["student_head"](features, training=True)
        temperature = at_step(self.teacher_temperature, step)
        weights = pair_weights(*multi_crop.views_of(batch), self.alpha)
        loss = dino_cross_entropy(
            teacher_logits, logits, self.center.mean, weights, temperature, self.student_temperature
        )
        centred = teacher_logits - self.center.mean
        of_view = features[: tf.shape(batch["id"])[0]]
        terms = {
            "dino": loss,
            "target_entropy": target_entropy(centred, temperature),
            "class_usage": class_usage(centred, temperature),
            "embedding_std": embedding_std(of_view),
            **self._probe.terms(of_view, batch),
        }
        return {"loss": loss + self._probe.loss(terms), **terms}

    def after_update(self) -> None:
        self.center.follow(self._teacher_mean)
        # The optimizer has counted this step already.
        momentum = at_step(self.momentum, self.optimizer.iterations - 1)
        for source, target in self._pairs:
            follow(source, target, momentum)


def _check_numbers(
    student_temperature: float, teacher_temperature: float | Schedule, momentum: float | Schedule
) -> None:
    temperatures = {"student_temperature": student_temperature, "teacher_temperature": teacher_temperature}
    for name, value in temperatures.items():
        if not isinstance(value, Schedule) and not value > 0:
            raise ValueError(f"{name} must be above 0, got {value}.")
    if not isinstance(momentum, Schedule) and not 0 <= momentum <= 1:
        raise ValueError(f"momentum must lie in [0, 1], got {momentum}.")

r"""BSSL: a binary network learns from a frozen float network and a classifier that is trained with it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from larq_ssl import distribute
from larq_ssl.heads import mlp_head
from larq_ssl.losses.feature_similarity import feature_similarity
from larq_ssl.losses.joint_classifier import joint_classifier_kl
from larq_ssl.methods.base import Batch, SelfSupervisedModel
from larq_ssl.methods.monitors import class_usage, embedding_std, target_entropy
from larq_ssl.models import Encoder
from larq_ssl.schedules import Balance


@dataclasses.dataclass(frozen=True)
class Preset:
    """The switches in which the paper and its released code differ.

    # Attributes
        train_teacher_head: Whether the teacher's classifier learns together with the student.
        feature_source: What the feature loss compares: `features` (extractors) or `logits` (classifiers).
        feature_scale: Factor of the cosine feature loss; the released code has 2 (1 - cos).
        teacher_batch_norm: `eval` (frozen statistics) or `train` (batch statistics, which drift).
    """

    train_teacher_head: bool
    feature_source: str
    feature_scale: float
    teacher_batch_norm: str


PRESETS = {
    "paper": Preset(train_teacher_head=True, feature_source="features", feature_scale=1.0, teacher_batch_norm="eval"),
    "released": Preset(
        train_teacher_head=False, feature_source="logits", feature_scale=2.0, teacher_batch_norm="train"
    ),
}
FEATURE_LOSSES = ("cosine", "l1", "l2", "none")


class BSSL(SelfSupervisedModel):
    r"""Joint classifier, feature similarity and dynamic balance.

    \[ \mathcal{L} = (1 - \lambda) \, D_{KL}(g_\theta(h(v_1)) \,\|\, l_\phi(k_\phi(v_2)))
       + \lambda \, \mathcal{L}_{FS}(h(v_1), k_\phi(v_2)) + (v_1 \leftrightarrow v_2) \]

    \( h \) is the frozen teacher, \( g_\theta \) its randomly initialised classifier, \( k_\phi \) the binary
    feature extractor, \( l_\phi \) its classifier, \( v_1, v_2 \) two views of an image, and \( \lambda \) falls
    along a cosine from 0.9 to 0.7. Softmaxes have temperature 0.2.

    With both classifiers trainable the KL term alone is smallest when both are constant; only the feature
    term holds against it. `target_entropy` and `class_usage` among the metrics show how far that has gone.
    Without a feature loss the bias of the projector, which the classifier's BatchNorm takes out again, never moves.

    # Arguments
        teacher: Frozen float encoder \( h \).
        student: Encoder in the binarization of the stage.
        heads: `teacher_head` \( g_\theta \), `student_head` \( l_\phi \) and, where features are compared, `projector`;
            by default those of `default_heads`.
        balance: Schedule of \( \lambda \) over optimizer steps; by default the constant 0.7.
        preset: `paper` or `released`; the four arguments below alter it.
        train_teacher_head: See `Preset`.
        feature_source: See `Preset`.
        feature_scale: See `Preset`.
        teacher_batch_norm: See `Preset`.
        feature_loss: `cosine`, `l1`, `l2`, or `none` (then \( \lambda = 0 \): the KL term alone).
        views: 2 (crosswise, both directions summed) or 1 (teacher and student see the same view).
        temperature: Of both softmaxes.
    # Raises
        ValueError: If an argument is out of range, widths do not fit, or the combination would collapse:
            a feature loss on logits together with a trainable teacher head.
    # References
        - BSSL, Sec. 3, Eq. 1-4, Algorithm 1

    Differences from the paper: two views instead of one, temperature 0.2, two-layer classifiers and 2000
    classes are the released code's, on which the paper is silent; Algorithm 1 writes the KL divergence the
    other way round than Eq. 1, which is followed; the projector is ours, since nothing says how 1024 student
    features meet 2048 teacher features. The released code computes its loss without recording gradients and
    so trains nothing; `released` is what it was written to do.
    """

    term_names = (
        "loss",
        "kl",
        "feature",
        "lambda",
        "embedding_std",
        "target_entropy",
        "class_usage",
    )
    gradient_groups: Mapping[str, tuple[str, ...]] = {
        "feature_extractor": ("student", "projector"),
        "classifier": ("student_head",),
        "teacher_classifier": ("teacher_head",),
    }

    def __init__(
        self,
        teacher: Encoder,
        student: Encoder,
        heads: Mapping[str, tf.keras.Model] | None = None,
        balance: tf.keras.optimizers.schedules.LearningRateSchedule | None = None,
        preset: str = "paper",
        train_teacher_head: bool | None = None,
        feature_source: str | None = None,
        feature_scale: float | None = None,
        teacher_batch_norm: str | None = None,
        feature_loss: str = "cosine",
        views: int = 2,
        temperature: float = 0.2,
        gradient_clip: float | None = None,
        accumulate: int = 1,
    ):
        given = {
            "train_teacher_head": train_teacher_head,
            "feature_source": feature_source,
            "feature_scale": feature_scale,
            "teacher_batch_norm": teacher_batch_norm,
        }
        self.switches = resolve_preset(preset, **given)
        if feature_loss not in FEATURE_LOSSES:
            raise ValueError(f"feature_loss must be one of {', '.join(FEATURE_LOSSES)}, got {feature_loss!r}.")
        if self.switches.train_teacher_head and self.switches.feature_source == "logits" and feature_loss != "none":
            raise ValueError(
                "feature_source='logits' together with train_teacher_head=True lets both classifiers collapse to "
                "a constant; use feature_source='features' or train_teacher_head=False."
            )
        if views not in (1, 2):
            raise ValueError(f"views must be 1 or 2, got {views}.")
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, got {temperature}.")
        if heads is None:
            heads = default_heads(teacher, student, self.switches.feature_source)
        if not {"teacher_head", "student_head"} <= set(heads) <= {"teacher_head", "student_head", "projector"}:
            raise ValueError(f"heads must be teacher_head, student_head and perhaps projector, got {sorted(heads)}.")
        networks = {"teacher": teacher, "student": student, **heads}
        optimized = [name for name in ("student", "projector", "student_head") if name in networks]
        if self.switches.train_teacher_head:
            optimized.append("teacher_head")
        super().__init__(networks, optimized, gradient_clip, accumulate)
        groups = type(self).gradient_groups.items()
        self.gradient_groups = {
            group: members for group, members in groups if any(name in optimized for name in members)
        }
        self.balance = balance if balance is not None else Balance(total_steps=1, kind="constant")
        self.feature_loss, self.views, self.temperature = feature_loss, views, temperature
        self._check_widths()

    def _check_widths(self) -> None:
        student = self.networks.get("projector", self.networks["student"])
        pairs = [
            (
                "teacher_head and student_head outputs",
                self.networks["teacher_head"],
                self.networks["student_head"],
            )
        ]
        if self.feature_loss != "none" and self.switches.feature_source == "features":
            pairs.append(("teacher and (projected) student features", self.networks["teacher"], student))
        for what, first, second in pairs:
            widths = int(first.output_shape[-1]), int(second.output_shape[-1])
            if widths[0] != widths[1]:
                raise ValueError(f"{what} must have the same width to be compared, got {widths[0]} and {widths[1]}.")

    @property
    def heads(self) -> dict[str, tf.keras.Model]:
        return {name: net for name, net in self.networks.items() if name not in ("teacher", "student")}

    def idle_networks(self) -> tuple[str, ...]:
        r"""With \( \lambda = 1 \) at the start (the step schedule) the classifiers wait for their turn."""
        first = float(self._lambda(tf.constant(0, tf.int64)))
        if first < 1:
            return ()
        on_features = self.switches.feature_source == "features"
        return ("student_head", "teacher_head") if on_features else ("teacher_head",)

    def loss_terms(self, batch: Batch) -> dict[str, tf.Tensor]:
        views = [batch["global"][:, view] for view in range(self.views)]
        teachers = self._teachers(views)
        students = [self._student(view) for view in views]
        pairs = list(zip(students, reversed(teachers), strict=True))
        balance = self._lambda(self.optimizer.iterations)
        kl = tf.add_n(
            [joint_classifier_kl(t_logits, s_logits, self.temperature) for (_, _, s_logits), (_, t_logits) in pairs]
        )
        feature = tf.add_n([self._feature_loss(student, teacher) for student, teacher in pairs])
        teacher_logits = distribute.all_gather(teachers[0][1])
        return {
            "loss": (1.0 - balance) * kl + balance * feature,
            "kl": kl,
            "feature": feature,
            "lambda": balance,
            "embedding_std": embedding_std(students[0][0]),
            "target_entropy": target_entropy(teacher_logits, self.temperature),
            "class_usage": class_usage(teacher_logits, self.temperature),
        }

    def _lambda(self, step: tf.Tensor) -> tf.Tensor:
        return tf.constant(0.0) if self.feature_loss == "none" else tf.cast(self.balance(step), tf.float32)

    def _teachers(self, views: list[tf.Tensor]) -> list[tuple[tf.Tensor, tf.Tensor]]:
        """Features and logits of the frozen teacher for each view; only its head may carry a gradient."""
        teacher = self.networks["teacher"]
        if self.switches.teacher_batch_norm == "train":
            # Each view has statistics of its own.
            features = [teacher(view, training=True) for view in views]
        else:
            features = tf.split(teacher(tf.concat(views, axis=0), training=False), len(views))
        return [self._teacher_logits(tf.stop_gradient(of_view)) for of_view in features]

    def _teacher_logits(self, features: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        batch_statistics = self.switches.teacher_batch_norm == "train"
        if self.switches.train_teacher_head:
            return features, self.networks["teacher_head"](features, training=True)
        return features, tf.stop_gradient(self.networks["teacher_head"](features, training=batch_statistics))

    def _student(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Encoder features, projected features and logits of the student."""
        features = self.networks["student"](images, training=True)
        projector = self.networks.get("projector")
        projected = features if projector is None else projector(features, training=True)
        return features, projected, self.networks["student_head"](projected, training=True)

    def _feature_loss(
        self, student: tuple[tf.Tensor, tf.Tensor, tf.Tensor], teacher: tuple[tf.Tensor, tf.Tensor]
    ) -> tf.Tensor:
        _, projected, logits = student
        features, teacher_logits = teacher
        if self.feature_loss == "none":
            return tf.zeros(tf.shape(logits)[:1])
        target, value = (
            (features, projected) if self.switches.feature_source == "features" else (teacher_logits, logits)
        )
        scale = self.switches.feature_scale if self.feature_loss == "cosine" else 1.0
        return scale * feature_similarity(target, value, self.feature_loss)


def default_heads(
    teacher: Encoder,
    student: Encoder,
    feature_source: str = "features",
    classes: int = 2000,
    hidden_dim: int = 2000,
    synchronized: bool = False,
) -> dict[str, tf.keras.Model]:
    """The classifiers of BSSL (dense, BatchNorm, ReLU, dense) for these encoders, and the projector.

    The student's classifier sits on a projector. Where features are compared it is linear and brings them to the
    teacher's width. Where logits are compared it is a dense layer with ReLU as wide as the features, unless the encoder
    ends in one as the released code's does (`extra_fc`): without either, the last shift of the encoder would be taken
    out again by the classifier's BatchNorm and never learn.

    # Arguments
        teacher: The float encoder.
        student: The encoder that learns.
        feature_source: `features` or `logits`, see `Preset`.
        classes: Outputs of both classifiers.
        hidden_dim: Hidden units of both classifiers.
        synchronized: Whether their BatchNorm takes its statistics over all replicas.
    # Returns
        `teacher_head`, `student_head` and, unless the encoder makes it needless, `projector`.
    """
    heads, width = {}, student.feature_dim
    if feature_source == "features":
        width = teacher.feature_dim
        heads["projector"] = mlp_head("projector", student.feature_dim, [], width, norm="none")
    elif "extra_fc" not in student.named_outputs:
        heads["projector"] = mlp_head("projector", width, [], width, norm="none", output_relu=True)
    for name, inputs in (("teacher_head", teacher.feature_dim), ("student_head", width)):
        heads[name] = mlp_head(name, inputs, [hidden_dim], classes, norm="batch", synchronized=synchronized)
    return heads


def resolve_preset(preset: str, **given: Any) -> Preset:
    """The switches of a preset, with those that are given and not `None` in their place.

    # Raises
        ValueError: If the preset or a value is unknown.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {preset!r}.")
    switches = dataclasses.replace(
        PRESETS[preset], **{name: value for name, value in given.items() if value is not None}
    )
    for name, allowed in (
        ("feature_source", ("features", "logits")),
        ("teacher_batch_norm", ("eval", "train")),
    ):
        if getattr(switches, name) not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(switches, name)!r}.")
    if not switches.feature_scale > 0:
        raise ValueError(f"feature_scale must be above 0, got {switches.feature_scale}.")
    return switches

"""What BYOL and MSBReg share: a student that predicts what its own moving average sees in other views."""

from collections.abc import Mapping

import tensorflow as tf

from larq_ssl.methods.base import Batch, SelfSupervisedModel
from larq_ssl.methods.joint_probe import JointProbe
from larq_ssl.methods.momentum import follow
from larq_ssl.models.transfer import copy_weights
from larq_ssl.schedules import Schedule, at_step


class Bootstrap(SelfSupervisedModel):
    """Online and momentum networks, each fed one view after the other.

    Every view goes through both networks alone and in training mode, so BatchNormalization sees the images of one view
    at a time. After each update the parameters of the momentum network follow those of the student and its projector;
    its BatchNormalization statistics are its own.

    # Arguments
        student: Encoder of all views `[batch, height, width, 3] -> [batch, dim]`.
        student_head: Its projector `[batch, dim] -> [batch, embedding]`, see `larq_ssl.heads.byol_head`.
        predictor: `[batch, embedding] -> [batch, embedding]`, of the student alone.
        momentum_encoder: Encoder of the targets, of the same architecture; starts as a copy of `student`.
        momentum_head: Its projector; starts as a copy of `student_head`.
        momentum: Of the momentum network, a number or a schedule.
        linear_probe: Classifier that is trained beside on detached features of the first view, see `JointProbe`; or
            `None`.
        gradient_clip, accumulate: See `SelfSupervisedModel`.
    # Raises
        ValueError: If a number is out of its range, or the momentum networks are not of the same architecture.
    """

    gradient_groups: Mapping[str, tuple[str, ...]] = {
        "feature_extractor": ("student",),
        "head": ("student_head", "predictor"),
    }

    def __init__(
        self,
        student: tf.keras.Model,
        student_head: tf.keras.Model,
        predictor: tf.keras.Model,
        momentum_encoder: tf.keras.Model,
        momentum_head: tf.keras.Model,
        momentum: float | Schedule,
        linear_probe: tf.keras.Model | None = None,
        gradient_clip: float | None = None,
        accumulate: int = 1,
    ):
        networks = {
            "student": student,
            "student_head": student_head,
            "predictor": predictor,
            "momentum_encoder": momentum_encoder,
            "momentum_head": momentum_head,
        }
        probe = JointProbe(linear_probe)
        optimized = ("student", "student_head", "predictor", *probe.networks)
        super().__init__({**networks, **probe.networks}, optimized, gradient_clip, accumulate)
        self._probe = probe
        if not isinstance(momentum, Schedule) and not 0 <= momentum <= 1:
            raise ValueError(f"momentum must lie in [0, 1], got {momentum}.")
        self.momentum = momentum
        self._pairs = ((student, momentum_encoder), (student_head, momentum_head))
        for source, target in self._pairs:
            copy_weights(source, target)

    @property
    def encoders(self) -> dict[str, tf.keras.Model]:
        return {"student": self.networks["student"], "ema": self.networks["momentum_encoder"]}

    @property
    def heads(self) -> dict[str, tf.keras.Model]:
        return {name: self.networks[name] for name in ("student_head", "predictor", "momentum_head")}

    def embed(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """What both networks make of the global views of a batch.

        # Returns
            The student's features of the first view `[batch, dim]`; and, view-major, the outputs of the predictor and
            the projections by the momentum network `[views * batch, embedding]`, without gradient.
        """
        networks = self.networks
        features, online, target = [], [], []
        for images in tf.unstack(batch["global"], axis=1):
            features.append(networks["student"](images, training=True))
            projection = networks["student_head"](features[-1], training=True)
            online.append(networks["predictor"](projection, training=True))
            momentum_features = networks["momentum_encoder"](images, training=True)
            target.append(networks["momentum_head"](momentum_features, training=True))
        return features[0], tf.concat(online, axis=0), tf.stop_gradient(tf.concat(target, axis=0))

    def after_update(self) -> None:
        # The optimizer has counted this step already.
        momentum = at_step(self.momentum, self.optimizer.iterations - 1)
        for source, target in self._pairs:
            follow(source, target, momentum)

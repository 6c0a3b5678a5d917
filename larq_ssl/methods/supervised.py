"""Supervised training, from scratch or from a pre-trained network and the first layers of its projection head."""

import itertools
from collections.abc import Mapping

import tensorflow as tf

from larq_ssl.losses.label_cross_entropy import check_smoothing, label_cross_entropy
from larq_ssl.methods.base import Batch, SelfSupervisedModel
from larq_ssl.methods.labelled import labelled_accuracy
from larq_ssl.methods.monitors import embedding_std
from larq_ssl.methods.penalty import kernel_penalty
from larq_ssl.optimizers import assign_rate


class Supervised(SelfSupervisedModel):
    """Cross-entropy of a classifier on features that are trained with it.

    \\[ \\mathcal{L}(x, y) = -\\log \\mathrm{softmax}(W \\, h(f(x)) + b)_y \\]

    \\( f \\) is the student, \\( h \\) what is kept of a projection head, or nothing. Fine-tuning is the same training
    from weights of another method; where it begins is for the caller, who loads them (`larq_ssl.heads.first_layers`
    cuts a head). All networks are in training mode, BatchNorm included. Of several views the first is used.

    With `train_student=False` the student is frozen: no weight of it moves, and it runs in inference mode, so that its
    BatchNorm takes no statistics either. Then this is linear evaluation with augmented images.

    # Arguments
        student: Encoder.
        classifier: `[batch, dim] -> [batch, classes]`, such as `larq_ssl.heads.linear_classifier`.
        student_head: Between the two, or `None`.
        label_smoothing: Share of the target that all classes have alike.
        classifier_rate: Factor of the learning rate of the classifier.
        classifier_decay: Half of it times the squared kernel of the classifier is added to the loss: for SimCLR's LARS,
            which leaves the classifier out.
        gradient_clip, accumulate: See `SelfSupervisedModel`.
        train_student: Whether the student is trained, too.
    # Raises
        ValueError: If the networks do not fit together, or a number is out of range.
    # References
        - Big Self-Supervised Models are Strong Semi-Supervised Learners (Chen et al., 2020), Sec. 2, fine-tuning

    Differences from the paper: none.
    """

    term_names: tuple[str, ...] = ("loss", "accuracy", "embedding_std")
    gradient_groups: Mapping[str, tuple[str, ...]] = {
        "feature_extractor": ("student",),
        "classifier": ("student_head", "classifier"),
    }

    def __init__(
        self,
        student: tf.keras.Model,
        classifier: tf.keras.Model,
        student_head: tf.keras.Model | None = None,
        label_smoothing: float = 0.0,
        classifier_rate: float = 1.0,
        classifier_decay: float = 0.0,
        gradient_clip: float | None = None,
        accumulate: int = 1,
        train_student: bool = True,
    ):
        networks = {"student": student, "student_head": student_head, "classifier": classifier}
        present = {name: network for name, network in networks.items() if network is not None}
        check_chain(present)
        super().__init__(present, present if train_student else list(present)[1:], gradient_clip, accumulate)
        self.train_student = train_student
        if not train_student:
            self.gradient_groups = {"classifier": type(self).gradient_groups["classifier"]}
        check_smoothing(label_smoothing)
        if not classifier_decay >= 0:
            raise ValueError(f"classifier_decay must be at least 0, got {classifier_decay}.")
        if not classifier_rate > 0:
            raise ValueError(f"classifier_rate must be above 0, got {classifier_rate}.")
        self.label_smoothing, self.classifier_decay = label_smoothing, classifier_decay
        self.classifier_rate = classifier_rate

    @property
    def heads(self) -> dict[str, tf.keras.Model]:
        return {name: self.networks[name] for name in ("student_head", "classifier") if name in self.networks}

    def compile(self, optimizer: tf.keras.optimizers.legacy.Optimizer, **kwargs: object) -> None:
        super().compile(optimizer=optimizer, **kwargs)
        if self.classifier_rate != 1:
            assign_rate(optimizer, self.networks["classifier"].trainable_variables, self.classifier_rate)

    def classify(self, images: tf.Tensor) -> tf.Tensor:
        """Logits of raw images `[batch, height, width, 3]` in 0..255, in inference mode."""
        return self._logits(self.networks["student"](images, training=False), training=False)

    def loss_terms(self, batch: Batch) -> dict[str, tf.Tensor]:
        features, logits = self._forward(batch)
        loss = label_cross_entropy(batch["label"], logits, self.label_smoothing)
        return {"loss": loss + self._decay(), **self._monitors(features, logits, batch)}

    def _forward(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        """Features and logits of the first view, in training mode."""
        features = self.networks["student"](batch["global"][:, 0], training=self.train_student)
        return features, self._logits(features, training=True)

    def _logits(self, features: tf.Tensor, training: bool) -> tf.Tensor:
        for name in ("student_head", "classifier"):
            if name in self.networks:
                features = self.networks[name](features, training=training)
        return features

    def _monitors(self, features: tf.Tensor, logits: tf.Tensor, batch: Batch) -> dict[str, tf.Tensor]:
        accuracy = labelled_accuracy(tf.stop_gradient(logits), batch["label"])
        return {"accuracy": accuracy, "embedding_std": embedding_std(features)}

    def _decay(self) -> tf.Tensor:
        return kernel_penalty(self.networks["classifier"], self.classifier_decay)


def check_chain(networks: Mapping[str, tf.keras.Model]) -> None:
    """Raises a `ValueError` unless each network takes what the one before it gives."""
    for (before, first), (after, second) in itertools.pairwise(networks.items()):
        given, taken = int(first.output_shape[-1]), int(second.input_shape[-1])
        if given != taken:
            raise ValueError(f"{after} takes vectors of length {taken}, and {before} gives some of length {given}.")

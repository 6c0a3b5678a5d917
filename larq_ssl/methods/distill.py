"""Distillation: a student learns the class probabilities of a frozen teacher, on images with and without labels."""

from collections.abc import Mapping

import tensorflow as tf

from larq_ssl.losses.joint_classifier import joint_classifier_kl
from larq_ssl.losses.knowledge_distillation import check_alpha, knowledge_distillation
from larq_ssl.losses.label_cross_entropy import label_cross_entropy
from larq_ssl.methods.base import Batch
from larq_ssl.methods.labelled import labelled_mean
from larq_ssl.methods.monitors import target_entropy
from larq_ssl.methods.supervised import Supervised, check_chain


class Distill(Supervised):
    """A student and its classifier learn from a teacher that is frozen, in inference mode.

    \\[ \\mathcal{L}(x, y) = -(1 - \\alpha) \\, [y \\ge 0] \\, \\log P^S(y | x)
       - \\alpha \\sum_c P^T(c | x; \\tau) \\log P^S(c | x; \\tau), \\quad
       P(c | x; \\tau) = \\mathrm{softmax}(z(x) / \\tau)_c \\]

    Teacher and student see the same view. With \\( \\alpha = 1 \\) no label is used: this is SimCLRv2's distillation
    of a fine-tuned network (\\( \\tau = 0.1 \\) into one of the same architecture, 1 into a smaller one) and, with
    \\( \\tau = 1 \\), ReActNet's training by the distributional loss. Below 1, images with the label -1 lack the first
    term. The student may be binary.

    A batch may bring the teacher's logits along, as `targets` `[batch, classes]`; then no teacher is run.

    Terms: `loss`; `supervised`, the mean of the first term over the images that have a label, without its factor
    (with \\( \\alpha < 1 \\)); `distillation_kl`, the second less the entropy of its target, `target_entropy`;
    `agreement`, how often both choose the same class; `accuracy` and `embedding_std`.

    # Arguments
        student, classifier, student_head: See `Supervised`.
        teacher: Encoder, or a network that gives logits itself; `None` if all batches have `targets`.
        teacher_classifier: What makes logits of its features.
        teacher_head: Between the two, or `None`.
        temperature: \\( \\tau \\).
        alpha: \\( \\alpha \\), above 0.
        classifier_rate, classifier_decay, gradient_clip, accumulate: See `Supervised`.
    # Raises
        ValueError: If the networks do not fit together, teacher and student tell other numbers of classes apart, or a
            number is out of range.
    # References
        - Big Self-Supervised Models are Strong Semi-Supervised Learners (Chen et al., 2020), Sec. 2, Eq. 2 and 3
        - ReActNet (Liu et al., 2020), Sec. 4.3

    Differences from the paper: those of `larq_ssl.losses.knowledge_distillation`.
    """

    def __init__(
        self,
        student: tf.keras.Model,
        classifier: tf.keras.Model,
        teacher: tf.keras.Model | None = None,
        teacher_classifier: tf.keras.Model | None = None,
        teacher_head: tf.keras.Model | None = None,
        student_head: tf.keras.Model | None = None,
        temperature: float = 1.0,
        alpha: float = 1.0,
        classifier_rate: float = 1.0,
        classifier_decay: float = 0.0,
        gradient_clip: float | None = None,
        accumulate: int = 1,
    ):
        super().__init__(
            student,
            classifier,
            student_head,
            classifier_rate=classifier_rate,
            classifier_decay=classifier_decay,
            gradient_clip=gradient_clip,
            accumulate=accumulate,
        )
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, got {temperature}.")
        check_alpha(alpha)
        if alpha == 0:
            raise ValueError("alpha must be above 0 where there is a teacher to learn from, got 0.")
        self.temperature, self.alpha = temperature, alpha
        frozen = {"teacher": teacher, "teacher_head": teacher_head, "teacher_classifier": teacher_classifier}
        present = {name: network for name, network in frozen.items() if network is not None}
        _check_teacher(present, classifier)
        self._teacher = tuple(present)
        self.networks = {**self.networks, **present}
        self.term_names = (
            "loss",
            *(("supervised",) if alpha < 1 else ()),
            *("distillation_kl", "target_entropy", "agreement", "accuracy", "embedding_std"),
        )

    def loss_terms(self, batch: Batch) -> dict[str, tf.Tensor]:
        features, logits = self._forward(batch)
        target = self._target(batch)
        loss = knowledge_distillation(target, logits, batch["label"], self.temperature, self.alpha)
        seen = tf.stop_gradient(logits)
        terms = {
            "loss": loss + self._decay(),
            "distillation_kl": joint_classifier_kl(target, seen, self.temperature),
            "target_entropy": target_entropy(target, self.temperature),
            "agreement": tf.cast(tf.argmax(target, axis=-1) == tf.argmax(seen, axis=-1), tf.float32),
        }
        if self.alpha < 1:
            terms["supervised"] = labelled_mean(label_cross_entropy(batch["label"], seen), batch["label"])
        return {**terms, **self._monitors(features, logits, batch)}

    def _target(self, batch: Batch) -> tf.Tensor:
        """The teacher's logits, float32."""
        if "targets" in batch:
            return tf.cast(batch["targets"], tf.float32)
        if not self._teacher:
            raise ValueError("A batch must have `targets` where there is no teacher to run.")
        output = batch["global"][:, 0]
        for name in self._teacher:
            output = self.networks[name](output, training=False)
        return tf.stop_gradient(tf.cast(output, tf.float32))


def _check_teacher(teacher: Mapping[str, tf.keras.Model], classifier: tf.keras.Model) -> None:
    if not teacher:
        return
    if "teacher" not in teacher:
        raise ValueError(f"{next(iter(teacher))} is given without a teacher.")
    check_chain(teacher)
    theirs, ours = (int(network.output_shape[-1]) for network in (list(teacher.values())[-1], classifier))
    if theirs != ours:
        raise ValueError(f"The teacher tells {theirs} classes apart and the classifier {ours}: they must be the same.")

"""Supervised training on images that may show several things at once."""

import tensorflow as tf

from larq_ssl.losses.sigmoid_cross_entropy import sigmoid_cross_entropy
from larq_ssl.methods.base import Batch
from larq_ssl.methods.monitors import embedding_std
from larq_ssl.methods.supervised import Supervised


class MultiLabel(Supervised):
    """`Supervised` with a sigmoid per class instead of a softmax over all of them.

    \\[ \\mathcal{L}(x, y) = \\frac{1}{|K|} \\sum_{c \\in K} H\\big(y_c, \\sigma(W \\, h(f(x)) + b)_c\\big),
       \\quad K = \\{c : y_c \\ge 0\\} \\]

    \\( H \\) is the cross-entropy of two classes. A batch brings what is in its images along, as `targets`
    `[batch, classes]`: 1, 0, or -1 where it is not known. Labels are not looked at.

    # Arguments
        student, classifier, student_head, classifier_rate, classifier_decay: See `Supervised`.
        gradient_clip, accumulate, train_student: See `Supervised`.
    # Raises
        ValueError: If the networks do not fit together, or a number is out of range.
    # References
        - S2-BNN (Shen et al., 2021), Sec. 4, transfer to VOC2007

    Differences from the paper: those of `larq_ssl.losses.sigmoid_cross_entropy`.
    """

    term_names: tuple[str, ...] = ("loss", "embedding_std")

    def __init__(
        self,
        student: tf.keras.Model,
        classifier: tf.keras.Model,
        student_head: tf.keras.Model | None = None,
        classifier_rate: float = 1.0,
        classifier_decay: float = 0.0,
        gradient_clip: float | None = None,
        accumulate: int = 1,
        train_student: bool = True,
    ):
        super().__init__(
            student,
            classifier,
            student_head,
            classifier_rate=classifier_rate,
            classifier_decay=classifier_decay,
            gradient_clip=gradient_clip,
            accumulate=accumulate,
            train_student=train_student,
        )

    def loss_terms(self, batch: Batch) -> dict[str, tf.Tensor]:
        features, logits = self._forward(batch)
        loss = sigmoid_cross_entropy(batch["targets"], logits)
        return {"loss": loss + self._decay(), "embedding_std": embedding_std(features)}

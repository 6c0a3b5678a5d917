"""InfoMin: momentum contrast of strongly changed views, and of a jigsaw of patches."""

from collections.abc import Mapping

import tensorflow as tf

from larq_ssl.losses.unit_rows import unit_rows
from larq_ssl.methods.base import Batch, SelfSupervisedModel
from larq_ssl.methods.momentum_contrast import MomentumContrast
from larq_ssl.methods.monitors import embedding_std


class InfoMin(SelfSupervisedModel):
    """Momentum contrast whose queries are a view and, if there is a jigsaw branch, the patches of a third one.

    \\[ \\mathcal{L} = \\tfrac{1}{2} \\ell(q) + \\tfrac{1}{2} \\ell(q_{jig}), \\quad
       \\ell(q) = -\\log \\frac{\\exp(q \\cdot k_+ / \\tau)}
       {\\exp(q \\cdot k_+ / \\tau) + \\sum_{i=1}^{K} \\exp(q \\cdot k_i / \\tau)} \\]

    \\( q \\) is the unit embedding of view 1 by the student, \\( k_+ \\) that of view 2 by the momentum encoder,
    \\( k_i \\) the queue before the keys of this batch enter it. \\( q_{jig} \\) is made of the patches of the image,
    which arrive in random order: each goes through the student and `patch_head`, all of them side by side through
    `jigsaw_head`. Without a jigsaw branch the loss is \\( \\ell(q) \\), MoCo's.

    What sets the method apart is the views (`larq_ssl.data.policy("infomin", ...)`) and the order of a step: the
    momentum encoder follows the student after the optimizer, where MoCo moves it before the keys are computed.

    # Arguments
        student: Encoder of the queries `[batch, height, width, 3] -> [batch, dim]`; of patches too where there are any.
        student_head: `[batch, dim] -> [batch, embedding]`, not normalised.
        momentum_encoder, momentum_head: Key networks of the same architecture; start as copies.
        patch_head: Head of single patches `[batch, dim] -> [batch, part]`; `None` for no jigsaw branch.
        jigsaw_head: Head of all patches of an image `[batch, patches * part] -> [batch, embedding]`; likewise.
        queue_size, temperature, momentum, batch_norm_groups, seed: See `MomentumContrast`. The patches of an image
            are in its group.
        gradient_clip: See `SelfSupervisedModel`.
    # Raises
        ValueError: If a number is out of its range, the momentum networks are not of the same architecture, or one head
            of the jigsaw branch is there without the other or does not fit it.
    # References
        - What Makes for Good Views for Contrastive Learning? (Tian et al., 2020), released code
        - Self-Supervised Learning of Pretext-Invariant Representations (PIRL, Misra and van der Maaten, 2020)

    Differences from the released code: those of `MomentumContrast`; the order of the patches is drawn with the views.
    """

    gradient_groups: Mapping[str, tuple[str, ...]] = {
        "feature_extractor": ("student",),
        "head": ("student_head", "patch_head", "jigsaw_head"),
    }
    allows_accumulation = False

    def __init__(
        self,
        student: tf.keras.Model,
        student_head: tf.keras.Model,
        momentum_encoder: tf.keras.Model,
        momentum_head: tf.keras.Model,
        patch_head: tf.keras.Model | None = None,
        jigsaw_head: tf.keras.Model | None = None,
        queue_size: int = 65536,
        temperature: float = 0.15,
        momentum: float = 0.999,
        batch_norm_groups: int = 1,
        seed: int = 0,
        gradient_clip: float | None = None,
    ):
        _check_heads(student_head, patch_head, jigsaw_head)
        jigsaw = {} if patch_head is None else {"patch_head": patch_head, "jigsaw_head": jigsaw_head}
        networks = {
            "student": student,
            "student_head": student_head,
            "momentum_encoder": momentum_encoder,
            "momentum_head": momentum_head,
        }
        super().__init__({**networks, **jigsaw}, ("student", "student_head", *jigsaw), gradient_clip)
        self.contrast = MomentumContrast(
            **networks,
            queue_size=queue_size,
            temperature=temperature,
            momentum=momentum,
            batch_norm_groups=batch_norm_groups,
            seed=seed,
        )
        self.queue = self.contrast.queue
        self.has_jigsaw = bool(jigsaw)
        self.term_names = ("loss", "accuracy", "embedding_std")
        if self.has_jigsaw:
            self.term_names += ("contrastive", "jigsaw", "jigsaw_accuracy")

    @property
    def encoders(self) -> dict[str, tf.keras.Model]:
        return {"student": self.networks["student"], "ema": self.networks["momentum_encoder"]}

    @property
    def heads(self) -> dict[str, tf.keras.Model]:
        return {name: network for name, network in self.networks.items() if name.endswith("_head")}

    @property
    def memories(self) -> dict[str, tf.keras.layers.Layer]:
        return {"queue": self.queue}

    def loss_terms(self, batch: Batch) -> dict[str, tf.Tensor]:
        if ("patches" in batch) != self.has_jigsaw:
            mistake = "no patches, but the method has a" if self.has_jigsaw else "patches, but the method has no"
            raise ValueError(f"The batch has {mistake} jigsaw branch.")
        views = batch["global"]
        features = self.contrast.query(views[:, 0])
        queries = [unit_rows(self.networks["student_head"](features, training=True))]
        if self.has_jigsaw:
            queries.append(self._jigsaw_query(batch["patches"]))
        # All queries of an image share its key and the queue.
        losses, right = self.contrast.loss(
            tf.concat(queries, axis=0), views[:, 1], self.optimizer.iterations, len(queries)
        )
        losses, right = (tf.reshape(values, [len(queries), -1]) for values in (losses, right))
        terms = {
            "loss": tf.reduce_mean(losses, axis=0),
            "accuracy": right[0],
            "embedding_std": embedding_std(features),
        }
        if self.has_jigsaw:
            terms |= {"contrastive": losses[0], "jigsaw": losses[1], "jigsaw_accuracy": right[1]}
        return terms

    def _jigsaw_query(self, patches: tf.Tensor) -> tf.Tensor:
        """Unit embeddings `[batch, embedding]` of images by their patches `[batch, patches, height, width, 3]`."""
        count, *sides = patches.shape[1:]
        size = None if patches.shape[0] is None else patches.shape[0] * count
        # Image after image, so that groups of BatchNormalization hold whole images.
        images = tf.ensure_shape(tf.reshape(patches, [-1, *sides]), [size, *sides])
        parts = self.networks["patch_head"](self.contrast.query(images), training=True)
        whole = tf.reshape(parts, [-1, count * parts.shape[-1]])
        return unit_rows(self.networks["jigsaw_head"](whole, training=True))

    def after_update(self) -> None:
        self.contrast.enqueue()
        self.contrast.follow()


def _check_heads(
    student_head: tf.keras.Model, patch_head: tf.keras.Model | None, jigsaw_head: tf.keras.Model | None
) -> None:
    if patch_head is None and jigsaw_head is None:
        return
    if patch_head is None or jigsaw_head is None:
        missing = "patch_head" if patch_head is None else "jigsaw_head"
        raise ValueError(f"{missing} must be given too: a jigsaw branch has both a patch_head and a jigsaw_head.")
    part, whole = patch_head.output_shape[-1], jigsaw_head.input_shape[-1]
    if whole % part:
        raise ValueError(f"jigsaw_head must take a multiple of what patch_head gives, {part} numbers, got {whole}.")
    wanted, given = student_head.output_shape[-1], jigsaw_head.output_shape[-1]
    if given != wanted:
        raise ValueError(f"jigsaw_head must give as many numbers as student_head, {wanted}, got {given}.")

"""BYOL: the student predicts, from one view of an image, what its own moving average makes of the other."""

import tensorflow as tf

from larq_ssl import distribute
from larq_ssl.losses.alignment_uniformity import mean_uniformity
from larq_ssl.losses.byol import byol_loss
from larq_ssl.losses.unit_rows import unit_rows
from larq_ssl.methods.base import Batch
from larq_ssl.methods.bootstrap import Bootstrap
from larq_ssl.methods.monitors import embedding_std
from larq_ssl.schedules import Schedule


class BYOL(Bootstrap):
    """Bootstrap your own latent.

    \\[ \\mathcal{L} = 4 - 2 \\cos(q_1, z_2) - 2 \\cos(q_2, z_1) \\;
       \\big( + \\lambda_u \\, \\mathcal{L}_{uniform}(\\hat q) \\big) \\]

    \\( q_v \\) is the output of the predictor for view \\( v \\), \\( z_v \\) the projection of that view by the
    momentum network. The term in brackets, which keeps embeddings apart, is a comparison of MSBReg's supplement, and a
    **reconstruction**: neither its weight nor the layer on which it acts is published. Here it is that of the unit
    outputs of the predictor, averaged over both views, and of the images of all replicas.

    # Arguments
        student, student_head, predictor, momentum_encoder, momentum_head: The networks, see `Bootstrap`.
        momentum: Of the momentum network, a number or a schedule; published is a cosine from 0.996 to 1 (1,000 epochs),
            from 0.99 (100 and 300).
        uniformity_weight: \\( \\lambda_u \\); 0 is BYOL.
        linear_probe, gradient_clip, accumulate: See `Bootstrap`. With uniformity a batch cannot be cut into parts.
    # Raises
        ValueError: If a number is out of its range, or the momentum networks are not of the same architecture.
    # References
        - Bootstrap Your Own Latent (Grill et al., 2020), Algorithm 1
        - An Embedding-Dynamic Approach to Self-supervised Learning (Moon et al., 2023), supplement, Table 3

    Differences from the paper: the momentum network starts as a copy of the student; in the released code it starts
    from another seed.
    """

    def __init__(
        self,
        student: tf.keras.Model,
        student_head: tf.keras.Model,
        predictor: tf.keras.Model,
        momentum_encoder: tf.keras.Model,
        momentum_head: tf.keras.Model,
        momentum: float | Schedule = 0.996,
        uniformity_weight: float = 0.0,
        linear_probe: tf.keras.Model | None = None,
        gradient_clip: float | None = None,
        accumulate: int = 1,
    ):
        if not uniformity_weight >= 0:
            raise ValueError(f"uniformity_weight must be at least 0, got {uniformity_weight}.")
        self.uniformity_weight = uniformity_weight
        networks = (student, student_head, predictor, momentum_encoder, momentum_head)
        super().__init__(*networks, momentum, linear_probe, gradient_clip, accumulate)
        uniformity = ("uniformity_loss",) if uniformity_weight else ()
        self.term_names = ("loss", "byol", *uniformity, "embedding_std", *self._probe.term_names)

    @property
    def allows_accumulation(self) -> bool:  # type: ignore[override]
        """Examples see each other through their uniformity alone."""
        return not self.uniformity_weight

    def loss_terms(self, batch: Batch) -> dict[str, tf.Tensor]:
        views = batch["global"].shape[1]
        if views != 2:
            raise ValueError(f"BYOL compares two views, got {views}.")
        features, online, target = self.embed(batch)
        terms = {"byol": byol_loss(target, online), "embedding_std": embedding_std(features)}
        loss = terms["byol"]
        if self.uniformity_weight:
            gathered = (distribute.all_gather(view) for view in tf.split(unit_rows(online), 2))
            terms["uniformity_loss"] = mean_uniformity(*gathered)
            loss += self.uniformity_weight * terms["uniformity_loss"]
        terms |= self._probe.terms(features, batch)
        return {"loss": loss + self._probe.loss(terms), **terms}

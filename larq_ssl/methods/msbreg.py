"""MSBReg: BYOL of many views, whose embeddings are pushed at random and spread over all dimensions."""

import tensorflow as tf

from larq_ssl import distribute
from larq_ssl.losses.msbreg import brownian_loss, centroid_loss, check_centroid
from larq_ssl.losses.singular_values import check_singular_values, embedding_rows, singular_value_loss
from larq_ssl.methods.base import Batch
from larq_ssl.methods.bootstrap import Bootstrap
from larq_ssl.methods.brownian import brownian_directions
from larq_ssl.methods.monitors import embedding_std
from larq_ssl.schedules import Schedule


class MSBReg(Bootstrap):
    """Multi-view centroid, singular value and Brownian losses.

    \\[ \\mathcal{L} = \\mathcal{L}_c + \\lambda_s \\mathcal{L}_s + \\lambda_b \\mathcal{L}_b \\]

    All three act on the unit outputs of the predictor: the centroid loss draws each to the centroid of what the
    momentum network makes of the other views, the singular value loss spreads those of the images of all replicas
    evenly over the dimensions, the Brownian loss pushes each in a direction that is drawn anew in every step. All three
    are **reconstructions**: see `larq_ssl.losses.msbreg` and `larq_ssl.losses.singular_values` for what is known.

    # Arguments
        student, student_head, predictor, momentum_encoder, momentum_head: The networks, see `Bootstrap`.
        momentum: Of the momentum network, a number or a schedule.
        lambda_s: \\( \\lambda_s \\). With 0 the term is not computed, and a batch can be cut into parts.
        lambda_b: \\( \\lambda_b \\). With 0 the term is not computed.
        centroid: `leave_one_out`, `all` or `centroid_to_centroid`, see `larq_ssl.losses.msbreg.centroid_loss`.
        spectrum: `sv`, `cov` or `nuclear`, see `larq_ssl.losses.singular_values.singular_value_loss`.
        rows: Of the matrix of embeddings: one per `image` or per `view`; at least as many as an embedding is long.
        brownian_per_view: Whether each view of an image is pushed in a direction of its own.
        seed: Of the directions.
        linear_probe, gradient_clip, accumulate: See `Bootstrap`.
    # Raises
        ValueError: If a number is out of its range, an option unknown, or the momentum networks are not of the same
            architecture.
    # References
        - An Embedding-Dynamic Approach to Self-supervised Learning (Moon et al., 2023), with its supplement

    Differences from the paper: unknown as for the losses; the momentum is not published. The number of views is that of
    the batch; two, without both other losses, are half of BYOL.
    """

    def __init__(
        self,
        student: tf.keras.Model,
        student_head: tf.keras.Model,
        predictor: tf.keras.Model,
        momentum_encoder: tf.keras.Model,
        momentum_head: tf.keras.Model,
        momentum: float | Schedule = 0.99,
        lambda_s: float = 0.004,
        lambda_b: float = 0.5,
        centroid: str = "leave_one_out",
        spectrum: str = "sv",
        rows: str = "image",
        brownian_per_view: bool = False,
        seed: int = 0,
        linear_probe: tf.keras.Model | None = None,
        gradient_clip: float | None = None,
        accumulate: int = 1,
    ):
        for argument, weight in (("lambda_s", lambda_s), ("lambda_b", lambda_b)):
            if not weight >= 0:
                raise ValueError(f"{argument} must be at least 0, got {weight}.")
        check_centroid(2, centroid)
        check_singular_values(spectrum, rows)
        self.lambda_s, self.lambda_b = lambda_s, lambda_b
        networks = (student, student_head, predictor, momentum_encoder, momentum_head)
        super().__init__(*networks, momentum, linear_probe, gradient_clip, accumulate)
        self.centroid, self.spectrum, self.rows = centroid, spectrum, rows
        self.brownian_per_view, self.seed = brownian_per_view, seed
        weighted = {"brownian": lambda_b, "singular_values": lambda_s}
        shown = (name for name, weight in weighted.items() if weight)
        self.term_names = ("loss", "centroid", *shown, "embedding_std", *self._probe.term_names)

    @property
    def allows_accumulation(self) -> bool:  # type: ignore[override]
        """Examples see each other through the singular values alone."""
        return not self.lambda_s

    def loss_terms(self, batch: Batch) -> dict[str, tf.Tensor]:
        views = batch["global"].shape[1]
        features, online, target = self.embed(batch)
        terms = {
            "centroid": centroid_loss(target, online, views, self.centroid),
            "embedding_std": embedding_std(features),
        }
        loss = terms["centroid"]
        if self.lambda_b:
            count = views if self.brownian_per_view else 1
            directions = brownian_directions(self.seed, self.optimizer.iterations, batch["id"], count, online.shape[-1])
            terms["brownian"] = brownian_loss(directions, online, views)
            loss += self.lambda_b * terms["brownian"]
        if self.lambda_s:
            matrix = distribute.all_gather(embedding_rows(online, views, self.rows))
            terms["singular_values"] = singular_value_loss(matrix, self.spectrum)
            loss += self.lambda_s * terms["singular_values"]
        terms |= self._probe.terms(features, batch)
        return {"loss": loss + self._probe.loss(terms), **terms}

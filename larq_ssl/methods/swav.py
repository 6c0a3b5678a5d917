"""SwAV: a view of an image predicts to which prototypes another view of it was assigned."""

import math
from collections.abc import Mapping

import tensorflow as tf

from larq_ssl import distribute
from larq_ssl.losses.swav import check_sinkhorn, swav_targets
from larq_ssl.losses.unit_rows import unit_rows
from larq_ssl.losses.view_pairs import pair_weights, view_pair_cross_entropy
from larq_ssl.methods import multi_crop
from larq_ssl.methods.base import Batch, SelfSupervisedModel
from larq_ssl.methods.joint_probe import JointProbe
from larq_ssl.methods.monitors import class_usage, embedding_std, mean_entropy
from larq_ssl.queue import EmbeddingQueue
from larq_ssl.roles import Role, variable_roles

ASSIGNED_VIEWS = 2


class SwAV(SelfSupervisedModel):
    """Swapping assignments between views, with multi-crop.

    \\[ \\mathcal{L} = \\alpha \\, \\overline{\\ell}_{gg} + (1 - \\alpha) \\, \\overline{\\ell}_{gl}, \\quad
       \\ell(g, v) = -\\sum_k q_{gk} \\log \\mathrm{softmax}_k\\Big(\\frac{\\langle z_v, c_k \\rangle}{\\tau}\\Big) \\]

    The means are over the pairs of two different global views and over the pairs of a global and a local view. All
    views go through one network; the assignments \\( q_g \\) of the two global views are those of Sinkhorn-Knopp over
    the images of all replicas, and of the queue where there is one. The prototypes \\( c_k \\) are brought to length
    one at the start of each step, also while they are frozen.

    # Arguments
        student: Encoder of all views `[batch, height, width, 3] -> [batch, dim]`, of any size where there are
            local ones.
        student_head: Projection head `[batch, dim] -> [batch, embedding]`, not normalised.
        prototypes: `[batch, embedding] -> [batch, prototypes]`, see `larq_ssl.heads.prototypes`.
        alpha: Share of the global pairs, `None` for the mean over all pairs; see `larq_ssl.losses.view_pairs`.
        epsilon, iterations: Of Sinkhorn-Knopp, see `larq_ssl.losses.swav.sinkhorn`.
        temperature: \\( \\tau \\).
        queue_size: Number of earlier images that are assigned together with the batch, for batches that are too small
            to use the prototypes alike; 0 for none. It is used once it is full.
        queue_start_step: The first step whose embeddings go into the queue. One that is full before, because it comes
            from another run, goes on from the first step.
        linear_probe: Classifier that is trained beside on detached features, see `JointProbe`; or `None`.
        gradient_clip, clip_norm: See `SelfSupervisedModel`.
    # Attributes
        queue: The embeddings of earlier images, or `None`.
    # Raises
        ValueError: If a number is out of its range, or `prototypes` is not a network of prototypes alone.
    # References
        - Unsupervised Learning of Visual Features by Contrasting Cluster Assignments (Caron et al., 2020)
        - Effective Self-supervised Pre-training on Low-compute Networks without Distillation (SSLight), Eq. 3

    Differences from the paper: none. The prototypes stay untouched in the first epoch by
    `larq_ssl.callbacks.FreezeRoles`, as in the released code.
    """

    gradient_groups: Mapping[str, tuple[str, ...]] = {
        "feature_extractor": ("student",),
        "head": ("student_head", "prototypes"),
    }
    allows_accumulation = False

    def __init__(
        self,
        student: tf.keras.Model,
        student_head: tf.keras.Model,
        prototypes: tf.keras.Model,
        alpha: float | None = None,
        epsilon: float = 0.05,
        iterations: int = 3,
        temperature: float = 0.1,
        queue_size: int = 0,
        queue_start_step: int = 0,
        linear_probe: tf.keras.Model | None = None,
        gradient_clip: float | None = None,
        clip_norm: str = "global",
    ):
        networks = {"student": student, "student_head": student_head, "prototypes": prototypes}
        probe = JointProbe(linear_probe)
        optimized = (*networks, *probe.networks)
        super().__init__({**networks, **probe.networks}, optimized, gradient_clip, clip_norm=clip_norm)
        self._probe, self._directions = probe, _directions(prototypes)
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, got {temperature}.")
        for argument, steps in (("queue_size", queue_size), ("queue_start_step", queue_start_step)):
            if steps < 0:
                raise ValueError(f"{argument} must be at least 0, got {steps}.")
        check_sinkhorn(epsilon, iterations)
        pair_weights(ASSIGNED_VIEWS, 0, alpha)  # refuses an alpha out of its range
        self.alpha, self.epsilon, self.iterations, self.temperature = alpha, epsilon, iterations, temperature
        dim, count = self._directions.shape
        self.queue = EmbeddingQueue(ASSIGNED_VIEWS, queue_size, dim) if queue_size else None
        self.queue_start_step = queue_start_step
        self.term_names = ("loss", "swav", "target_entropy", "class_usage", "embedding_std", *probe.term_names)
        self.collapse_values = {"swav": math.log(count)}

    @property
    def heads(self) -> dict[str, tf.keras.Model]:
        return {name: self.networks[name] for name in ("student_head", "prototypes")}

    @property
    def memories(self) -> dict[str, tf.keras.layers.Layer]:
        return {} if self.queue is None else {"queue": self.queue}

    def before_update(self) -> None:
        distribute.update_variables(
            [self._directions],
            [self._directions],
            lambda variable, value: variable.assign(tf.math.l2_normalize(tf.convert_to_tensor(value), axis=0)),
        )

    def loss_terms(self, batch: Batch) -> dict[str, tf.Tensor]:
        views = multi_crop.views_of(batch)
        if views[0] != ASSIGNED_VIEWS:
            raise ValueError(f"SwAV assigns {ASSIGNED_VIEWS} global views, got {views[0]}.")
        features = multi_crop.embed(self.networks["student"], multi_crop.groups_of_views(batch))
        embeddings = unit_rows(self.networks["student_head"](features, training=True))
        scores = self.networks["prototypes"](embeddings, training=True)
        images = tf.shape(batch["id"])[0]
        targets, target_scores = self._targets(embeddings, scores, ASSIGNED_VIEWS * images)
        loss = view_pair_cross_entropy(targets, scores, self.temperature, pair_weights(*views, self.alpha))
        terms = {
            "swav": loss,
            "target_entropy": mean_entropy(targets),
            "class_usage": class_usage(target_scores, self.temperature),
            "embedding_std": embedding_std(features[:images]),
            **self._probe.terms(features[:images], batch),
        }
        return {"loss": loss + self._probe.loss(terms), **terms}

    def _targets(self, embeddings: tf.Tensor, scores: tf.Tensor, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Assignments of this replica's global views, its first `rows`; and the scores of those of all replicas.

        Embeddings are gathered rather than scores: they are shorter, and the queue wants them.
        """
        views = tf.split(tf.stop_gradient(embeddings[:rows]), ASSIGNED_VIEWS)
        # Equal on all replicas, whose threads share this attribute: one must not read what is another's.
        self._embeddings = tf.stack([distribute.all_gather(view) for view in views])
        scores = tf.stop_gradient(scores[:rows]) if distribute.replicas() == 1 else self._scores(self._embeddings)
        assignments = tf.split(self._assign(scores), ASSIGNED_VIEWS)
        return tf.concat([distribute.replica_slice(view) for view in assignments], axis=0), scores

    def _assign(self, scores: tf.Tensor) -> tf.Tensor:
        def assign(queue_scores: tf.Tensor | None = None) -> tf.Tensor:
            return swav_targets(scores, ASSIGNED_VIEWS, self.epsilon, self.iterations, queue_scores)

        queue = self.queue
        if queue is None:
            return assign()
        return tf.cond(
            queue.is_full(),
            lambda: assign(tf.stack(tf.split(self._scores(queue.embeddings), ASSIGNED_VIEWS))),
            assign,
        )

    def _scores(self, embeddings: tf.Tensor) -> tf.Tensor:
        """Scores of embeddings `[views, images, dim]`, view-major."""
        rows = tf.reshape(embeddings, [-1, self._directions.shape[0]])
        return tf.stop_gradient(self.networks["prototypes"](rows, training=True))

    def after_update(self) -> None:
        if self.queue is not None:
            # The optimizer has counted this step already.
            started = self.optimizer.iterations > self.queue_start_step
            self.queue.enqueue(self._embeddings, tf.logical_or(started, self.queue.is_full()))


def _directions(prototypes: tf.keras.Model) -> tf.Variable:
    """The one variable of a network of prototypes."""
    roles = variable_roles(prototypes)
    if [role for _, role in roles] != [Role.PROTOTYPES]:
        raise ValueError(
            "prototypes must be a network of prototypes alone, as `larq_ssl.heads.prototypes` makes it, got one whose "
            f"variables are {', '.join(f'{variable.name} ({role.value})' for variable, role in roles)}."
        )
    return roles[0][0]

"""What every self-supervised method shares: one training step, and the bookkeeping that a run relies on."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from larq_ssl import distribute
from larq_ssl.methods import loss_scaling
from larq_ssl.methods.clipping import CLIP_NORMS, clip
from larq_ssl.models.binary_convolution import same_weights
from larq_ssl.optimizers import assign_roles
from larq_ssl.roles import Role, variable_roles

Batch = Mapping[str, tf.Tensor]

NOT_FINITE = "larq_ssl: the loss or a gradient is not finite; the update was not applied."
"""Start of the message of the `tf.errors.InvalidArgumentError` that stops a run that diverges."""

_CHECKED_STEPS = 3


class SelfSupervisedModel(tf.keras.Model):
    """A method: named networks, the loss terms of a batch, and which networks the optimizer moves.

    A subclass passes its networks to the constructor, lists the names of its metrics in `term_names`, and
    implements `loss_terms`. Training is Keras's own: `compile(optimizer)`, then `fit(view_batches(...))`. With
    `steps_per_epoch` given, `epochs` is the total that the model is to reach: a second `fit` of a trained model with
    the same `epochs` finds nothing to do, and one with more goes on.

    Which variables are optimised is decided by `optimized`, never by `layer.trainable`: Keras puts a
    BatchNormalization that is not trainable in inference mode, which most methods do not mean.

    # Arguments
        networks: The method's networks by name, e.g. `{"teacher": ..., "student": ...}`.
        optimized: The names of those that the optimizer moves.
        gradient_clip: Largest L2 norm of the gradients, or `None`.
        clip_norm: Whose norm that is: `global`, of all gradients together, or `variable`, of each alone.
        accumulate: Number of equal parts that a batch is cut into; their gradients are averaged before the
            one update. Equal to a single pass in which BatchNormalization sees each part alone.
    # Attributes
        term_names: Names of the scalars that `loss_terms` returns; `loss` is the one that is minimised.
        gradient_groups: Groups of networks whose gradient norms are reported as `gradient_norm/<group>`.
        collapse_values: Terms and the value at which each sits if the method teaches nothing (the logarithm of the
            number of classes).
        allows_accumulation: Whether the loss is a mean over examples that do not see each other.
        frozen_roles: Roles of the variables that the optimizer leaves alone for now, see `freeze`.
    # Raises
        ValueError: If an argument is out of its range or the method cannot accumulate.
    """

    term_names: tuple[str, ...] = ("loss",)
    gradient_groups: Mapping[str, tuple[str, ...]] = {}
    collapse_values: Mapping[str, float] = {}
    allows_accumulation = True

    def __init__(
        self,
        networks: Mapping[str, tf.keras.Model],
        optimized: Iterable[str],
        gradient_clip: float | None = None,
        accumulate: int = 1,
        name: str | None = None,
        clip_norm: str = "global",
    ):
        super().__init__(name=name)
        self.networks = dict(networks)
        if gradient_clip is not None and not gradient_clip > 0:
            raise ValueError(f"gradient_clip must be above 0 or None, got {gradient_clip}.")
        if clip_norm not in CLIP_NORMS:
            raise ValueError(f"clip_norm must be one of {', '.join(CLIP_NORMS)}, got {clip_norm!r}.")
        if accumulate < 1:
            raise ValueError(f"accumulate must be at least 1, got {accumulate}.")
        if accumulate > 1 and not self.allows_accumulation:
            raise ValueError(
                f"accumulate must be 1 for {type(self).__name__}, whose examples see each other through a "
                f"queue or the batch, got {accumulate}."
            )
        self.optimized = tuple(optimized)
        self.gradient_clip, self.clip_norm = gradient_clip, clip_norm
        self.accumulate = accumulate
        self.frozen_roles: frozenset[Role] = frozenset()
        # What `train_step` returns is of all replicas already; Keras would add up what several processes return.
        self.distribute_reduction_method = "first"
        self.built = True

    @property
    def encoders(self) -> dict[str, tf.keras.Model]:
        """The products of training by name; `student` is always there, `ema` where the method keeps one."""
        return {"student": self.networks["student"]}

    @property
    def heads(self) -> dict[str, tf.keras.Model]:
        """The other networks that a second stage or a probe may want, by name."""
        return {}

    @property
    def memories(self) -> dict[str, tf.keras.layers.Layer]:
        """What is remembered from one batch to the next and a second stage goes on with, by name (a queue of keys)."""
        return {}

    def loss_terms(self, batch: Batch) -> dict[str, tf.Tensor]:
        """The values named in `term_names`, each a float32 tensor `[batch]` or a scalar; `loss` per example."""
        raise NotImplementedError

    def before_update(self) -> None:
        """Called in every step before the networks run, e.g. to move a momentum encoder."""

    def after_update(self) -> None:
        """Called in every step after the optimizer, e.g. to fill a queue; also if loss scaling has left the update out.

        Replicas share the method: of what `loss_terms` keeps for it on `self`, that of the last replica is there. So it
        must be the same on all of them, as what is gathered or reduced is.
        """

    def idle_networks(self) -> tuple[str, ...]:
        """Optimised networks that rightly get no gradient in the first steps (a term with weight 0)."""
        return ()

    def encode(self, images: tf.Tensor) -> tf.Tensor:
        """Features of raw images `[batch, height, width, 3]` in 0..255, in inference mode."""
        return self.networks["student"](images, training=False)

    def freeze(self, roles: Iterable[Role]) -> None:
        """Leaves the optimised variables of these roles alone from the next step on, and those of no other role.

        They get no gradient, so neither weight decay nor momentum moves them; what else moves a variable, like a moving
        average, still does.
        """
        roles = frozenset(Role(role) for role in roles)
        if roles != self.frozen_roles:
            self.frozen_roles = roles
            if self.train_function is not None:
                self.make_train_function(force=True)

    @property
    def optimized_variables(self) -> list[tf.Variable]:
        """The variables that the optimizer moves, network after network, those that are frozen for now included."""
        return [variable for variable, _ in self._optimized_roles()]

    def _optimized_roles(self) -> list[tuple[tf.Variable, Role]]:
        return [pair for name in self.optimized for pair in variable_roles(self.networks[name])]

    def compile(self, optimizer: tf.keras.optimizers.legacy.Optimizer, **kwargs: object) -> None:
        """Sets the optimizer and tells it the role of each variable that it will move."""
        super().compile(optimizer=optimizer, **kwargs)
        assign_roles(optimizer, self._optimized_roles())
        # Slots exist from the start, so that a checkpoint is restored, or found wanting, at once.
        getattr(optimizer, "inner_optimizer", optimizer)._create_all_weights(self.optimized_variables)
        self._means = {name: tf.keras.metrics.Mean(name=name) for name in self._metric_names()}
        # The largest |gradient| that each variable has seen in the first steps of a run.
        self.gradient_seen = tf.Variable(
            tf.zeros([len(self.optimized_variables)]),
            trainable=False,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            name="gradient_seen",
        )
        # One vector instead of a metric per variable: it costs a step next to nothing.
        self._gradient_squares = tf.keras.metrics.MeanTensor(
            name="gradient_squares", shape=[len(self.optimized_variables)]
        )

    def _metric_names(self) -> list[str]:
        return [*self.term_names, *(f"gradient_norm/{group}" for group in self.gradient_groups)]

    @property
    def metrics(self) -> list[tf.keras.metrics.Metric]:
        if not hasattr(self, "_means"):
            return []
        return [*self._means.values(), self._gradient_squares]

    def train_step(self, batch: Batch) -> dict[str, tf.Tensor]:
        self.before_update()
        roles = self._optimized_roles()
        active = [place for place, (_, role) in enumerate(roles) if role not in self.frozen_roles]
        variables = [roles[place][0] for place in active]
        terms, gradients = self._terms_and_gradients(batch, variables)
        gradients = loss_scaling.unscale(self.optimizer, distribute.all_reduce_sum(gradients))
        squares = _at(active, 2.0 * tf.stack([tf.nn.l2_loss(gradient) for gradient in gradients]), len(roles))
        norms = self._gradient_norms(squares)
        may_overflow = loss_scaling.leaves_out_overflow(self.optimizer)
        checks = [_assert_finite(terms["loss"]), _assert_finite(tf.sqrt(tf.reduce_sum(squares)), may_overflow)]
        with tf.control_dependencies(checks):
            gradients = [tf.identity(gradient) for gradient in gradients]
        self._watch_first_gradients(gradients, active)
        gradients = clip(gradients, self.gradient_clip, self.clip_norm)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True), experimental_aggregate_gradients=False)
        with tf.control_dependencies(checks):
            self.after_update()
        # Where the loss scale was too large the update is left out, and its gradients do not count.
        applied = tf.reduce_all(tf.math.is_finite(squares))
        for name, value in {**terms, **norms}.items():
            counts = applied if name in norms else tf.math.is_finite(value)
            self._means[name].update_state(tf.where(counts, value, 0.0), sample_weight=tf.cast(counts, tf.float32))
        self._gradient_squares.update_state(
            tf.where(applied, squares, 0.0), tf.fill(tf.shape(squares), tf.cast(applied, tf.float32))
        )
        return {name: mean.result() for name, mean in self._means.items()}

    def _terms_and_gradients(
        self, batch: Batch, variables: list[tf.Variable]
    ) -> tuple[dict[str, tf.Tensor], list[tf.Tensor]]:
        """Means of the terms, and the gradients of this replica's share of the global mean loss."""
        part_terms, part_gradients = [], []
        for part in _split(batch, self.accumulate):
            with tf.GradientTape() as tape:
                with same_weights():
                    terms = self.loss_terms(part)
                if set(terms) != set(self.term_names):
                    raise ValueError(
                        f"{type(self).__name__}.loss_terms must return {sorted(self.term_names)}, got {sorted(terms)}."
                    )
                terms = {name: tf.reduce_mean(tf.cast(term, tf.float32)) for name, term in terms.items()}
                share = terms["loss"] / (self.accumulate * distribute.replicas())
                objective = loss_scaling.scale(self.optimizer, share)
            gradients = tape.gradient(objective, variables)
            _refuse_unconnected(variables, gradients)
            part_terms.append(terms)
            part_gradients.append([tf.convert_to_tensor(gradient) for gradient in gradients])
        means = {name: tf.add_n([terms[name] for terms in part_terms]) / self.accumulate for name in part_terms[0]}
        return means, [tf.add_n(parts) for parts in zip(*part_gradients, strict=True)]

    def _gradient_norms(self, squares: tf.Tensor) -> dict[str, tf.Tensor]:
        """The norm of each group, from the squared norms of the gradients of all optimised variables."""
        counts = [len(variable_roles(self.networks[name])) for name in self.optimized]
        of_network = dict(zip(self.optimized, tf.split(squares, counts), strict=True))
        norms = {}
        for group, names in self.gradient_groups.items():
            members = tf.concat([of_network[name] for name in names if name in of_network], axis=0)
            norms[f"gradient_norm/{group}"] = tf.sqrt(tf.reduce_sum(members))
        return norms

    def gradient_norms(self, variables: Sequence[tf.Variable]) -> np.ndarray:
        """The norm of the gradient of each of these variables, in the epoch so far.

        It is the root of the mean over the steps of the squared L2 norm of the gradient that the optimizer got,
        before clipping; the squares of several variables add up to that of all together.

        # Arguments
            variables: Some of `optimized_variables`.
        # Returns
            Float32 array `[variables]`; zeros before the first step of an epoch.
        # Raises
            ValueError: If one of the variables is not optimised.
        """
        places = {id(variable): place for place, variable in enumerate(self.optimized_variables)}
        for variable in variables:
            if id(variable) not in places:
                raise ValueError(f"`variables` must be optimised, {variable.name} is not.")
        means = self._gradient_squares.result().numpy()
        return np.sqrt(means[[places[id(variable)] for variable in variables]])

    def _watch_first_gradients(self, gradients: list[tf.Tensor], places: Sequence[int]) -> None:
        def largest_finite(gradient: tf.Tensor) -> tf.Tensor:
            size = tf.abs(tf.cast(gradient, tf.float32))
            # Too large a loss scale makes them infinite: seen, but nothing that a checkpoint may hold.
            return tf.reduce_max(tf.where(tf.math.is_finite(size), size, size.dtype.max))

        largest = tf.cond(
            self.optimizer.iterations < _CHECKED_STEPS,
            lambda: tf.stack([largest_finite(gradient) for gradient in gradients]),
            lambda: tf.zeros([len(gradients)]),
        )
        count = self.gradient_seen.shape[0]
        self.gradient_seen.assign(tf.maximum(self.gradient_seen, _at(places, largest, count)))

    def variables_without_gradient(self) -> list[str]:
        """Names of optimised variables, not frozen, whose gradient was exactly zero in all of the first three steps."""
        names = []
        for name in self.optimized:
            for variable, role in variable_roles(self.networks[name]):
                idle = name in self.idle_networks() or role in self.frozen_roles
                names.append((idle, f"{name}/{variable.name}"))
        seen = self.gradient_seen.numpy()
        return [name for (idle, name), largest in zip(names, seen, strict=True) if largest == 0 and not idle]

    def reset_metrics(self) -> None:
        if getattr(self, "_resumed_within_epoch", False):
            self._resumed_within_epoch = False
            return
        super().reset_metrics()

    def _maybe_load_initial_counters_from_ckpt(self, steps_per_epoch: int, initial_epoch: int) -> tuple[int, int]:
        """Lets `fit` go on in the middle of an epoch, at the step that the optimizer has reached."""
        if steps_per_epoch is None:
            return initial_epoch, 0
        epoch, step = divmod(int(self.optimizer.iterations.numpy()), steps_per_epoch)
        self._resumed_within_epoch = step > 0
        return epoch, step


def _split(batch: Batch, parts: int) -> list[Batch]:
    if parts == 1:
        return [batch]
    size = batch["id"].shape[0]
    # One that is not known to the graph is looked at by `tf.split`.
    if size is not None and size % parts:
        raise ValueError(f"accumulate must divide the batch size per replica ({size}), got {parts}.")
    pieces = {key: tf.split(value, parts) for key, value in batch.items()}
    return [{key: pieces[key][part] for key in pieces} for part in range(parts)]


def _at(places: Sequence[int], values: tf.Tensor, count: int) -> tf.Tensor:
    """A vector of `count` numbers: the values at these places, zeros elsewhere."""
    if len(places) == count:
        return values
    return tf.scatter_nd(tf.constant([[place] for place in places]), values, [count])


def _assert_finite(value: tf.Tensor, unless: tf.Tensor | bool = False) -> tf.Operation:
    return tf.debugging.Assert(tf.logical_or(tf.math.is_finite(value), unless), [NOT_FINITE, value])


def _refuse_unconnected(variables: list[tf.Variable], gradients: list[tf.Tensor | None]) -> None:
    missing = [variable.name for variable, gradient in zip(variables, gradients, strict=True) if gradient is None]
    if missing:
        raise RuntimeError(
            f"{len(missing)} of {len(variables)} optimised variables are not connected to the loss, "
            f"the first is {missing[0]}: take them out of the networks or of `optimized`."
        )

"""The few things that a method has to know about replicas; tf.distribute does the rest."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

STRATEGIES = ("single", "mirrored")
# Collectives refuse some types; these carry them without loss.
_CARRIERS = {tf.uint8: tf.float16, tf.bfloat16: tf.float32}


def strategy(name: str, devices: Sequence[str] | None = None) -> tf.distribute.Strategy:
    """The `tf.distribute` strategy of that name.

    # Arguments
        name: `single` (the default device) or `mirrored` (every GPU of this machine).
        devices: For `mirrored`, the devices to use instead of all GPUs.
    # Raises
        ValueError: If the name is unknown.
    """
    if name == "single":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        return tf.distribute.MirroredStrategy(devices)
    raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}, got {name!r}.")


def replicas() -> int:
    """Number of replicas that train together."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def all_reduce_sum(tensors: list[tf.Tensor]) -> list[tf.Tensor]:
    """Sums each tensor over the replicas; call it in replica context."""
    if replicas() == 1:
        return tensors
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tensors)


def all_gather(tensor: tf.Tensor) -> tf.Tensor:
    """Concatenates `[per_replica, ...]` over the replicas into `[global, ...]`, with gradient."""
    if replicas() == 1:
        return tensor
    carried = tf.cast(tensor, _CARRIERS.get(tensor.dtype, tensor.dtype))
    return tf.cast(tf.distribute.get_replica_context().all_gather(carried, axis=0), tensor.dtype)


def replica_slice(tensor: tf.Tensor) -> tf.Tensor:
    """The part of a gathered tensor `[global, ...]` that belongs to this replica."""
    count = replicas()
    if count == 1:
        return tensor
    size = tf.shape(tensor)[0] // count
    index = tf.distribute.get_replica_context().replica_id_in_sync_group
    return tensor[index * size : (index + 1) * size]


def update_variables(
    variables: Sequence[tf.Variable], values: Sequence[Any], update: Callable[[tf.Variable, tf.Tensor], Any]
) -> None:
    """Applies `update(variable, value)` to each pair on every replica, where `assign` would be refused.

    A mirrored variable without an aggregation cannot be assigned in replica context; equal updates of equal
    copies need none. `values` may be mirrored variables themselves.
    """
    if replicas() == 1:
        for variable, value in zip(variables, values, strict=True):
            update(variable, value)
        return

    def merge(strategy: tf.distribute.Strategy, values: Sequence[Any]) -> None:
        for variable, value in zip(variables, values, strict=True):
            strategy.extended.update(variable, update, args=(value,))

    tf.distribute.get_replica_context().merge_call(merge, args=(list(values),))

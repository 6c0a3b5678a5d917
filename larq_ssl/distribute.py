"""The few things that a method has to know about replicas; tf.distribute does the rest."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from larq_ssl.cluster import read_cluster

STRATEGIES = ("single", "mirrored", "multi_worker", "tpu")
# Collectives refuse some types; these carry them without loss.
_CARRIERS = {tf.uint8: tf.float16, tf.bool: tf.float16, tf.bfloat16: tf.float32}


def strategy(name: str, devices: Sequence[str] | None = None) -> tf.distribute.Strategy:
    """The `tf.distribute` strategy of that name.

    # Arguments
        name: `single` (the default device), `mirrored` (every GPU of this machine), `multi_worker` (every GPU of every
            machine in `TF_CONFIG`, or their processors; to be made before any other operation) or `tpu` (the one that
            the environment variable `TPU_NAME` names, or else the one of this machine).
        devices: For `mirrored`, the devices to use instead of all GPUs.
    # Raises
        ValueError: If the name is unknown, `TF_CONFIG` is missing, wrong or in use, or there is no TPU.
    """
    if name == "single":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        return tf.distribute.MirroredStrategy(devices)
    if name == "multi_worker":
        return _multi_worker()
    if name == "tpu":
        return _tpu()
    raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}, got {name!r}.")


def _multi_worker() -> tf.distribute.MultiWorkerMirroredStrategy:
    cluster = read_cluster(os.environ.get("TF_CONFIG"))
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except (tf.errors.OpError, RuntimeError) as error:
        raise ValueError(
            f"strategy multi_worker cannot use {cluster.addresses[cluster.index]}, the address of this worker in "
            f"TF_CONFIG, or does not find the chief at {cluster.addresses[0]} ({_reason(error)}): is another process "
            "using the port?"
        ) from error


def _tpu() -> tf.distribute.TPUStrategy:
    name = os.environ.get("TPU_NAME", "local")
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, tf.errors.OpError) as error:
        raise ValueError(
            f"strategy tpu needs a TPU, here or named by the environment variable TPU_NAME, and {name!r} is none "
            f"({_reason(error)})."
        ) from error
    return tf.distribute.TPUStrategy(resolver)


def _reason(error: Exception) -> str:
    """The beginning of what TensorFlow says of an error."""
    return str(error).strip().split(". ")[0].splitlines()[0]


class Exchange:
    """Tells every process of a strategy the numbers of all of them: all must call it equally often.

    # Arguments
        strategy: Of `strategy`, `multi_worker`.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        self._strategy = strategy
        self._gather = tf.function(self._gathered)

    def __call__(self, number: int, timeout: float | None = None) -> list[int]:
        """The numbers of all replicas, in their order; those of a process are alike.

        # Arguments
            timeout: Seconds after which the others are waited for no longer.
        # Raises
            tf.errors.DeadlineExceededError: If they are over.
        """
        gathered = self._gather(tf.constant(number, tf.int64), timeout)
        return self._strategy.experimental_local_results(gathered)[0].numpy().tolist()

    def _gathered(self, number: tf.Tensor, timeout: float | None) -> tf.Tensor:
        options = tf.distribute.experimental.CommunicationOptions(timeout_seconds=timeout)

        def gather(mine: tf.Tensor) -> tf.Tensor:
            return tf.distribute.get_replica_context().all_gather(mine[None], axis=0, options=options)

        return self._strategy.run(gather, args=(number,))


def replicas() -> int:
    """Number of replicas that train together."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def all_reduce_sum(tensors: list[tf.Tensor]) -> list[tf.Tensor]:
    """Sums each tensor over the replicas; call it in replica context."""
    if replicas() == 1:
        return tensors
    # What a replica is given is on no device yet, and several processes could not tell where to put the sum.
    tensors = [tf.identity(tensor) for tensor in tensors]
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tensors)


def all_gather(tensor: tf.Tensor) -> tf.Tensor:
    """Concatenates `[per_replica, ...]` over the replicas into `[global, ...]`, with gradient."""
    if replicas() == 1:
        return tensor
    carried = tf.identity(tf.cast(tensor, _CARRIERS.get(tensor.dtype, tensor.dtype)))
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

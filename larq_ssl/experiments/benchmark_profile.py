"""Where a training step spends its time and its memory: TensorFlow's own profile of it, by class of operation."""

import concurrent.futures
import dataclasses
import gc
import multiprocessing
import os
import pathlib
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from larq_ssl.experiments.benchmark_steps import Step, Trainer
from larq_ssl.experiments.benchmark_workers import resident_memory
from larq_ssl.methods.base import SelfSupervisedModel
from larq_ssl.models.convolution_gradients import KERNEL_GRADIENT

TAUGHT_BY = "frozen networks"
CLASSES = {
    TAUGHT_BY: (),
    "convolutions, forward": ("Conv2D", "FusedConv2D", "DepthwiseConv2dNative"),
    "convolutions, gradient by kernel": ("Conv2DBackpropFilter", "DepthwiseConv2dNativeBackpropFilter"),
    "convolutions, gradient by input": ("Conv2DBackpropInput", "DepthwiseConv2dNativeBackpropInput"),
    "matrix products": ("MatMul", "FusedMatMul", "BatchMatMulV2", "Einsum"),
    "BatchNorm": ("FusedBatchNormV3", "FusedBatchNormExV3", "FusedBatchNormGradV3", "FusedBatchNormGradExV3"),
    "casts": ("Cast",),
    "sums": ("Sum", "Mean", "Max", "Min", "AddN", "BiasAddGrad", "L2Loss"),
    "element by element": (
        *("Add", "AddV2", "Sub", "Mul", "RealDiv", "Neg", "Abs", "Sign", "Square", "SquaredDifference", "Sqrt"),
        *("Rsqrt", "Exp", "Log", "Pow", "Maximum", "Minimum", "ClipByValue", "Relu", "ReluGrad", "LeakyRelu"),
        *("Select", "SelectV2", "Greater", "GreaterEqual", "Less", "LessEqual", "LogicalAnd", "LogicalOr", "BiasAdd"),
        *("FusedEltwise", "Softmax", "LogSoftmax", "OnesLike", "ZerosLike", "Fill", "IsFinite", "Equal", "NotEqual"),
    ),
    "optimizer": (),
    "other": (),
}
"""The operations of each class, by their types in TensorFlow without the prefixes of oneDNN."""

_CLASS_OF = {operation: name for name, operations in CLASSES.items() for operation in operations}
_PREFIXES = ("_MklNative", "_Mkl", "_")
_BACKWARD = "gradient_tape"
# Where ops of the step run, and where those that make views do.
_STEP_LINES, _PIPELINE_LINES = ("tf_Compute", "python"), ("tf_data_private_threadpool",)
_WAITING = "IteratorGetNextOp::DoCompute"
# They share the memory of what they are given.
_VIEWS = ("Identity", "IdentityN", "Reshape", "ExpandDims", "Squeeze", "StopGradient")
_STEPS = 4
_WARM = 4
"""Steps before the profile: the first three are looked at by `GradientCheck`."""


@dataclasses.dataclass(frozen=True)
class Profile:
    """A training step, per step.

    # Attributes
        name: Which one.
        seconds: From the end of one step to that of the next.
        operations: Seconds of each class of `CLASSES`, added up over threads.
        pipeline: Seconds of the operations that make views, likewise.
        waiting: Seconds in which the step waited for images.
        callbacks: Seconds in callbacks.
        keras: Seconds in `fit` around the step.
        kept: Bytes that the forward pass keeps for the backward pass, by the class of what made them.
        held: Bytes of `weights` and of the optimizer's `slots`.
        peak: Largest resident memory of the process in bytes, TensorFlow included.
        computes: Values of the flags of arithmetic.
    """

    name: str
    seconds: float
    operations: Mapping[str, float]
    pipeline: float
    waiting: float
    callbacks: float
    keras: float
    kept: Mapping[str, int]
    held: Mapping[str, int]
    peak: int
    computes: Mapping[str, str]


def profile(name: str, step: Step, *more: str) -> Profile:
    """Profiles a step in a process of its own.

    # Arguments
        more: Further flags of the command.
    # Raises
        ValueError: If the command refuses its flags.
    """
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_profile, name, step.settings(*more)).result()


def _profile(name: str, settings: Mapping[str, Any]) -> Profile:
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - what the command says is not to be seen
    trainer = Trainer(**settings)
    trainer.fit(_WARM)
    gc.collect()
    with tempfile.TemporaryDirectory() as folder:
        times = trainer.fit(_STEPS)
        peak = resident_memory("VmHWM")  # before the profiler adds its own
        tf.profiler.experimental.start(folder)
        try:
            trainer.fit(_STEPS)
        finally:
            tf.profiler.experimental.stop()
        (file,) = pathlib.Path(folder).glob("**/*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(file.read_bytes())
    method = trainer.method
    frozen = _names_of_frozen(method)
    counted = dict.fromkeys(CLASSES, 0.0)
    for operation, seconds in _events(space, _STEP_LINES):
        counted[class_of(operation, frozen)] += seconds
    steps = _STEPS + 1
    # What the first step waits for is the pipeline's start.
    waited = sorted(_waits(space))[1:]
    return Profile(
        name=name,
        seconds=times.seconds / _STEPS,
        operations={kind: seconds / steps for kind, seconds in counted.items()},
        pipeline=sum(seconds for _, seconds in _events(space, _PIPELINE_LINES)) / steps,
        waiting=sum(seconds for _, seconds in waited) / max(1, len(waited)),
        callbacks=times.callbacks / _STEPS,
        keras=(times.seconds - times.callbacks - times.training) / _STEPS,
        kept=kept_for_backward(method, trainer.batch, frozen),
        held={"weights": _bytes_of(method.variables), "slots": _bytes_of(method.optimizer.variables())},
        peak=peak,
        computes=trainer.computes,
    )


def class_of(operation: str, frozen: Collection[str] = ()) -> str:
    """The class of `CLASSES` of an operation that a profile calls `<scope>/<name>:<type>`.

    # Arguments
        frozen: Scopes of networks that are `TAUGHT_BY`.
    """
    scope, _, kind = operation.rpartition(":")
    if scope.split("/")[0] in frozen:
        return TAUGHT_BY
    for prefix in _PREFIXES:
        if kind.startswith(prefix):
            kind = kind.removeprefix(prefix)
            break
    if any(part.startswith(KERNEL_GRADIENT) for part in scope.split("/")[:-1]):
        return "convolutions, gradient by kernel"
    if kind.startswith("ResourceApply") or "/update_" in scope:
        return "optimizer"
    return _CLASS_OF.get(kind, "other")


def kept_for_backward(
    method: SelfSupervisedModel, batch: Mapping[str, tf.Tensor], frozen: Collection[str] = ()
) -> dict[str, int]:
    """Bytes of the tensors that the forward pass makes and the backward pass reads, by the class of what made them.

    Of the graph as it is traced; weights do not count, and what only shares memory is counted once. Forward is all that
    waits for no gradient: TensorFlow does it as soon as its inputs are there, whoever wants it.
    """
    train_step = tf.autograph.experimental.do_not_convert(method.train_step)
    graph = tf.function(train_step).get_concrete_function(dict(batch)).graph
    found: dict[int, tuple[str, int]] = {}
    backward: set[str] = set()
    for operation in graph.get_operations():  # each after its inputs
        # Gradients are added up outside of their scope.
        awaited = [*operation.control_inputs, *(one.op for one in operation.inputs)]
        if _BACKWARD not in operation.name and not any(one.name in backward for one in awaited):
            continue
        backward.add(operation.name)
        for tensor in operation.inputs:
            source = _source(tensor)
            if source.op.name in backward or source.op.type in ("Const", "Placeholder", "ReadVariableOp"):
                continue
            if source.shape.is_fully_defined() and source.dtype.size:
                kind = class_of(f"{source.op.name}:{source.op.type}", frozen)
                found[id(source)] = kind, source.shape.num_elements() * source.dtype.size
    kept = dict.fromkeys(CLASSES, 0)
    for kind, size in found.values():
        kept[kind] += size
    return kept


def _source(tensor: tf.Tensor) -> tf.Tensor:
    """Where the memory of a tensor comes from."""
    while tensor.op.type in _VIEWS:
        tensor = tensor.op.inputs[tensor.value_index if tensor.op.type == "IdentityN" else 0]
    return tensor


def _names_of_frozen(method: SelfSupervisedModel) -> set[str]:
    """Scopes of networks that are not optimised; one that has the name of another cannot be told from it."""
    names = {name: network.name for name, network in method.networks.items()}
    optimized = {names[name] for name in method.optimized}
    return {scope for name, scope in names.items() if name not in method.optimized} - optimized


def _events(space: xplane_pb2.XSpace, lines: Sequence[str]) -> Iterator[tuple[str, float]]:
    """Name and seconds of each operation on some threads."""
    for plane in space.planes:
        for line in plane.lines:
            if not line.name.startswith(tuple(lines)):
                continue
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                if _is_operation(name):
                    yield name, event.duration_ps / 1e12


def _is_operation(name: str) -> bool:
    """Whether it is `<name>:<type>`, and neither a part of TensorFlow's runtime nor a dataset being made."""
    scope, colon, kind = name.rpartition(":")
    return bool(colon) and not scope.endswith(":") and " " not in kind and not kind.endswith(("Dataset", "DatasetV2"))


def _waits(space: xplane_pb2.XSpace) -> Iterator[tuple[int, float]]:
    """When a step asked for images, and for how many seconds it waited."""
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                if plane.event_metadata[event.metadata_id].name.startswith(_WAITING):
                    yield line.timestamp_ns * 1000 + event.offset_ps, event.duration_ps / 1e12


def _bytes_of(variables: Sequence[tf.Variable]) -> int:
    return sum(variable.shape.num_elements() * variable.dtype.size for variable in variables)

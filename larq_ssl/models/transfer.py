"""Moves weights between networks by name: strictly, counted, and all or nothing."""

import dataclasses
from collections.abc import Iterator, Mapping

import larq
import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class TransferReport:
    """What a transfer of weights moved; `str(report)` is a sentence for the log.

    # Attributes
        tensors: Number of tensors assigned.
        total_tensors: Number of tensors of the target.
        parameters: Number of numbers in the tensors assigned.
        binary_kernels: Number of kernels assigned that are binary when `binarization="full"`.
        total_binary_kernels: Number of such kernels in the target.
    """

    tensors: int
    total_tensors: int
    parameters: int
    binary_kernels: int
    total_binary_kernels: int

    def __str__(self) -> str:
        tensors = f"{self.tensors} of {self.total_tensors} tensors"
        if not self.total_binary_kernels:
            return tensors
        return f"{self.binary_kernels} of {self.total_binary_kernels} binary kernels, {tensors}"


def named_weights(model: tf.keras.Model) -> dict[str, tf.Variable]:
    """All weights of a model, moving statistics included, as `{"<layer>/<weight>": variable}`.

    Layers within a model within the model carry the inner model's name in front.
    """
    named: dict[str, tf.Variable] = {}
    for key, variable in _walk(model, prefix=""):
        if named.setdefault(key, variable) is not variable:
            raise ValueError(f"Two weights of the model `{model.name}` are called {key!r}.")
    return named


def assign_weights(model: tf.keras.Model, arrays: Mapping[str, np.ndarray]) -> TransferReport:
    """Gives a model the weights of a mapping, which must fit exactly.

    # Arguments
        model: Its weights are overwritten, or, on any error, left alone.
        arrays: As `named_weights` names them.
    # Raises
        ValueError: naming the first weight that is missing, unexpected, of another shape or not finite.
    """
    named = named_weights(model)
    for key, variable in named.items():
        if key not in arrays:
            raise ValueError(f"The weight {key!r} of `{model.name}` is missing.")
        _check(key, np.asarray(arrays[key]), tuple(variable.shape), model.name)
    for key in arrays:
        if key not in named:
            raise ValueError(f"The weight {key!r} is unexpected: `{model.name}` has none of that name.")
    for key, variable in named.items():
        variable.assign(np.asarray(arrays[key], dtype=variable.dtype.as_numpy_dtype))
    binary = sum(isinstance(layer, larq.layers.QuantConv2D) for layer in (model, *model.submodules))
    return TransferReport(
        tensors=len(named),
        total_tensors=len(named),
        parameters=sum(int(np.prod(variable.shape)) for variable in named.values()),
        binary_kernels=binary,
        total_binary_kernels=binary,
    )


def copy_weights(source: tf.keras.Model, target: tf.keras.Model) -> TransferReport:
    """Copies all weights of one network into another with the same names and shapes.

    The binarization may differ: this is how stage 2 starts from stage 1.

    # Raises
        ValueError: as `assign_weights`, and if one of two encoders turns its images and the other does not.
    """
    turns = [getattr(getattr(model, "spec", None), "rotate_input", None) for model in (source, target)]
    if None not in turns and turns[0] != turns[1]:
        raise ValueError(
            f"`rotate_input` is {turns[0]} in `{source.name}` and {turns[1]} in `{target.name}`: the kernels of one "
            "are turned by 180 degrees, those of the other are not."
        )
    return assign_weights(target, {key: weight.numpy() for key, weight in named_weights(source).items()})


def rotate_kernels(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Turns all convolution kernels by 180 degrees, as weights from PyTorch need for `rotate_input=True`.

    Keras pads layers at stride 2 at the end, PyTorch on both sides: with turned kernels and turned images the
    two agree on even sizes, all the way for images whose sides are divisible by 32.

    # Arguments
        arrays: Weights by name, kernels as height, width, in, out.
    """
    return {key: array[::-1, ::-1] if array.ndim == 4 else array for key, array in arrays.items()}


def _walk(model: tf.keras.Model, prefix: str) -> Iterator[tuple[str, tf.Variable]]:
    for layer in model.layers:
        if isinstance(layer, tf.keras.Model):
            yield from _walk(layer, f"{prefix}{layer.name}/")
        else:
            for variable in layer.weights:
                weight = variable.name.split("/")[-1].split(":")[0]
                yield f"{prefix}{layer.name}/{weight}", variable


def _check(key: str, array: np.ndarray, shape: tuple[int, ...], model_name: str) -> None:
    if array.shape != shape:
        raise ValueError(f"The weight {key!r} must have the shape {shape} in `{model_name}`, not {array.shape}.")
    if array.dtype.kind != "f" or not np.isfinite(array).all():
        raise ValueError(f"The weight {key!r} must hold finite floating-point numbers only.")

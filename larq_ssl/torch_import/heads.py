"""Projection heads of PyTorch as heads of `larq_ssl.heads`.

PyTorch numbers the modules of a head, ReLUs included: a hidden layer is `0`, with batch norm also `1`; the last
one follows two (three) numbers later. A layer before a batch norm has a bias there and none here: the norm
subtracts it again, so it goes into the moving mean, with which the head stays what it was in either mode.
"""

import re

import tensorflow as tf

from larq_ssl.heads import HeadSpec, build_head
from larq_ssl.models.transfer import assign_weights, named_weights
from larq_ssl.torch_import.backbones import array_of, check_shape
from larq_ssl.torch_import.naming import DENSE, NORM, Tensors
from larq_ssl.torch_import.tensors import StoredTensor


def head(name: str, tensors: Tensors) -> tf.keras.Sequential:
    """The head that tensors are, with its weights.

    # Arguments
        name: Of the head here.
        tensors: Named within the head, such as `0.weight`; `weight` alone of a head of one layer.
    # Raises
        ValueError: If it is no multi-layer perceptron with ReLU; in words that go on after the name of the file.
    """
    spec, named = _plan(name, tensors)
    model = build_head(spec)
    shapes = {key: tuple(weight.shape) for key, weight in named_weights(model).items()}
    # Biases before batch norm, beside the means that take them up.
    means = {f"dense{layer}/bias": f"bn{layer}/moving_mean" for layer in range(1, len(spec.hidden_dims) + 1)}
    for key, tensor in named.items():
        if key not in shapes and means.get(key) not in shapes:
            raise ValueError(f"there is no place for the tensor {key!r} of its {name}")
        check_shape(key, tensor, shapes.get(key) or shapes[means[key]])
    for key in shapes:
        if key not in named:
            raise ValueError(f"its {name} has no tensor for {key!r}")
    arrays = {key: array_of(key, named[key], shape) for key, shape in shapes.items()}
    for key in named.keys() - shapes.keys():
        mean = means[key]
        arrays[mean] = arrays[mean] - array_of(mean, named[key], shapes[mean])
    assign_weights(model, arrays)
    return model


def is_mlp(keys: set[str]) -> bool:
    """Whether tensors with these keys are a head with one hidden layer and batch norm."""
    return {"0.weight", "1.running_mean", "3.weight"} <= keys


def _plan(name: str, tensors: Tensors) -> tuple[HeadSpec, dict[str, StoredTensor]]:
    """The spec, and the tensors by the names of the weights here (and those of biases before batch norm)."""
    modules: dict[int, dict[str, StoredTensor]] = {}
    for key, tensor in tensors.items():
        match = re.fullmatch(r"(?:(\d{1,3})\.)?(\w+)", key)
        leaves = modules.setdefault(int(match[1] or 0), {}) if match else {}
        if match is None or match[2] in leaves or match[2] not in NORM:
            raise ValueError(f"there is no place for the tensor {key!r} of its {name}")
        leaves[match[2]] = tensor
    dense = [index for index, leaves in sorted(modules.items()) if "running_mean" not in leaves]
    norms = [index for index in sorted(modules) if index not in dense]
    step = 3 if norms else 2
    if dense != list(range(0, step * len(dense), step)) or norms != [index + 1 for index in dense[:-1] if norms]:
        raise ValueError(f"its {name} is no row of dense layers with ReLU between them: {sorted(tensors)[:9]}")
    kernels = [modules[index].get("weight") for index in dense]
    shapes = [kernel.shape if kernel is not None else () for kernel in kernels]
    if not shapes or not all(len(shape) == 2 and min(shape) > 0 for shape in shapes):
        raise ValueError(f"its {name} is no row of dense layers")
    named = {}
    for layer, index in enumerate(dense, 1):
        for leaf, tensor in modules[index].items():
            named[f"dense{layer}/{DENSE.get(leaf, leaf)}"] = tensor
    for layer, index in enumerate(norms, 1):
        for leaf, tensor in modules[index].items():
            named[f"bn{layer}/{NORM[leaf]}"] = tensor
    spec = HeadSpec(
        name,
        shapes[0][1],
        tuple(shape[0] for shape in shapes[:-1]),
        shapes[-1][0],
        "batch" if norms else "none",
        output_bias="bias" in modules[dense[-1]],
    )
    return spec, named

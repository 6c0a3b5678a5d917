"""State dictionaries as the published codes write them, from weights by the names of layers here."""

import collections
import re
from collections.abc import Mapping

import numpy as np

_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
_REACTNET_A = {
    "sign1/bias": "move11.bias",
    "conv3x3/kernel": "binary_3x3.weight",
    "act1/bias_in": "move12.bias",
    "act1/slope": "prelu1.weight",
    "act1/bias_out": "move13.bias",
    "sign2/bias": "move21.bias",
    "conv1x1/kernel": "binary_pw.weight",
    "conv1x1_a/kernel": "binary_pw_down1.weight",
    "conv1x1_b/kernel": "binary_pw_down2.weight",
    "act2/bias_in": "move22.bias",
    "act2/slope": "prelu2.weight",
    "act2/bias_out": "move23.bias",
    "bn1": "bn1",
    "bn2": "bn2",
    "bn2_a": "bn2_1",
    "bn2_b": "bn2_2",
}
_REACTNET_18 = {
    "sign/bias": "move0.bias",
    "conv/kernel": "binary_conv.weight",
    "bn": "bn1",
    "shortcut/conv/kernel": "downsample.1.weight",
    "shortcut/bn": "downsample.2",
    "act/bias_in": "move1.bias",
    "act/slope": "prelu.weight",
    "act/bias_out": "move2.bias",
}
_RESNET = {
    "shortcut/conv/kernel": "downsample.0.weight",
    "shortcut/bn": "downsample.1",
    **{f"conv{index}/kernel": f"conv{index}.weight" for index in (1, 2, 3)},
    **{f"bn{index}": f"bn{index}" for index in (1, 2, 3)},
}
_VIT = {
    "tokens/class_token": "cls_token",
    "tokens/position_embedding": "pos_embed",
    "patches": "patch_embed.proj",
    "attention/qkv": "attn.qkv",
    "attention/project": "attn.proj",
    "mlp/dense1": "mlp.fc1",
    "mlp/dense2": "mlp.fc2",
    "fc": "head",
}
_LEAVES = {"kernel": "weight", "depthwise_kernel": "weight", "bias": "bias", **_NORM}
_BLOCKS = {"reactnet_a": _REACTNET_A, "reactnet_a_burn": _REACTNET_A, "reactnet_18": _REACTNET_18}


def state_dict(architecture: str, weights: Mapping[str, np.ndarray], prefix: str = "") -> collections.OrderedDict:
    """The tensors of a network.

    # Arguments
        architecture: Its name here.
        weights: By name, kernels as height, width, in, out.
        prefix: Put before all names.
    """
    tensors: collections.OrderedDict = collections.OrderedDict()
    for name, array in weights.items():
        tensors[f"{prefix}{_key(architecture, name)}"] = _tensor(name, array)
        if name.endswith("moving_variance"):
            module = _key(architecture, name).removesuffix("running_var")
            tensors[f"{prefix}{module}num_batches_tracked"] = np.array(1000, np.int64)
    return tensors


def flattened(tensors: Mapping[str, np.ndarray]) -> collections.OrderedDict:
    """As step 2 of the official ReActNet-A: binary kernels under another name and as one column."""
    changed: collections.OrderedDict = collections.OrderedDict()
    for name, array in tensors.items():
        if "binary_" in name and name.endswith("weight"):
            name, array = f"{name}s", array.reshape(-1, 1)
        changed[name] = array
    return changed


def dense(kernel: np.ndarray, bias: np.ndarray | None, prefix: str) -> dict[str, np.ndarray]:
    """A dense layer, its kernel given as (in, out)."""
    tensors = {f"{prefix}weight": np.ascontiguousarray(kernel.T)}
    return tensors if bias is None else {**tensors, f"{prefix}bias": bias}


def _key(architecture: str, name: str) -> str:
    if architecture == "mobilenet_v2":
        return _mobilenet_v2_key(*name.rsplit("/", 1))
    if architecture.startswith("vit_"):
        return _vit_key(name)
    if name.startswith("fc/"):
        return {"fc/kernel": "fc.weight", "fc/bias": "fc.bias"}[name]
    if name.startswith("extra_fc/"):
        return {"extra_fc/kernel": "fc.0.weight", "extra_fc/bias": "fc.0.bias"}[name]
    if name.startswith("stem/"):
        stem = "feature.0." if architecture.startswith("reactnet_a") else ""
        return f"{stem}conv1.weight" if name == "stem/conv/kernel" else f"{stem}bn1.{_NORM[name.split('/')[-1]]}"
    if architecture.startswith("reactnet_a"):
        place, within = name.split("/", 1)
        block = f"feature.{place.removeprefix('block')}"
    else:
        stage, place, within = re.fullmatch(r"stage(\d)/block(\d)/(.+)", name).groups()
        block = f"layer{stage}.{int(place) - 1}"
    names = _BLOCKS.get(architecture, _RESNET)
    if within in names:
        return f"{block}.{names[within]}"
    layer, leaf = within.rsplit("/", 1)
    return f"{block}.{names[layer]}.{_NORM[leaf]}"


def _mobilenet_v2_key(layer: str, leaf: str) -> str:
    if layer == "fc":
        return f"classifier.1.{_LEAVES[leaf]}"
    place, within = layer.split("/", 1)
    if place in ("stem", "head"):
        module = f"features.{0 if place == 'stem' else 18}.{['conv', 'bn'].index(within)}"
    else:
        # The first block has no expansion; behind the last convolution nothing groups it with its norm.
        number = int(place.removeprefix("block"))
        part, kind = within.split("/")
        index = ["expand", "depthwise", "project"].index(part) - (number == 1)
        inner = f"{index + (kind == 'bn')}" if part == "project" else f"{index}.{['conv', 'bn'].index(kind)}"
        module = f"features.{number}.conv.{inner}"
    return f"{module}.{_LEAVES[leaf]}"


def _vit_key(name: str) -> str:
    if name in _VIT:
        return _VIT[name]
    layer, leaf = name.rsplit("/", 1)
    if not layer.startswith("block"):
        return f"{_VIT.get(layer, layer)}.{_LEAVES[leaf]}"
    block, layer = layer.split("/", 1)
    return f"blocks.{int(block.removeprefix('block')) - 1}.{_VIT.get(layer, layer)}.{_LEAVES[leaf]}"


def _tensor(name: str, array: np.ndarray) -> np.ndarray:
    if name.endswith("/depthwise_kernel"):
        return np.ascontiguousarray(array.transpose(2, 3, 0, 1))
    if array.ndim == 3:
        return array
    if array.ndim == 4:
        return np.ascontiguousarray(array.transpose(3, 2, 0, 1))
    if name.split("/")[-2] in ("sign", "sign1", "sign2") or name.split("/")[-1] in ("bias_in", "bias_out"):
        return array.reshape(1, -1, 1, 1)
    return np.ascontiguousarray(array.T)

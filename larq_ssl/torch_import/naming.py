"""What the published networks call their weights in PyTorch, and what those are called here.

A later backbone is one more `Naming` in `NAMINGS`: the names of its modules in PyTorch beside those of its layers
here, and a function that tells its architecture.
"""

import collections
import dataclasses
import re
from collections.abc import Callable, Mapping

from larq_ssl.models.registry import ARCHITECTURES
from larq_ssl.torch_import.tensors import StoredTensor

Tensors = Mapping[str, StoredTensor]

KERNEL = {"weight": "kernel"}
DEPTHWISE = {"weight": "depthwise_kernel"}
BINARY_KERNEL = {"weight": "kernel", "weights": "kernel"}
DENSE = {"weight": "kernel", "bias": "bias"}
NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
SHIFT = {"bias": "bias"}
SHIFT_IN, SLOPE, SHIFT_OUT = {"bias": "bias_in"}, {"weight": "slope"}, {"bias": "bias_out"}


@dataclasses.dataclass(frozen=True)
class Naming:
    """A family of networks with the same names of modules.

    # Arguments
        mark: A tensor that only this family has.
        outside: Modules outside of blocks: the layer here, and the names of its weights.
        block: Matches a module in a block; its last group is the module's name within the block.
        block_name: Given the other groups, names the block here.
        inside: Modules within blocks.
        architecture: Given the tensors, names the architecture (see `larq_ssl.models.ARCHITECTURES`).
        base: Channels of the stem at width 1; `None` for networks of one width each.
        stem: Tensor of the first convolution, and its size; `None` if `architecture` tells by that tensor.
        spare: Weights here, by name, that a checkpoint may hold for a block that does not use them.
        classifier: The last dense layer, which a network of features lacks.
    """

    mark: str
    outside: Mapping[str, tuple[str, Mapping[str, str]]]
    block: str
    block_name: Callable[..., str]
    inside: Mapping[str, tuple[str, Mapping[str, str]]]
    architecture: Callable[[Tensors], str]
    base: int | None
    stem: tuple[str, int] | None
    spare: str | None = None
    classifier: str = "fc"

    def name(self, key: str) -> str | None:
        """The weight here that a tensor there is, or `None`."""
        module, _, leaf = key.rpartition(".")
        prefix, layers = "", self.outside
        match = re.fullmatch(self.block, module)
        if match:
            *place, module = match.groups()
            prefix, layers = f"{self.block_name(*map(int, place))}/", self.inside
        layer, leaves = layers.get(module, ("", {}))
        return f"{prefix}{layer}/{leaves[leaf]}" if leaf in leaves else None


def _stage_block(stage: int, block: int) -> str:
    return f"stage{stage}/block{block + 1}"


def _blocks_per_stage(tensors: Tensors) -> tuple[int, ...]:
    places = {match.groups() for match in (re.match(r"layer(\d+)\.(\d+)\.", key) for key in tensors) if match}
    counts = collections.Counter(stage for stage, _ in places)
    return tuple(count for _, count in sorted(counts.items()))


def _choose(what: str, found: tuple[int, ...], known: Mapping[tuple[int, ...], str]) -> str:
    known = {blocks: name for blocks, name in known.items() if name in ARCHITECTURES}
    if found not in known:
        described = ", ".join(f"{name} {blocks}" for blocks, name in known.items())
        raise ValueError(f"it is a {what} of {found} blocks, and here are only {described}")
    return known[found]


def _resnet(tensors: Tensors) -> str:
    blocks = _blocks_per_stage(tensors)
    if "layer1.0.conv3.weight" in tensors:
        return _choose("ResNet with bottlenecks", blocks, {(3, 4, 6, 3): "resnet_50"})
    return _choose("ResNet", blocks, {(2, 2, 2, 2): "resnet_18", (3, 4, 6, 3): "resnet_34"})


def _reactnet_resnet(tensors: Tensors) -> str:
    known: dict[tuple[int, ...], str] = {(4, 4, 4, 4): "reactnet_18", (6, 8, 12, 6): "reactnet_34"}
    return _choose("ReActNet in the form of a ResNet", _blocks_per_stage(tensors), known)


def _vit(tensors: Tensors) -> str:
    known: dict[tuple[int, ...], str] = {
        (192, 3, 32, 32): "vit_tiny_32",
        (192, 3, 16, 16): "vit_tiny_16",
        (384, 3, 16, 16): "vit_small_16",
    }
    shape = tensors[VIT.mark].shape
    if shape not in known:
        described = ", ".join(f"{name} {kernel}" for kernel, name in known.items())
        raise ValueError(f"{VIT.mark!r} has the shape {shape}, and here are only {described}")
    return known[shape]


_STAGED: dict = dict(
    outside={"conv1": ("stem/conv", KERNEL), "bn1": ("stem/bn", NORM), "fc": ("fc", DENSE)},
    block=r"layer(\d+)\.(\d+)\.(.+)",
    block_name=_stage_block,
    base=64,
    stem=("conv1.weight", 7),
)

RESNET = Naming(
    mark="layer1.0.conv1.weight",
    inside={
        **{f"conv{index}": (f"conv{index}", KERNEL) for index in (1, 2, 3)},
        **{f"bn{index}": (f"bn{index}", NORM) for index in (1, 2, 3)},
        "downsample.0": ("shortcut/conv", KERNEL),
        "downsample.1": ("shortcut/bn", NORM),
    },
    architecture=_resnet,
    **_STAGED,
)
REACTNET_RESNET = Naming(
    mark="layer1.0.move0.bias",
    inside={
        "move0": ("sign", SHIFT),
        "binary_conv": ("conv", BINARY_KERNEL),
        "bn1": ("bn", NORM),
        "downsample.1": ("shortcut/conv", KERNEL),
        "downsample.2": ("shortcut/bn", NORM),
        "move1": ("act", SHIFT_IN),
        "prelu": ("act", SLOPE),
        "move2": ("act", SHIFT_OUT),
    },
    architecture=_reactnet_resnet,
    **_STAGED,
)
REACTNET_A = Naming(
    mark="feature.0.conv1.weight",
    outside={
        "feature.0.conv1": ("stem/conv", KERNEL),
        "feature.0.bn1": ("stem/bn", NORM),
        "fc.0": ("extra_fc", DENSE),
        "fc": ("fc", DENSE),
    },
    block=r"feature\.([1-9]\d*)\.(.+)",
    block_name="block{}".format,
    inside={
        "move11": ("sign1", SHIFT),
        "binary_3x3": ("conv3x3", BINARY_KERNEL),
        "bn1": ("bn1", NORM),
        "move12": ("act1", SHIFT_IN),
        "prelu1": ("act1", SLOPE),
        "move13": ("act1", SHIFT_OUT),
        "move21": ("sign2", SHIFT),
        "binary_pw": ("conv1x1", BINARY_KERNEL),
        "bn2": ("bn2", NORM),
        "binary_pw_down1": ("conv1x1_a", BINARY_KERNEL),
        "bn2_1": ("bn2_a", NORM),
        "binary_pw_down2": ("conv1x1_b", BINARY_KERNEL),
        "bn2_2": ("bn2_b", NORM),
        "move22": ("act2", SHIFT_IN),
        "prelu2": ("act2", SLOPE),
        "move23": ("act2", SHIFT_OUT),
    },
    architecture=lambda tensors: "reactnet_a_burn" if "fc.0.weight" in tensors else "reactnet_a",
    base=32,
    stem=("feature.0.conv1.weight", 3),
    # S2-BNN's network has the 1x1 layers of both kinds of block in every block.
    spare=r"block\d+/(conv1x1|bn2)(_a|_b)?/\w+",
)
MOBILENET_V2 = Naming(
    mark="features.1.conv.0.0.weight",
    outside={
        "features.0.0": ("stem/conv", KERNEL),
        "features.0.1": ("stem/bn", NORM),
        # The first block, which does not expand.
        "features.1.conv.0.0": ("block1/depthwise/conv", DEPTHWISE),
        "features.1.conv.0.1": ("block1/depthwise/bn", NORM),
        "features.1.conv.1": ("block1/project/conv", KERNEL),
        "features.1.conv.2": ("block1/project/bn", NORM),
        "features.18.0": ("head/conv", KERNEL),
        "features.18.1": ("head/bn", NORM),
        "classifier.1": ("fc", DENSE),
    },
    block=r"features\.([2-9]|1\d)\.conv\.(.+)",
    block_name="block{}".format,
    inside={
        "0.0": ("expand/conv", KERNEL),
        "0.1": ("expand/bn", NORM),
        "1.0": ("depthwise/conv", DEPTHWISE),
        "1.1": ("depthwise/bn", NORM),
        "2": ("project/conv", KERNEL),
        "3": ("project/bn", NORM),
    },
    architecture=lambda tensors: "mobilenet_v2",
    base=32,
    stem=("features.0.0.weight", 3),
    classifier="classifier.1",
)
VIT = Naming(
    mark="patch_embed.proj.weight",
    outside={
        "": ("tokens", {"cls_token": "class_token", "pos_embed": "position_embedding"}),
        "patch_embed.proj": ("patches", DENSE),
        "norm": ("norm", NORM),
        "head": ("fc", DENSE),
    },
    block=r"blocks\.(\d+)\.(.+)",
    block_name=lambda block: f"block{block + 1}",
    inside={
        "norm1": ("norm1", NORM),
        "attn.qkv": ("attention/qkv", DENSE),
        "attn.proj": ("attention/project", DENSE),
        "norm2": ("norm2", NORM),
        "mlp.fc1": ("mlp/dense1", DENSE),
        "mlp.fc2": ("mlp/dense2", DENSE),
    },
    architecture=_vit,
    base=None,
    stem=None,
    classifier="head",
)
NAMINGS = (RESNET, REACTNET_RESNET, REACTNET_A, MOBILENET_V2, VIT)


def naming_of(keys: Mapping[str, object]) -> Naming | None:
    """The family whose mark is among the keys; `None` if none is."""
    return next((naming for naming in NAMINGS if naming.mark in keys), None)


def classifier_of(keys: Mapping[str, object]) -> str:
    """What the family of a network calls its classifier."""
    naming = naming_of(keys)
    return naming.classifier if naming else "fc"


def official_step(tensors: Tensors) -> str | None:
    """The binarization of an official ReActNet-A, told by what it calls its binary kernels; else `None`."""
    leaves = {key.rpartition(".")[2] for key in tensors if key.endswith((".binary_3x3.weight", ".binary_3x3.weights"))}
    return {frozenset(["weight"]): "activations", frozenset(["weights"]): "full"}.get(frozenset(leaves))

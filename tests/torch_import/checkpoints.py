"""What checkpoints of each kind hold, of small networks."""

import collections
import itertools
import math

import numpy as np

from larq_ssl.models.encoder import EncoderSpec
from larq_ssl.models.registry import build_blank
from larq_ssl.models.transfer import named_weights
from tests.torch_import import official
from tests.torch_import.writing import Call

# Of ReActNet-A and ResNet-50 32 times as many features as channels in the stem, of a ResNet-18 8 times.
WIDTHS = {
    "resnet_18": 0.125,
    "resnet_34": 0.125,
    "resnet_50": 0.25,
    "reactnet_a": 0.25,
    "reactnet_a_burn": 0.25,
    "mobilenet_v2": 0.25,
    "vit_tiny_32": 1.0,
}


SHAPES = {}


def weights(name, seed=0, classes=None):
    """Random weights of a small network, by the names of the layers here."""
    if name not in SHAPES:
        encoder = build_blank(EncoderSpec(name, binarization="none", width=WIDTHS[name]))
        SHAPES[name] = {weight: tuple(variable.shape) for weight, variable in named_weights(encoder).items()}
    shapes = dict(SHAPES[name])
    if classes:
        features = shapes[list(shapes)[-1]][-1]
        shapes |= {"fc/kernel": (features, classes), "fc/bias": (classes,)}
    rng = np.random.default_rng(seed)

    def draw(weight, shape):
        if weight.endswith("kernel"):
            return rng.normal(0, (2 / math.prod(shape[:-1])) ** 0.5, shape)
        return rng.uniform(0.5, 1.5, shape)

    return {weight: draw(weight, shape).astype(np.float32) for weight, shape in shapes.items()}


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def mlp(seed, *widths, prefix="", step=2):
    """A head without batch norm; `step` modules from one dense layer to the next."""
    tensors = {}
    for index, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        kernel, bias = normal(seed + index, inputs, outputs), normal(seed + 9 + index, outputs)
        tensors |= official.dense(kernel, bias, f"{prefix}{index * step}.")
    return tensors


def norm(seed, width, prefix):
    names = ("weight", "bias", "running_mean", "running_var")
    values = np.abs(normal(seed, 4, width)) + 0.5
    return {f"{prefix}{name}": value for name, value in zip(names, values, strict=True)} | {
        f"{prefix}num_batches_tracked": np.array(5, np.int64)
    }


def resnet_18(changes=(), without=None):
    state = official.state_dict("resnet_18", weights("resnet_18")) | dict(changes)
    return {name: array for name, array in state.items() if name != without}


def moco(name="resnet_18", features=64, step=2, **networks):
    """A state dictionary as MoCo writes it; `networks` are seeds."""
    state = collections.OrderedDict()
    for network, seed in (networks or {"encoder_q": 1, "encoder_k": 2}).items():
        state |= official.state_dict(name, weights(name, seed), f"module.{network}.")
        state |= mlp(seed, features, features, 8, prefix=f"module.{network}.fc.", step=step)
    return state


def s2bnn(seed=1):
    """Each block of S2-BNN has the 1x1 layers of blocks that double their channels and of those that do not."""
    state = moco("reactnet_a", 256, encoder_q=seed)
    for index in range(1, 14):
        block = f"module.encoder_q.feature.{index}"
        channels = state[f"{block}.move11.bias"].shape[1]
        outputs = state[f"{block}.move22.bias"].shape[1]
        spare = {
            "binary_pw.weight": normal(0, outputs, channels, 1, 1),
            "binary_pw_down1.weight": normal(0, channels, channels, 1, 1),
            "binary_pw_down2.weight": normal(0, channels, channels, 1, 1),
            **norm(0, outputs, "bn2."),
            **norm(0, channels, "bn2_1."),
            **norm(0, channels, "bn2_2."),
        }
        for name, array in spare.items():
            state.setdefault(f"{block}.{name}", array)
    return {"state_dict": state}


def swav(*, batch_norm=True, prototypes=True):
    state = official.state_dict("resnet_18", weights("resnet_18"), "module.")
    prefix = "module.projection_head."
    if batch_norm:
        state |= mlp(1, 64, 16, 8, prefix=prefix, step=3) | norm(2, 16, f"{prefix}1.")
    else:
        state |= mlp(1, 64, 16, 8, prefix=prefix)
    if prototypes:
        state["module.prototypes.weight"] = normal(5, 30, 8)
    return state


def dino():
    student, teacher = (
        official.state_dict("resnet_18", weights("resnet_18", seed), f"module.{'backbone.' if seed else ''}")
        for seed in (1, 0)
    )
    student |= {"module.head.mlp.0.weight": normal(0, 8, 256), "module.head.last_layer.weight_g": normal(0, 8, 1)}
    return {
        "student": student,
        "teacher": teacher,
        "optimizer": {"state": {0: normal(0, 3)}},
        "args": Call("argparse.Namespace"),
        "dino_loss": {"center": normal(0, 1, 8)},
    }


def vit(changes=(), without=None):
    state = official.state_dict("vit_tiny_32", weights("vit_tiny_32")) | dict(changes)
    return {name: array for name, array in state.items() if name != without}


def mobilenet_v2(changes=(), without=None):
    state = official.state_dict("mobilenet_v2", weights("mobilenet_v2")) | dict(changes)
    return {name: array for name, array in state.items() if name != without}


def burn(**networks):
    """A student with its extra layer and head, and a teacher with its head, under names of their own."""
    state = {}
    for prefix, seed in (networks or {"backbone.": 0, "student.0.": 0}).items():
        state |= official.state_dict("reactnet_a_burn", weights("reactnet_a_burn", seed), prefix)
    state |= official.state_dict("resnet_50", weights("resnet_50"), "teacher.0.")
    for prefix, inputs in (("student.1.mlp.", 256), ("teacher.1.mlp.", 512)):
        state |= mlp(1, inputs, 12, 12, prefix=prefix, step=3) | norm(2, 12, f"{prefix}1.")
    return {"meta": {"epoch": 200}, "state_dict": state, "optimizer": {"state": {}}}

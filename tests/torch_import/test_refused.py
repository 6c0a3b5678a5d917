"""Checkpoints that are not imported, each with its reason."""

import numpy as np
import pytest

from tests.torch_import import official
from tests.torch_import.checkpoints import mobilenet_v2, moco, normal, resnet_18, s2bnn, vit, weights
from tests.torch_import.writing import Tensor


def deep(blocks, *more):
    """A ResNet with so many blocks in its third stage, as far as names matter."""
    names = (*(f"layer3.{block}.conv1.weight" for block in range(2, blocks)), *more)
    return resnet_18({name: normal(0, 1, 1, 1, 1) for name in names})


def more(contents, name, *shape):
    """A checkpoint of MoCo's kind with one more tensor in its encoder."""
    return {"state_dict": contents["state_dict"] | {f"module.encoder_q.{name}": normal(0, *shape)}}


def wide():
    """A stem that claims more channels than the rest of the network has."""
    numbers = np.zeros(1024 * 3 * 7 * 7, np.float32)
    return resnet_18({"conv1.weight": Tensor(numbers, 0, (1024, 3, 7, 7), (147, 49, 7, 1))})


REFUSED = {
    "no dictionary": (lambda: [1, 2], {}, "holds no dictionary of tensors"),
    "no tensors": (lambda: {"epoch": 3, "args": None}, {}, "holds no state_dict: its entries are"),
    "a transformer": (
        lambda: {"cls_token": normal(0, 1, 1, 8), "pos_embed": normal(0, 1, 5, 8)},
        {},
        "'cls_token', 'pos_embed'",
    ),
    "an unknown kind": (lambda: resnet_18(), {"kind": "mocha"}, "`kind` must be one of"),
    "two kinds": (
        lambda: moco(encoder_q=1) | {"projection_head.weight": normal(0, 2, 2)},
        {},
        "several kinds, moco or swav: say which",
    ),
    "a name without end": (lambda: {"x" * 10**6: normal(0, 3)}, {}, "is no text of at most 200 characters"),
    "a number for a name": (lambda: {3: normal(0, 3)}, {}, "is no text of at most 200 characters"),
    "a tensor without a place": (
        lambda: resnet_18({"layer1.0.se.weight": normal(0, 3)}),
        {},
        "no place for .*'layer1.0.se.weight'",
    ),
    "a bias of a convolution": (
        lambda: resnet_18({"conv1.bias": normal(0, 8)}),
        {},
        "no place for its tensor 'conv1.bias'",
    ),
    "a tensor beside": (
        lambda: {"state_dict": resnet_18(), "ema": {"x": [normal(0, 3)]}},
        {},
        "tensors of its entry 'ema'",
    ),
    "a missing tensor": (
        lambda: resnet_18(without="layer3.1.bn2.running_var"),
        {},
        "no tensor for 'stage3/block2/bn2/moving_variance'",
    ),
    "no stem": (lambda: resnet_18(without="conv1.weight"), {}, "'conv1.weight' should be a 7x7 convolution"),
    "another stem": (
        lambda: resnet_18({"conv1.weight": normal(0, 8, 3, 3, 3)}),
        {},
        r"7x7 .* has the shape \(8, 3, 3, 3\)",
    ),
    "another shape": (
        lambda: resnet_18({"layer2.0.bn1.bias": normal(0, 17)}),
        {},
        r"should have the shape \(16,\), and has \(17,\)",
    ),
    "another order of axes": (
        lambda: resnet_18({"layer2.0.conv1.weight": normal(0, 3, 3, 8, 16)}),
        {},
        r"'stage2/block1/conv1/kernel' should have the shape \(16, 8, 3, 3\)",
    ),
    "whole numbers": (lambda: resnet_18({"bn1.bias": np.ones(8, np.int64)}), {}, "should hold fractions"),
    "not a number": (
        lambda: resnet_18({"bn1.bias": np.full(8, np.nan, np.float32)}),
        {},
        "'stem/bn/beta' must hold finite",
    ),
    "a tensor named twice": (lambda: resnet_18({"module.bn1.bias": normal(1, 8)}), {}, "two tensors called 'bn1.bias'"),
    "a ResNet of no published depth": (
        lambda: deep(6),
        {},
        r"ResNet of \(2, 2, 6, 2\) blocks, and here are only resnet_18 \(2, 2, 2, 2\), resnet_34 \(3, 4, 6, 3\)",
    ),
    "ResNet-101": (
        lambda: deep(23, "layer1.0.conv3.weight"),
        {},
        r"with bottlenecks of \(2, 2, 23, 2\) blocks, .* resnet_50",
    ),
    "a stem that claims more": (
        lambda: wide(),
        {},
        "where resnet_18 as wide as its stem has",
    ),
    "a transformer of another size": (
        lambda: vit({"patch_embed.proj.weight": normal(0, 768, 3, 16, 16)}),
        {},
        r"has the shape \(768, 3, 16, 16\), and here are only vit_tiny_32 \(192, 3, 32, 32\), vit_tiny_16",
    ),
    "a transformer of another depth": (
        lambda: vit({"blocks.12.norm1.weight": normal(0, 192)}),
        {},
        "no place for its tensor 'blocks.12.norm1.weight'",
    ),
    "a transformer for larger images": (
        lambda: vit({"pos_embed": normal(0, 1, 145, 192)}),
        {},
        r"'tokens/position_embedding' should have the shape \(1, 50, 192\), and has \(1, 145, 192\)",
    ),
    "a transformer without its last norm": (lambda: vit(without="norm.bias"), {}, "no tensor for 'norm/beta'"),
    "statistics in a transformer": (
        lambda: vit({"norm.running_mean": normal(0, 192)}),
        {},
        "no place for its tensor 'norm.running_mean'",
    ),
    "a depthwise kernel that is none": (
        lambda: mobilenet_v2({"features.3.conv.1.0.weight": normal(0, 1, 48, 3, 3)}),
        {},
        r"'block3/depthwise/conv/depthwise_kernel' should have the shape \(48, 1, 3, 3\), and has \(1, 48, 3, 3\)",
    ),
    "an expansion in the first block": (
        lambda: mobilenet_v2({"features.1.conv.3.weight": normal(0, 8)}),
        {},
        "no place for its tensor 'features.1.conv.3.weight'",
    ),
    "a classifier of nothing": (
        lambda: resnet_18({"fc.weight": np.zeros((10**8, 0), np.float32), "fc.bias": normal(0, 5)}),
        {"classifier": True},
        r"its classifier should have the shape \(classes, 64\), and has \(100000000, 0\)",
    ),
    "a classifier of other features": (
        lambda: resnet_18({"fc.weight": normal(0, 10**5, 1), "fc.bias": normal(0, 10**5)}),
        {"classifier": True},
        r"its classifier should have the shape \(classes, 64\), and has \(100000, 1\)",
    ),
    "a classifier of no classes": (
        lambda: resnet_18({"fc.weight": np.zeros((0, 64), np.float32), "fc.bias": np.zeros(0, np.float32)}),
        {"classifier": True},
        r"and has \(0, 64\)",
    ),
    "a classifier that is not there": (lambda: resnet_18(), {"classifier": True}, "it has no classifier to keep"),
    "half a queue": (lambda: moco(encoder_q=1) | {"module.queue": normal(0, 8, 4)}, {}, "a queue without a pointer"),
    "a pointer beyond the queue": (
        lambda: moco(encoder_q=1) | {"module.queue": normal(0, 8, 4), "module.queue_ptr": np.array([4])},
        {},
        "pointer of its queue is 4, beyond its 4 keys",
    ),
    "a queue that is not finite": (
        lambda: (
            moco(encoder_q=1)
            | {"module.queue": np.full((8, 4), np.nan, np.float32), "module.queue_ptr": np.zeros(1, np.int64)}
        ),
        {},
        "its queue is not finite",
    ),
    "a network beside": (
        lambda: moco(encoder_q=1) | {"module.predictor.0.weight": normal(0, 3, 3)},
        {},
        "no place for its tensor 'predictor.0.weight' in a moco checkpoint",
    ),
    "two tensors for one weight": (
        lambda: more(s2bnn(), "feature.1.binary_3x3.weights", 8 * 8 * 9, 1),
        {"binarization": "full"},
        "it has two tensors for 'block1/conv3x3/kernel'",
    ),
    "a spare layer of a block that is not there": (
        lambda: more(s2bnn(), "feature.99.binary_pw.weight", 3),
        {"binarization": "full"},
        "no place for its tensor 'feature.99.binary_pw.weight'",
    ),
    "a head of another kind": (
        lambda: moco(encoder_q=1, step=5),
        {},
        "its student_head is no row of dense layers with ReLU",
    ),
    "a head with something more": (
        lambda: moco(encoder_q=1) | {"module.encoder_q.fc.2.weight_g": normal(0, 8, 1)},
        {},
        "no place for the tensor '2.weight_g' of its student_head",
    ),
    "a head with half a norm": (
        lambda: moco(encoder_q=1) | {"module.encoder_q.fc.2.running_var": normal(0, 8)},
        {},
        "no place for the tensor 'dense2/running_var' of its student_head",
    ),
    "a head with a layer twice": (
        lambda: moco(encoder_q=1) | {"module.encoder_q.fc.weight": normal(0, 64, 64)},
        {},
        "no place for the tensor 'weight' of its student_head",
    ),
    "a head without its last bias but one": (
        lambda: {name: array for name, array in moco(encoder_q=1).items() if not name.endswith("fc.0.bias")},
        {},
        "its student_head has no tensor for 'dense1/bias'",
    ),
    "a binary network of unknown step": (
        lambda: s2bnn(),
        {},
        "whether this reactnet_a is of step 1 .* a flag of `python -m larq_ssl.experiments.import_torch`",
    ),
    "binary steps of a float network": (
        lambda: resnet_18(),
        {"binarization": "full"},
        r"must be one of \['none'\], not 'full'",
    ),
    "a float step of a binary network": (
        lambda: s2bnn(),
        {"binarization": "none"},
        r"one of \['activations', 'full'\]",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case, load, tmp_path):
    contents, arguments, sentence = REFUSED[case]
    with pytest.raises(ValueError, match=sentence) as refusal:
        load(contents(), **arguments)
    text = str(refusal.value)
    assert text.startswith(f"{tmp_path / 'file.pth'}: ")
    assert text.endswith(".")
    assert "\n" not in text


def test_tensors_that_share_all_their_numbers_do_not_fill_the_memory(load):
    numbers = np.zeros(512 * 512 * 9, np.float32)
    tensors = {}
    for name, array in official.state_dict("resnet_18", weights("resnet_18")).items():
        if array.dtype == np.float32:
            shape = tuple(length * 8 if length % 8 == 0 else length for length in array.shape)
            strides = tuple(np.cumprod([1, *shape[:0:-1]])[::-1].tolist())
            tensors[name] = Tensor(numbers, 0, shape, strides)
    with pytest.raises(ValueError, match="tensors of its student together are larger than the file"):
        load(tensors)

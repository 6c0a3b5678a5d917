"""Whole checkpoints of each kind: which networks come out, what is left out, and what is refused."""

import collections
import itertools
import math

import numpy as np
import pytest

from larq_ssl.models.encoder import EncoderSpec
from larq_ssl.models.registry import build_blank
from larq_ssl.models.transfer import named_weights, rotate_kernels
from larq_ssl.torch_import import KINDS, import_checkpoint
from larq_ssl.torch_import.heads import head
from larq_ssl.torch_import.kinds import take_apart
from larq_ssl.torch_import.naming import RESNET
from larq_ssl.torch_import.reader import read_checkpoint
from tests import golden
from tests.torch_import import official, writing
from tests.torch_import.writing import Call, Tensor

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


def assert_encoder(encoder, expected, **spec):
    actual = named_weights(encoder)
    turns = not encoder.spec.name.startswith("vit_")
    expected = rotate_kernels(expected) if turns else expected
    assert set(actual) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array, err_msg=name)
    defaults = {"binarization": "none", "width": WIDTHS[encoder.spec.name], "rotate_input": turns}
    assert encoder.spec == EncoderSpec(encoder.spec.name, **{**defaults, **spec})


@pytest.fixture
def load(tmp_path):
    def load_contents(contents, layout="zip", **arguments):
        return import_checkpoint(writing.save(tmp_path / "file.pth", contents, layout), **arguments)

    return load_contents


def moco(name="resnet_18", features=64, step=2, **networks):
    """A state dictionary as MoCo writes it; `networks` are seeds."""
    state = collections.OrderedDict()
    for network, seed in (networks or {"encoder_q": 1, "encoder_k": 2}).items():
        state |= official.state_dict(name, weights(name, seed), f"module.{network}.")
        state |= mlp(seed, features, features, 8, prefix=f"module.{network}.fc.", step=step)
    return state


def test_moco_v2(load):
    queue = normal(3, 8, 24)
    state = {**moco(), "module.queue": queue, "module.queue_ptr": np.array([16])}
    momentum = {"state": {0: {"momentum_buffer": normal(0, 2)}}, "param_groups": [{"lr": 0.03}]}
    contents = {"epoch": 800, "arch": "resnet50", "state_dict": state, "optimizer": momentum}
    imported = load(contents, "legacy")
    assert (imported.kind, imported.layout) == ("moco", "legacy")
    assert_encoder(imported.encoders["student"], weights("resnet_18", 1))
    assert_encoder(imported.encoders["ema"], weights("resnet_18", 2))
    x = normal(4, 5, 64)
    for name, seed in (("student_head", 1), ("momentum_head", 2)):
        tensors = mlp(seed, 64, 64, 8)
        hidden = np.maximum(x @ tensors["0.weight"].T + tensors["0.bias"], 0)
        expected = hidden @ tensors["2.weight"].T + tensors["2.bias"]
        np.testing.assert_allclose(imported.heads[name](x), expected, rtol=1e-4, atol=1e-3)
        assert imported.heads[name].spec.name == name
    np.testing.assert_array_equal(imported.memories["queue"]["keys"], queue.T)
    assert imported.memories["queue"]["pointer"] == 16
    assert imported.tensors == {"student": 100, "ema": 100, "student_head": 4, "momentum_head": 4, "queue": 2}
    assert imported.left_out == {"num_batches_tracked": 40, "optimizer": 1}


def test_moco_of_the_query_alone_without_data_parallelism_and_with_a_linear_head(load):
    state = official.state_dict("resnet_18", weights("resnet_18"), "encoder_q.")
    kernel, bias = normal(0, 64, 16), normal(1, 16)
    imported = load({"state_dict": state | official.dense(kernel, bias, "encoder_q.fc.")})
    assert list(imported.encoders) == ["student"]
    assert imported.memories == {}
    (linear,) = imported.heads["student_head"].layers
    np.testing.assert_array_equal(linear.kernel, kernel)
    np.testing.assert_array_equal(linear.bias, bias)


@pytest.mark.parametrize("layout", writing.LAYOUTS)
def test_the_official_head_and_queue_of_moco(layout, tmp_path):
    arrays = {key[5:]: array for key, array in golden.load("l4_losses").items() if key.startswith("moco/")}
    state = {
        **official.dense(arrays["init/dense1/kernel"], arrays["init/dense1/bias"], "0."),
        **official.dense(arrays["init/dense2/kernel"], arrays["init/dense2/bias"], "2."),
    }
    tensors = read_checkpoint(writing.save(tmp_path / "file", state, layout)).contents
    projected = head("student_head", tensors)(arrays["step0/x_query"])
    np.testing.assert_allclose(projected, arrays["step0/query_raw"], rtol=1e-5, atol=1e-5)
    state = moco(encoder_q=1) | {
        "module.queue": np.ascontiguousarray(arrays["init/queue"].T),
        "module.queue_ptr": arrays["init/pointer"].reshape(1).astype(np.int64),
    }
    queue = import_checkpoint(writing.save(tmp_path / "moco", {"state_dict": state}, layout)).memories["queue"]
    np.testing.assert_array_equal(queue["keys"], arrays["init/queue"])
    assert queue["pointer"] == arrays["init/pointer"]


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


def test_s2bnn(load):
    imported = load(s2bnn(), binarization="activations")
    assert imported.kind == "s2bnn"
    assert_encoder(imported.encoders["student"], weights("reactnet_a", 1), binarization="activations")
    assert imported.heads["student_head"].spec.hidden_dims == (256,)
    # 5 blocks do not use one 1x1 layer, 8 blocks not two.
    assert imported.left_out["layers that their blocks do not use"] == 5 * 5 + 8 * 10


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


def test_swav(load):
    imported = load(swav())
    assert imported.kind == "swav"
    assert_encoder(imported.encoders["student"], weights("resnet_18"))
    x = normal(6, 7, 64)
    tensors, bn = mlp(1, 64, 16, 8, step=3), norm(2, 16, "")
    hidden = x @ tensors["0.weight"].T + tensors["0.bias"]
    moments = {False: (bn["running_mean"], bn["running_var"]), True: (hidden.mean(axis=0), hidden.var(axis=0))}
    for training, (mean, variance) in moments.items():
        normed = (hidden - mean) / np.sqrt(variance + 1e-5) * bn["weight"] + bn["bias"]
        expected = np.maximum(normed, 0) @ tensors["3.weight"].T + tensors["3.bias"]
        actual = imported.heads["student_head"](x, training=training)
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-3)
    (prototypes,) = imported.heads["prototypes"].get_weights()
    np.testing.assert_array_equal(prototypes, normal(5, 30, 8).T)
    assert imported.tensors["student_head"] == 8


def test_swav_with_several_prototypes_and_no_batch_norm(load):
    state = swav(batch_norm=False, prototypes=False)
    state |= {f"module.prototypes.prototypes{index}.weight": normal(index, 20, 8) for index in (0, 1)}
    imported = load({"epoch": 1, "state_dict": state, "amp": None})
    assert set(imported.heads) == {"student_head", "prototypes0", "prototypes1"}
    assert imported.heads["student_head"].spec.norm == "none"


def swav_resnet_50(channels):
    """Shapes of a ResNet-50 of SwAV, all of whose channels grow with those of its stem: 64, or 256 in RN50-w4."""
    inputs, shapes = channels, {"conv1.weight": (channels, 3, 7, 7), "bn1.weight": (channels,)}
    for stage, blocks in enumerate((3, 4, 6, 3), 1):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            shapes |= {
                f"{name}.conv1.weight": (channels, inputs, 1, 1),
                f"{name}.conv2.weight": (channels, channels, 3, 3),
                f"{name}.conv3.weight": (4 * channels, channels, 1, 1),
                f"{name}.bn1.weight": (channels,),
                f"{name}.bn2.weight": (channels,),
                f"{name}.bn3.weight": (4 * channels,),
            }
            if block == 0:
                shapes[f"{name}.downsample.0.weight"] = (4 * channels, inputs, 1, 1)
                shapes[f"{name}.downsample.1.weight"] = (4 * channels,)
            inputs = 4 * channels
        channels *= 2
    return shapes | {name.replace("weight", "bias"): shape for name, shape in shapes.items() if len(shape) == 1}


def test_wide_networks_of_swav_have_the_shapes_of_ours():
    """Counted in full for RN50-w4, built as narrow as it is wide."""
    count = {channels: sum(map(math.prod, swav_resnet_50(channels).values())) for channels in (64, 256)}
    assert count == {64: 23_508_032, 256: 375_378_176}
    weights("resnet_50")
    for name, shape in swav_resnet_50(16).items():
        expected = (*shape[2:], *shape[1::-1]) if len(shape) == 4 else shape
        assert SHAPES["resnet_50"][RESNET.name(name)] == expected


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


def test_dino(load):
    imported = load(dino())
    assert imported.kind == "dino"
    assert_encoder(imported.encoders["student"], weights("resnet_18", 1))
    assert_encoder(imported.encoders["ema"], weights("resnet_18", 0))
    assert imported.heads == {}
    assert imported.left_out == {
        "num_batches_tracked": 40,
        "DINO's head (GELU, normalised weights)": 2,
        "optimizer": 1,
        "dino_loss": 1,
    }


def test_the_teacher_of_dino_alone(load):
    imported = load({"teacher": dino()["teacher"]}, kind="dino")
    assert_encoder(imported.encoders["student"], weights("resnet_18", 0))


@pytest.mark.parametrize(("dtype", "layout", "classifier"), [("float16", "zip", True), ("float64", "legacy", False)])
def test_torchvision_and_other_backbones_alone(load, dtype, layout, classifier):
    whole = weights("resnet_18", classes=5)
    whole = {name: array.astype(np.float16).astype(np.float32) for name, array in whole.items()}
    tensors = official.state_dict("resnet_18", whole)
    tensors = {name: array.astype(dtype) if array.dtype == np.float32 else array for name, array in tensors.items()}
    imported = load(tensors, layout, classifier=classifier)
    assert imported.kind == "resnet"
    if classifier:
        assert_encoder(imported.encoders["student"], whole, classes=5)
        assert imported.left_out == {"num_batches_tracked": 20}
    else:
        features = {name: array for name, array in whole.items() if not name.startswith("fc/")}
        assert_encoder(imported.encoders["student"], features)
        assert imported.left_out == {"num_batches_tracked": 20, "classifier": 2}


@pytest.mark.parametrize(
    ("name", "kind", "layout", "count"),
    [
        ("resnet_34", "resnet", "zip", 36),
        ("mobilenet_v2", "mobilenet_v2", "legacy", 52),
        ("vit_tiny_32", "vit", "zip", 0),
    ],
)
def test_other_backbones_alone(load, tmp_path, name, kind, layout, count):
    """With and without their classifiers, which each family calls by another name."""
    whole = weights(name, classes=5)
    contents = official.state_dict(name, whole, "module.")
    imported = load(contents, layout, classifier=True)
    assert imported.kind == kind
    assert_encoder(imported.encoders["student"], whole, classes=5)
    assert imported.tensors == {"student": len(whole)}
    assert imported.left_out == ({"num_batches_tracked": count} if count else {})
    _, parts = take_apart(read_checkpoint(tmp_path / "file.pth").contents)
    assert len(parts.encoders["student"]) == len(whole) - 2
    assert parts.left_out["classifier"] == 2


@pytest.mark.parametrize(("name", "prefix"), [("vit_tiny_32", "backbone."), ("mobilenet_v2", "module.backbone.")])
def test_dino_of_other_backbones(load, name, prefix):
    networks = {}
    for network, seed in (("student", 1), ("teacher", 0)):
        networks[network] = official.state_dict(name, weights(name, seed), prefix)
        head = prefix.replace("backbone.", "head.")
        networks[network] |= {f"{head}mlp.0.bias": normal(0, 8), f"{head}last_layer.weight_v": normal(0, 8, 4)}
    imported = load({**networks, "epoch": 3, "dino_loss": {"center": normal(0, 1, 8)}})
    assert imported.kind == "dino"
    for which, seed in (("student", 1), ("ema", 0)):
        assert_encoder(imported.encoders[which], weights(name, seed))
    assert imported.left_out.pop("DINO's head (GELU, normalised weights)") == 4
    assert imported.left_out.pop("dino_loss") == 1
    assert set(imported.left_out) == (set() if name == "vit_tiny_32" else {"num_batches_tracked"})


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


def test_burn(load):
    imported = load(burn(), binarization="full")
    assert imported.kind == "burn"
    assert_encoder(imported.encoders["student"], weights("reactnet_a_burn"), binarization="full")
    assert {name: one.spec.input_dim for name, one in imported.heads.items()} == {
        "student_head": 256,
        "teacher_head": 512,
    }
    assert imported.left_out["the teacher's backbone"] == 265
    assert imported.left_out["the student under another name"] == 266 - 2 + 2
    with pytest.raises(ValueError, match="several networks that could be the student, and they differ"):
        load(burn(**{"backbone.": 0, "student.0.": 1}), binarization="full")


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_can_be_named_if_they_fit(load, kind):
    contents = official.state_dict("resnet_18", weights("resnet_18"))
    if kind == "resnet":
        assert load(contents, kind=kind).kind == kind
    else:
        with pytest.raises(ValueError, match=f"are not named as in a {kind} checkpoint; there are: moco"):
            load(contents, kind=kind)


def resnet_18(changes=(), without=None):
    state = official.state_dict("resnet_18", weights("resnet_18")) | dict(changes)
    return {name: array for name, array in state.items() if name != without}


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

"""Whole checkpoints of each kind: which networks come out, and what is left out."""

import math

import numpy as np
import pytest

from larq_ssl.models.encoder import EncoderSpec
from larq_ssl.models.transfer import named_weights, rotate_kernels
from larq_ssl.torch_import import KINDS, import_checkpoint
from larq_ssl.torch_import.heads import head
from larq_ssl.torch_import.kinds import take_apart
from larq_ssl.torch_import.naming import RESNET
from larq_ssl.torch_import.reader import read_checkpoint
from tests import golden
from tests.torch_import import official, writing
from tests.torch_import.checkpoints import (
    SHAPES,
    WIDTHS,
    burn,
    dino,
    mlp,
    moco,
    norm,
    normal,
    s2bnn,
    swav,
    weights,
)


def assert_encoder(encoder, expected, **spec):
    actual = named_weights(encoder)
    turns = not encoder.spec.name.startswith("vit_")
    expected = rotate_kernels(expected) if turns else expected
    assert set(actual) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array, err_msg=name)
    defaults = {"binarization": "none", "width": WIDTHS[encoder.spec.name], "rotate_input": turns}
    assert encoder.spec == EncoderSpec(encoder.spec.name, **{**defaults, **spec})


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


def test_s2bnn(load):
    imported = load(s2bnn(), binarization="activations")
    assert imported.kind == "s2bnn"
    assert_encoder(imported.encoders["student"], weights("reactnet_a", 1), binarization="activations")
    assert imported.heads["student_head"].spec.hidden_dims == (256,)
    # 5 blocks do not use one 1x1 layer, 8 blocks not two.
    assert imported.left_out["layers that their blocks do not use"] == 5 * 5 + 8 * 10


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

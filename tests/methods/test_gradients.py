"""Every optimised variable of every method gets a real gradient within three steps, in whole networks.

What is real: of each variable the largest gradient of the first three steps counts; the scale of a block (layers that
share their name up to the last slash; a head) is the median of its variables. A real gradient is above 1e-3 of its
block's scale, which is above 1e-3 of the median of all. Measured: real ones are above 5e-2, what rounding leaves of a
gradient that is zero by the formula is below 2e-5. Networks that are fully binary compute in float32 and in bfloat16.
"""

import collections

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import models
from larq_ssl.heads import byol_head, dino_head, mlp_head, prototypes, simclr_head
from larq_ssl.methods.bssl import BSSL, PRESETS, default_heads
from larq_ssl.methods.byol import BYOL
from larq_ssl.methods.dino import DINO
from larq_ssl.methods.distill import Distill
from larq_ssl.methods.infomin import InfoMin
from larq_ssl.methods.moco import MoCo
from larq_ssl.methods.moco_star import MoCoStar
from larq_ssl.methods.msbreg import MSBReg
from larq_ssl.methods.multi_label import MultiLabel
from larq_ssl.methods.s2bnn import S2BNN, SCHEMES
from larq_ssl.methods.simclr import SimCLR
from larq_ssl.methods.supervised import Supervised
from larq_ssl.methods.swav import SwAV
from larq_ssl.models.binary_convolution import Bfloat16BinaryConv2D
from larq_ssl.optimizers import LARS, SGD
from larq_ssl.roles import variable_roles
from larq_ssl.schedules import Balance, SimCLRCosine
from tests.methods import tiny

# Narrow, with every kind of block: ReActNet-A doubles channels with stride 1 and 2.
SIZES = {"reactnet_18": 16, "reactnet_a": 32, "reactnet_a_burn": 32, "resnet_18": 16, "birealnet_18": 16, "xnor_18": 16}


@pytest.fixture(scope="module")
def teacher():
    return models.build("resnet_18", binarization="none", stem="cifar", width=0.125)


FULL = ("full", "full in bfloat16")
# Of a head that begins with BatchNorm, see the last test.
TAKEN_AWAY = "student/stage4/block4/act/bias_out"


def _student(name, binarization):
    """Of a binarization, and, behind `in`, what its fully binary convolutions are computed in."""
    binarization, _, compute = binarization.partition(" in ")
    encoder = models.build(
        name, binarization=binarization, stem="cifar", width=0.25, binary_compute=compute or "float32"
    )
    in_bfloat16 = [isinstance(layer, Bfloat16BinaryConv2D) for layer in encoder.binary_layers]
    assert any(in_bfloat16) == all([*in_bfloat16, compute]) == bool(compute)
    return encoder


def _bssl(teacher, name, binarization, preset):
    student = _student(name, binarization)
    heads = default_heads(teacher, student, PRESETS[preset].feature_source, classes=16, hidden_dim=32)
    return BSSL(teacher, student, heads, balance=Balance(10), preset=preset)


def _moco(name, binarization):
    encoders = [_student(name, binarization) for _ in range(2)]
    dim = encoders[0].feature_dim
    heads = [mlp_head(head, dim, [dim], 8, norm="none", kernel_initializer="pytorch") for head in "qk"]
    return MoCo(encoders[0], heads[0], encoders[1], heads[1], queue_size=16)


def _infomin(name, binarization):
    encoders = [_student(name, binarization) for _ in range(2)]
    dim = encoders[0].feature_dim
    heads = [mlp_head(head, dim, [dim], 8, norm="none", kernel_initializer="pytorch") for head in "qkp"]
    jigsaw = mlp_head("j", 72, [], 8, norm="none", kernel_initializer="pytorch")
    return InfoMin(encoders[0], heads[0], encoders[1], heads[1], heads[2], jigsaw, queue_size=16)


def _s2bnn(teacher, name, binarization, scheme):
    def head(name, inputs):
        return mlp_head(name, inputs, [inputs], 8, norm="none", kernel_initializer="pytorch")

    networks = {}
    for encoder in {"student", *SCHEMES[scheme]} - {"teacher", "student_head", "teacher_head", "momentum_head"}:
        networks[encoder] = _student(name, binarization)
        networks[encoder.split("_")[0] + "_head"] = head(encoder, networks[encoder].feature_dim)
    if scheme != "contrastive":
        networks |= {"teacher": teacher, "teacher_head": head("teacher_head", teacher.feature_dim)}
    return S2BNN(scheme=scheme, **networks, **({} if scheme == "guided" else {"queue_size": 16}))


def _bootstrap(kind, name, binarization, norm):
    encoders = [_student(name, binarization) for _ in range(2)]
    inputs = {"student_head": encoders[0].feature_dim, "predictor": 4, "momentum_head": encoders[0].feature_dim}
    heads = {head: byol_head(head, dim, 16, 4, norm) for head, dim in inputs.items()}
    return kind(student=encoders[0], momentum_encoder=encoders[1], **heads)


def _multi_crop(kind, name, binarization):
    encoders = [_student(name, binarization) for _ in range(2)]
    dim = encoders[0].feature_dim

    def head(name):
        if kind is DINO:
            return dino_head(name, dim, 7, hidden_dims=(16, 16), bottleneck_dim=8)
        return mlp_head(name, dim, [dim], 8, norm="none", kernel_initializer="pytorch")

    if kind is SwAV:
        return SwAV(encoders[0], head("student_head"), prototypes("prototypes", 8, 7))
    networks = encoders[0], head("student_head"), encoders[1], head("momentum_head")
    return kind(*networks, **({"queue_size": 16} if kind is MoCoStar else {}))


def _without_real_gradient(method, size, make=None, optimizer=None):
    """Names of the variables, after three steps."""
    method.compile(optimizer or SGD(0.01))
    make = make or (lambda seed: tiny.batch(seed, size=4, image=(size, size, 3)))
    tiny.trained(method, [make(seed) for seed in range(3)])
    names = [
        f"{name}/{variable.name.split(':')[0]}"
        for name in method.optimized
        for variable, _ in variable_roles(method.networks[name])
    ]
    largest = dict(zip(names, method.gradient_seen.numpy(), strict=True))
    blocks = collections.defaultdict(list)
    for name, value in largest.items():
        blocks[_block(name)].append(value)
    whole = np.median(list(largest.values()))
    scales = {block: np.median(values) for block, values in blocks.items()}
    return [
        name
        for name, value in largest.items()
        if not (value > 1e-3 * scales[_block(name)] and scales[_block(name)] > 1e-3 * whole)
    ]


def _labelled(seed):
    return {**tiny.batch(seed, size=4, views=1, image=(16, 16, 3)), "label": tf.constant([0, 1, 2, seed])}


def _block(name):
    return name.rsplit("/", 2)[0]


@pytest.mark.parametrize("binarization", ["activations", *FULL])
@pytest.mark.parametrize(
    ("name", "preset"),
    [
        ("reactnet_18", "paper"),
        ("reactnet_18", "released"),
        ("reactnet_a", "paper"),
        ("reactnet_a_burn", "released"),
    ],
)
def test_bssl_moves_every_variable(teacher, name, preset, binarization):
    method = _bssl(teacher, name, binarization, preset)
    assert _without_real_gradient(method, SIZES[name]) == []
    assert method.variables_without_gradient() == []


@pytest.mark.parametrize(
    ("name", "binarization"),
    [
        ("resnet_18", "none"),
        ("reactnet_18", "activations"),
        ("reactnet_a", "none"),
        ("reactnet_a", "activations"),
        *[(name, full) for name in ("reactnet_18", "reactnet_a", "birealnet_18", "xnor_18") for full in FULL],
    ],
)
def test_moco_moves_every_variable(name, binarization):
    method = _moco(name, binarization)
    assert _without_real_gradient(method, SIZES[name]) == []
    assert method.variables_without_gradient() == []


@pytest.mark.parametrize("binarization", FULL)
def test_infomin_moves_every_variable(binarization):
    method = _infomin("reactnet_18", binarization)
    assert _without_real_gradient(method, 16, lambda seed: tiny.jigsaw_batch(seed, side=16, patch=8)) == []
    assert method.variables_without_gradient() == []


@pytest.mark.parametrize("binarization", FULL)
@pytest.mark.parametrize("kind", [DINO, MoCoStar, SwAV])
def test_multi_crop_methods_move_every_variable(kind, binarization):
    method = _multi_crop(kind, "reactnet_18", binarization)

    def make(seed):
        return tiny.multi_crop_batch(seed, 4, views=(2, 2), sides=(16, 8))

    assert _without_real_gradient(method, 16, make) == []
    assert method.variables_without_gradient() == []


@pytest.mark.parametrize("binarization", FULL)
def test_simclr_moves_every_variable_of_a_binary_network(binarization):
    student = _student("reactnet_18", binarization)
    head = mlp_head("student_head", student.feature_dim, [16], 8, norm="none", kernel_initializer="pytorch")
    method = SimCLR(student, head)
    assert _without_real_gradient(method, 16) == []
    assert method.variables_without_gradient() == []


@pytest.mark.parametrize("binarization", FULL)
def test_multi_label_moves_every_variable(binarization):
    student = _student("reactnet_18", binarization)
    method = MultiLabel(student, mlp_head("classifier", student.feature_dim, [], 5, norm="none"))

    def make(seed):
        targets = np.random.default_rng(seed).integers(0, 2, [4, 5])
        return {**tiny.batch(seed, size=4, views=1, image=(16, 16, 3)), "targets": tf.constant(targets, tf.float32)}

    assert _without_real_gradient(method, 16, make) == []
    assert method.variables_without_gradient() == []


@pytest.mark.parametrize("memory", [False, True])
def test_simclr_wakes_every_branch_of_its_resnet(memory):
    """They start closed, and the published learning rate at zero: only the third step reaches into them."""
    encoders = [_student("simclr_resnet_18", "none") for _ in range(1 + memory)]
    heads = [simclr_head(head, encoders[0].feature_dim, 8) for head in ("student_head", "momentum_head")]
    followers = {"momentum_encoder": encoders[-1], "momentum_head": heads[1], "queue_size": 16} if memory else {}
    method = SimCLR(encoders[0], heads[0], **followers)
    optimizer = LARS.preset("simclr", SimCLRCosine(0.5, 10, 2))
    assert _without_real_gradient(method, 16, optimizer=optimizer) == []
    assert method.variables_without_gradient() == []


@pytest.mark.parametrize("binarization", FULL)
def test_supervised_and_distill_move_every_variable(teacher, binarization):
    """From a layer of the head, and taught by a network with selective kernels, whose variables are frozen."""
    student = _student("reactnet_18", binarization)
    head = mlp_head("student_head", student.feature_dim, [16], 8, norm="batch", kernel_initializer="pytorch")
    classifier = mlp_head("classifier", 8, [], 5, norm="none", kernel_initializer="pytorch")
    method = Supervised(student, classifier, head)
    assert _without_real_gradient(method, 16, _labelled) == [TAKEN_AWAY]
    assert method.variables_without_gradient() == []
    selective = models.build("simclr_resnet_50_sk", binarization="none", stem="cifar", width=0.125)
    of_teacher = mlp_head("teacher_classifier", selective.feature_dim, [], 5, norm="none", kernel_initializer="pytorch")
    frozen = [weight.numpy() for weight in (*selective.weights, *of_teacher.weights)]
    student = _student("reactnet_18", binarization)
    classifier = mlp_head("classifier", student.feature_dim, [], 5, norm="none")
    method = Distill(student, classifier, selective, of_teacher)
    assert _without_real_gradient(method, 16, _labelled) == []
    assert method.variables_without_gradient() == []
    for weight, before in zip((*selective.weights, *of_teacher.weights), frozen, strict=True):
        np.testing.assert_array_equal(weight.numpy(), before, err_msg=weight.name)


def test_simclr_wakes_selective_kernels():
    encoder = _student("simclr_resnet_50_sk", "none")
    method = SimCLR(encoder, simclr_head("student_head", encoder.feature_dim, 8))
    optimizer = LARS.preset("simclr", SimCLRCosine(0.5, 10, 2))
    assert _without_real_gradient(method, 16, optimizer=optimizer) == []
    assert method.variables_without_gradient() == []


@pytest.mark.parametrize(
    ("name", "binarization", "scheme"),
    [
        *[("reactnet_18", full, "contrastive_guided") for full in FULL],
        pytest.param("reactnet_a", "activations", "guided", marks=pytest.mark.slow),
        pytest.param("reactnet_a", "full", "contrastive", marks=pytest.mark.slow),
    ],
)
def test_s2bnn_moves_every_variable(teacher, name, binarization, scheme):
    method = _s2bnn(teacher, name, binarization, scheme)
    assert _without_real_gradient(method, SIZES[name]) == []
    assert method.variables_without_gradient() == []


@pytest.mark.parametrize(
    ("kind", "name", "binarization", "norm"),
    [
        (BYOL, "resnet_18", "none", "batch"),
        *[(BYOL, "reactnet_18", binarization, "layer") for binarization in ("activations", *FULL)],
        *[(MSBReg, "reactnet_18", full, "weight") for full in FULL],
        (MSBReg, "resnet_18", "none", "none"),
    ],
)
def test_byol_and_msbreg_move_every_variable(kind, name, binarization, norm):
    method = _bootstrap(kind, name, binarization, norm)
    assert _without_real_gradient(method, SIZES[name]) == []
    assert method.variables_without_gradient() == []


@pytest.mark.parametrize("binarization", FULL)
def test_a_head_that_begins_with_a_batch_norm_takes_away_the_last_shift_of_a_reactnet(binarization):
    """What is added to a feature of all images is subtracted again: its gradient is zero but for rounding."""
    method = _bootstrap(BYOL, "reactnet_18", binarization, "batch")
    assert _without_real_gradient(method, SIZES["reactnet_18"]) == [TAKEN_AWAY]
    assert method.variables_without_gradient() == []

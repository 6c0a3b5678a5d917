"""Tiny methods, batches and snapshots that the tests of methods share."""

import contextlib
import functools
import sys
from unittest import mock

import numpy as np
import tensorflow as tf

from larq_ssl import layers
from larq_ssl.heads import byol_head, dino_head, linear_classifier, mlp_head, prototypes, simclr_head
from larq_ssl.methods.bssl import BSSL, resolve_preset
from larq_ssl.methods.byol import BYOL
from larq_ssl.methods.dino import DINO
from larq_ssl.methods.distill import Distill
from larq_ssl.methods.infomin import InfoMin
from larq_ssl.methods.moco import MoCo
from larq_ssl.methods.moco_star import MoCoStar
from larq_ssl.methods.msbreg import MSBReg
from larq_ssl.methods.multi_label import MultiLabel
from larq_ssl.methods.s2bnn import S2BNN
from larq_ssl.methods.simclr import SimCLR
from larq_ssl.methods.supervised import Supervised
from larq_ssl.methods.swav import SwAV
from larq_ssl.models.convolutions import float_conv
from larq_ssl.models.encoder import LayerStore
from larq_ssl.models.reactnet import OFFICIAL, react_block
from larq_ssl.models.transfer import named_weights
from larq_ssl.optimizers import SGD

IMAGE = (4, 4, 3)


def norm(batch_norm):
    """Of a head, as `mlp_head` names it."""
    return "batch" if batch_norm else "none"


def encoder(name, dim=6, batch_norm=True, synchronized=False):
    """Two dense layers on the pixels; without BatchNorm no image knows of another."""
    model = tf.keras.Sequential(name=name)
    model.add(tf.keras.Input(IMAGE))
    model.add(layers.Preprocessing("unit", name="preprocessing"))
    model.add(tf.keras.layers.Flatten(name="flatten"))
    model.add(tf.keras.layers.Dense(8, use_bias=not batch_norm, name="dense1"))
    if batch_norm:
        model.add(layers.batch_norm("bn1", synchronized))
    model.add(tf.keras.layers.ReLU(name="relu1"))
    model.add(tf.keras.layers.Dense(dim, name="dense2"))
    return model


def conv_encoder(name, dim=6, batch_norm=True, synchronized=False):
    """A convolution, pooled, and a dense layer, for images of any size."""
    store = LayerStore(synchronized=synchronized)
    inputs = tf.keras.Input((None, None, 3))
    x = layers.Preprocessing("unit", name="preprocessing")(inputs)
    x = tf.keras.layers.Conv2D(8, 3, padding="same", use_bias=not batch_norm, name="conv1")(x)
    if batch_norm:
        x = store(layers.batch_norm, "bn1")(x)
    x = tf.keras.layers.ReLU(name="relu1")(x)
    x = tf.keras.layers.GlobalAveragePooling2D(name="pool", dtype="float32")(x)
    return tf.keras.Model(inputs, tf.keras.layers.Dense(dim, name="dense1")(x), name=name)


def binary_encoder(name, dim=8, synchronized=False, image=IMAGE, binary_compute="float32"):
    """One block of ReActNet, fully binary, between a float convolution and the pooling."""
    store = LayerStore(synchronized=synchronized, binary_compute=binary_compute)
    inputs = tf.keras.Input(image)
    x = store(layers.Preprocessing, "preprocessing", mode="imagenet")(inputs)
    x = float_conv(store, "stem/conv", dim, 3, 1, OFFICIAL.initializer)(x)
    x = store(layers.batch_norm, "stem/bn")(x)
    x = react_block(x, "block1", dim, 1, "full", OFFICIAL, store)
    return tf.keras.Model(inputs, tf.keras.layers.GlobalAveragePooling2D(name="pool")(x), name=name)


BINARISED = ("block1/sign1", "block1/sign2")
"""Layers of `binary_encoder` whose outputs are binarised."""

NEAR = {"float32": 1e-3, "bfloat16": 2e-2}
"""How far the steps of two replicas may be from those of one, as a part of the largest step of their variable, by what
`binary_encoder` computes in. In float32 a flipped sign would change some by a hundredth of themselves and more; in
bfloat16 the gradients of each replica are rounded by up to 2^-8 of their size before they are added up."""


@contextlib.contextmanager
def binary(binary_compute="float32"):
    """What is made inside has binary students and momentum encoders, for images of any size."""

    def make(name, dim=6, batch_norm=True, synchronized=False):
        if name == "teacher":
            return float_encoder(name, dim, batch_norm, synchronized)
        return binary_encoder(name, dim, synchronized, (None, None, 3), binary_compute)

    float_encoder = encoder
    here = sys.modules[__name__]
    with mock.patch.object(here, "encoder", make), mock.patch.object(here, "conv_encoder", make):
        yield


def bssl(preset="paper", batch_norm=True, synchronized=False, optimizer=None, **arguments):
    """A compiled BSSL of 6 teacher and 5 student features and 4 classes."""
    source = resolve_preset(preset, feature_source=arguments.get("feature_source")).feature_source
    heads, width = {}, 5
    if source == "features":
        heads["projector"], width = mlp_head("projector", 5, [], 6, norm="none"), 6
    for name, inputs in (("teacher_head", 6), ("student_head", width)):
        heads[name] = mlp_head(name, inputs, [7], 4, norm(batch_norm), synchronized=synchronized)
    method = BSSL(
        encoder("teacher", 6, batch_norm, synchronized),
        encoder("student", 5, batch_norm, synchronized),
        heads,
        preset=preset,
        **arguments,
    )
    method.compile(optimizer or SGD(0.1))
    return method


def moco(batch_norm=True, synchronized=False, optimizer=None, queue_size=16, **arguments):
    """A compiled MoCo of 6 features and keys of 5 numbers."""
    method = MoCo(
        encoder("student", 6, batch_norm, synchronized),
        mlp_head("student_head", 6, [7], 5, norm="none"),
        encoder("momentum_encoder", 6, batch_norm, synchronized),
        mlp_head("momentum_head", 6, [7], 5, norm="none"),
        queue_size=queue_size,
        **arguments,
    )
    method.compile(optimizer or SGD(0.1))
    return method


def s2bnn(scheme, batch_norm=True, synchronized=False, optimizer=None, make=None, dims=(6, 6), **arguments):
    """A compiled S2-BNN of embeddings of 5 numbers, with exactly the networks of its scheme.

    # Arguments
        make: Makes student and momentum encoder, by default `encoder`.
        dims: Features of student and teacher.
    """
    student, teacher = dims
    make = make or (lambda name: encoder(name, student, batch_norm, synchronized))
    networks = {"student": make("student"), "student_head": mlp_head("student_head", student, [7], 5, norm="none")}
    if scheme != "guided":
        networks["momentum_encoder"] = make("momentum_encoder")
        networks["momentum_head"] = mlp_head("momentum_head", student, [7], 5, norm="none")
        arguments.setdefault("queue_size", 16)
    if scheme != "contrastive":
        networks["teacher"] = encoder("teacher", teacher, batch_norm, synchronized)
        networks["teacher_head"] = mlp_head(
            "teacher_head", teacher, [9], 5, norm(batch_norm), synchronized=synchronized
        )
    method = S2BNN(scheme=scheme, **networks, **arguments)
    method.compile(optimizer or SGD(0.1))
    return method


def dino(batch_norm=True, synchronized=False, optimizer=None, linear_probe=False, make=None, **arguments):
    """A compiled DINO of 6 features and 7 classes."""
    make = make or (lambda name: conv_encoder(name, 6, batch_norm, synchronized))
    heads = [
        dino_head(name, 6, 7, batch_norm, hidden_dims=(9, 9), bottleneck_dim=5, synchronized=synchronized)
        for name in ("student_head", "momentum_head")
    ]
    probe = mlp_head("linear_probe", 6, (), 3, norm="none") if linear_probe else None
    method = DINO(make("student"), heads[0], make("momentum_encoder"), heads[1], linear_probe=probe, **arguments)
    method.compile(optimizer or SGD(0.1))
    return method


def moco_star(
    batch_norm=True, synchronized=False, optimizer=None, queue_size=16, linear_probe=False, make=None, **arguments
):
    """A compiled MoCo-v2* of 6 features and keys of 5 numbers."""
    make = make or (lambda name: conv_encoder(name, 6, batch_norm, synchronized))
    heads = [mlp_head(name, 6, [7], 5, norm="none") for name in ("student_head", "momentum_head")]
    probe = mlp_head("linear_probe", 6, (), 3, norm="none") if linear_probe else None
    networks = (make("student"), heads[0], make("momentum_encoder"), heads[1])
    method = MoCoStar(*networks, queue_size=queue_size, linear_probe=probe, **arguments)
    method.compile(optimizer or SGD(0.1))
    return method


def infomin(
    batch_norm=True, synchronized=False, optimizer=None, queue_size=16, jigsaw=False, make=None, dim=6, **arguments
):
    """A compiled InfoMin of 6 features and keys of 5 numbers, with a jigsaw of nine embeddings of 3."""
    make = make or (lambda name: conv_encoder(name, dim, batch_norm, synchronized))
    heads = [mlp_head(name, dim, [7], 5, norm="none") for name in ("student_head", "momentum_head")]
    if jigsaw:
        arguments["patch_head"] = mlp_head("patch_head", dim, [4], 3, norm="none")
        arguments["jigsaw_head"] = mlp_head("jigsaw_head", 27, [], 5, norm="none")
    networks = (make("student"), heads[0], make("momentum_encoder"), heads[1])
    method = InfoMin(*networks, queue_size=queue_size, **arguments)
    method.compile(optimizer or SGD(0.1))
    return method


def swav(batch_norm=True, synchronized=False, optimizer=None, linear_probe=False, make=None, dim=6, **arguments):
    """A compiled SwAV of 6 features, embeddings of 5 numbers and 7 prototypes."""
    make = make or (lambda name: conv_encoder(name, dim, batch_norm, synchronized))
    head = mlp_head("student_head", dim, [24], 5, norm(batch_norm), synchronized=synchronized)
    probe = mlp_head("linear_probe", dim, (), 3, norm="none") if linear_probe else None
    method = SwAV(make("student"), head, prototypes("prototypes", 5, 7), linear_probe=probe, **arguments)
    method.compile(optimizer or SGD(0.1))
    return method


def simclr(
    batch_norm=True, synchronized=False, optimizer=None, memory=False, linear_probe=False, make=None, **arguments
):
    """A compiled SimCLR of 6 features and embeddings of 5 numbers; without BatchNorm no image knows of another."""
    make = make or (lambda name: encoder(name, 6, batch_norm, synchronized))

    def head(name):
        return simclr_head(name, 6, 5, 3, synchronized) if batch_norm else mlp_head(name, 6, [7], 5, norm="none")

    if memory:
        arguments |= {"momentum_encoder": make("momentum_encoder"), "momentum_head": head("momentum_head")}
        arguments.setdefault("queue_size", 32)
    probe = mlp_head("linear_probe", 6, (), 3, norm="none", output_role="last_layer") if linear_probe else None
    method = SimCLR(make("student"), head("student_head"), linear_probe=probe, **arguments)
    method.compile(optimizer or SGD(0.1))
    return method


def bootstrap(
    kind,
    batch_norm=True,
    synchronized=False,
    optimizer=None,
    linear_probe=False,
    make=None,
    head_norm=None,
    **arguments,
):
    """A compiled BYOL or MSBReg of 6 features and embeddings of 3 numbers, the fewest that a tiny batch can fill."""
    make = make or (lambda name: conv_encoder(name, 6, batch_norm, synchronized))
    head_norm = head_norm or norm(batch_norm)
    heads = [
        # Wide enough that no row of it is without a unit above zero: without a bias, its embedding would be zero.
        byol_head(name, inputs, 24, 3, head_norm, synchronized)
        for name, inputs in (("student_head", 6), ("predictor", 3), ("momentum_head", 6))
    ]
    probe = mlp_head("linear_probe", 6, (), 3, norm="none") if linear_probe else None
    networks = (make("student"), *heads[:2], make("momentum_encoder"), heads[2])
    method = kind(*networks, linear_probe=probe, **arguments)
    method.compile(optimizer or SGD(0.1))
    return method


byol = functools.partial(bootstrap, BYOL)
msbreg = functools.partial(bootstrap, MSBReg)


def _classifying(batch_norm, synchronized, head, make, classes=4):
    """A student of 6 features, a head of a hidden layer if it is wanted, and a classifier."""
    make = make or (lambda name: encoder(name, 6, batch_norm, synchronized))
    arguments = {"student": make("student")}
    if head:
        arguments["student_head"] = mlp_head("student_head", 6, [5], None, norm(batch_norm), synchronized=synchronized)
    return {**arguments, "classifier": linear_classifier("classifier", 5 if head else 6, classes)}


def supervised(batch_norm=True, synchronized=False, optimizer=None, head=True, make=None, **arguments):
    """A compiled supervised training of 4 classes."""
    method = Supervised(**_classifying(batch_norm, synchronized, head, make), **arguments)
    method.compile(optimizer or SGD(0.1))
    return method


def multi_label(batch_norm=True, synchronized=False, optimizer=None, head=True, classes=4, **arguments):
    """A compiled training with a sigmoid per class."""
    method = MultiLabel(**_classifying(batch_norm, synchronized, head, None, classes), **arguments)
    method.compile(optimizer or SGD(0.1))
    return method


def distill(batch_norm=True, synchronized=False, optimizer=None, head=False, make=None, teacher=True, **arguments):
    """A compiled distillation of 4 classes, from a teacher of 7 features, a head and a classifier."""
    networks = _classifying(batch_norm, synchronized, head, make)
    if teacher:
        networks["teacher"] = encoder("teacher", 7, batch_norm, synchronized)
        networks["teacher_head"] = mlp_head("teacher_head", 7, [9], None, norm(batch_norm), synchronized=synchronized)
        networks["teacher_classifier"] = linear_classifier("teacher_classifier", 9, 4)
    method = Distill(**networks, **arguments)
    method.compile(optimizer or SGD(0.1))
    return method


def one_view_batch(seed=0, size=8, unlabelled=(), image=IMAGE, classes=4):
    """A batch of one view with labels, some of them hidden."""
    labels = np.random.default_rng((seed, 1)).integers(0, classes, size)
    labels[list(unlabelled)] = -1
    return {**batch(seed, size, views=1, image=image), "label": tf.constant(labels, tf.int64)}


def several_batch(seed=0, size=8, classes=4):
    """A batch of one view with what is in its images, some of it difficult; of each image some class is known."""
    targets = np.random.default_rng((seed, 2)).integers(-1, 2, (size, classes))
    targets[:, 0] = np.abs(targets[:, 0])
    return {**batch(seed, size, views=1), "targets": tf.constant(targets, tf.float32)}


def batch(seed=0, size=8, views=2, image=IMAGE):
    """A batch as the pipeline makes it, of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size, views, *image))
    return {"global": tf.constant(pixels, tf.uint8), "id": tf.range(size, dtype=tf.int64)}


def labelled_batch(seed=0, size=8, views=2):
    """The same with labels."""
    labels = np.random.default_rng(seed).integers(0, 3, size)
    return {**batch(seed, size, views), "label": tf.constant(labels, tf.int64)}


def jigsaw_batch(seed=0, size=4, side=6, patch=4):
    """A batch of two views and nine patches of noise."""
    patches = np.random.default_rng(seed + 100).integers(0, 256, (size, 9, patch, patch, 3))
    return {**batch(seed, size, image=(side, side, 3)), "patches": tf.constant(patches, tf.uint8)}


def multi_crop_batch(seed=0, size=4, views=(2, 3), sides=(8, 4)):
    """A batch of global and local views of noise, with labels."""
    random = np.random.default_rng(seed)
    pixels = [random.integers(0, 256, (size, count, side, side, 3)) for count, side in zip(views, sides, strict=True)]
    return {
        "global": tf.constant(pixels[0], tf.uint8),
        "local": tf.constant(pixels[1], tf.uint8),
        "id": tf.range(size, dtype=tf.int64),
        "label": tf.constant(random.integers(0, 3, size), tf.int64),
    }


def trained(method, batches, in_graph=False):
    """The metrics of each step; the method is trained."""
    step = tf.function(method.train_step, autograph=False) if in_graph else method.train_step
    history = []
    for one in batches:
        method.reset_metrics()
        history.append({name: float(value) for name, value in step(one).items()})
    return history


def parameters(network):
    """Copies of what an optimizer may move, by name."""
    trainable = {id(variable) for variable in network.trainable_variables}
    return {key: weight.numpy() for key, weight in named_weights(network).items() if id(weight) in trainable}


def statistics(network):
    """Copies of BatchNorm's moving statistics, by name."""
    return {key: weight.numpy() for key, weight in named_weights(network).items() if "moving" in key}


def assert_identical(actual, expected):
    """Every array is the same, byte by byte."""
    assert set(actual) == set(expected)
    for key, array in expected.items():
        assert actual[key].tobytes() == array.tobytes(), key


def assert_all_differ(actual, expected):
    """No array is the same."""
    assert actual
    for key, array in expected.items():
        assert not np.array_equal(actual[key], array), key


def assert_close(actual, expected, tolerance=1e-5):
    """Every array is near, relative to its largest entry or 1."""
    assert set(actual) == set(expected)
    for key, array in expected.items():
        scale = max(1.0, np.max(np.abs(array)))
        np.testing.assert_allclose(actual[key], array, rtol=0, atol=tolerance * scale, err_msg=key)

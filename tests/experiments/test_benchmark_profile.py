"""Where time and memory of a step go, of steps of which that is known."""

import pathlib
import sys

import tensorflow as tf

from larq_ssl.experiments import benchmark_profile, benchmark_steps
from larq_ssl.experiments.benchmark_profile import CLASSES, Profile, class_of, kept_for_backward
from larq_ssl.experiments.benchmark_profile_table import tables
from larq_ssl.methods.base import SelfSupervisedModel
from larq_ssl.optimizers import SGD


def test_operations_are_told_by_their_type_and_their_network():
    for operation, kind in (
        ("reactnet/conv/QuantConv2D:_MklNativeConv2D", "convolutions, forward"),
        ("gradient_tape/reactnet/conv/Conv2DBackpropFilter:Conv2DBackpropFilter", "convolutions, gradient by kernel"),
        ("gradient_tape/a:_MklNativeConv2DBackpropInput", "convolutions, gradient by input"),
        ("resnet_50/conv:_MklNativeFusedConv2D", "frozen networks"),
        ("resnet_50_1/conv:_FusedConv2D", "convolutions, forward"),
        ("Adam/Adam/update_1/ResourceApplyAdam:ResourceApplyAdam", "optimizer"),
        ("a/Cast:Cast", "casts"),
        ("a/mul:Mul", "element by element"),
        ("a:NoSuchOperation", "other"),
    ):
        assert class_of(operation, {"resnet_50"}) == kind, operation
        assert kind in CLASSES


class Linear(SelfSupervisedModel):
    """The mean square of a product, of which the way back needs the product and the images."""

    def __init__(self):
        inputs = tf.keras.Input([3])
        super().__init__(
            {"student": tf.keras.Model(inputs, tf.keras.layers.Dense(5, use_bias=False)(inputs))}, ("student",)
        )

    def loss_terms(self, batch):
        product = self.networks["student"](2.0 * batch["x"], training=True)
        squares = tf.square(product), tf.square(tf.reshape(product, [1, -1, 5]))  # of one memory
        return {"loss": tf.reduce_sum(squares[0], axis=-1) + tf.reduce_sum(squares[1], axis=[0, 2])}


def test_what_is_kept_is_what_the_way_back_reads():
    method = Linear()
    method.compile(SGD(0.1))
    kept = kept_for_backward(method, {"x": tf.ones([4, 3])})
    assert kept["element by element"] == 4 * 4 * 3 + 1  # the doubled images, and whether the loss is finite
    assert kept["matrix products"] == 4 * 4 * 5  # their products, once, although two squares read them twice each
    assert kept["sums"] == 4  # how many images there are; what adds up the gradients of the squares is not kept
    assert sum(kept.values()) == 4 * 4 * (3 + 5) + 4 + 1


class Late(Linear):
    """Its way back makes something of the product, once there is a gradient."""

    def loss_terms(self, batch):
        @tf.custom_gradient
        def doubled(values):
            def grad(upstream):
                with tf.control_dependencies([upstream]):
                    late = tf.exp(values)
                return upstream * late

            return 2.0 * values, grad

        return {"loss": tf.reduce_sum(doubled(self.networks["student"](batch["x"], training=True)), axis=-1)}


def test_what_waits_for_a_gradient_is_not_kept():
    method = Late()
    method.compile(SGD(0.1))
    kept = kept_for_backward(method, {"x": tf.ones([4, 3])})
    assert kept["matrix products"] == 4 * 4 * 5
    assert kept["element by element"] == 1  # whether the loss is finite


class Known:
    """A `Trainer` whose times are known: 10 s a step, of which 0.5 s are callbacks and 9 s training."""

    def __init__(self, **settings):
        self.method, self.batch, self.batch_size = Linear(), {"x": tf.ones([4, 3])}, 4
        self.method.compile(SGD(0.1))
        self.computes = {"binary_compute": "bfloat16"}

    def fit(self, steps):
        return benchmark_steps.Times(10.0 * steps, 0.5 * steps, 9.0 * steps)


def test_a_turn_has_the_images_of_its_steps(monkeypatch):
    monkeypatch.setattr(benchmark_steps, "Trainer", lambda *_: Known())
    turn = benchmark_steps.prepare("moco", (), "")
    assert turn(3) == (12, 30.0)
    assert turn.computes == {"binary_compute": "bfloat16"}


def test_a_profile_is_of_one_step(monkeypatch):
    """TensorFlow sees one step more than is timed, and the first step waits for the pipeline to start."""
    seen = benchmark_profile._STEPS + 1
    space = benchmark_profile.xplane_pb2.XSpace()
    plane, names = space.planes.add(), {1: "a/Cast:Cast", 2: "b/mul:Mul", 3: benchmark_profile._WAITING}
    for number, name in names.items():
        plane.event_metadata[number].name = name
    step, pipeline = plane.lines.add(name="tf_Compute/1"), plane.lines.add(name="tf_data_private_threadpool/2")
    for index in range(seen):
        step.events.add(metadata_id=1, offset_ps=index, duration_ps=2 * 10**12)
        pipeline.events.add(metadata_id=2, offset_ps=index, duration_ps=3 * 10**12)
        pipeline.events.add(metadata_id=3, offset_ps=index, duration_ps=10**12 if index else 50 * 10**12)
    folders = []

    def stop():
        (pathlib.Path(folders[0]) / "host.xplane.pb").write_bytes(space.SerializeToString())

    monkeypatch.setattr(benchmark_profile, "Trainer", Known)
    monkeypatch.setattr(tf.profiler.experimental, "start", folders.append)
    monkeypatch.setattr(tf.profiler.experimental, "stop", stop)
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # which it silences
    found = benchmark_profile._profile("known", {})
    assert (found.seconds, found.callbacks, found.keras) == (10.0, 0.5, 0.5)
    assert found.operations == dict.fromkeys(CLASSES, 0.0) | {"casts": 2.0}
    assert (found.pipeline, found.waiting) == (3.0, 1.0)
    assert found.held["slots"] == 4 * 15 + 8  # momentum, and the number of the step
    assert 4 * 15 <= found.held["weights"] < 8 * 15
    assert found.computes == {"binary_compute": "bfloat16"}


def profile_of(name, seconds, casts, kept):
    operations = dict.fromkeys(CLASSES, 0.0) | {"casts": casts, "sums": 0.001}
    return Profile(
        name, seconds, operations, 0.002, 0.0001, 0.0002, 0.0003, dict.fromkeys(CLASSES, 0) | {"casts": kept},
        {"weights": 3 * 2**20, "slots": 6 * 2**20}, 2**30, {"binary_compute": name},
    )  # fmt: skip


def test_tables_tell_time_and_memory():
    text = tables([profile_of("a", 0.1, 0.003, 5 * 2**20), profile_of("b", 0.05, 0.0, 2**20)])
    assert "| casts | 3.0 | 75 | 0.0 | 0 |" in text
    assert "| sums | 1.0 | 25 | 1.0 | 100 |" in text
    assert "| **all of the step** | 4.0 | 100 | 1.0 | 100 |" in text
    assert "| from end to end | 100.0 | 50.0 |" in text
    assert "| kept: casts | 5 | 1 |" in text
    assert "| peak of the process | 1,024 | 1,024 |" in text
    assert "matrix products" not in text.split("\n\n")[0]

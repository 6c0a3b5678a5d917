"""What is measured of binary layers while they train."""

import json

import larq
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.compat.proto import event_pb2

from larq_ssl import callbacks
from larq_ssl.callbacks.binary_probe import BinaryProbe, blocked, is_binary
from larq_ssl.callbacks.sign_flips import latent_kernel
from larq_ssl.evaluation.diagnosis import judge, read_history
from larq_ssl.layers import batch_norm
from larq_ssl.methods.base import SelfSupervisedModel
from larq_ssl.models.convolutions import float_conv
from larq_ssl.models.encoder import Architecture, Encoder, EncoderSpec
from larq_ssl.models.reactnet import OFFICIAL, react_block
from larq_ssl.models.transfer import named_weights
from larq_ssl.optimizers import SGD, Adam
from larq_ssl.quantizers import MagnitudeSign
from tests.methods import tiny
from tests.replicas import two_replicas

STEPS = 3
LAYERS = ["block1/conv3x3", "block1/conv1x1_a", "block1/conv1x1_b"]


class TestBlocked:
    VALUES = np.array([[-3.0, -1.001, -1.0, -0.6], [-0.4, 0.0, 0.9, 1.0], [1.001, 1.2, 1.3, 50.0]], np.float32)

    @pytest.mark.parametrize(
        ("quantizer", "expected"),
        [
            (larq.quantizers.SteSign(), np.abs(VALUES) > 1),
            (larq.quantizers.SteSign(clip_value=0.5), np.abs(VALUES) > 0.5),
            (larq.quantizers.SteSign(clip_value=None), np.zeros_like(VALUES, bool)),
            (larq.quantizers.ApproxSign(), np.abs(VALUES) >= 1),
            (MagnitudeSign(), np.abs(VALUES) > 1),
            (MagnitudeSign(clip_grad=False, scale_in_grad=True), np.zeros_like(VALUES, bool)),
            (larq.quantizers.DoReFa(2), (VALUES < 0) | (VALUES > 1)),
        ],
    )
    def test_it_is_what_the_quantizers_own_gradient_says(self, quantizer, expected):
        np.testing.assert_array_equal(blocked(quantizer, tf.constant(self.VALUES)), expected)


@pytest.mark.parametrize(
    ("quantizer", "expected"),
    [
        *((larq.quantizers.get(name), True) for name in ("approx_sign", "ste_sign", "swish_sign")),
        (MagnitudeSign(), True),
        *((other, False) for other in (None, tf.keras.activations.tanh, larq.quantizers.DoReFa(2))),
        (larq.quantizers.NoOp(precision=1), False),
    ],
)
def test_what_leaves_one_bit_is_binary(quantizer, expected):
    assert is_binary(quantizer) == expected


class TestBinaryProbe:
    def network(self, **arguments):
        inputs = tf.keras.Input([2, 2, 3])
        layer = larq.layers.QuantConv2D(4, 1, input_quantizer="approx_sign", name="conv", **arguments)
        return tf.keras.Model(inputs, layer(inputs)), layer

    # Channels: alive, always positive, always negative; 5 of 24 numbers are beyond 1.
    IMAGES = np.stack(
        [
            [[[0.5, 2.0, -0.5], [-0.5, 0.1, -0.1]], [[0.1, 0.2, -3.0], [0.2, 0.3, -0.2]]],
            [[[9.0, 0.5, -0.5], [0.5, 0.1, -0.1]], [[0.1, 1.5, -0.9], [0.2, 0.3, -1.1]]],
        ]
    ).astype(np.float32)

    def test_saturated_inputs_and_dead_channels_are_counted(self):
        network, layer = self.network()
        counts = BinaryProbe(network, [layer])(self.IMAGES)
        assert [array.tolist() for array in (counts.entries, counts.saturated)] == [[24], [5]]
        assert [array.tolist() for array in (counts.channels, counts.dead)] == [[3], [2]]

    def test_one_pixel_brings_a_channel_to_life(self):
        network, layer = self.network()
        images = self.IMAGES.copy()
        images[1, 1, 1, 2] = 0.01
        assert BinaryProbe(network, [layer])(images).dead.tolist() == [1]

    def test_layers_that_networks_of_other_sizes_share_are_those_of_this_network(self):
        network, layer = self.network()
        other = tf.keras.Input([None, None, 3])
        layer(10.0 * other)
        assert BinaryProbe(network, [layer])(self.IMAGES).saturated.tolist() == [5]

    def test_a_stranger_is_refused(self):
        network, _ = self.network()
        _, layer = self.network()
        layer._name = "stranger"
        with pytest.raises(ValueError, match="'stranger' is there 0 times"):
            BinaryProbe(network, [layer])


def encoder(binarization="full", name="student"):
    """Three binary layers: a doubling block of ReActNet."""

    def trunk(x, spec, layers):
        x = layers(batch_norm, "stem/bn")(float_conv(layers, "stem/conv", 8, 3, 1, OFFICIAL.initializer)(x))
        return {"stride1": react_block(x, "block1", 16, 1, spec.binarization, OFFICIAL, layers)}

    return Encoder(Architecture(trunk), EncoderSpec(name, binarization=binarization, stem="cifar"))


class Method(SelfSupervisedModel):
    """Draws the features of an image to its first view's mean brightness."""

    def loss_terms(self, batch):
        images = batch["global"][:, 0]
        target = tf.reduce_mean(tf.cast(images, tf.float32), axis=[1, 2, 3])[:, None] / 255.0
        return {"loss": tf.reduce_mean((self.networks["student"](images, training=True) - target) ** 2, axis=-1)}


def method(binarization="full", optimizer=None, in_graph=False):
    """By default without a graph, which takes longer to make than to run."""
    tf.keras.utils.set_random_seed(0)
    result = Method({"student": encoder(binarization)}, ["student"])
    result.compile(optimizer or Adam(0.01), run_eagerly=not in_graph)
    return result


def batches(start=0):
    made = [tiny.batch(seed) for seed in range(2 * STEPS)]
    data = tf.data.Dataset.from_tensor_slices({key: tf.stack([one[key] for one in made]) for key in made[0]})
    return data.repeat().skip(start)


class StopAfter(tf.keras.callbacks.Callback):
    """Ends training in the middle of an epoch, as SIGTERM does."""

    def __init__(self, updates):
        super().__init__()
        self.updates = updates

    def on_train_batch_end(self, batch, logs=None):
        self.model.stop_training = int(self.model.optimizer.iterations) >= self.updates


PROBE = tiny.batch(99)["global"].numpy()[:, 0]


def fit(model, folder, epochs=2, start=0, every=1, stop=None):
    """Trains under the callbacks; returns the logs of the epochs."""
    network = model.networks["student"]
    flips = callbacks.SignFlips(network.binary_layers if network.spec.binarization == "full" else [])
    watchers = [flips, callbacks.Diagnostics(network, PROBE, folder / "d.jsonl", folder / "tensorboard", every)]
    watchers += [StopAfter(stop)] if stop else []
    return model.fit(batches(start), epochs=epochs, steps_per_epoch=STEPS, callbacks=watchers, verbose=0).history


def rows(folder):
    return [json.loads(line) for line in (folder / "d.jsonl").read_text().splitlines()]


def events(folder):
    found = {}
    for file in sorted((folder / "tensorboard").glob("events*")):
        for record in tf.data.TFRecordDataset(str(file)):
            event = event_pb2.Event.FromString(record.numpy())
            for value in event.summary.value:
                found[value.tag, event.step] = (value.metadata.plugin_data.plugin_name, tf.make_ndarray(value.tensor))
    return found


def state(model):
    variables = [*named_weights(model.networks["student"]).values(), *model.optimizer.variables()]
    return [variable.numpy().tobytes() for variable in variables]


class TestDiagnostics:
    def test_a_row_holds_the_measures_of_each_layer_and_the_logs_the_whole(self, tmp_path):
        model = method()
        network = model.networks["student"]
        kernels = [latent_kernel(layer) for layer in network.binary_layers]
        kernels[1].assign(tf.where(tf.range(8) < 6, 2.0, kernels[1]))
        before = [kernel.numpy() for kernel in kernels]
        logs = fit(model, tmp_path, epochs=1)
        start, row = rows(tmp_path)
        assert (start["epoch"], start["step"]) == (0, 0)
        assert (row["epoch"], row["step"]) == (1, STEPS)
        measures = ("gradient_norm", "saturated", "dead_channels", "beyond_clip", "sign_flips")
        assert all(list(row[measure]) == LAYERS for measure in measures)

        signs = [network.get_layer(f"block1/sign{part}").output for part in (1, 2, 2)]
        inner = tf.keras.Model(network.inputs, signs)
        inputs = [x.numpy() for x in inner(PROBE, training=False)]
        saturated = [np.mean(np.abs(x) >= 1) for x in inputs]
        dead = [np.mean((x >= 0).all((0, 1, 2)) | (x < 0).all((0, 1, 2))) for x in inputs]
        beyond = [np.mean(np.abs(kernel) > 1) for kernel in kernels]
        flipped = [np.mean((old >= 0) != (new.numpy() >= 0)) for old, new in zip(before, kernels, strict=True)]
        norms = model.gradient_norms([layer.kernel for layer in network.binary_layers])
        for measure, values in zip(measures, (norms, saturated, dead, beyond, flipped), strict=True):
            assert list(row[measure].values()) == pytest.approx(list(values), abs=1e-6), measure
            assert max(values) > 0 or measure == "dead_channels"
        assert beyond[1] == 0.75

        sizes = [x.size for x in inputs], [kernel.shape.num_elements() for kernel in kernels]
        assert logs["diagnostics/saturated"] == [pytest.approx(np.average(saturated, weights=sizes[0]))]
        assert logs["diagnostics/dead_channels"] == [pytest.approx(np.average(dead, weights=[8] * 3))]
        assert logs["diagnostics/beyond_clip"] == [pytest.approx(np.average(beyond, weights=sizes[1]))]
        assert logs["diagnostics/gradient_norm"] == [pytest.approx(np.linalg.norm(norms))]

    def test_the_histogram_counts_magnitudes_with_all_that_is_outside_at_its_ends(self, tmp_path):
        model = method(optimizer=SGD(0.0))
        kernels = [latent_kernel(layer) for layer in model.networks["student"].binary_layers]
        for kernel in kernels:
            kernel.assign(tf.zeros_like(kernel))
        values = [0.011, -0.012, 0.5, -1.2, 70.0, 1e-9]
        kernels[0].assign(tf.reshape(tf.concat([values, tf.zeros(9 * 64 - 6)], 0), kernels[0].shape))
        fit(model, tmp_path, epochs=1)
        for row in rows(tmp_path):
            histogram = row["latent_weights"]
            edges, counts = np.array(histogram["edges"]), np.array(histogram["counts"])
            assert (edges[0], edges[-1], len(counts)) == (1e-6, 10.0, len(edges) - 1)
            assert counts.sum() == sum(kernel.shape.num_elements() for kernel in kernels)
            assert counts[0] == counts.sum() - 5
            assert counts[-1] == 1
            for magnitude, count in ((0.0115, 2), (0.5, 1), (1.2, 1)):
                assert counts[np.searchsorted(edges, magnitude) - 1] == count

    def test_tensorboard_shows_scalars_and_histograms_of_the_layers(self, tmp_path):
        model = method()
        fit(model, tmp_path)
        found, (_, *measured) = events(tmp_path), rows(tmp_path)
        scalars = {
            (f"diagnostics/{measure}/{layer}", row["epoch"]): row[measure][layer]
            for measure in ("gradient_norm", "saturated", "dead_channels", "beyond_clip")
            for layer in LAYERS
            for row in measured
        }
        histograms = {(f"diagnostics/latent_weights/{layer}", epoch) for layer in LAYERS for epoch in (0, 1, 2)}
        assert set(found) == set(scalars) | histograms
        for key, value in scalars.items():
            assert found[key] == ("scalars", pytest.approx(value, rel=1e-6))
        for layer in model.networks["student"].binary_layers:
            plugin, bins = found[f"diagnostics/latent_weights/{layer.name}", 2]
            weights = latent_kernel(layer).numpy()
            assert (plugin, bins.shape) == ("histograms", (30, 3))
            assert bins[:, 2].sum() == weights.size
            assert (bins[0, 0], bins[-1, 1]) == pytest.approx((weights.min(), weights.max()))

    @pytest.mark.parametrize(("binarization", "gone"), [("activations", {"beyond_clip", "sign_flips"}), ("none", None)])
    def test_what_a_network_has_not_is_left_out(self, tmp_path, binarization, gone):
        logs = fit(method(binarization), tmp_path)
        if gone is None:
            assert not list(tmp_path.iterdir())
            assert not [name for name in logs if name.startswith("diagnostics")]
            return
        assert [row["epoch"] for row in rows(tmp_path)] == [1, 2]
        assert set(rows(tmp_path)[0]) == {
            *("epoch", "step", "gradient_norm", "saturated", "dead_channels", "weight_change")
        }
        assert "diagnostics/beyond_clip" not in logs
        assert min(rows(tmp_path)[1]["gradient_norm"].values()) > 0

    def test_training_is_the_same_to_the_bit_with_and_without(self, tmp_path):
        watched, alone = (method(in_graph=True) for _ in range(2))
        start = state(watched)
        assert state(alone) == start
        fit(watched, tmp_path)
        alone.fit(batches(), epochs=2, steps_per_epoch=STEPS, verbose=0)
        assert state(watched) == state(alone) != start

    def test_a_run_in_two_parts_has_the_rows_of_one(self, tmp_path):
        """Stopped within epoch 2; only the flips of that epoch cannot be known."""
        (tmp_path / "whole").mkdir()
        (tmp_path / "parts").mkdir()
        fit(method(), tmp_path / "whole", epochs=3)
        model = method()
        fit(model, tmp_path / "parts", epochs=3, stop=STEPS + 2)
        assert [row["epoch"] for row in rows(tmp_path / "parts")] == [0, 1]
        state_file = str(tmp_path / "state")
        tf.train.Checkpoint(model=model, optimizer=model.optimizer).write(state_file)
        resumed = method()
        tf.train.Checkpoint(model=resumed, optimizer=resumed.optimizer).read(state_file).assert_consumed()
        fit(resumed, tmp_path / "parts", epochs=3, start=STEPS + 2)
        expected = rows(tmp_path / "whole")
        assert expected[2].pop("sign_flips")
        assert rows(tmp_path / "parts") == expected

    def test_an_epoch_that_is_trained_again_replaces_its_row(self, tmp_path):
        fit(method(), tmp_path, epochs=3)
        before = rows(tmp_path)
        again = method(optimizer=Adam(0.1))
        again.optimizer.iterations.assign(STEPS)
        fit(again, tmp_path, epochs=2, start=STEPS)
        after = rows(tmp_path)
        assert [row["epoch"] for row in after] == [0, 1, 2, 3]
        assert [after[place] == before[place] for place in range(4)] == [True, True, False, True]

    def test_every_so_many_epochs_and_after_the_last(self, tmp_path):
        logs = fit(method(), tmp_path, epochs=5, every=2)
        assert [row["epoch"] for row in rows(tmp_path)] == [0, 2, 4, 5]
        assert len(logs["diagnostics/saturated"]) == 3

    def test_mixed_precision(self, tmp_path):
        tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
        fit(method(), tmp_path, epochs=1)
        (_, row) = rows(tmp_path)
        assert all(0 < value < 1 for value in row["saturated"].values())
        assert all(np.isfinite(value) and value > 0 for value in row["gradient_norm"].values())

    def test_two_replicas(self, tmp_path):
        with two_replicas().scope():
            model = method(in_graph=True)
        fit(model, tmp_path, epochs=1)
        (_, row) = rows(tmp_path)
        inner = BinaryProbe(model.networks["student"], model.networks["student"].binary_layers)(PROBE)
        assert list(row["saturated"].values()) == pytest.approx(list(inner.saturated / inner.entries))
        assert min(row["gradient_norm"].values()) > 0

    def test_a_distance_below_one_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="every must be at least 1, got 0"):
            callbacks.Diagnostics(encoder(), PROBE, tmp_path / "d.jsonl", tmp_path, every=0)


class TestVerdictOfRealRuns:
    """A run that learns and two that do not, told apart by what was measured of them."""

    def verdict(self, folder, optimizer, gamma=1.0, binarization="full"):
        folder.mkdir(exist_ok=True)
        model = method(binarization, optimizer)
        for layer in model.networks["student"].layers:
            if isinstance(layer, tf.keras.layers.BatchNormalization):
                layer.gamma.assign(gamma * layer.gamma)
        fit(model, folder, epochs=3)
        history = read_history(folder / "d.jsonl")
        return judge(history), history

    def test_learning(self, tmp_path):
        verdict, history = self.verdict(tmp_path, Adam(0.01))
        assert verdict.learns, verdict
        assert verdict.headline.startswith("Binary layers learn")
        assert (history.values["sign_flips"].max(axis=1) > 1e-3).all()
        assert (history.values["saturated"] < 0.9).all()

    def test_learning_rate_0(self, tmp_path):
        verdict, history = self.verdict(tmp_path, Adam(0.0))
        assert not verdict.learns
        assert verdict.headline.startswith("No signs flip in 3 of 3 binary layers")
        assert (history.values["sign_flips"] == 0).all()
        np.testing.assert_array_equal(history.weights[0].shares, history.weights[1].shares)

    def test_float_kernels_that_learn_and_that_do_not(self, tmp_path):
        learning, history = self.verdict(tmp_path / "learning", Adam(0.01), binarization="activations")
        assert learning.learns, learning
        assert learning.headline.startswith("Binary layers learn: weights change by")
        assert (history.values["weight_change"] > 1e-3).all()
        still, history = self.verdict(tmp_path / "still", Adam(0.0), binarization="activations")
        assert still.headline.startswith("Weights stand still in 3 of 3 binary layers")
        assert (history.values["weight_change"] == 0).all()

    def test_saturated(self, tmp_path):
        verdict, history = self.verdict(tmp_path, Adam(0.01), gamma=100.0)
        assert not verdict.learns
        assert verdict.headline.startswith("Saturated in 3 of 3 binary layers")
        assert (history.values["saturated"] > 0.9).all()

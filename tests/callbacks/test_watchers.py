"""What checks, warns and measures while a network trains."""

import dataclasses
import logging
from unittest import mock

import larq
import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import callbacks, models
from larq_ssl.callbacks.sign_flips import latent_kernel
from larq_ssl.data.datasets import load_dataset
from tests import toy_method


def views(*shapes_or_values):
    """Views `[4, len, 6, 6, 3]`, one random picture per number: equal numbers are equal pictures."""
    pictures = [np.random.default_rng(value).integers(0, 255, (4, 6, 6, 3)) for value in shapes_or_values]
    return np.stack(pictures, axis=1).astype(np.uint8)


class TestCheckViews:
    def test_different_views_are_fine(self):
        callbacks.check_views({"global": tf.constant(views(1, 2))})

    def test_one_view_is_fine(self):
        callbacks.check_views({"global": views(1)})

    def test_a_few_identical_ones_are_fine(self):
        batch = views(1, 2)
        batch[:2, 1] = batch[:2, 0]
        callbacks.check_views({"global": batch})

    @pytest.mark.parametrize(("pictures", "number"), [((1, 1), 2), ((1, 2, 1), 3)])
    def test_identical_views_are_refused(self, pictures, number):
        with pytest.raises(ValueError, match=f"The global views 1 and {number} are identical for 100% of the"):
            callbacks.check_views({"global": views(*pictures)})
        with pytest.raises(ValueError, match=f"The local views 1 and {number} are identical"):
            callbacks.check_views({"global": views(1, 2), "local": views(*pictures)})

    def test_nearly_identical_views_are_different(self):
        batch = views(1, 1)
        batch[:, 1, 0, 0, 0] ^= 1
        callbacks.check_views({"global": batch})


class Disconnected(toy_method.Toy):
    """Part of the student never learns: its first output is multiplied by zero."""

    def loss_terms(self, batch):
        terms = super().loss_terms(batch)
        outputs = self.networks["student"](batch["x"], training=True) * tf.constant([0.0, 0, 0, 0])
        return {**terms, "loss": tf.reduce_sum(outputs, axis=-1)}


class TestGradientCheck:
    def fit(self, method, start_step=0, model=None, epochs=1):
        model = model or toy_method.compiled(method=method)
        model.fit(
            toy_method.batches(start_step=start_step),
            steps_per_epoch=4,
            epochs=epochs,
            callbacks=[callbacks.GradientCheck()],
            verbose=0,
        )
        return model

    def test_a_network_that_learns_passes(self):
        self.fit(toy_method.Toy)

    def test_what_gets_no_gradient_is_named(self):
        with pytest.raises(callbacks.NoGradientError, match=r"6 of 6 optimised variables got no gradient .*hidden"):
            self.fit(Disconnected)

    def test_a_run_that_was_stopped_before_is_checked_when_it_goes_on(self):
        model = toy_method.compiled(method=Disconnected)
        model.fit(toy_method.batches(), steps_per_epoch=2, verbose=0)
        with pytest.raises(callbacks.NoGradientError):
            self.fit(Disconnected, start_step=2, model=model)
        assert model.optimizer.iterations == 3

    def test_a_run_that_was_checked_is_not_checked_again(self):
        model = toy_method.compiled(method=Disconnected)
        model.fit(toy_method.batches(), steps_per_epoch=4, verbose=0)
        self.fit(Disconnected, start_step=4, model=model, epochs=2)


class TestCollapseWarning:
    @pytest.mark.parametrize("name", ["embedding_std", "embedding_rank", "class_usage"])
    def test_it_warns_once(self, name, caplog):
        callback = callbacks.CollapseWarning()
        fine, collapsed = {"embedding_std": (0.4, 0.01), "embedding_rank": (5, 1.01), "class_usage": (9, 1.0)}[name]
        for epoch, value in enumerate((fine, collapsed, collapsed)):
            callback.on_epoch_end(epoch, {"loss": 1.0, name: value})
            assert len(caplog.records) == min(epoch, 1)
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert f"COLLAPSE after epoch 2: {name} is {collapsed:.4f}" in record.getMessage()
        assert callback.warned == {name}

    def test_each_sign_has_a_warning_of_its_own(self, caplog):
        callback = callbacks.CollapseWarning()
        callback.on_epoch_end(0, {"embedding_std": 0.0})
        callback.on_epoch_end(1, {"embedding_std": 0.0, "class_usage": 1.0})
        assert len(caplog.records) == 2

    def test_the_limits_can_be_set(self, caplog):
        callbacks.CollapseWarning(least_std=0.5).on_epoch_end(0, {"embedding_std": 0.4})
        assert len(caplog.records) == 1

    def test_logs_without_a_sign_are_fine(self, caplog):
        callbacks.CollapseWarning().on_epoch_end(0, {"loss": 0.0})
        callbacks.CollapseWarning().on_epoch_end(0, None)
        assert not caplog.records


class TestCloseProjections:
    def looks(self, caplog, *values):
        callback = callbacks.CollapseWarning()
        for epoch, value in enumerate(values):
            callback.on_epoch_end(
                epoch, {} if value is None else {"projection_uniformity": value, "embedding_rank": 30}
            )
        return [record.getMessage() for record in caplog.records]

    def test_it_warns_once_at_the_second_look(self, caplog):
        (told,) = self.looks(caplog, -2.0, -0.0028, -0.0028, -0.001)
        assert "COLLAPSE after epoch 3: projection_uniformity is -0.0028, above -0.05" in told

    def test_epochs_without_a_look_do_not_count(self, caplog):
        (told,) = self.looks(caplog, -0.01, None, -0.02, None)
        assert "after epoch 3" in told

    def test_projections_that_leave_each_other_are_fine(self, caplog):
        assert not self.looks(caplog, -0.01, -0.06, -0.04, -0.051, -0.03)


class TestStuckLoss:
    """A loss that stays where it is if the method teaches nothing."""

    VALUE = np.log(7)

    @pytest.fixture
    def callback(self):
        callback = callbacks.CollapseWarning()
        callback.set_model(mock.Mock(collapse_values={"dino": self.VALUE}))
        return callback

    def test_it_warns_once_after_two_epochs(self, callback, caplog):
        for epoch, value in enumerate((2.5, self.VALUE, self.VALUE * 1.0005, self.VALUE)):
            callback.on_epoch_end(epoch, {"loss": 1.0, "dino": value})
            assert len(caplog.records) == (epoch >= 2)
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert "COLLAPSE after epoch 3: dino stays at 1.946" in record.getMessage()
        assert callback.warned == {"dino"}

    def test_two_epochs_have_to_follow_each_other(self, callback, caplog):
        for epoch, value in enumerate((self.VALUE, 1.5, self.VALUE, 1.5)):
            callback.on_epoch_end(epoch, {"dino": value})
        assert not caplog.records

    @pytest.mark.parametrize("factor", [0.997, 1.003])
    def test_what_is_further_away_is_fine(self, callback, caplog, factor):
        for epoch in range(3):
            callback.on_epoch_end(epoch, {"dino": factor * self.VALUE})
        assert not caplog.records

    def test_an_epoch_without_the_loss_is_fine(self, callback, caplog):
        for epoch in range(3):
            callback.on_epoch_end(epoch, {"loss": self.VALUE})
        callback.on_epoch_end(3, None)
        assert not caplog.records


class TestSignFlips:
    @pytest.fixture
    def layers(self):
        layers = [
            larq.layers.QuantConv2D(2, 3, kernel_quantizer="ste_sign", name="first"),
            larq.layers.QuantConv2D(1, 1, kernel_quantizer="ste_sign", name="second"),
        ]
        for layer, shape in zip(layers, ([1, 4, 4, 5], [1, 4, 4, 3]), strict=True):
            layer.build(shape)
            latent_kernel(layer).assign(np.abs(np.random.default_rng(0).normal(size=layer.kernel.shape)) + 0.1)
        return layers

    def watch(self, layers, steps=2):
        callback = callbacks.SignFlips(layers)
        callback.set_params({"steps": steps})
        callback.on_train_begin()
        return callback

    def epoch(self, callback, batches=(0, 1)):
        callback.on_epoch_begin(0)
        for batch in batches:
            callback.on_train_batch_end(batch)
        logs = {}
        callback.on_epoch_end(0, logs)
        return logs

    def test_known_flips_are_counted(self, layers):
        callback = self.watch(layers)
        kernel = latent_kernel(layers[0])
        signs = np.ones(90)
        signs[:9] = -1
        kernel.assign(kernel * signs.reshape(kernel.shape))
        logs = self.epoch(callback)
        assert logs == pytest.approx({"sign_flips/first": 0.1, "sign_flips/second": 0.0, "sign_flips": 9 / 93})

    def test_only_what_flipped_since_the_last_epoch_counts(self, layers):
        callback = self.watch(layers)
        kernel = latent_kernel(layers[1])
        kernel.assign(-kernel)
        assert self.epoch(callback)["sign_flips/second"] == 1.0
        assert self.epoch(callback)["sign_flips/second"] == 0.0
        kernel.assign(kernel * [[[[-1.0], [-1.0], [0.5]]]])
        assert self.epoch(callback)["sign_flips/second"] == pytest.approx(2 / 3)

    def test_zero_counts_as_positive(self, layers):
        callback = self.watch(layers)
        latent_kernel(layers[1]).assign(tf.zeros([1, 1, 3, 1]))
        assert self.epoch(callback)["sign_flips"] == 0.0

    @pytest.mark.parametrize("batches", [(0,), (1,)])
    def test_an_epoch_in_parts_is_left_out_and_the_next_is_counted_rightly(self, layers, batches):
        """(0,): stopped by SIGTERM; (1,): the rest of an epoch in a resumed run."""
        callback = self.watch(layers)
        kernel = latent_kernel(layers[1])
        kernel.assign(-kernel)
        assert self.epoch(callback, batches) == {}
        assert self.epoch(callback)["sign_flips"] == 0.0

    def test_without_binary_layers_nothing_is_logged(self):
        assert self.epoch(self.watch([])) == {}

    def test_it_finds_the_latent_kernels_of_an_encoder_that_trains(self):
        encoder = models.build("reactnet_18", 8, width=0.125, stem="cifar")
        callback = self.watch(encoder.binary_layers)
        kernel = latent_kernel(encoder.binary_layers[3])
        assert kernel is getattr(encoder.binary_layers[3].kernel, "latent_variable", encoder.binary_layers[3].kernel)
        kernel.assign(-kernel)
        logs = self.epoch(callback)
        assert len(logs) == 17
        assert [name for name, value in logs.items() if value] == [
            f"sign_flips/{encoder.binary_layers[3].name}",
            "sign_flips",
        ]


class TestOnlineKNN:
    @pytest.fixture
    def digits(self):
        return load_dataset("digits", "train", limit=100), load_dataset("digits", "val", limit=50)

    @pytest.fixture
    def callback(self, digits):
        return callbacks.OnlineKNN(mock.Mock(), *digits, image_size=8, every=3)

    def logged(self, callback, epochs, batches=1):
        callback.set_params({"epochs": epochs, "steps": 1})
        epochs_logged = []
        with (
            mock.patch("larq_ssl.callbacks.online_knn.extract", return_value=mock.Mock(features=np.eye(9))) as extract,
            mock.patch("larq_ssl.callbacks.online_knn.knn", return_value={"20/top1": 0.5}),
        ):
            for epoch in range(epochs):
                logs = {}
                for batch in range(batches):
                    callback.on_train_batch_end(batch)
                callback.on_epoch_end(epoch, logs)
                if "knn" in logs:
                    epochs_logged.append(epoch + 1)
        assert extract.call_count == 2 * len(epochs_logged)
        return epochs_logged

    @pytest.mark.parametrize(("epochs", "expected"), [(7, [3, 6, 7]), (6, [3, 6]), (2, [2]), (1, [1])])
    def test_every_so_many_epochs_and_after_the_last(self, callback, epochs, expected):
        assert self.logged(callback, epochs) == expected

    def test_an_epoch_that_is_stopped_in_its_middle_is_not_evaluated(self, callback):
        assert self.logged(callback, 3, batches=0) == []

    def test_accuracy_is_that_of_the_encoder(self, digits):
        train, val = digits
        encoder = models.build("resnet_18", None, "none", width=0.125, stem="cifar")
        callback = callbacks.OnlineKNN(encoder, train, val, image_size=8)
        callback.set_params({"epochs": 5, "steps": None})
        logs = {}
        callback.on_epoch_end(0, logs)
        assert 0.1 < logs["knn"] <= 1
        assert callback.accuracy == logs["knn"]
        # Nothing learns or drifts while it is watched.
        again = {}
        callback.on_epoch_end(1, again)
        assert again == logs

    def test_a_small_bank_has_fewer_neighbours(self, digits):
        encoder = models.build("resnet_18", None, "none", width=0.125, stem="cifar")
        bank = load_dataset("digits", "train", limit=10)
        callback = callbacks.OnlineKNN(encoder, bank, digits[1], image_size=8)
        callback.set_params({"epochs": 1, "steps": None})
        logs = {}
        callback.on_epoch_end(0, logs)
        assert 0 <= logs["knn"] <= 1

    def test_images_without_labels_are_refused(self, digits):
        unlabelled = dataclasses.replace(digits[0], classes=None)
        with pytest.raises(ValueError, match="label"):
            callbacks.OnlineKNN(mock.Mock(), unlabelled, digits[1], image_size=8)

    def test_a_distance_below_one_is_refused(self, digits):
        with pytest.raises(ValueError, match="every must be at least 1, got 0"):
            callbacks.OnlineKNN(mock.Mock(), *digits, image_size=8, every=0)

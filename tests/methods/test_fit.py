"""Training by Keras's `fit`: it goes on where the optimizer stopped, in the middle of an epoch too."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from tests.methods import tiny

STEPS = 4


class _Spy(tf.keras.callbacks.Callback):
    """Records which batch of which epoch was trained, after how many updates, and the loss shown for it."""

    def __init__(self):
        super().__init__()
        self.seen, self.losses, self._epoch = [], [], None

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append((self._epoch, batch, int(self.model.optimizer.iterations)))
        self.losses.append(logs["loss"])


def _stream(start=0):
    """Batches that differ, from that of step `start` on, as the pipeline gives them."""
    batches = [tiny.batch(seed) for seed in range(3 * STEPS)]

    def generate():
        for index in itertools.count(start):
            yield batches[index % len(batches)]

    signature = {key: tf.TensorSpec(value.shape, value.dtype) for key, value in batches[0].items()}
    return tf.data.Dataset.from_generator(generate, output_signature=signature)


def _fit(method, epochs, start=0):
    spy = _Spy()
    history = method.fit(_stream(start), epochs=epochs, steps_per_epoch=STEPS, callbacks=[spy], verbose=0)
    return spy, history.history


@pytest.mark.parametrize("done", [0, 1, STEPS - 1, STEPS, STEPS + 1])
def test_only_the_steps_that_are_left_are_trained(done):
    method = tiny.bssl()
    method.optimizer.iterations.assign(done)
    spy, _ = _fit(method, epochs=3, start=done)
    expected = [(step // STEPS, step % STEPS, step + 1) for step in range(done, 3 * STEPS)]
    assert spy.seen == expected


def test_a_finished_run_trains_nothing():
    method = tiny.bssl()
    method.optimizer.iterations.assign(3 * STEPS)
    assert _fit(method, epochs=3)[0].seen == []


def test_a_run_in_two_pieces_is_the_run_in_one(tmp_path):
    whole, first, second = tiny.moco(), tiny.moco(seed=1), tiny.moco(seed=2)
    start = tf.train.Checkpoint(model=whole, optimizer=whole.optimizer)
    start.write(str(tmp_path / "start"))
    tf.train.Checkpoint(model=first, optimizer=first.optimizer).read(str(tmp_path / "start"))
    expected, history = _fit(whole, epochs=2)

    class Stop(tf.keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if int(self.model.optimizer.iterations) == STEPS + 2:
                # As a killed process leaves it: within the epoch, its metrics half summed.
                tf.train.Checkpoint(model=self.model, optimizer=self.model.optimizer).write(str(tmp_path / "stop"))
                self.model.stop_training = True

    spy = _Spy()
    first.fit(_stream(), epochs=2, steps_per_epoch=STEPS, callbacks=[spy, Stop()], verbose=0)
    tf.train.Checkpoint(model=second, optimizer=second.optimizer).read(str(tmp_path / "stop"))
    resumed, resumed_history = _fit(second, epochs=2, start=STEPS + 2)
    assert [seen for seen in resumed.seen if seen[0] == 1] == expected.seen[STEPS + 2 :]
    for name, network in whole.networks.items():
        tiny.assert_identical(tiny.parameters(second.networks[name]), tiny.parameters(network))
        tiny.assert_identical(tiny.statistics(second.networks[name]), tiny.statistics(network))
    np.testing.assert_array_equal(second.queue.keys, whole.queue.keys)
    # The means of the epoch count the steps before the stop.
    np.testing.assert_array_equal(resumed.losses, expected.losses[STEPS + 2 :])
    assert resumed_history["loss"][-1] == history["loss"][-1]


def test_metrics_start_anew_with_each_epoch():
    method = tiny.bssl()
    spy, history = _fit(method, epochs=2)
    assert spy.losses[STEPS - 1] == history["loss"][0]
    assert set(history) == {
        *method.term_names,
        "gradient_norm/feature_extractor",
        "gradient_norm/classifier",
        "gradient_norm/teacher_classifier",
    }
    alone = tiny.trained(method, [tiny.batch()])
    assert np.isfinite(alone[0]["loss"])


def test_the_loss_falls():
    method = tiny.moco(optimizer=None)
    one = tf.data.Dataset.from_tensors(tiny.batch()).repeat()
    history = method.fit(one, epochs=4, steps_per_epoch=5, verbose=0).history
    assert history["loss"][-1] < 0.9 * history["loss"][0]

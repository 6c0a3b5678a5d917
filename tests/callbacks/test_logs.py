"""What a run tells: progress bar, speed, estimate, metrics file, TensorBoard."""

import json
import pathlib
import re
from unittest import mock

import pytest
import tensorflow as tf
from tensorboard.compat.proto import event_pb2

from larq_ssl import callbacks
from larq_ssl.callbacks.epoch_rows import EpochRows
from larq_ssl.callbacks.logs import duration
from larq_ssl.schedules import WarmupCosine
from tests import toy_method


def fit(*watchers, epochs=2, steps=3, start_step=0, model=None):
    model = model or toy_method.compiled()
    batches = toy_method.batches(start_step=start_step)
    model.fit(batches, epochs=epochs, steps_per_epoch=steps, callbacks=list(watchers), verbose=0)
    return model


class Keep(tf.keras.callbacks.Callback):
    """Keeps the logs of each epoch, as the callbacks before it have left them."""

    def __init__(self):
        super().__init__()
        self.logs = []

    def on_epoch_end(self, epoch, logs=None):
        self.logs.append(dict(logs))


class StopAfter(tf.keras.callbacks.Callback):
    """Ends training in the middle of an epoch, as SIGTERM does."""

    def __init__(self, updates):
        super().__init__()
        self.updates = updates

    def on_train_batch_end(self, batch, logs=None):
        self.model.stop_training = int(self.model.optimizer.iterations) >= self.updates


@pytest.fixture
def clock(monkeypatch):
    """A time that stands still until a test moves it on."""
    now = [0.0]
    monkeypatch.setattr("larq_ssl.callbacks.logs.time.perf_counter", lambda: now[0])
    return now


class TestMetricsFile:
    def rows(self, file: pathlib.Path):
        return [json.loads(line) for line in file.read_text().splitlines()]

    def test_one_line_per_epoch(self, tmp_path):
        file = tmp_path / "metrics.jsonl"
        fit(callbacks.MetricsFile(file))
        rows = self.rows(file)
        assert [(row["epoch"], row["step"]) for row in rows] == [(1, 3), (2, 6)]
        assert {"loss", "size"} <= set(rows[0])

    def test_an_epoch_that_is_trained_again_replaces_its_line(self, tmp_path):
        file = tmp_path / "metrics.jsonl"
        fit(callbacks.MetricsFile(file), epochs=3)
        before = self.rows(file)
        # As after a kill in epoch 3 with a checkpoint at the end of epoch 1.
        model = toy_method.compiled(seed=5)
        model.optimizer.iterations.assign(3)
        fit(callbacks.MetricsFile(file), epochs=2, start_step=3, model=model)
        after = self.rows(file)
        assert [row["epoch"] for row in after] == [1, 2, 3]
        assert after[0] == before[0]
        assert after[2] == before[2]
        assert after[1]["loss"] != before[1]["loss"]

    def test_an_epoch_that_was_stopped_has_no_line(self, tmp_path):
        file = tmp_path / "metrics.jsonl"
        model = fit(callbacks.MetricsFile(file), StopAfter(5), epochs=3)
        assert model.optimizer.iterations == 5
        assert [row["epoch"] for row in self.rows(file)] == [1]

    def test_an_epoch_in_two_parts_has_the_line_of_the_whole(self, tmp_path):
        file, whole = tmp_path / "metrics.jsonl", tmp_path / "whole.jsonl"
        model = fit(callbacks.MetricsFile(file), StopAfter(5))
        model.stop_training = False
        fit(callbacks.MetricsFile(file), start_step=5, model=model)
        fit(callbacks.MetricsFile(whole))
        assert self.rows(file) == self.rows(whole)


class TestTensorBoard:
    def scalars(self, folder, tag="loss"):
        """Epoch and value of all events of a name."""
        values = []
        for file in sorted(folder.rglob("events*")):
            for record in tf.data.TFRecordDataset(str(file)):
                event = event_pb2.Event.FromString(record.numpy())
                values += [
                    (event.step, float(tf.make_ndarray(value.tensor)))
                    for value in event.summary.value
                    if value.tag == tag
                ]
        return values

    def test_every_value_under_its_name(self, tmp_path):
        keep = Keep()
        fit(callbacks.ScheduleLogger({"lambda": lambda step: 0.5}), keep, callbacks.TensorBoard(tmp_path))
        assert set(keep.logs[0]) == {"loss", "size", "lambda"}
        for name in keep.logs[0]:
            expected = [(epoch, pytest.approx(logs[name])) for epoch, logs in enumerate(keep.logs, 1)]
            assert self.scalars(tmp_path, name) == expected

    def test_finished_epochs_only(self, tmp_path):
        model = fit(callbacks.TensorBoard(tmp_path), StopAfter(5), epochs=3)
        assert [epoch for epoch, _ in self.scalars(tmp_path)] == [1]
        model.stop_training = False
        fit(callbacks.TensorBoard(tmp_path), epochs=3, start_step=5, model=model)
        assert sorted(epoch for epoch, _ in self.scalars(tmp_path)) == [1, 2, 3]

    def test_an_epoch_is_on_disk_when_it_ends(self, tmp_path):
        seen = []

        look = tf.keras.callbacks.LambdaCallback(
            on_epoch_end=lambda *_: seen.append([epoch for epoch, _ in self.scalars(tmp_path)])
        )
        fit(callbacks.TensorBoard(tmp_path), look)
        assert seen == [[1], [1, 2]]


class TestScheduleLogger:
    def test_the_values_are_those_of_the_last_step_of_the_epoch(self):
        schedule, keep = WarmupCosine(1.0, 0.0, 6, 3), Keep()
        fit(callbacks.ScheduleLogger({"learning_rate": schedule, "twice": lambda step: 2.0 * float(step)}), keep)
        assert [logs["learning_rate"] for logs in keep.logs] == pytest.approx([float(schedule(2)), float(schedule(5))])
        assert [logs["twice"] for logs in keep.logs] == [4.0, 10.0]


class TestEpochRecorder:
    def test_images_per_second_leave_the_first_step_and_other_callbacks_out(self, clock):
        recorder = callbacks.EpochRecorder(batch_size=8)
        recorder.on_train_begin()
        logs = []
        for epoch in range(2):
            recorder.on_epoch_begin(epoch)
            for batch in range(3):
                clock[0] += 100.0 if epoch == batch == 0 else 0.5
                recorder.on_train_batch_end(batch)
            logs.append({})
            recorder.on_epoch_end(epoch, logs[-1])
            clock[0] += 1000.0
        assert [log["images_per_second"] for log in logs] == pytest.approx([16.0, 16.0])

    def test_an_epoch_of_one_step_that_compiles_has_no_speed(self):
        keep = Keep()
        fit(callbacks.EpochRecorder(4), keep, steps=1)
        assert "images_per_second" not in keep.logs[0]
        assert keep.logs[1]["images_per_second"] > 0


class TestEstimate:
    def test_one_sentence_with_steps_speed_and_time(self):
        said = []
        fit(callbacks.Estimate(total_steps=3600, batch_size=4, say=said.append, after=3), epochs=3)
        (sentence,) = said
        pattern = r"3,600 steps in all, 3,596 to go at (\d+) ms \(([\d,]+) images/s\): about .+, evaluation apart\."
        assert re.fullmatch(pattern, sentence), sentence

    def test_the_first_step_is_not_timed(self, clock):
        said = []
        estimate = callbacks.Estimate(18003, 8, said.append, after=2)
        estimate.set_model(mock.Mock())
        estimate.on_train_begin()
        for batch, seconds in enumerate((100.0, 0.4, 0.4, 7.0)):
            clock[0] += seconds
            estimate.model.optimizer.iterations.numpy.return_value = batch + 1
            estimate.on_train_batch_end(batch)
        assert said == ["18,003 steps in all, 18,000 to go at 400 ms (20 images/s): about 2.0 h, evaluation apart."]

    def test_it_says_from_time_to_time_what_is_left_evaluation_included(self, clock):
        said = []
        estimate = callbacks.Estimate(1001, 8, said.append, after=2, every_seconds=60)
        estimate.set_model(mock.Mock())
        estimate.on_train_begin()
        for batch, seconds in enumerate((100.0, 1.0, 1.0, 50.0, 8.0, 1.0, 59.0)):
            clock[0] += seconds
            estimate.model.optimizer.iterations.numpy.return_value = batch + 1
            estimate.on_train_batch_end(batch)
        assert said[1:] == ["Step 5 of 1,001: about 4.2 h to go.", "Step 7 of 1,001: about 5.5 h to go."]

    def test_a_resumed_run_counts_what_is_left(self):
        said = []
        model = toy_method.compiled()
        model.optimizer.iterations.assign(3)
        fit(callbacks.Estimate(9, 4, said.append, after=2), epochs=3, start_step=3, model=model)
        assert "9 steps in all, 3 to go" in said[0]

    def test_a_short_run_says_nothing(self):
        said = []
        fit(callbacks.Estimate(6, 4, said.append))
        assert said == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (720, "12 min"), (12600, "3.5 h"), (3 * 86400, "3.0 days")],
)
def test_durations_read_well(seconds, text):
    assert duration(seconds) == text


class TestProgressBar:
    def test_only_what_is_asked_for_is_shown(self, capsys):
        model = toy_method.compiled()
        model.fit(
            toy_method.batches(),
            steps_per_epoch=2,
            callbacks=[callbacks.ProgressBar(["loss", "knn"])],
            verbose=1,
        )
        shown = capsys.readouterr().out
        assert "2/2" in shown
        assert "loss:" in shown
        assert "size" not in shown

    def test_what_callbacks_add_at_the_end_of_an_epoch_is_shown(self, capsys):
        class Add(tf.keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                logs.update(knn=0.25, other=3.0)

        model = toy_method.compiled()
        bar = callbacks.ProgressBar(["loss", "knn"])
        model.fit(toy_method.batches(), steps_per_epoch=2, callbacks=[Add(), bar], verbose=2)
        shown = capsys.readouterr().out
        assert "knn: 0.2500" in shown
        assert "other" not in shown


@pytest.mark.parametrize(
    "text",
    [
        '{"epoch": 1, "step": 5}\n{"epoch": 2, "st',
        "[1]\n",
        '{"epoch": 1}\n',
        '{"epoch": 1, "step": 5, "loss": "x"}',
        "\0",
    ],
)
def test_rows_that_are_damaged_are_named(tmp_path, text):
    file = tmp_path / "metrics.jsonl"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"metrics\.jsonl is damaged: not each of its lines is the JSON object"):
        EpochRows(file).read()

"""When a run is saved, and how SIGTERM ends it."""

import os
import signal

import pytest
import tensorflow as tf

from larq_ssl import callbacks
from larq_ssl.checkpoints import Checkpoints
from tests import toy_method


class At(tf.keras.callbacks.Callback):
    """Does something when so many updates are made, or at the end of an epoch."""

    def __init__(self, action, updates=None, epoch=None):
        super().__init__()
        self.action, self.updates, self.epoch = action, updates, epoch

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.optimizer.iterations) == self.updates:
            self.action()

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch:
            self.action()


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


class Run:
    """A run that notes when it was saved."""

    def __init__(self, folder, every_steps, seed=0):
        self.model = toy_method.compiled(seed)
        self.checkpoints = Checkpoints(folder, method=self.model, optimizer=self.model.optimizer)
        self.saved: list[int] = []
        self.saving = callbacks.Checkpointing(self.checkpoints, every_steps, self.note)

    def note(self, step, seconds):
        assert seconds > 0
        self.saved.append(step)

    def fit(self, *others, epochs=3, start_step=0):
        return self.model.fit(
            toy_method.batches(start_step=start_step),
            epochs=epochs,
            steps_per_epoch=4,
            callbacks=[*others, self.saving],
            verbose=0,
        )


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path, every_steps=5)


def test_it_saves_in_its_rhythm_and_at_the_end(run):
    run.fit()
    assert run.saved == [5, 10, 12]
    assert run.checkpoints.steps() == [10, 12]


def test_a_step_at_which_both_fall_together_is_saved_once(tmp_path):
    run = Run(tmp_path, every_steps=4)
    run.fit(epochs=2)
    assert run.saved == [4, 8]


def test_a_resumed_run_keeps_the_rhythm(run, tmp_path):
    run.fit(At(terminate, updates=7))
    assert run.saved == [5, 7]
    other = Run(tmp_path, every_steps=5, seed=1)
    assert other.checkpoints.restore() == 7
    other.fit(start_step=7)
    assert other.saved == [10, 12]


def test_at_the_end_of_an_epoch_it_saves_after_the_other_callbacks(tmp_path):
    """Killed in between, the run would otherwise go on in the next epoch, and the line of this one would be missing."""
    run = Run(tmp_path, every_steps=4)
    seen = []
    run.fit(At(lambda: seen.append(list(run.saved)), epoch=0), epochs=1)
    assert seen == [[]]
    assert run.saved == [4]


def test_sigterm_finishes_the_step_saves_and_stops(run):
    history = run.fit(At(terminate, updates=6))
    assert run.saving.interrupted
    assert run.saved == [5, 6]
    assert run.model.optimizer.iterations == 6
    assert len(history.epoch) == 2


def test_sigterm_at_the_end_of_an_epoch_saves_and_stops(run):
    run.fit(At(terminate, epoch=1))
    assert run.saving.interrupted
    assert run.saved == [5, 8]
    assert run.model.optimizer.iterations == 8


def test_after_sigterm_the_run_ends_as_if_it_had_not_come(run, tmp_path):
    run.fit(At(terminate, updates=6))
    other = Run(tmp_path, every_steps=5, seed=1)
    other.checkpoints.restore()
    other.fit(start_step=6)
    whole = Run(tmp_path / "whole", every_steps=100)
    whole.fit()
    states = [toy_method.state(model) for model in (other.model, whole.model)]
    assert [value.tobytes() for value in states[0].values()] == [value.tobytes() for value in states[1].values()]


def test_without_sigterm_nothing_is_interrupted_and_the_old_handler_is_back(run):
    called = []

    def handler(number, frame):
        called.append(number)

    before = signal.signal(signal.SIGTERM, handler)
    try:
        run.fit(epochs=1)
        assert not run.saving.interrupted
        assert signal.getsignal(signal.SIGTERM) is handler
        run.fit(At(terminate, updates=6), epochs=2)
        assert signal.getsignal(signal.SIGTERM) is handler
        assert called == []
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_run_that_is_at_its_end_can_be_started_again(run, tmp_path):
    run.fit()
    other = Run(tmp_path, every_steps=5, seed=1)
    other.checkpoints.restore()
    other.fit(start_step=12)
    assert other.model.optimizer.iterations == 12


def test_a_rhythm_below_one_is_refused(tmp_path):
    with pytest.raises(ValueError, match="every_steps must be at least 1, got 0"):
        Run(tmp_path, every_steps=0)


class TestStopAt:
    """Time that is up stops a run as SIGTERM does."""

    def timed(self, tmp_path, stop_at) -> Run:
        run = Run(tmp_path, every_steps=5)
        run.saving = callbacks.Checkpointing(run.checkpoints, 5, run.note, stop_at)
        return run

    def test_it_saves_and_stops_after_the_step_in_which_time_is_up(self, tmp_path, monkeypatch):
        now = [0.0]
        monkeypatch.setattr("larq_ssl.callbacks.checkpointing.time.monotonic", lambda: now[0])
        run = self.timed(tmp_path, stop_at=10.0)
        run.fit(At(lambda: now.__setitem__(0, 10.0), updates=7))
        assert run.saved == [5, 7]
        assert run.saving.out_of_time
        assert not run.saving.interrupted

    def test_one_step_is_made_where_time_was_up_before(self, tmp_path):
        run = self.timed(tmp_path, stop_at=0.0)
        run.fit()
        assert run.saved == [1]

    def test_without_it_time_is_never_up(self, run):
        run.fit()
        assert not run.saving.out_of_time


class TestAgreement:
    """Several processes stop after the same step: what any of them is told counts for all."""

    def agreeing(self, tmp_path, agreed, stop_at=None) -> Run:
        run = Run(tmp_path, every_steps=5)
        run.saving = callbacks.Checkpointing(run.checkpoints, 5, run.note, stop_at, agreed)
        return run

    @pytest.mark.parametrize(("bits", "interrupted", "out_of_time"), [(1, True, False), (2, False, True)])
    def test_what_another_process_is_told_stops_this_one(self, bits, interrupted, out_of_time, tmp_path):
        asked = []

        def agreed(mine):
            asked.append(mine)
            return bits if len(asked) == 7 else 0

        run = self.agreeing(tmp_path, agreed)
        run.fit()
        assert run.saved == [5, 7]
        assert (run.saving.interrupted, run.saving.out_of_time) == (interrupted, out_of_time)
        # After every step, at the end of an epoch that was cut short, and at that of all: no process asks more often.
        assert asked == [0] * 9

    def test_what_this_process_is_told_counts_once_all_agree(self, tmp_path):
        asked = []
        run = self.agreeing(tmp_path, lambda mine: asked.append(mine) or 0, stop_at=0.0)
        run.fit(At(terminate, updates=2), epochs=1)
        assert asked == [2, 3, 3, 3, 3]
        assert run.saved == [4]
        assert not run.saving.interrupted
        assert not run.saving.out_of_time

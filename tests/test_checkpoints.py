"""Checkpoints: whole or not at all, damaged ones passed over, everything restored to the bit."""

import logging
import os
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import checkpoints as checkpoints_module
from larq_ssl.checkpoints import Checkpoints, NotFiniteError, NotSavedError
from tests import toy_method


def checkpoints_of(model, folder, **options) -> Checkpoints:
    return Checkpoints(folder, method=model, optimizer=model.optimizer, **options)


@pytest.fixture
def model():
    """As it might be after three updates."""
    model = toy_method.compiled()
    toy_method.fill(model, iterations=3)
    return model


@pytest.fixture
def saved(model, tmp_path) -> Checkpoints:
    """Two checkpoints, of steps 3 and 6."""
    checkpoints = checkpoints_of(model, tmp_path / "checkpoints")
    checkpoints.save(3)
    toy_method.fill(model, iterations=6)
    checkpoints.save(6)
    return checkpoints


def data_file(checkpoints: Checkpoints, step: int, suffix: str = ".data-00000-of-00001") -> pathlib.Path:
    return checkpoints.folder / f"step-{step:09d}" / f"state{suffix}"


def assert_equal_states(first, second):
    first, second = toy_method.state(first), toy_method.state(second)
    assert [name.split(" ")[1] for name in first] == [name.split(" ")[1] for name in second]
    for name, value in first.items():
        assert value.tobytes() == second[name].tobytes(), name


def test_restored_state_is_the_saved_one_to_the_bit(model, tmp_path):
    assert checkpoints_of(model, tmp_path).save(3) == tmp_path / "step-000000003"
    other = toy_method.compiled(seed=1)
    assert checkpoints_of(other, tmp_path).restore() == 3
    names = " ".join(toy_method.state(other))
    for part in ("hidden/kernel/m", "out/bias/v", "moving_variance", "keys", "pointer", "iter", "gradient_seen"):
        assert part in names, names
    assert_equal_states(other, model)


def test_training_goes_on_as_if_nothing_had_happened(tmp_path):
    model = toy_method.compiled()
    model.fit(toy_method.batches(), steps_per_epoch=3, verbose=0)
    checkpoints_of(model, tmp_path).save(3)
    model.fit(toy_method.batches(start_step=3), epochs=2, initial_epoch=1, steps_per_epoch=3, verbose=0)
    other = toy_method.compiled(seed=1)
    checkpoints_of(other, tmp_path).restore()
    other.fit(toy_method.batches(start_step=3), epochs=2, steps_per_epoch=3, verbose=0)
    assert other.optimizer.iterations == 6
    assert_equal_states(other, model)


def test_an_empty_or_missing_folder_restores_nothing(model, tmp_path):
    before = toy_method.state(model)
    assert checkpoints_of(model, tmp_path).restore() is None
    assert checkpoints_of(model, tmp_path / "missing").restore() is None
    assert all(np.array_equal(before[name], value) for name, value in toy_method.state(model).items())


def test_the_newest_two_are_kept_and_the_newest_is_restored(model, tmp_path):
    checkpoints = checkpoints_of(model, tmp_path)
    for step in (3, 20, 100):
        checkpoints.save(step)
    assert checkpoints.steps() == [20, 100]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000020", "step-000000100"]
    assert checkpoints.restore() == 100


def test_as_many_are_kept_as_asked_for(model, tmp_path):
    checkpoints = checkpoints_of(model, tmp_path, keep=3)
    for step in range(5):
        checkpoints.save(step)
    assert checkpoints.steps() == [2, 3, 4]


def test_fewer_than_two_are_refused(model, tmp_path):
    with pytest.raises(ValueError, match="keep must be at least 2, got 1"):
        checkpoints_of(model, tmp_path, keep=1)


def test_the_same_step_may_be_saved_again(saved, model):
    variable = model.optimized_variables[0]
    variable.assign_add(tf.ones_like(variable))
    saved.save(6)
    other = toy_method.compiled(seed=1)
    assert checkpoints_of(other, saved.folder).restore() == 6
    assert_equal_states(other, model)
    assert saved.steps() == [3, 6]


@pytest.mark.parametrize("stage", ["write", "sync", "rename"])
def test_an_error_while_writing_leaves_those_that_were_there(saved, model, monkeypatch, stage):
    write = tf.train.Checkpoint.write

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    def write_half(self, path):
        write(self, path)
        os.truncate(f"{path}.data-00000-of-00001", 100)
        fail()

    if stage == "write":
        monkeypatch.setattr(tf.train.Checkpoint, "write", write_half)
    else:
        name = {"sync": "_sync_tree", "rename": "_rename_folder"}[stage]
        monkeypatch.setattr(f"larq_ssl.files.{name}", fail)
    with pytest.raises(OSError, match="No space left"):
        saved.save(9)
    monkeypatch.undo()
    assert sorted(path.name for path in saved.folder.iterdir()) == ["step-000000003", "step-000000006"]
    assert saved.restore() == 6


def test_what_a_file_system_refuses_names_the_step_and_the_reason(saved, monkeypatch):
    def fail(*arguments):
        raise tf.errors.ResourceExhaustedError(None, None, "state.data: No space left on device\nmore")

    monkeypatch.setattr(tf.train.Checkpoint, "write", fail)
    with pytest.raises(NotSavedError, match=r"^The checkpoint of step 9 cannot be written: .*No space left on device"):
        saved.save(9)
    assert sorted(path.name for path in saved.folder.iterdir()) == ["step-000000003", "step-000000006"]


def test_leftovers_are_cleared_away_before_the_disk_is_written_to(saved, monkeypatch):
    """They may be what it is full of."""
    (saved.folder / ".step-000000009.1a2b.tmp").mkdir()
    seen = []
    write = tf.train.Checkpoint.write
    monkeypatch.setattr(
        tf.train.Checkpoint, "write", lambda *given: seen.extend(saved.folder.glob(".*.1a2b.tmp")) or write(*given)
    )
    saved.save(9)
    assert seen == []
    assert not (saved.folder / ".step-000000009.1a2b.tmp").exists()


def test_a_folder_that_somebody_else_made_is_no_checkpoint(saved):
    for name in ("step-backup", "step-old9"):
        (saved.folder / name).mkdir()
    assert saved.steps() == [3, 6]
    assert saved.restore() == 6


class KilledError(BaseException):
    """Stands for a process that is no more."""


@pytest.mark.parametrize("where", ["_sync_tree", "_rename_folder"])
def test_what_a_kill_leaves_is_never_restored_and_is_cleared_away(saved, monkeypatch, where):
    def killed(*arguments):
        raise KilledError

    monkeypatch.setattr(f"larq_ssl.files.{where}", killed)
    # A process that is killed does not clean up.
    monkeypatch.setattr("larq_ssl.files.shutil.rmtree", lambda *arguments, **keywords: None)
    with pytest.raises(KilledError):
        saved.save(9)
    monkeypatch.undo()
    (leftover,) = saved.folder.glob(".step-000000009.*.tmp")
    assert any(leftover.iterdir())
    assert saved.steps() == [3, 6]
    assert saved.restore() == 6
    saved.save(9)
    assert sorted(path.name for path in saved.folder.iterdir()) == ["step-000000006", "step-000000009"]


def test_the_old_ones_go_only_when_the_new_one_is_there(saved, monkeypatch):
    seen = []

    def rmtree(path, **keywords):
        seen.append((path.name, saved.steps()))

    monkeypatch.setattr(checkpoints_module.shutil, "rmtree", rmtree)
    saved.save(9)
    assert (".step-000000003.old.tmp", [6, 9]) in seen


def truncate(file: pathlib.Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def flip_a_bit(file: pathlib.Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


def empty(file: pathlib.Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, empty, pathlib.Path.unlink])
@pytest.mark.parametrize("suffix", [".data-00000-of-00001", ".index"])
def test_a_damaged_one_is_passed_over_with_a_warning(saved, damage, suffix, caplog):
    damage(data_file(saved, 6, suffix))
    other = toy_method.compiled(seed=1)
    with caplog.at_level(logging.WARNING):
        assert checkpoints_of(other, saved.folder).restore() == 3
    (record,) = caplog.records
    assert "step 6" in record.getMessage()
    assert "the one before" in record.getMessage()
    assert other.optimizer.iterations == 3


def test_damaged_ones_do_not_outlive_those_that_are_saved_before_their_step_comes_again(saved):
    for step in (9, 6):
        if step == 9:
            saved.save(9)
        empty(data_file(saved, step, ".index"))
    # As a kill leaves them: the oldest is not deleted yet.
    checkpoints = checkpoints_of(toy_method.compiled(seed=1), saved.folder)
    assert checkpoints.steps() == [6, 9]
    checkpoints.save(4)
    assert checkpoints.steps() == [4]
    checkpoints.save(5)
    checkpoints.save(8)
    assert checkpoints.steps() == [5, 8]
    assert not list(saved.folder.glob(".*"))
    assert checkpoints.restore() == 8


def test_any_flipped_bit_is_noticed(saved):
    """A bit that nobody reads may flip; one that alters what is restored may not."""
    shutil.rmtree(saved.folder / "step-000000003")
    right = toy_method.compiled(seed=1)
    checkpoints_of(right, saved.folder).restore()
    rng = np.random.default_rng(0)
    noticed = 0
    for suffix in (".data-00000-of-00001", ".index"):
        file = data_file(saved, 6, suffix)
        content = file.read_bytes()
        for position in rng.integers(0, len(content), 12):
            altered = bytearray(content)
            altered[position] ^= 1 << rng.integers(8)
            file.write_bytes(altered)
            other = toy_method.compiled(seed=2)
            try:
                assert checkpoints_of(other, saved.folder).restore() == 6
                assert_equal_states(other, right)
            except ValueError:
                noticed += 1
        file.write_bytes(content)
    assert noticed >= 20


def test_if_all_are_damaged_the_error_gives_the_reason_of_each(saved):
    truncate(data_file(saved, 6))
    empty(data_file(saved, 3, ".index"))
    with pytest.raises(ValueError, match="No checkpoint in .* can be restored: step 6: .*; step 3: "):
        saved.restore()


def test_a_checkpoint_of_another_network_is_refused(saved):
    with pytest.raises(ValueError, match=r"No checkpoint in .*(?s:.*)[Ss]hape"):
        checkpoints_of(toy_method.compiled(units=6), saved.folder).restore()


def test_a_checkpoint_without_something_is_refused(saved):
    other = toy_method.Toy(networks={"teacher": tf.keras.Sequential([tf.keras.layers.Dense(2, input_shape=[3])])})
    other.compile(optimizer=toy_method.Adam(0.01))
    other.optimizer._create_all_weights(other.optimized_variables)
    with pytest.raises(ValueError, match="No checkpoint"):
        checkpoints_of(other, saved.folder).restore()


def test_a_checkpoint_with_something_more_is_refused(model, tmp_path):
    extra = tf.Variable(1.0, name="extra")
    Checkpoints(tmp_path, method=model, optimizer=model.optimizer, more=tf.train.Checkpoint(extra=extra)).save(3)
    with pytest.raises(ValueError, match="No checkpoint"):
        checkpoints_of(toy_method.compiled(), tmp_path).restore()


def test_a_run_whose_loss_scale_is_too_large_at_first_can_be_saved(tmp_path):
    """Its first gradients are infinite and its first updates are skipped: an ordinary event in float16."""
    model = toy_method.Toy()
    optimizer = tf.keras.mixed_precision.LossScaleOptimizer(toy_method.Adam(0.01), initial_scale=3e38)
    model.compile(optimizer=optimizer)
    loud = toy_method.batches().map(lambda batch: {**batch, "y": 100 * batch["y"]})
    before = model.optimized_variables[0].numpy()
    model.fit(loud, steps_per_epoch=4, verbose=0)
    assert np.array_equal(model.optimized_variables[0].numpy(), before)
    checkpoints_of(model, tmp_path).save(4)
    assert model.variables_without_gradient() == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_not_saved(saved, model, value):
    slot = model.optimizer.get_slot(model.optimized_variables[0], "v")
    slot[0, 0].assign(value)
    with pytest.raises(NotFiniteError, match=r"^optimizer: .* is not finite; no checkpoint was written"):
        saved.save(9)
    slot[0, 0].assign(0.0)
    model.queue.keys[0, 0].assign(value)
    with pytest.raises(NotFiniteError, match=r"^method: .*keys.* is not finite"):
        saved.save(9)
    assert sorted(path.name for path in saved.folder.iterdir()) == ["step-000000003", "step-000000006"]

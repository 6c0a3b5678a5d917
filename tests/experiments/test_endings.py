"""What stops a training is told in a sentence, by an exit code of its own."""

import errno
import time
import types

import pytest
import tensorflow as tf

from larq_ssl.callbacks.epoch_rows import EpochRows
from larq_ssl.checkpoints import Checkpoints, NotFiniteError, NotSavedError
from larq_ssl.experiments import common, endings, resuming
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.methods.base import NOT_FINITE
from tests import toy_method


def raised(error: Exception) -> Exception:
    with pytest.raises(type(error)) as caught, endings.told():
        raise error
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        tf.errors.ResourceExhaustedError(None, None, "runs/x/state.data; No space left on device"),
        tf.errors.UnknownError(None, None, "first line\nevents.out; Read-only file system\nthird"),
        tf.errors.PermissionDeniedError(None, None, "runs/x/events.out; Permission denied"),
    ],
)
def test_what_a_file_system_answers_to_tensorflow_is_an_os_error(error):
    with pytest.raises(OSError, match="No space left on device|Read-only|Permission denied") as caught, endings.told():
        raise error
    assert "\n" not in str(caught.value)
    assert caught.value.errno in (errno.ENOSPC, errno.EROFS, errno.EACCES)
    assert endings.exit_code(caught.value) == common.STORAGE_EXIT == 74


def test_memory_of_an_accelerator_is_no_matter_of_files():
    with pytest.raises(endings.StoppedError, match="There is not enough memory") as caught, endings.told():
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor with shape[1]")
    assert endings.exit_code(caught.value) == 1


def test_a_loss_that_is_not_finite_has_its_sentence_and_code():
    with pytest.raises(endings.StoppedError, match=r"not applied\. A lower --lr may help\.$") as caught, endings.told():
        raise tf.errors.InvalidArgumentError(None, None, f"assertion failed: [{NOT_FINITE}] [nan]")
    assert endings.exit_code(caught.value) == common.DIVERGED_EXIT
    assert endings.exit_code(NotFiniteError("a variable")) == common.DIVERGED_EXIT


def test_bad_images_have_theirs():
    message = "TooManyBadImagesError: 3 of 4 images cannot be decoded, more than max_bad_images = 0.1 allows"
    with pytest.raises(endings.StoppedError, match="^3 of 4 images") as caught, endings.told():
        raise tf.errors.InvalidArgumentError(None, None, f"Traceback\n{message}\n")
    assert endings.exit_code(caught.value) == 1


def test_a_worker_that_is_lost_has_its_sentence_where_there_are_several():
    message = "Graph execution error:\n\nCollective ops is aborted by: Task 1 heartbeat timeout.\nThe error could be"
    error = tf.errors.UnavailableError(None, None, message)
    assert raised(error) is error
    with pytest.raises(endings.LostWorkerError) as caught, endings.told(several=True):
        raise error
    assert str(caught.value) == (
        "Another worker is lost (Task 1 heartbeat timeout): start all of them again with the same command, which goes "
        "on from the last checkpoint."
    )
    assert endings.exit_code(caught.value) == common.LOST_WORKER_EXIT == 69
    # What is this worker's own fault is none of another.
    own = tf.errors.InvalidArgumentError(None, None, "shapes")
    with pytest.raises(tf.errors.InvalidArgumentError), endings.told(several=True):
        raise own


def test_a_checkpoint_that_cannot_be_written_is_a_matter_of_files():
    assert endings.exit_code(NotSavedError("full")) == common.STORAGE_EXIT


def test_the_deadline_counts_from_now(monkeypatch):
    monkeypatch.setattr(endings, "FLAGS", types.SimpleNamespace(max_hours=None))
    assert endings.deadline() is None
    monkeypatch.setattr(endings, "FLAGS", types.SimpleNamespace(max_hours=0.5))
    assert 1799 < endings.deadline() - time.monotonic() <= 1800


class TestRestore:
    """A run that has lost what it saved is not begun anew."""

    @pytest.fixture
    def run(self, tmp_path) -> RunFolder:
        run = RunFolder(tmp_path)
        run.flags_file.write_text("--checkpoint_every=3\n")
        for step in (3, 6):
            self.checkpoints(run).save(step)
            run.record_progress(step, 12, 0.1)
        return run

    def checkpoints(self, run: RunFolder) -> Checkpoints:
        model = toy_method.compiled()
        return Checkpoints(run.checkpoints, method=model, optimizer=model.optimizer)

    def test_the_newest_is_taken_without_a_word(self, run, capsys):
        assert resuming.restore(run, self.checkpoints(run)) == 6
        assert capsys.readouterr().out == ""

    def test_a_lost_one_is_named(self, run, capsys):
        next(run.checkpoints.glob("*6")).rename(run.path / "elsewhere")
        assert resuming.restore(run, self.checkpoints(run)) == 3
        assert "the checkpoint of step 6 is lost; the one of step 3 is there" in capsys.readouterr().out

    def test_nothing_is_no_beginning(self, run):
        run.checkpoints.rename(run.path / "elsewhere")
        with pytest.raises(ValueError, match=r"has saved step 6, but no checkpoint lies in .*checkpoints: .* --fresh"):
            resuming.restore(run, self.checkpoints(run))

    def test_lines_of_epochs_tell_of_checkpoints_too(self, run):
        """Those within them; the one at the end of the last epoch may have been prevented."""
        run.checkpoints.rename(run.path / "elsewhere")
        run.progress_file.unlink()
        EpochRows(run.metrics_file).put(1, 4, {})
        with pytest.raises(ValueError, match=r"has saved step 3, but no checkpoint"):
            resuming.restore(run, self.checkpoints(run))
        EpochRows(run.metrics_file).put(1, 3, {})
        assert resuming.restore(run, self.checkpoints(run)) == 0

    def test_a_run_that_has_saved_nothing_begins(self, tmp_path):
        run = RunFolder(tmp_path)
        run.flags_file.write_text("--checkpoint_every=3\n")
        assert resuming.restore(run, self.checkpoints(run)) == 0

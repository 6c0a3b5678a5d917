"""What the flags of momentum contrast must be to each other, to the images and to the queue of stage 1."""

import types

import pytest

from larq_ssl.experiments import contrast_flags
from larq_ssl.queue import KeyQueue
from tests.replicas import two_replicas


@pytest.fixture
def flags(monkeypatch):
    told = types.SimpleNamespace(queue_size=96, batch_size=32, batch_norm_groups=4)
    monkeypatch.setattr(contrast_flags, "FLAGS", told)
    return told


def test_what_fits_is_let_through(flags):
    contrast_flags.check_batches()
    contrast_flags.check_images(97)
    queue = KeyQueue(96, 2)
    queue.pointer.assign(64)
    contrast_flags.check_queue(queue)


def test_a_queue_of_several_replicas_is_let_through(flags):
    with two_replicas().scope():
        queue = KeyQueue(96, 2)
    contrast_flags.check_queue(queue)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"queue_size": 100}, "--queue_size must be a multiple of --batch_size=32, got 100"),
        ({"batch_norm_groups": 5}, "--batch_norm_groups must divide --batch_size=32, got 5"),
    ],
)
def test_batches_fill_the_queue_and_can_be_cut(flags, change, message):
    vars(flags).update(change)
    with pytest.raises(ValueError, match=message):
        contrast_flags.check_batches()


def test_a_queue_as_long_as_the_data_is_refused(flags):
    with pytest.raises(ValueError, match=r"well below the number of images \(96\), .* got 96"):
        contrast_flags.check_images(96)


def test_a_queue_that_stopped_between_two_batches_of_this_size_is_refused(flags):
    queue = KeyQueue(96, 2)
    queue.pointer.assign(48)
    with pytest.raises(ValueError, match=r"--batch_size must divide the place .* stage 1 stopped \(48\), got 32"):
        contrast_flags.check_queue(queue)

"""No worker ends before the others have what it told them."""

import threading

import pytest
import tensorflow as tf

from larq_ssl import distribute
from larq_ssl.cluster import Cluster
from larq_ssl.experiments import workers
from larq_ssl.experiments.workers import Workers

SECONDS = 30.0


class Wire:
    """Two workers as threads, and what they tell each other: who has ended cannot be read from any more.

    # Arguments
        slow: Whose ears are slow: it hears what the other said once that one waits for the next thing or has ended.
    """

    def __init__(self, slow: int):
        self.slow, self.said, self.ended = slow, ([], []), [False, False]
        self.changed, self.timeouts = threading.Condition(), []
        self.index = threading.local()

    def exchange(self, strategy: tf.distribute.Strategy):
        """In the place of `distribute.Exchange`, for the worker of this thread."""
        del strategy
        return self._call

    def _call(self, number: int, timeout: float | None = None) -> list[int]:
        self.timeouts.append(timeout)
        me = self.index.me
        mine, its = self.said[me], self.said[1 - me]
        with self.changed:
            mine.append(number)
            turn = len(mine)
            self.changed.notify_all()
            self._wait(lambda: self.ended[1 - me] or len(its) >= turn)
            if me == self.slow:
                self._wait(lambda: self.ended[1 - me] or len(its) > turn, 0.5)
            if self.ended[1 - me]:
                raise tf.errors.UnavailableError(None, None, "Socket closed")
            return [self.said[0][turn - 1], self.said[1][turn - 1]]

    def _wait(self, until, seconds: float = SECONDS) -> None:
        self.changed.wait_for(until, seconds)

    def together(self, work) -> list[str]:
        """What each of the two ends with."""
        outcomes = ["", ""]

        def run(index: int) -> None:
            self.index.me = index
            try:
                outcomes[index] = str(work(Workers(tf.distribute.get_strategy(), Cluster(("a:1", "b:2"), index))))
            except (ValueError, OSError, tf.errors.OpError) as error:
                outcomes[index] = str(error)
            with self.changed:
                self.ended[index] = True
                self.changed.notify_all()

        threads = [threading.Thread(target=run, args=(index,), daemon=True) for index in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
            assert not thread.is_alive()
        return outcomes


@pytest.fixture(params=[0, 1], ids=["chief", "other"])
def wire(request, monkeypatch):
    result = Wire(slow=request.param)
    monkeypatch.setattr(distribute, "Exchange", result.exchange)
    return result


def test_both_say_what_they_are_refused_for(wire: Wire):
    def work(crew: Workers) -> None:
        crew.refuse_others("flags", "those" if crew.is_chief else "others")

    chief, other = wire.together(work)
    assert chief == other
    assert chief.startswith("The flags of worker 1 are not those of worker 0: ")


def test_what_was_told_last_arrives(wire: Wire):
    def work(crew: Workers) -> list[int]:
        told = crew.numbers(int(crew.is_chief))
        crew.part()
        return told

    assert wire.together(work) == ["[1, 0]", "[1, 0]"]


@pytest.mark.parametrize("refused", [{0}, {1}, {0, 1}])
def test_one_is_refused_and_no_other_goes_on(wire: Wire, refused):
    def work(crew: Workers) -> str:
        me = 0 if crew.is_chief else 1
        with crew.as_one():
            if me in refused:
                raise ValueError(f"{me} has no images.")
        return "went on"

    nothing = "Nothing is done without worker {}, which says what is wrong."
    (first, *_) = refused
    assert wire.together(work) == [f"{me} has no images." if me in refused else nothing.format(first) for me in (0, 1)]


@pytest.mark.parametrize("me", [0, 1])
def test_a_mistake_is_told_also_where_another_worker_is_lost(wire: Wire, me: int):
    def work(crew: Workers) -> str:
        if crew.is_chief != (me == 0):
            return "gone"
        with crew.as_one():
            raise ValueError("No images.")

    ends = wire.together(work)
    assert (ends[me], ends[1 - me]) == ("No images.", "gone")


@pytest.mark.parametrize("me", [0, 1])
def test_a_lost_worker_is_told_where_there_is_no_mistake(wire: Wire, me: int):
    def work(crew: Workers) -> str:
        if crew.is_chief == (me == 0):
            with crew.as_one():
                pass
        return "gone"

    ends = wire.together(work)
    assert (ends[me], ends[1 - me]) == ("Socket closed", "gone")


@pytest.mark.parametrize(("refused", "tried"), [(None, [0, 1]), (0, [0]), (1, [0, 1])])
def test_the_others_come_after_the_chief(wire: Wire, refused, tried):
    seen = []

    def make(me: int) -> str:
        seen.append(me)
        if me == refused:
            raise OSError("No space left.")
        return f"made by {me}"

    def work(crew: Workers) -> str:
        me = 0 if crew.is_chief else 1
        made = crew.chief_first(lambda: make(me))
        crew.part()
        return made

    ends = wire.together(work)
    assert seen == tried
    if refused is None:
        assert ends == ["made by 0", "made by 1"]
    else:
        assert ends[refused] == "No space left."
        assert ends[1 - refused] == f"Nothing is done without worker {refused}, which says what is wrong."


def test_the_wait_for_others_has_an_end(wire: Wire):
    wire.together(lambda crew: crew.part())
    assert wire.timeouts == [workers._PART_WITHIN] * 2


def test_who_tells_without_parting_is_not_heard(wire: Wire):
    """What the others are for: the wire does lose it."""
    assert wire.together(lambda crew: crew.numbers(1)).count("Socket closed") == 1


def test_one_worker_parts_from_nobody():
    Workers(tf.distribute.get_strategy()).part()

"""Two processes that train together, of which one is killed, told to stop, or started in another way."""

import signal

import pytest

from larq_ssl.experiments.common import LOST_WORKER_EXIT, SIGTERM_EXIT, TIME_EXIT
from larq_ssl.experiments.run_folder import RunFolder
from tests.experiments.commands import Done
from tests.faults import harness
from tests.faults.harness import Trial

pytestmark = pytest.mark.faults

# TensorFlow takes 10 s to be sure that a process is gone.
SECONDS = 60.0
# A checkpoint within an epoch holds the sum of what the replicas have counted, of which each gets its part back.
ROUNDED = 1e-5
NOBODY: tuple = ((), ())


def _start(trial: Trial, run: RunFolder, *flags: str, own: tuple = NOBODY, faults: tuple = NOBODY) -> tuple[Done, Done]:
    # Statistics of a replica alone would be averaged with each checkpoint.
    ends = trial.commands.together(*trial.command(run, "--sync_batch_norm", *flags), own=own, faults=faults)
    for done in ends:
        assert "Traceback" not in done.out, done.out
    return ends


def _of(worker: int, what: object) -> tuple:
    """Something of one worker, nothing of the other."""
    return tuple((what,) if index == worker else () for index in range(2))


def _sentences(done: Done) -> list[str]:
    return [line for line in done.out.splitlines() if line.startswith("error: ")]


@pytest.fixture(scope="module")
def whole(trial: Trial) -> RunFolder:
    """Two workers that nothing has disturbed."""
    run = trial.run("two workers")
    ends = _start(trial, run)
    assert [done.code for done in ends] == [0, 0], [done.out for done in ends]
    assert run.finished
    return run


@pytest.mark.parametrize("worker", [0, 1])
def test_a_worker_of_two_that_is_lost(trial: Trial, whole: RunFolder, worker: int):
    run, lost = trial.run(f"lost worker {worker}"), []
    for step in (4, 14):
        fault = ("signal_after", {"step": step, "number": signal.SIGKILL})
        ends = _start(trial, run, faults=_of(worker, fault))
        other = ends[1 - worker]
        assert ends[worker].code == -signal.SIGKILL
        assert other.code == LOST_WORKER_EXIT, other.out
        assert other.seconds < SECONDS
        (sentence,) = _sentences(other)
        assert "Another worker is lost (" in sentence
        assert "start all of them again with the same command, which goes on from the last checkpoint." in sentence
        lost.append(trial.reached() - run.saved_step())
    ends = _start(trial, run)
    assert [done.code for done in ends] == [0, 0], [done.out for done in ends]
    assert harness.went_on(ends[0]) == 12
    trial.assert_undisturbed(run, whole, rounded=ROUNDED)
    assert all(0 <= number < 2 * harness.EVERY for number in lost)
    name = "the chief" if worker == 0 else "the other one"
    trial.record(f"worker of two lost and restarted ({name})", lost, exit_code=LOST_WORKER_EXIT)


def test_sigterm_to_one_worker_stops_both_after_the_same_step(trial: Trial, whole: RunFolder):
    run, lost = trial.run("one terminated"), []
    for worker, step in ((1, 5), (0, 11)):
        fault = ("signal_after", {"step": step, "number": signal.SIGTERM})
        ends = _start(trial, run, faults=_of(worker, fault))
        assert [done.code for done in ends] == [SIGTERM_EXIT, SIGTERM_EXIT], [done.out for done in ends]
        assert "stopped by SIGTERM after saving; the same command goes on" in ends[0].out
        assert run.saved_step() == trial.reached() == step
        lost.append(trial.reached() - run.saved_step())
    ends = _start(trial, run, own=_of(1, "--max_hours=0"))
    assert [done.code for done in ends] == [TIME_EXIT, TIME_EXIT], [done.out for done in ends]
    assert run.saved_step() == trial.reached() == 12
    ends = _start(trial, run)
    assert [done.code for done in ends] == [0, 0], [done.out for done in ends]
    trial.assert_undisturbed(run, whole, rounded=ROUNDED)
    trial.record("worker of two gets SIGTERM", lost, exit_code=SIGTERM_EXIT)


def test_sigterm_to_one_worker_before_training_ends_both(trial: Trial):
    run = trial.run("terminated early")
    ends = _start(trial, run, faults=_of(1, ("signal_before_training", {"number": signal.SIGTERM})))
    assert [done.code for done in ends] == [LOST_WORKER_EXIT, -signal.SIGTERM], [done.out for done in ends]
    assert ends[0].seconds < SECONDS
    assert run.saved_step() == 0


@pytest.mark.parametrize("flag", ["--seed=5", "--checkpoint_every=4"])
def test_workers_that_do_not_belong_together(trial: Trial, flag: str):
    """What is trained, and what they do together besides."""
    run = trial.run(f"unlike workers {flag}")
    ends = _start(trial, run, own=_of(1, flag))
    assert [done.code for done in ends] == [2, 2], [done.out for done in ends]
    for done in ends:
        assert _sentences(done) == [
            "error: The flags of worker 1 are not those of worker 0: all must be started with the same command, "
            "software and images."
        ]
    assert not run.path.exists()


@pytest.mark.parametrize("worker", [0, 1])
def test_what_one_worker_is_refused_ends_both(trial: Trial, worker: int):
    run = trial.run(f"refused worker {worker}")
    ends = _start(trial, run, faults=_of(worker, ("remove_images", {})))
    assert [done.code for done in ends] == [2, 2], [done.out for done in ends]
    assert _sentences(ends[worker]) == ["error: The images are not here."]
    nothing = f"error: Nothing is done without worker {worker}, which says what is wrong."
    assert _sentences(ends[1 - worker]) == [nothing]
    assert ends[1 - worker].seconds < SECONDS
    assert not run.path.exists()


def test_what_both_workers_would_be_refused_the_chief_says(trial: Trial):
    run = trial.run("refused workers")
    ends = _start(trial, run, faults=((("remove_images", {}),),) * 2)
    assert [done.code for done in ends] == [2, 2], [done.out for done in ends]
    # It goes first, and the other one does not try.
    assert [_sentences(done) for done in ends] == [
        ["error: The images are not here."],
        ["error: Nothing is done without worker 0, which says what is wrong."],
    ]


def test_a_worker_that_does_not_come(trial: Trial):
    run = trial.run("waiting chief")
    faults = ([("wait_for_others", {"seconds": 3.0})], [("stay_away", {})])
    ends = _start(trial, run, faults=faults)
    assert [done.code for done in ends] == [2, 0], [done.out for done in ends]
    assert _sentences(ends[0]) == [
        "error: Not all 2 workers of TF_CONFIG came within 0 minutes (missing: 1): start all of them with the same "
        "command."
    ]
    assert not run.path.exists()

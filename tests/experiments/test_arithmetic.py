"""What binary convolutions are computed in is found out once: a run that goes on computes as it began."""

import signal

import pytest

from larq_ssl.experiments.common import TIME_EXIT
from larq_ssl.experiments.run_folder import RunFolder
from tests.experiments import saved
from tests.experiments.commands import ROOT, SHORT

WORDS = (
    *("moco", "--deterministic", "--one_stage", "--epochs=2", "--steps_per_epoch=3", "--batch_size=16"),
    *("--queue_size=32", "--width=0.125", "--image_size=8", "--embedding_dim=8", "--knn_every=0"),
    *("--diagnostics_every=0", "--embeddings_every=0", *SHORT),
)
MEASURED = """
import runpy, sys
sys.path.insert(0, {root!r})
from larq_ssl.models import binary_compute
binary_compute._measured_ratio = lambda: {ratio}
sys.argv = {words!r}
runpy.run_module("larq_ssl.experiments.moco", run_name="__main__", alter_sys=True)
"""


def train(commands, name, *words, ratio=None):
    words = [*WORDS, f"--workdir={name}", *words]
    if ratio is None:
        return commands.run(*words)
    return commands.python(MEASURED.format(root=str(ROOT), ratio=ratio, words=words))


@pytest.fixture(scope="module")
def given(commands):
    """Encoders of runs whose arithmetic a flag says."""
    found = {}
    for compute in ("float32", "bfloat16"):
        done = train(commands, compute, f"--binary_compute={compute}")
        assert done.code == 0, done.err
        assert "Binary convolutions" not in done.out
        run = RunFolder(commands.folder / compute)
        assert "binary compute" not in run.inputs()
        found[compute] = run.results()["encoders"]["student"]
    assert found["float32"] != found["bfloat16"]
    return found


@pytest.mark.parametrize(("compute", "ratio"), [("float32", 0.5), ("bfloat16", 2.0)])
def test_a_run_goes_on_as_it_began(commands, given, compute, ratio):
    """Also where the trial would end otherwise the next time; the end is that of a run with the flag, to the bit."""
    name = f"auto-{compute}"
    stopped = train(commands, name, "--max_hours=1e-9", ratio=ratio)
    assert stopped.code == TIME_EXIT, stopped.err
    told = f"Binary convolutions are computed in {compute}"
    assert f"{told}: in bfloat16 one takes {1 / ratio:.2f} times as long as in float32" in stopped.out
    run = RunFolder(commands.folder / name)
    assert run.inputs()["binary compute"] == compute
    ended = train(commands, name, ratio=1 / ratio)
    assert ended.code == 0, ended.err
    assert f"{told}.\n" in ended.out
    assert "going on after step" in ended.out
    assert run.results()["encoders"]["student"] == given[compute]


@pytest.mark.parametrize("stop", [(signal.SIGTERM, 1), (signal.SIGKILL, 5)])
def test_a_run_in_bfloat16_that_is_stopped_ends_as_one_that_was_not(commands, given, stop):
    """Networks, their followers, queue and optimizer, to the bit."""
    command = (*WORDS, "--binary_compute=bfloat16", "--checkpoint_every=2")
    saved.assert_goes_on(commands, command, stop, RunFolder(commands.folder / "bfloat16"), 6)


def test_float_networks_are_not_tried(commands):
    done = train(commands, "stage1", "--noone_stage", "--stage=1", "--epochs=1", ratio="1 / 0")
    assert done.code == 0, done.err
    assert "Binary convolutions" not in done.out

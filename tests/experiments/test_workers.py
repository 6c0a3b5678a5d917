"""Two processes leave the run folder that one leaves, but for rounding."""

import json
import pathlib
import tempfile

import numpy as np
import pytest
from PIL import Image

from larq_ssl.experiments.run_folder import RunFolder
from tests.experiments import saved
from tests.experiments.commands import SHORT, SHORT_FLOAT

# Queue, moving average, and BatchNorm of all images.
COMMAND = (
    *("moco", "--stem=cifar", "--deterministic", "--sync_batch_norm", "--optimizer=sgd", "--lr=0.01"),
    *("--batch_size=16", "--image_size=16", "--queue_size=64", "--epochs=2", "--knn_every=2"),
)
# Binary networks take one step of an epoch, in bfloat16: rounding, and the signs that it flips, add up.
NETWORKS = {"float": (*SHORT_FLOAT, "--steps_per_epoch=2"), "binary": (*SHORT, "--one_stage", "--steps_per_epoch=1")}
# Of variables, and of metrics: three of four hundred images may be told apart by other signs.
NEAR = {"float": (1e-4, 2e-3), "binary": (2e-3, 2e-2)}
# Measured on half a batch, or a clock.
NOT_COMPARED = {"images_per_second", "embedding_std"}


def _files(run: RunFolder) -> set[str]:
    found = {file.relative_to(run.path).as_posix() for file in run.path.rglob("*") if file.is_file()}
    return {name for name in found if "tfevents" not in name}


@pytest.mark.parametrize("network", NETWORKS)
def test_two_workers_leave_what_one_process_leaves(commands, network):
    one, two = (RunFolder(commands.folder / "workers" / network / name) for name in ("one", "two"))
    command = (*COMMAND, *NETWORKS[network])
    alone = commands.run(*command, f"--workdir={one.path}")
    assert alone.code == 0, alone.err
    before = set(pathlib.Path(tempfile.gettempdir()).glob("larq_ssl-worker-*"))
    parted = [commands.folder / f"parted-{network}-{worker}" for worker in (0, 1)]
    faults = [[("note_parting", {"file": str(file)})] for file in parted]
    chief, other = commands.together(*command, f"--workdir={two.path}", faults=faults)
    assert (chief.code, other.code) == (0, 0), chief.out + other.out
    assert [file.read_text() for file in parted] == ["parted\n"] * 2
    assert set(pathlib.Path(tempfile.gettempdir()).glob("larq_ssl-worker-*")) <= before
    assert "; global batch 16;" in alone.out
    assert "; global batch 16 = 2 replicas of 8;" in chief.out
    (line,) = other.out.splitlines()
    assert line.startswith("Worker 1 of 2 at localhost:")
    assert _files(two) == _files(one)
    for name in ("inputs.json", "views.png", "summary.txt", "LICENSES.md"):
        assert (two.path / name).read_bytes() == (one.path / name).read_bytes(), name
    assert one.inputs().get("binary compute") == ("bfloat16" if network == "binary" else None)
    last = one.results()["steps"]
    _assert_close(saved.state(one, last), saved.state(two, last), NEAR[network][0])
    rows = [[json.loads(line) for line in run.metrics_file.read_text().splitlines()] for run in (one, two)]
    for alike, row in zip(*rows, strict=True):
        assert alike.keys() == row.keys()
        for name in alike.keys() - NOT_COMPARED:
            near = NEAR[network][1]
            np.testing.assert_allclose(row[name], alike[name], rtol=near, atol=near, err_msg=name)


def test_who_starts_a_finished_run_again_with_paths_of_its_own(commands, images):
    """One of them has to compare what lies there, so both do."""
    run = RunFolder(commands.folder / "workers" / "again")
    small = ("--dataset=folder", "--epochs=1", "--queue_size=16", "--knn_every=0")
    command = (*COMMAND, *NETWORKS["float"], *small, f"--workdir={run.path}")
    for folders, code in ((images[:2], 0), (images[1::-1], 0), (images[1:], 2)):
        parted = [commands.folder / f"parted-again-{worker}" for worker in (0, 1)]
        ends = commands.together(
            *command,
            own=tuple((f"--data_dir={folder}",) for folder in folders),
            faults=[[("note_parting", {"file": str(file)})] for file in parted],
        )
        assert [done.code for done in ends] == [code, code], [done.out for done in ends]
        assert [file.read_text() for file in parted] == ["parted\n"] * 2
    chief, other = (done.out.splitlines()[-1] for done in ends)
    assert chief == "error: Nothing is done without worker 1, which says what is wrong."
    assert other.startswith("error: The data is not the one with which the run in ")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Three folders, of which two have the same images."""
    result = [tmp_path_factory.mktemp(name) for name in ("here", "there", "elsewhere")]
    for folder, count in zip(result, (64, 64, 60), strict=True):
        draw = np.random.default_rng(0)
        for number in range(count):
            place = folder / "train" / str(number % 2)
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw.integers(0, 256, (16, 16, 3), np.uint8)).save(place / f"{number}.png")
    return result


def _assert_close(expected: dict[str, np.ndarray], actual: dict[str, np.ndarray], near: float) -> None:
    """Checkpoints, but for sums of metrics; Keras takes the variance of several replicas with another denominator."""
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        if not name.startswith(("method/_means/", "method/_gradient_squares/")):
            tolerance = 5e-3 if "moving_variance" in name else near
            scale = max(1.0, float(np.max(np.abs(array.astype(np.float64)), initial=0.0)))
            np.testing.assert_allclose(actual[name], array, rtol=0, atol=tolerance * scale, err_msg=name)


MIRRORED = """
import runpy, sys
sys.path.insert(0, {root!r})
import tensorflow as tf

(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from larq_ssl import distribute
from tests.replicas import two_replicas

distribute.strategy = lambda name: two_replicas()
sys.argv = {words!r}
runpy.run_module("larq_ssl.experiments." + sys.argv[0], run_name="__main__", alter_sys=True)
"""
TINY = (
    *(*SHORT_FLOAT, "--stem=cifar", "--batch_size=16", "--image_size=16", "--epochs=1", "--steps_per_epoch=2"),
    *("--strategy=mirrored", "--knn_every=0"),
)
MULTI_CROP = ("--hidden_dim=8", "--local_views=2")
METHODS = {
    "dino": (*MULTI_CROP, "--output_dim=12", "--bottleneck_dim=4"),
    "swav": (*MULTI_CROP, "--embedding_dim=4", "--prototypes=6", "--queue_length=32"),
    "moco_star": (*MULTI_CROP, "--embedding_dim=4", "--queue_size=32"),
    "moco": ("--queue_size=32", "--batch_norm_groups=4"),
    "simclr": (),
    "byol": (),
    "msbreg": ("--embedding_dim=8",),
    "infomin": ("--queue_size=32",),
    "supervised": (),
}


def mirrored(commands, name, *words):
    command = [name, *TINY, *METHODS[name], f"--workdir=mirrored/{name}", *words]
    return commands.python(MIRRORED.format(root=str(pathlib.Path(__file__).parents[2]), words=command))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "dino" else pytest.mark.slow) for name in METHODS]
)
def test_a_command_trains_on_two_devices(commands, name):
    done = mirrored(commands, name, "--fresh")
    assert done.code == 0, done.err
    assert "; global batch 16 = 2 replicas of 8;" in done.out
    assert RunFolder(commands.folder / "mirrored" / name).finished


def test_groups_of_batch_norm_are_of_the_images_of_a_replica(commands):
    done = mirrored(commands, "moco", "--batch_norm_groups=16", "--workdir=mirrored/groups")
    assert done.code == 2
    (line,) = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert line == "error: --batch_norm_groups must divide 8, the images of one of 2 replicas, got 16."
    assert not (commands.folder / "mirrored" / "groups").exists()

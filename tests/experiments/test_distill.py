"""The command of distillation: float and binary students, labels, cached targets, and what it refuses."""

import json
import signal

import numpy as np
import pytest

from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.models.folder import read_spec
from tests.experiments import classifiers, saved
from tests.experiments.classifiers import refused
from tests.experiments.commands import SHORT, SHORT_FLOAT

STILL = ("--lr=0", "--epochs=1", "--steps_per_epoch=1")
CACHED = ("--views=evaluation", "--preset=self", "--binarization=none")


@pytest.fixture(scope="module")
def teacher(commands) -> RunFolder:
    """Fine-tuned from the first layer of a head, with few labels."""
    pretrained = classifiers.pretrain(commands)
    return classifiers.run(commands, "fine_tune", "teacher", f"--run={pretrained.path}", "--label_fraction=0.1")


@pytest.fixture(scope="module")
def stage1(commands, teacher) -> RunFolder:
    return classifiers.run(commands, "distill", "stage1", *SHORT, "--stage=1", f"--teacher={teacher.path}")


@pytest.fixture(scope="module")
def cached(commands, teacher) -> RunFolder:
    """What the teacher says is computed once. On the images of the teacher, without a recipe."""
    return classifiers.run(commands, "distill", "cached", *SHORT_FLOAT, f"--teacher={teacher.path}", *CACHED)


def test_a_big_float_teacher_is_distilled_into_a_binary_student(commands, teacher, stage1):
    # Stage 2 finds the teacher by itself.
    second = classifiers.run(commands, "distill", "stage2", *SHORT, "--stage=2", *STILL, "--epochs=1")
    assert [read_spec(run.encoder("student")).binarization for run in (teacher, stage1, second)] == [
        *("none", "activations", "full")
    ]
    for run in (stage1, second):
        assert {path.name for path in run.path.glob("heads/*")} == {"classifier"}
        assert run.inputs()["teacher"] == teacher.results()["encoders"]["student"]
        assert {"teacher head", "teacher classifier"} <= run.inputs().keys()
        assert f"Teacher: {teacher.encoder('student')}" in run.licences_file.read_text()
        classifiers.assert_results(run, "distill/big_to_small/digits")
    saved.assert_equal_parameters(*(run.encoder("student") / "weights.npz" for run in (stage1, second)))
    saved.assert_equal_parameters(*(run.head("classifier") for run in (stage1, second)))


def test_no_label_is_used_by_default(stage1):
    assert {path.name for path in stage1.path.iterdir()} == classifiers.FILES
    assert "labels" not in stage1.inputs()
    last = classifiers.rows(stage1)[-1]
    assert {"distillation_kl", "target_entropy", "agreement", "accuracy"} <= last.keys()
    assert "supervised" not in last
    told = stage1.flags()
    assert (told["alpha"], told["temperature"], told["recipe"]) == ("1.0", "1.0", "digits/distill_stage1")


@pytest.mark.slow
def test_labels_are_by_default_those_of_the_teacher(commands, teacher):
    student = (*SHORT_FLOAT, "--binarization=none", f"--teacher={teacher.path}", "--alpha=0.5")
    run = classifiers.run(commands, "distill", "labels", *student)
    np.testing.assert_array_equal(classifiers.kept(run).ids, classifiers.kept(teacher).ids)
    other = classifiers.run(commands, "distill", "other_labels", *student, "--labels_per_class=3")
    assert len(classifiers.kept(other).ids) == 30
    for one in (run, other):
        assert "supervised" in classifiers.rows(one)[-1]
        # On all images, of which few have a label.
        assert one.inputs()["labels"] == classifiers.kept(one).fingerprint


def test_labels_of_a_teacher_that_was_distilled_are_those_of_its_own_teacher(commands, teacher, cached):
    student = (*SHORT_FLOAT, "--binarization=none", f"--teacher={cached.path}", "--alpha=0.5")
    run = classifiers.run(commands, "distill", "distilled", *student, *STILL)
    np.testing.assert_array_equal(classifiers.kept(run).ids, classifiers.kept(teacher).ids)


def test_labels_that_the_teacher_never_had_are_not_taken_by_default(commands, teacher, tmp_path):
    import shutil

    # As of a data set that has few labelled images and no others, such as TFDS's subsets of ImageNet.
    shutil.copytree(teacher.path, tmp_path / "subset")
    (tmp_path / "subset" / "labels.json").unlink()
    student = (*SHORT_FLOAT, "--binarization=none", f"--teacher={tmp_path / 'subset'}", "--alpha=0.5")
    sentence = refused(commands, "distill", *student)
    assert "learned from labels of other images" in sentence
    assert "by --label_fraction (1 for all)" in sentence


@pytest.mark.slow
def test_targets_are_computed_anew_for_a_fresh_run(commands, teacher, cached, tmp_path):
    """By another teacher: what is kept of the old one must not be taken for what it says."""
    import shutil

    other, run = tmp_path / "other", RunFolder(tmp_path / "run")
    shutil.copytree(teacher.path, other)
    shutil.copytree(cached.path, run.path)
    kernel = saved.arrays(teacher.head("classifier"))
    np.savez(RunFolder(other).head("classifier"), **{name: -array for name, array in kernel.items()})
    command = (*classifiers.TINY, *SHORT_FLOAT, f"--teacher={other}", *CACHED, f"--workdir={run.path}")
    done = commands.run("distill", *command)
    assert done.code == 2
    assert "The teacher classifier is not the one with which the run in" in done.err
    assert commands.run("distill", *command, "--fresh").code == 0
    np.testing.assert_allclose(np.load(run.targets_file), -np.load(cached.targets_file), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_what_the_teacher_says_is_computed_once_where_views_do_not_change(commands, teacher, cached):
    targets = np.load(cached.targets_file)
    assert targets.shape == (1400, 10)
    assert np.isfinite(targets).all()
    told = cached.flags()
    # Self-distillation: the network of the teacher, without its head.
    assert (told["encoder"], told["temperature"]) == (teacher.flags()["encoder"], "0.1")
    assert {path.name for path in cached.path.glob("heads/*")} == {"classifier"}
    plain = classifiers.run(
        commands, "distill", "uncached", *SHORT_FLOAT, f"--teacher={teacher.path}", *CACHED, "--nocache_targets"
    )
    assert not plain.targets_file.exists()
    for ours, theirs in zip(classifiers.rows(cached), classifiers.rows(plain), strict=True):
        for name in ("loss", "distillation_kl", "target_entropy", "val_top1"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-3, abs=1e-4), name


def test_targets_of_other_images_are_refused(commands, teacher, cached, tmp_path):
    import shutil

    shutil.copytree(cached.path, tmp_path / "run")
    (tmp_path / "run" / "results.json").unlink()
    np.save(tmp_path / "run" / "targets.npy", np.zeros([3, 10], np.float32))
    command = (*classifiers.TINY, *SHORT_FLOAT, f"--teacher={teacher.path}", *CACHED, f"--workdir={tmp_path / 'run'}")
    done = commands.run("distill", *command)
    assert done.code == 2
    assert "is not of these 1400 images" in done.err
    for damage in (b"", b"\x93NUMPY", b"anything", b"PK\x03\x04"):
        (tmp_path / "run" / "targets.npy").write_bytes(damage)
        done = commands.run("distill", *command)
        assert done.code == 2
        assert "targets.npy is damaged, it cannot be read (" in done.err
    kept = bytearray(cached.targets_file.read_bytes())
    kept[-5] ^= 1
    (tmp_path / "run" / "targets.npy").write_bytes(kept)
    done = commands.run("distill", *command)
    assert done.code == 2
    assert "targets.npy is damaged, its SHA-256 is not in" in done.err


def test_mistakes_are_one_sentence(commands, teacher):
    of_teacher = (f"--teacher={teacher.path}", "--binarization=none")
    pretrained = classifiers.pretrain(commands)
    for arguments, message in (
        ([], "--teacher is missing: a finished run of fine_tune, supervised or distill"),
        (["--teacher=nowhere"], "is neither a finished run"),
        ([f"--teacher={pretrained.path}"], "tells no classes apart"),
        ([*of_teacher, "--label_fraction=0.1"], "--label_fraction=0.1 has no meaning with --alpha=1"),
        ([*of_teacher, "--cache_targets"], "--cache_targets needs one view of each image that never changes"),
        (
            [*of_teacher, "--preset=self", "--encoder=reactnet_18"],
            "--preset=self needs the network of the teacher, --encoder=resnet_short --width=0.125",
        ),
        ([*of_teacher, "--stage=2"], "--binarization=none contradicts the stage"),
        (["--stage=2", "--stage1=nowhere"], "--stage=2 starts from a finished stage 1, and nowhere does not exist"),
    ):
        assert message in refused(commands, "distill", *SHORT_FLOAT, *arguments), message


def test_teachers_of_other_classes_are_refused(commands, teacher, tmp_path):
    from PIL import Image

    for part in ("train", "val"):
        for i in range(20):
            (tmp_path / part / str(i % 2)).mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(tmp_path / part / str(i % 2) / f"{i}.png")
    images = ("--dataset=folder", f"--data_dir={tmp_path}", *SHORT, "--stem=cifar", "--lr=0.1")
    sentence = refused(commands, "distill", f"--teacher={teacher.path}", *images, "--batch_size=4")
    assert "tells 10 classes apart, the images of folder have 2" in sentence
    # Without a recipe, and with another optimizer than SimCLR's, nothing is known of a learning rate.
    arguments = (f"--teacher={teacher.path}", *images[:-1], "--optimizer=adam")
    assert "--lr is missing" in refused(commands, "distill", *arguments)
    arguments = [argument for argument in arguments if "encoder" not in argument]
    assert "--encoder is missing" in refused(commands, "distill", *arguments)


NUMBERS = """
import json
from absl import flags
from larq_ssl.experiments import distill

FLAGS = flags.FLAGS
FLAGS(["distill", *{typed}])
distill.complete_flags()
print(json.dumps({{name: FLAGS[name].value for name in "temperature lr weight_decay warmup_epochs epochs".split()}}))
"""


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ([], [1.0, 6.4, 1e-4, 20, 400]),
        (["--preset=self"], [0.1, 6.4, 1e-4, 20, 400]),
        (["--batch_size=1024", "--epochs=100"], [1.0, 3.2, 1e-4, 5, 100]),
        (["--preset=self", "--temperature=0.5", "--lr=1", "--optimizer=adam"], [0.5, 1, 1e-4, 0, 400]),
    ],
)
def test_numbers_are_as_published(commands, typed, expected):
    done = commands.python(NUMBERS.format(typed=typed))
    assert done.code == 0, done.err
    assert list(json.loads(done.out.splitlines()[-1]).values()) == pytest.approx(expected)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [(signal.SIGTERM, 1), (signal.SIGKILL, 3)])
def test_a_stopped_run_ends_as_one_that_was_not(commands, teacher, cached, stop):
    """Also where the targets of its images were computed before, and are not again."""
    command = ("distill", *classifiers.TINY, *SHORT_FLOAT, f"--teacher={teacher.path}", *CACHED)
    saved.assert_goes_on(commands, command, stop, cached, classifiers.STEPS)

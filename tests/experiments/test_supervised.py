"""The command of supervised training: with labels, in two stages, by ReActNet's recipe, and what it refuses."""

import json
import signal

import numpy as np
import pytest

from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.models.folder import load_head, read_spec
from tests.experiments import classifiers, saved
from tests.experiments.classifiers import refused
from tests.experiments.commands import SHORT, SHORT_FLOAT

STILL = ("--lr=0", "--epochs=1", "--steps_per_epoch=1")


@pytest.fixture(scope="module")
def stage1(commands) -> RunFolder:
    return classifiers.run(commands, "supervised", "stage1", *SHORT, "--stage=1", "--label_smoothing=0.1")


@pytest.fixture(scope="module")
def teacher(commands) -> RunFolder:
    return classifiers.run(commands, "supervised", "float", *SHORT_FLOAT, "--labels_per_class=20")


def test_a_run_holds_the_network_and_its_classifier(stage1):
    assert {path.name for path in stage1.path.iterdir()} == classifiers.FILES
    found = {path.relative_to(stage1.path).as_posix() for path in stage1.path.glob("[eh]*s/*")}
    assert found == {"encoders/student", "heads/classifier"}
    assert read_spec(stage1.encoder("student")).binarization == "activations"
    classifier = load_head(stage1.head("classifier").parent)
    assert (classifier.spec.output_dim, classifier.spec.output_role) == (10, "last_layer")
    classifiers.assert_results(stage1, "supervised/labels/digits")


def test_few_labels_are_the_images_that_are_trained_on(commands, teacher):
    subset = classifiers.kept(teacher)
    assert len(subset.ids) == 200
    assert teacher.inputs()["labels"] == subset.fingerprint
    assert "20 images of each class" in subset.origin
    assert {path.name for path in teacher.path.iterdir()} == classifiers.FILES | {"labels.json"}
    # One more than a whole pass over them.
    sentence = refused(commands, "supervised", *SHORT_FLOAT, "--labels_per_class=20", "--steps_per_epoch=6")
    assert "--steps_per_epoch must be at most 5" in sentence


def test_stage_2_goes_on_with_network_and_classifier(commands, stage1):
    second = RunFolder(stage1.path.parent / "stage2")
    # Stage 1 had all labels without asking for all of them.
    same = ("--label_smoothing=0.1", "--label_fraction=1", f"--workdir={second.path}")
    done = commands.run("supervised", *classifiers.TINY, *SHORT, "--stage=2", *STILL, *same)
    assert done.code == 0, done.err
    assert "Warning: stage 2" not in done.out
    saved.assert_equal_parameters(stage1.encoder("student") / "weights.npz", second.encoder("student") / "weights.npz")
    saved.assert_equal_parameters(stage1.head("classifier"), second.head("classifier"))
    assert read_spec(second.encoder("student")).binarization == "full"
    assert second.inputs()["stage 1"] == stage1.results()["encoders"]["student"]


def test_other_labels_than_in_stage_1_are_told(commands, stage1):
    command = ("supervised", *classifiers.TINY, *SHORT, "--stage=2", f"--stage1={stage1.path}", "--label_smoothing=0.1")
    done = commands.run(
        *command, *STILL, "--labels_per_class=20", "--label_seed=1", f"--workdir={commands.folder}/other_labels"
    )
    assert done.code == 0, done.err
    assert "stage 2 learns from other labels than" in done.out
    assert "20 images of each class, seed 1" in done.out


@pytest.fixture(scope="module")
def followers(commands, teacher) -> list[RunFolder]:
    """Both stages of ReActNet's recipe; the second stands still and finds the teacher by itself."""
    first = classifiers.run(
        commands, "supervised", "reactnet/stage1", *SHORT, "--stage=1", f"--teacher={teacher.path}", "--temperature=2"
    )
    second = classifiers.run(commands, "supervised", "reactnet/stage2", *SHORT, "--stage=2", *STILL, "--temperature=2")
    return [first, second]


def test_a_teacher_takes_the_place_of_labels_in_both_stages(teacher, followers):
    for follower in followers:
        last = classifiers.rows(follower)[-1]
        assert {"distillation_kl", "target_entropy", "agreement"} <= last.keys()
        assert "supervised" not in last
        assert f"Teacher: {teacher.encoder('student')}" in follower.licences_file.read_text()
        classifiers.assert_results(follower, "supervised/teacher/digits")
    inputs = [follower.inputs() for follower in followers]
    assert inputs[0]["teacher"] == inputs[1]["teacher"] == teacher.results()["encoders"]["student"]
    assert inputs[0]["teacher classifier"] == inputs[1]["teacher classifier"]
    weights = [follower.encoder("student") / "weights.npz" for follower in followers]
    saved.assert_equal_parameters(*weights)
    saved.assert_equal_parameters(*(follower.head("classifier") for follower in followers))
    # The temperature divides the teacher's logits.
    plain = np.log(10)
    assert 0.5 * plain < classifiers.rows(followers[0])[-1]["target_entropy"] <= plain + 1e-4


def test_a_teacher_that_changes_between_the_stages_is_refused(commands, followers, teacher):
    file = teacher.head("classifier")
    before = file.read_bytes()
    file.write_bytes((teacher.path.parent / "stage1" / "heads" / "classifier" / "weights.npz").read_bytes())
    try:
        sentence = refused(
            commands, "supervised", *SHORT, "--stage=2", f"--stage1={followers[0].path}", "--temperature=2"
        )
    finally:
        file.write_bytes(before)
    assert "its weights have changed" in sentence


def test_mistakes_are_one_sentence(commands, teacher, stage1):
    pretrained = classifiers.pretrain(commands)
    (commands.folder / "half").mkdir(exist_ok=True)
    of_teacher = f"--teacher={teacher.path}"
    for arguments, message in (
        ([f"--teacher={pretrained.path}"], "tells no classes apart, it only gives features"),
        ([f"--teacher={commands.folder}/half"], "is neither a finished run, nor an encoder folder"),
        ([of_teacher, "--label_smoothing=0.1"], "--label_smoothing=0.1 has no meaning with --teacher"),
        ([of_teacher, "--cache_targets"], "--cache_targets needs one view of each image that never changes"),
        (["--temperature=2"], "--temperature=2.0 has no meaning without --teacher"),
        (["--label_fraction=0.1", "--labels_per_class=2"], "--label_fraction=0.1 and --labels_per_class=2 contradict"),
        (["--teacher_compute=bfloat16"], "--teacher_compute=bfloat16 has no meaning without a teacher: leave it out"),
        (["--label_fraction=0.001"], "--label_fraction=0.001 cannot be had: fraction is 0.001: it must lie in"),
        (["--labels_per_class=1000"], "per_class is 1000: it must lie in"),
        (["--labels_per_class=2"], "batch_size is 35: it must lie in [1, 20]"),
        ([f"--labels={stage1.path}"], "has no labels.json: it learned from all labels"),
        (["--labels=nowhere"], "it is not the folder of a run"),
        ([f"--labels={teacher.path}", "--max_train_images=700"], "are those of other images than these"),
        (["--label_list=nowhere"], "the images of digits have no file names"),
        (["--classes_list=nowhere"], "it must be one of ['imagenet100'], or a file"),
        (["--lr=0", "--classifier_lr=1"], "--classifier_lr=1.0 is a multiple of --lr"),
        (["--stage=2", f"--stage1={teacher.path}"], "is not a run of stage 1"),
    ):
        assert message in refused(commands, "supervised", *SHORT_FLOAT, *arguments), message


def test_listed_classes_alone_are_trained_on_and_probed(commands, tmp_path):
    (tmp_path / "some.txt").write_text("8\n3\n5\n")
    run = classifiers.run(commands, "supervised", "some", *SHORT_FLOAT, f"--classes_list={tmp_path / 'some.txt'}")
    assert load_head(run.head("classifier").parent).spec.output_dim == 3
    done = commands.run("knn", f"--run={run.path}", "--k=5")
    assert done.code == 0, done.err
    results = json.loads((run.probe("knn-dino-digits") / "results.json").read_text())
    assert results["settings"]["train"] == run.inputs()["data"]


def test_images_without_labels_teach_nothing(commands, tmp_path):
    from PIL import Image

    (tmp_path / "train").mkdir()
    for i in range(40):
        Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(tmp_path / "train" / f"{i}.png")
    flat = ("--dataset=folder", f"--data_dir={tmp_path}", *SHORT, "--stem=cifar")
    assert "has no labels" in refused(commands, "supervised", *flat)
    for i in range(40):
        (tmp_path / "train" / str(i % 2)).mkdir(exist_ok=True)
        (tmp_path / "train" / f"{i}.png").rename(tmp_path / "train" / str(i % 2) / f"{i}.png")
    whole = (*flat, "--views=evaluation", "--steps_per_epoch=1")
    assert "or train without validation, by --validate_every=0" in refused(commands, "supervised", *whole)
    done = classifiers.run(commands, "supervised", "unvalidated", *whole, "--validate_every=0")
    assert not {name for name in done.results()["metrics"] if "top1" in name}


@pytest.mark.slow
@pytest.mark.parametrize("stop", [(signal.SIGTERM, 1), (signal.SIGKILL, 3)])
def test_a_stopped_run_ends_as_one_that_was_not(commands, stage1, stop):
    command = ("supervised", *classifiers.TINY, *SHORT, "--stage=1", "--label_smoothing=0.1")
    saved.assert_goes_on(commands, command, stop, stage1, classifiers.STEPS)

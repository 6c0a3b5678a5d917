"""The command of fine-tuning: from which layer, with which labels, by whose numbers, and what it refuses."""

import json
import signal

import numpy as np
import pytest

from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.models.folder import load_head
from tests.experiments import classifiers, saved
from tests.experiments.classifiers import refused

FEW = ("--label_fraction=0.1",)
STILL = ("--lr=0", "--epochs=1", "--steps_per_epoch=1")


@pytest.fixture(scope="module")
def pretrained(commands) -> RunFolder:
    return classifiers.pretrain(commands)


@pytest.fixture(scope="module")
def tuned(commands, pretrained) -> RunFolder:
    return classifiers.run(commands, "fine_tune", "layer1", f"--run={pretrained.path}", *FEW)


def test_a_run_holds_the_network_the_kept_layer_and_the_classifier(tuned):
    assert {path.name for path in tuned.path.iterdir()} == classifiers.FILES | {"labels.json"}
    found = {path.relative_to(tuned.path).as_posix() for path in tuned.path.glob("[eh]*s/*")}
    assert found == {"encoders/student", "heads/student_head", "heads/classifier"}
    head, classifier = (load_head(tuned.head(name).parent) for name in ("student_head", "classifier"))
    assert (head.spec.output_dim, head.spec.depth) == (None, 1)
    assert (classifier.spec.input_dim, classifier.spec.output_dim) == (head.spec.hidden_dims[0], 10)
    classifiers.assert_results(tuned, "fine_tune/simclr/digits")


def test_images_network_and_recipe_are_those_of_the_pretrained_run(tuned, pretrained):
    told, before = tuned.flags(), pretrained.flags()
    for flag in ("dataset", "image_size", "encoder", "width", "stem", "preprocessing"):
        assert told[flag] == before[flag], flag
    assert told["binarization"] == "none"
    assert told["recipe"] == "digits/fine_tune"
    assert told["head_layer"] == "1"
    assert tuned.inputs()["pre-trained"] == pretrained.results()["encoders"]["student"]
    assert f"Pre-trained network: {pretrained.encoder('student')}" in tuned.licences_file.read_text()


@pytest.mark.parametrize(("which", "head", "layer"), [("student", "student_head", 2), ("ema", "momentum_head", 1)])
def test_it_begins_with_the_weights_of_the_pretrained_run(commands, pretrained, which, head, layer):
    still = classifiers.run(
        commands,
        *("fine_tune", f"still_{which}", f"--run={pretrained.path}", *FEW, *STILL),
        *(f"--which={which}", f"--head_layer={layer}"),
    )
    weights = (folder / "weights.npz" for folder in (pretrained.encoder(which), still.encoder("student")))
    saved.assert_equal_parameters(*weights)
    before, after = (saved.arrays(folder) for folder in (pretrained.head(head), still.head("student_head")))
    kept = {key: array for key, array in before.items() if key.startswith(tuple(f"dense{i + 1}" for i in range(layer)))}
    classifiers.assert_equal_arrays(after, kept)
    assert not any(array.any() for array in saved.arrays(still.head("classifier")).values())
    # Nothing but zeros comes out: the first class wins everywhere.
    labels = classifiers.rows(still)[-1]
    assert labels["loss"] == pytest.approx(np.log(10), rel=1e-5)


def test_without_a_layer_of_the_head_there_is_none(commands, pretrained):
    run = classifiers.run(commands, "fine_tune", "layer0", f"--run={pretrained.path}", *FEW, "--head_layer=0")
    assert {path.name for path in run.path.glob("heads/*")} == {"classifier"}
    assert "pre-trained head" not in run.inputs()
    before, after = (saved.arrays(one.encoder("student") / "weights.npz") for one in (pretrained, run))
    # Everything is trained, statistics of BatchNorm too.
    assert [key for key in before if np.array_equal(before[key], after[key])] == []


def test_a_frozen_encoder_stays_as_it_is_and_what_follows_learns(commands, pretrained):
    run = classifiers.run(commands, "fine_tune", "frozen", f"--run={pretrained.path}", *FEW, "--freeze_encoder")
    assert run.results()["encoders"]["student"] == pretrained.results()["encoders"]["student"]
    before, after = (saved.arrays(one.encoder("student") / "weights.npz") for one in (pretrained, run))
    assert any("moving" in key for key in before)
    classifiers.assert_equal_arrays(before, after)
    head, tuned = saved.arrays(pretrained.head("student_head")), saved.arrays(run.head("student_head"))
    assert tuned
    assert [key for key in tuned if np.array_equal(head[key], tuned[key])] == []


def test_random_weights_are_the_baseline(commands, pretrained):
    of_run = f"--run={pretrained.path}"
    run = classifiers.run(commands, "fine_tune", "random", of_run, *FEW, *STILL, "--random", "--seed=1")
    for before, after in (
        (pretrained.encoder("student") / "weights.npz", run.encoder("student") / "weights.npz"),
        (pretrained.head("student_head"), run.head("student_head")),
    ):
        first, second = saved.arrays(before), saved.arrays(after)
        kernels = [key for key in second if "kernel" in key]
        assert kernels
        assert [key for key in kernels if np.array_equal(first[key], second[key])] == []
    # Another one is another run, although both name the same network.
    assert run.inputs()["pre-trained"] == pretrained.results()["encoders"]["student"]
    again = commands.run("fine_tune", *classifiers.TINY, of_run, *FEW, *STILL, "--seed=1", f"--workdir={run.path}")
    assert again.code == 2
    assert "--random=False differs from --random=True" in again.err


def test_an_encoder_folder_takes_the_place_of_a_run(commands, pretrained):
    folder = pretrained.encoder("student")
    run = classifiers.run(
        commands, "fine_tune", "folder", f"--encoder_dir={folder}", "--dataset=digits", *FEW, *STILL, "--head_layer=2"
    )
    saved.assert_equal_parameters(folder / "weights.npz", run.encoder("student") / "weights.npz")
    assert run.inputs()["pre-trained"] == pretrained.results()["encoders"]["student"]


@pytest.mark.slow
def test_labels_are_those_of_another_run_or_the_same_by_the_same_flags(commands, pretrained, tuned):
    again = classifiers.run(
        commands, "fine_tune", "again", f"--run={pretrained.path}", f"--labels={tuned.path}", "--seed=3"
    )
    same = classifiers.run(commands, "fine_tune", "same", f"--run={pretrained.path}", *FEW, "--seed=4")
    other = classifiers.run(commands, "fine_tune", "other", f"--run={pretrained.path}", *FEW, "--label_seed=1")
    assert len(classifiers.kept(tuned).ids) == 140
    for run in (again, same):
        np.testing.assert_array_equal(classifiers.kept(run).ids, classifiers.kept(tuned).ids)
        assert run.inputs()["data"] == tuned.inputs()["data"]
    assert len(set(classifiers.kept(other).ids) & set(classifiers.kept(tuned).ids)) < 50


def test_a_run_goes_on_with_its_labels_only(commands, pretrained, tuned):
    arguments = (*classifiers.TINY, f"--run={pretrained.path}", f"--workdir={tuned.path}")
    assert "finished earlier" in commands.run("fine_tune", *arguments, *FEW).out
    done = commands.run("fine_tune", *arguments, *FEW, "--label_seed=1")
    assert done.code == 2
    assert "--label_seed=1 differs from --label_seed=0" in done.err
    replay = tuned.flags_file.read_text().splitlines()[0].split()[4:]
    assert "finished earlier" in commands.run("fine_tune", *replay).out


def test_a_finished_run_shows_its_result_for_the_same_network_only(commands, pretrained, tuned, tmp_path):
    """A folder that moved is still the same, and another one is not, though its path may change."""
    import shutil

    moved = RunFolder(tmp_path / "moved")
    shutil.copytree(pretrained.path, moved.path)
    command = ("fine_tune", *classifiers.TINY, *FEW, f"--run={moved.path}", f"--workdir={tuned.path}")
    assert "finished earlier" in commands.run(*command).out
    shutil.rmtree(moved.encoder("student"))
    shutil.copytree(moved.encoder("ema"), moved.encoder("student"))
    done = commands.run(*command)
    assert (done.code, done.out.count("finished earlier")) == (2, 0)
    assert f"The pre-trained is not the one with which the run in {tuned.path} began" in done.err


def test_mistakes_are_one_sentence(commands, pretrained, tuned):
    of_run = f"--run={pretrained.path}"
    (commands.folder / "unfinished").mkdir(exist_ok=True)
    (commands.folder / "unfinished" / "flags.txt").write_text("--dataset=digits\n")
    for arguments, message in (
        ([], "--run is missing"),
        ([f"--run={commands.folder}/unfinished"], "is not a finished run"),
        (["--run=nowhere"], "is not a finished run"),
        ([of_run, "--head_layer=3"], "--head_layer must be at most 2"),
        ([f"--run={tuned.path}", "--which=ema"], "There is no encoder in"),
        ([of_run, "--stage=1"], "--stage has no meaning here"),
        ([of_run, "--encoder=resnet_34"], "--encoder=resnet_34 contradicts the network in"),
        ([of_run, "--width=2"], "--width=2.0 contradicts the network in"),
        ([of_run, "--binarization=full"], "--binarization=full contradicts the network in"),
        # Takes the place of the recipe's --label_fraction.
        ([of_run, "--labels=nowhere"], "it is not the folder of a run"),
        (["--encoder_dir=nowhere"], "There is no encoder in nowhere."),
        ([of_run, "--encoder_dir=nowhere"], "--encoder_dir=nowhere contradict: give one of them."),
        ([f"--encoder_dir={pretrained.encoder('student')}"], "--dataset is missing"),
        ([of_run, "--freeze_encoder", "--diagnostics_every=1"], "--diagnostics_every=1 looks at the gradients of the"),
        ([of_run, "--labels=nowhere", "--labels_per_class=3"], "--labels_per_class=3 and --labels=nowhere contradict"),
    ):
        few = () if any("--labels" in argument for argument in arguments) else FEW
        assert message in refused(commands, "fine_tune", *arguments, *few), message


def test_a_typed_preset_takes_the_place_of_the_recipe_of_the_digits(commands, pretrained):
    code = """
from larq_ssl.experiments import fine_tune
of_run = "--run={run}"
print(fine_tune.default_recipe(["fine_tune", of_run]))
print(fine_tune.default_recipe(["fine_tune", of_run, "--preset=swav"]))
print(fine_tune.default_recipe(["fine_tune", "--encoder_dir=somewhere"]))
print(fine_tune.default_recipe(["fine_tune", "--encoder_dir=somewhere", "--dataset=digits"]))
"""
    done = commands.python(code.format(run=pretrained.path))
    assert done.out.split() == ["digits/fine_tune", "None", "None", "digits/fine_tune"]


def test_a_run_without_projection_head_is_tuned_from_its_features_alone(commands, tmp_path):
    import shutil

    bare = RunFolder(tmp_path / "bare")
    shutil.copytree(classifiers.pretrain(commands).path, bare.path)
    shutil.rmtree(bare.path / "heads")
    sentence = refused(commands, "fine_tune", f"--run={bare.path}", *FEW)
    assert "--head_layer=1, but the run of" in sentence
    assert "has no projection head; give 0" in sentence


def test_the_learning_rate_of_another_optimizer_is_not_taken(commands):
    done = commands.python(PRESET.format(typed=["--optimizer=adam", "--label_fraction=0.1"]))
    assert done.code == 1
    assert "--lr is missing: --preset=simclr has one for --optimizer=lars_simclr, and none for adam." in done.err


def test_labels_of_another_run_have_the_numbers_of_their_share(commands, tuned):
    for few, epochs in ((tuned.path, 30), (tuned.labels_file, 30)):
        done = commands.python(PRESET.format(typed=[f"--labels={few}"]))
        assert done.code == 0, done.err
        assert json.loads(done.out.splitlines()[-1])["epochs"] == epochs


@pytest.mark.slow
@pytest.mark.parametrize("stop", [(signal.SIGTERM, 1), (signal.SIGKILL, 3)])
def test_a_stopped_run_ends_as_one_that_was_not(commands, pretrained, tuned, stop):
    command = ("fine_tune", *classifiers.TINY, f"--run={pretrained.path}", *FEW)
    saved.assert_goes_on(commands, command, stop, tuned, classifiers.STEPS)


PRESET = """
import json
from absl import flags
from larq_ssl.experiments import fine_tune, training, training_data

FLAGS = flags.FLAGS
FLAGS(["fine_tune", "--encoder=resnet_50", *{typed}])
fine_tune.complete_flags()
data = training_data.Data(None, None, steps_per_epoch=10)
rates = [float(training.learning_rate(data)(step)) for step in (0, data.total_steps - 1)]
names = "head_layer classifier_init optimizer lr classifier_lr min_lr weight_decay schedule epochs batch_size".split()
names += ["freeze_encoder", "views"]
print(json.dumps({{**{{name: FLAGS[name].value for name in names}}, "rates": rates}}))
"""


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (
            ["--label_fraction=0.01"],
            {
                **{"head_layer": 1, "classifier_init": "zeros", "optimizer": "lars_simclr", "lr": 0.16, "epochs": 60},
                **{"classifier_lr": None, "weight_decay": 0, "schedule": "simclr", "batch_size": 1024},
                **{"freeze_encoder": False, "views": "simclr_crop_flip"},
            },
        ),
        (["--dataset=imagenet2012_subset/10pct"], {"head_layer": 1, "epochs": 30, "lr": 0.16}),
        (["--dataset=imagenet2012_subset/1pct"], {"head_layer": 1, "epochs": 60}),
        (["--label_list=some.txt"], {"head_layer": 1, "epochs": 60}),
        ([], {"head_layer": 0, "epochs": 30}),
        (["--width=2"], {"lr": 0.064}),
        (["--encoder=simclr_resnet_50_sk", "--batch_size=256"], {"lr": 0.032, "batch_size": 256}),
        (["--lr=3", "--epochs=7", "--optimizer=adam"], {"lr": 3, "epochs": 7, "optimizer": "adam"}),
        (
            ["--preset=sslight", "--label_fraction=0.1"],
            {
                **{"head_layer": 2, "classifier_init": "pytorch", "optimizer": "sgd_nesterov", "lr": 0.12},
                **{"min_lr": 1e-6, "schedule": "epoch_cosine", "epochs": 30, "weight_decay": 0, "batch_size": 1024},
            },
        ),
        (["--preset=sslight", "--label_fraction=0.01", "--batch_size=256"], {"lr": 0.03, "epochs": 60}),
        (
            ["--preset=swav", "--label_fraction=0.01"],
            {
                **{"head_layer": 0, "optimizer": "sgd", "lr": 0.02, "classifier_lr": 5, "schedule": "step"},
                **{"epochs": 20, "batch_size": 256, "weight_decay": 0, "rates": [0.02, 0.02 * 0.2**2]},
            },
        ),
        (["--preset=swav", "--label_fraction=0.1"], {"lr": 0.01, "classifier_lr": 0.2}),
        (
            ["--preset=bssl", "--label_fraction=0.1"],
            {
                **{"lr": 0.01, "classifier_lr": 0.1, "weight_decay": 5e-4, "epochs": 20, "schedule": "step"},
                **{"classifier_init": "normal_0.01", "rates": [0.01, 0.01 * 0.2**2]},
            },
        ),
        (
            ["--preset=msbreg", "--label_fraction=0.01"],
            {"freeze_encoder": True, "lr": 2, "classifier_lr": None, "epochs": 50, "views": "crop_flip"},
        ),
        (["--preset=msbreg", "--label_fraction=0.1"], {"freeze_encoder": False, "lr": 2.5e-4, "classifier_lr": 0.25}),
        (
            ["--preset=s2bnn_transfer"],
            {"lr": 0.01, "epochs": 180, "batch_size": 128, "weight_decay": 1e-4, "rates": [0.01, 1e-4]},
        ),
    ],
)
def test_presets_are_as_published(commands, typed, expected):
    done = commands.python(PRESET.format(typed=typed))
    assert done.code == 0, done.err
    told = json.loads(done.out.splitlines()[-1])
    for name, value in expected.items():
        assert told[name] == (pytest.approx(value) if isinstance(value, float | list) else value), name

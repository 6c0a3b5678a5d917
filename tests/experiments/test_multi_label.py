"""Images with several labels each, by the commands that train on them and those that measure on frozen features."""

import numpy as np
import pytest
from PIL import Image

from larq_ssl.data import datasets
from larq_ssl.evaluation.average_precision import mean_average_precisions
from larq_ssl.evaluation.features import extract
from larq_ssl.evaluation.results import read_results
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.models.folder import load_encoder, load_head
from tests import voc
from tests.experiments import classifiers, saved
from tests.experiments.classifiers import refused
from tests.experiments.commands import SHORT_FLOAT
from tests.experiments.sweeping import assert_mistakes
from tests.experiments.sweeping import sweep as swept

MEASURES = ("map", "map_eleven_points")
REPORTED = {f"{when}/{measure}" for when in ("last", "best") for measure in MEASURES} | {"best/epoch"}


@pytest.fixture(scope="module")
def pretrained(commands) -> RunFolder:
    return classifiers.pretrain(commands)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return voc.pets(tmp_path_factory.mktemp("several") / "pets")


def pets(root):
    return ("--dataset=voc_folder", f"--data_dir={root}")


def small(root):
    return (*pets(root), "--batch_size=9", "--image_size=16")


@pytest.fixture(scope="module")
def tuned(commands, pretrained, root) -> RunFolder:
    typed = (f"--run={pretrained.path}", *small(root), "--preset=s2bnn_transfer", "--epochs=3")
    return classifiers.run(commands, "fine_tune", "pets", *typed)


def precisions(run, root):
    """Of the network of a run, from what it has saved."""
    images = datasets.load_dataset("voc_folder", "val", str(root))
    features = extract(load_encoder(run.encoder("student")), images, 16)
    logits = load_head(run.head("classifier").parent)(features.features).numpy()
    return mean_average_precisions(images.presence, logits)


def test_fine_tuning_reports_the_mean_average_precision(tuned, root):
    rows, metrics = classifiers.rows(tuned), tuned.results()["metrics"]
    assert all({"val_map", "val_map_eleven_points", "loss"} <= row.keys() for row in rows)
    assert not [name for name in metrics if "top" in name or name == "accuracy"]
    prefix = "fine_tune/s2bnn_transfer/voc_folder"
    assert {name.removeprefix(f"{prefix}/") for name in metrics if name.startswith(prefix)} == REPORTED
    best = max(rows, key=lambda row: row["val_map"])
    assert metrics[f"{prefix}/best/map"] == best["val_map"]
    assert metrics[f"{prefix}/best/map_eleven_points"] == best["val_map_eleven_points"]
    assert metrics[f"{prefix}/best/epoch"] == best["epoch"]
    found = precisions(tuned, root)
    for measure in MEASURES:
        assert metrics[f"{prefix}/last/{measure}"] == pytest.approx(found[measure], abs=1e-6)
    assert load_head(tuned.head("classifier").parent).spec.output_dim == 2


@pytest.mark.slow
def test_what_is_in_the_images_is_learned(commands, pretrained, tmp_path):
    """Each animal has its colour; with labels of other images nothing could be learned of the test images."""
    root = voc.pets(tmp_path / "coloured")
    for split in ("train", "val"):
        images = datasets.load_dataset("voc_folder", split, str(root))
        for number, (cat, dog) in enumerate(images.presence != 0):
            pixels = np.random.default_rng(number).integers(0, 60, (20, 24, 3), np.uint8)
            pixels += np.array([150 * cat, 150 * dog, 0], np.uint8)
            Image.fromarray(pixels).save(images.describe(number), quality=95)
    typed = (f"--run={pretrained.path}", *small(root), "--preset=s2bnn_transfer")
    longer = ("--epochs=15", "--optimizer=adam", "--lr=0.01", "--validate_every=15", "--schedule=constant")
    rows = classifiers.rows(classifiers.run(commands, "fine_tune", "longer", *typed, *longer))
    assert rows[0]["loss"] == pytest.approx(np.log(2), rel=0.3)
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]
    assert rows[-1]["val_map"] > 0.95


def test_a_frozen_encoder_stays_as_it_was(commands, pretrained, root):
    typed = (f"--run={pretrained.path}", *small(root), "--freeze_encoder", "--preset=s2bnn_transfer")
    frozen = classifiers.run(commands, "fine_tune", "frozen_pets", *typed)
    before, after = (saved.arrays(run.encoder("student") / "weights.npz") for run in (pretrained, frozen))
    classifiers.assert_equal_arrays(before, after)


@pytest.mark.slow
def test_training_from_scratch(commands, root):
    run = classifiers.run(commands, "supervised", "pets", *SHORT_FLOAT, "--stem=cifar", *small(root))
    metrics = run.results()["metrics"]
    names = {name for name in metrics if name.startswith("supervised/labels/voc_folder/")}
    assert names == {f"supervised/labels/voc_folder/{name}" for name in REPORTED}
    assert (
        "mAP"
        in commands.run(
            "supervised",
            *classifiers.TINY,
            *SHORT_FLOAT,
            "--stem=cifar",
            *small(root),
            "--fresh",
            f"--workdir={run.path}",
        ).out
    )


@pytest.mark.parametrize("augmented", [False, True])
def test_linear_classifiers_of_frozen_features(commands, pretrained, root, tmp_path, augmented):
    before = {file.name: file.read_bytes() for file in pretrained.encoder("student").iterdir()}
    typed = (f"--run={pretrained.path}", *pets(root), "--image_size=16", "--epochs=3", "--lr=0.1", "--lr=1")
    done = commands.run(
        "linear", *typed, "--train_batch_size=6", f"--probe_dir={tmp_path / 'probe'}", *(["--augmented"] * augmented)
    )
    assert done.code == 0, done.err
    prefix = "linear/bssl/voc_folder/" + "augmented/" * augmented
    found = {name.removeprefix(prefix): value for name, value in read_results(tmp_path / "probe").metrics.items()}
    rates = {f"lr_{rate}/{name}" for rate in ("0.1", "1") for name in (*REPORTED, "diverged")}
    assert set(found) == REPORTED | rates | {"learning_rate"}
    assert found["last/map"] == max(found["lr_0.1/last/map"], found["lr_1/last/map"])
    assert f"{prefix}last/map: {found['last/map']:.4f}" in done.out
    assert {path.name for path in (tmp_path / "probe").iterdir()} == {"results.json", "head"}
    assert {file.name: file.read_bytes() for file in pretrained.encoder("student").iterdir()} == before


@pytest.fixture
def transfer(commands, pretrained, tmp_path):
    def transfer(*typed, ends=(9,)):
        return swept(commands, "transfer", f"--run={pretrained.path}", f"--out={tmp_path / 'out'}", *typed, ends=ends)

    return transfer


@pytest.mark.parametrize("name", ["voc_folder", "voc/2007"])
def test_transfer_with_the_encoder_frozen(commands, transfer, root, tmp_path, name):
    typed = ("--protocol=s2bnn_linear", f"--dataset={name}", f"--data_dir={root}", "--image_size=16", "--epochs=2")
    done = transfer(*typed)
    (command, *words) = done.ran[0]
    assert ("these images have 2 classes, and VOC2007 has 20" in done.out) == (name == "voc/2007")
    assert commands.run(command, *words).code == 0
    done = transfer(*typed, ends=(0,))
    assert done.code == 0, done.err
    flat = name.replace("/", "_")
    measured, taken = (read_results(tmp_path / folder).metrics for folder in ("out-linear", "out"))
    assert taken == {
        metric.replace("linear/s2bnn/voc_folder", f"transfer/s2bnn_linear/{flat}"): value
        for metric, value in measured.items()
    }
    for measure in MEASURES:
        assert f"transfer/s2bnn_linear/{flat}/last/{measure}: " in done.out


def test_transfer_by_fine_tuning(commands, transfer, root, tmp_path):
    tiny = "--with_flags=--deterministic --diagnostics_every=0 --embeddings_every=0"
    typed = ("--protocol=s2bnn_transfer", *pets(root), "--image_size=16", tiny, "--epochs=2", "--batch_size=9")
    (command, *words) = transfer(*typed).ran[0]
    assert command == "fine_tune"
    assert commands.run(command, *words).code == 0
    done = transfer(*typed)
    assert (done.code, done.ran) == (0, []), done.err
    result, tuned = read_results(tmp_path / "out"), RunFolder(tmp_path / "out" / "only").results()["metrics"]
    assert set(result.metrics) == {f"transfer/s2bnn_transfer/voc_folder/{name}" for name in REPORTED}
    for measure in MEASURES:
        assert result.metrics[f"transfer/s2bnn_transfer/voc_folder/last/{measure}"] == tuned[f"val_{measure}"]
    assert result.settings["chosen_on"].startswith("mean average precision of the images")
    table = (tmp_path / "out" / "table.md").read_text()
    assert "last mAP" in table
    assert "best mAP at 11 points" in table
    assert "top" not in table


def test_mistakes_of_training_are_one_sentence(commands, pretrained, tuned, root):
    of_run, of_pets = f"--run={pretrained.path}", small(root)
    for command, arguments, message in (
        (
            "fine_tune",
            [of_run, *of_pets, "--label_fraction=0.5"],
            "--label_fraction=0.5 has no meaning for voc_folder: ",
        ),
        (
            "fine_tune",
            [of_run, *of_pets, "--label_smoothing=0.1"],
            "--label_smoothing=0.1 has no meaning for voc_folder",
        ),
        (
            *("supervised", [*SHORT_FLOAT, *of_pets, f"--teacher={pretrained.path}"]),
            "chooses one class per image, and those of voc_folder have several labels: train without a teacher",
        ),
        (
            "distill",
            [*SHORT_FLOAT, *of_pets, f"--teacher={tuned.path}", "--lr=1"],
            "several labels per image, where one",
        ),
    ):
        assert message in refused(commands, command, *arguments), message


def test_mistakes_of_probes_are_one_sentence(commands, pretrained, root, tmp_path):
    typed = (f"--run={pretrained.path}", *pets(root), "--image_size=16", f"--probe_dir={tmp_path / 'probe'}")
    done = commands.run("linear", *typed, "--holdout_per_class=2")
    assert done.code == 2
    assert "--holdout_per_class=2 has no meaning for voc_folder, whose images have several labels" in done.err
    done = commands.run("knn", *typed)
    assert "several labels per image, where one is needed" in done.err
    assert "measured by svm, linear and transfer" in done.err
    assert not (tmp_path / "probe").exists()


def test_a_class_that_no_test_image_shows_is_told_before_anything_is_trained(commands, pretrained, tmp_path):
    bare = voc.pets(tmp_path / "bare")
    for number in range(18, 27):
        (bare / "Annotations" / f"{number:06}.xml").write_text(voc.annotation([("cat", False)]))
    sentence, of_bare = "The class 'dog' is in none of the 9 test images", (f"--run={pretrained.path}", *pets(bare))
    assert sentence in refused(commands, "fine_tune", *of_bare, "--batch_size=9")
    done = commands.run("linear", *of_bare, f"--probe_dir={tmp_path / 'probe'}")
    assert (done.code, sentence in done.err) == (2, True)
    out = f"--out={tmp_path / 'sweep'}"
    mistakes = [([*of_bare, out, "--protocol=s2bnn_transfer", "--batch_size=9"], sentence)]
    assert_mistakes(commands, "transfer", mistakes)
    assert not list(tmp_path.glob("[ps]*"))

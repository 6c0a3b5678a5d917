"""The command that makes of a run a file for devices, as a user types it."""

import json

import numpy as np
import pytest
from PIL import Image

from larq_ssl import export, models
from larq_ssl.data import datasets, pipeline
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.models import load_encoder, load_head, save_encoder
from tests.experiments.classifiers import TINY
from tests.experiments.commands import SHORT

pytest.importorskip("larq_compute_engine")

FEW = ("--audit_images=40", "--max_train_images=200", "--nosaved_model")


@pytest.fixture(scope="module")
def stages(commands) -> dict[str, RunFolder]:
    """Both stages of training with labels, a few steps each."""
    runs = {name: RunFolder(commands.folder / "exported_runs" / name) for name in ("stage1", "stage2")}
    for number, run in enumerate(runs.values(), 1):
        done = commands.run("supervised", *TINY, *SHORT, f"--stage={number}", f"--workdir={run.path}")
        assert done.code == 0, done.err
    return runs


def exported(commands, run: RunFolder, name: str, *arguments: str):
    folder = commands.folder / "exports" / name
    done = commands.run("export", f"--run={run.path}", f"--out={folder}", *FEW, *arguments)
    assert "Traceback" not in done.err, done.err
    return done, folder


def test_the_classifier_of_a_run_is_exported(commands, stages):
    run = stages["stage2"]
    done, folder = exported(commands, run, "classifier", "--head=classifier")
    assert done.code == 0, done.err
    assert "3 of 3 binary layers are packed" in done.out
    assert "top1_agreement" in done.out
    record = json.loads((folder / "export.json").read_text())
    assert record["output"] == {"class_scores": 10}
    assert record["audit"]["end_to_end"]["images"] == 40
    assert set(record["audit"]["end_to_end"]) >= {"knn_agreement", "top1_agreement", "file_top1", "keras_top1"}
    (batch,) = pipeline.image_batches(datasets.load_dataset("digits", "val").subset(np.arange(20), "few"), 8, 32)
    (scores,) = export.run((folder / "model.tflite").read_bytes(), [batch["image"].numpy()])
    keras = load_head(run.path / "heads" / "classifier")(load_encoder(run.encoder("student"))(batch["image"]))
    assert np.mean(scores.argmax(1) == keras.numpy().argmax(1)) >= 0.9
    card = json.loads((folder / "model_card.json").read_text())
    assert card["method"] == "`python -m larq_ssl.experiments.supervised`"
    assert [flags["stage"] for flags in card["stages"].values()] == ["1", "2"]
    assert card["probes"]["this encoder"]["supervised/labels/digits/last/top1"] == pytest.approx(
        run.results()["metrics"]["supervised/labels/digits/last/top1"]
    )
    assert "- Images: digits" in card["licences"]
    again, _ = exported(commands, run, "classifier", "--head=classifier")
    assert (again.code, again.err.splitlines()[-1]) == (
        2,
        f"error: --out={folder} exists already: name another folder.",
    )


def test_a_linear_classifier_is_trained_or_taken_from_a_probe(commands, stages):
    run = stages["stage2"]
    sweep = ("--lr=0.1", "--epochs=2")
    done, folder = exported(commands, run, "trained", "--head=linear", *sweep)
    assert done.code == 0, done.err
    assert "linear classifier: top 1" in done.out
    probe = commands.folder / "exported_probe"
    shared = (f"--run={run.path}", "--max_train_images=200", *sweep)
    assert commands.run("linear", *shared, f"--probe_dir={probe}").code == 0
    done, other = exported(commands, run, "taken", "--head=linear", f"--linear_probe={probe}")
    assert done.code == 0, done.err
    assert (folder / "model.tflite").read_bytes() == (other / "model.tflite").read_bytes()
    numbers = json.loads((probe / "results.json").read_text())["metrics"]
    # The file sees 40 of the 397 images.
    agreed = json.loads((other / "export.json").read_text())["audit"]["end_to_end"]
    assert agreed["keras_top1"] == pytest.approx(numbers["linear/bssl/digits/last/top1"], abs=0.25)
    # A head of other images is no head for these.
    done, _ = exported(commands, run, "foreign", "--head=linear", f"--linear_probe={probe}", "--max_train_images=150")
    assert done.code == 2
    assert "is of training images with fingerprint" in done.err


@pytest.mark.slow
def test_features_are_exported_of_an_encoder_folder(commands, stages):
    folder = commands.folder / "exports" / "features"
    source = (f"--encoder_dir={stages['stage2'].encoder('student')}", "--dataset=digits", "--image_size=12")
    done = commands.run("export", *source, f"--out={folder}", *FEW, "--pixels=float32")
    assert done.code == 0, done.err
    record = json.loads((folder / "export.json").read_text())
    assert record["input"] == {"shape": [1, 12, 12, 3], "pixels": "float32", "range": [0, 255]}
    assert record["output"] == {"features": 32}
    assert not (folder / "classes.txt").exists()


def test_stage_1_is_refused_unless_float_is_allowed(commands, stages):
    done, folder = exported(commands, stages["stage1"], "stage1")
    assert done.code == 2
    assert "binary activations alone (stage 1)" in done.err
    assert "--allow_float" in done.err
    assert not folder.exists()
    done, folder = exported(commands, stages["stage1"], "stage1", "--allow_float")
    assert done.code == 0, done.err
    audit = json.loads((folder / "export.json").read_text())["audit"]
    assert (audit["packed_layers"], audit["binary_layers"], audit["equal_inputs"]) == (0, 0, {})
    assert audit["end_to_end"]["centred_cosine"] > 0.9


@pytest.mark.slow
def test_a_classifier_keeps_the_names_of_its_own_classes(commands, stages):
    """Images of other classes, as many, are put to it: what it says is not called by their names."""
    photos = commands.folder / "other_classes"
    generator = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 3)):
        for name in "abcdefghij":
            (photos / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, [8, 8, 3], np.uint8)
                Image.fromarray(pixels).save(photos / split / name / f"{number}.png")
    folder = commands.folder / "exports" / "other"
    source = (f"--run={stages['stage2'].path}", "--dataset=folder", f"--data_dir={photos}", "--head=classifier")
    done = commands.run("export", *source, f"--out={folder}", "--nosaved_model")
    assert done.code == 0, done.err
    assert "have other classes than the classifier" in done.out
    assert (folder / "classes.txt").read_text().split() == list("0123456789")
    agreed = json.loads((folder / "export.json").read_text())["audit"]["end_to_end"]
    assert "file_top1" not in agreed
    assert "top1_agreement" in agreed


@pytest.mark.slow
def test_the_card_of_random_weights_tells_nothing_of_the_run(commands, stages):
    done, folder = exported(commands, stages["stage2"], "random", "--random", "--float_twin")
    assert done.code == 0, done.err
    card = json.loads((folder / "model_card.json").read_text())
    assert "probes" not in card
    assert "trained by nothing: its weights are random" in (folder / "model_card.md").read_text()
    assert (folder / "float_twin.tflite").is_file()


@pytest.mark.slow
def test_a_network_that_ends_in_classes(commands):
    own = models.build("reactnet_short", stem="cifar", width=0.125, classes=10)
    save_encoder(own, commands.folder / "own_classes")
    source = (f"--encoder_dir={commands.folder / 'own_classes'}", "--dataset=digits", "--image_size=8", *FEW)
    for head in ("none", "linear"):
        done = commands.run("export", *source, f"--head={head}", f"--out={commands.folder / 'no'}")
        assert done.code == 2
        assert f"--head={head}, but the network ends in a classifier: give --head=classifier." in done.err
    folder = commands.folder / "exports" / "own"
    done = commands.run("export", *source, "--head=classifier", f"--out={folder}")
    assert done.code == 0, done.err
    record = json.loads((folder / "export.json").read_text())
    assert record["output"] == {"class_scores": 10}
    assert "class scores" in record["audit"]["equal_inputs"]["default"]["layers"]
    # Nobody knows what its classes are called.
    assert not (folder / "classes.txt").exists()


def test_without_the_extra_it_says_what_to_install(commands, stages):
    words = ["export", f"--run={stages['stage2'].path}", f"--out={commands.folder / 'without'}"]
    code = f"""
import runpy, sys
sys.modules["larq_compute_engine"] = None
sys.argv = {words}
runpy.run_module("larq_ssl.experiments.export", run_name="__main__", alter_sys=True)
"""
    done = commands.python(code)
    assert done.code == 2
    assert "pip install 'larq_ssl[export]'" in done.err.splitlines()[-1]
    assert not (commands.folder / "without").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "--out is missing"),
        (("--out=",), "--out is missing"),
        (("--out=log/00.out/new",), "--out=log/00.out/new cannot be made"),
        (("--out=new", "--linear_probe=probe"), "--linear_probe=probe has no meaning with --head=none"),
        (("--out=new", "--head=linear", "--linear_probe=probe"), "has no folder `head`"),
        (("--out=new", "--head=linear", "--augmented"), "--augmented is of a linear evaluation"),
        (("--out=new", "--raw_pixels"), "--raw_pixels is no network"),
        (("--out=new", "--head=classifier", "--random"), "--random has no classifier"),
    ],
)
def test_mistakes_are_told_in_a_sentence(commands, stages, arguments, told):
    done = commands.run("export", f"--run={stages['stage2'].path}", *arguments)
    assert (done.code, told in done.err) == (2, True), done.err
    assert "Traceback" not in done.err
    assert not (commands.folder / "new").exists()


def test_a_run_without_labels_has_no_classifier(commands, stages, tmp_path):
    encoder = stages["stage2"].encoder("student")
    copy = tmp_path / "run" / "encoders" / "student"
    copy.mkdir(parents=True)
    for file in encoder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    source = (f"--encoder_dir={copy}", "--dataset=digits")
    done = commands.run("export", *source, "--head=classifier", f"--out={tmp_path / 'new'}")
    assert done.code == 2
    assert "--head=linear trains one on frozen features" in done.err

"""Transfer to other data sets: which command measures it, with which numbers, and what becomes of its result."""

import numpy as np
import pytest
from PIL import Image

from larq_ssl.evaluation.results import read_results
from larq_ssl.experiments.run_folder import RunFolder
from tests.experiments import classifiers, saved
from tests.experiments.sweeping import Swept, assert_mistakes, sweep_all
from tests.experiments.sweeping import sweep as swept


@pytest.fixture(scope="module")
def pretrained(commands) -> RunFolder:
    return classifiers.pretrain(commands)


@pytest.fixture
def run(commands, pretrained, tmp_path):
    def run(*typed: str, ends: tuple[float, ...] = (9,), images: str = "digits") -> Swept:
        words = (f"--run={pretrained.path}", f"--out={tmp_path / 'out'}", *typed)
        return swept(commands, "transfer", *words, ends=ends, images=images)

    return run


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of images of two classes, told apart by their colour."""
    root, draws = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 6)):
        for place, name in enumerate(("red", "green")):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = draws.integers(0, 60, (10, 9, 3), np.uint8)
                pixels[..., place] += 150
                Image.fromarray(pixels).save(root / split / name / f"{number}.png")
    return root


def told(words: list[str]) -> dict[str, str]:
    return dict(word.lstrip("-").partition("=")[::2] for word in words[1:])


LINEAR = (
    ("bssl", "cifar10", "cifar10", "bssl", None),
    ("bssl", "cifar100", "cifar100", "bssl", None),
    ("bssl", "cub200", "caltech_birds2011", "bssl", None),
    ("s2bnn_linear", "cifar100", "cifar100", "s2bnn", None),
    ("msbreg", "inat2018", "i_naturalist2018", "msbreg_transfer", "84"),
)


def test_frozen_encoders_are_measured_by_the_linear_command(commands, pretrained, tmp_path):
    same = (f"--run={pretrained.path}", f"--out={tmp_path / 'out'}", "--data_dir=prepared")
    typed = [(*same, f"--protocol={protocol}", f"--dataset={dataset}") for protocol, dataset, *_ in LINEAR]
    for done, (_, dataset, tfds, preset, epochs) in zip(
        sweep_all(commands, "transfer", typed, (9,), "digits"), LINEAR, strict=True
    ):
        (words,) = done.ran
        flags = told(words)
        assert (done.code, words[0]) == (2, "linear")
        assert (flags["dataset"], flags["data_dir"], flags["preset"]) == (tfds, "prepared", preset)
        assert (flags["image_size"], flags.get("epochs"), flags["seed"]) == ("224", epochs, "0")
        assert flags["probe_dir"] == f"{tmp_path / 'out'}-linear"
        assert f"The linear evaluation on {dataset} ended with exit code 9." in done.err


def test_cached_features_and_new_views_have_folders_of_their_own(commands, pretrained):
    same = (f"--run={pretrained.path}", "--protocol=bssl", "--dataset=digits")
    more = ((), ("--with_flags=--augmented --lr=1",), ("--with_flags=--noaugmented",))
    done = sweep_all(commands, "transfer", [(*same, *typed) for typed in more], (9,))
    places = [told(one.ran[0])["probe_dir"].rpartition("/")[2] for one in done]
    cached = "transfer-bssl-digits-linear"
    assert places == [cached, "transfer-bssl-digits-augmented-linear", cached]


def test_s2bnn_fine_tunes_with_all_labels(run, tmp_path):
    done = run("--protocol=s2bnn_transfer", "--dataset=cub200", ends=(0.7,))
    assert done.code == 0
    (words,) = done.ran
    flags = told(words)
    assert words[0] == "fine_tune"
    published = {
        **{"dataset": "caltech_birds2011", "image_size": "224", "preset": "s2bnn_transfer", "lr": "0.01"},
        **{"epochs": "180", "batch_size": "128", "optimizer": "sgd", "weight_decay": "0.0001", "views": "crop_flip"},
    }
    assert {name: flags[name] for name in published} == published
    assert not {"labels", "label_fraction", "freeze_encoder", "data_dir"} & flags.keys()
    metrics = read_results(tmp_path / "out").metrics
    assert metrics["transfer/s2bnn_transfer/cub200/last/top1"] == 0.7
    assert "Warning: these images have 10 classes, and CUB-200-2011 has 200." in done.out


def test_what_tfds_has_not_is_a_folder(run, photos):
    done = run("--dataset=places205", f"--data_dir={photos}", "--image_size=8", images="")
    flags = told(done.ran[0])
    assert (flags["dataset"], flags["data_dir"], flags["preset"]) == ("folder", str(photos), "places205")
    assert "Warning: these images have 2 classes, and Places205 has 205." in done.out
    assert "Warning: at 8 px; bssl has 224." in done.out
    # And so is any of them, if it lies so.
    flags = told(run("--dataset=cifar10", f"--data_dir={photos}", images="").ran[0])
    assert (flags["dataset"], flags["data_dir"]) == ("folder", str(photos))


def test_other_data_sets_are_measured_likewise(run):
    done = run("--protocol=msbreg", "--dataset=digits", "--epochs=3")
    flags = told(done.ran[0])
    assert (flags["dataset"], flags["image_size"], flags["epochs"]) == ("digits", "8", "3")
    assert "msbreg is published for places205, inat2018; digits is measured likewise." in done.out
    assert "raw_pixels" not in flags
    assert "raw_pixels" in told(run("--dataset=digits", "--raw_pixels").ran[0])


def test_mistakes_are_told_before_anything_is_measured(commands, pretrained, tmp_path):
    of_run, digits = f"--run={pretrained.path}", "--dataset=digits"
    mistakes = (
        (
            [of_run],
            "--dataset is missing: one of cifar10, cifar100, cub200, birdsnap, places205, voc/2007, inat2018, or",
        ),
        ([of_run, "--dataset=voc/2007", f"--data_dir={tmp_path}"], "'voc/2007' is not prepared in"),
        ([of_run, "--dataset=voc_folder"], "dataset 'voc_folder' needs the folder that holds JPEGImages, Annotations"),
        ([of_run, digits, "--with_flags=--preset=moco"], "--with_flags must not give --preset"),
        (["--run=nowhere", digits], "--run=nowhere is not a finished run"),
        ([of_run, digits, "--encoder_dir=nowhere"], "Give either --run=<run folder> or --encoder_dir"),
        (
            [of_run, digits, "--protocol=s2bnn_transfer", "--raw_pixels"],
            "--raw_pixels is for frozen features: without a network there is nothing to fine-tune",
        ),
        ([of_run, "--dataset=birdsnap"], "TensorFlow Datasets has no Birdsnap; give --data_dir, a folder that holds"),
        ([of_run, "--dataset=places205"], "--dataset=places205: TensorFlow Datasets has no Places205"),
        ([of_run, "--dataset=cifar10", f"--data_dir={tmp_path}"], "'cifar10' is not prepared in"),
        (
            [of_run, digits, "--protocol=s2bnn_transfer", "--batch_size=1401"],
            "--batch_size=1401 is more than the 1400 images",
        ),
    )
    out = f"--out={tmp_path / 'sweep'}"
    assert_mistakes(commands, "transfer", [([*typed, out], message) for typed, message in mistakes])
    assert list(tmp_path.iterdir()) == []


def test_linear_evaluation_on_a_folder_end_to_end(commands, run, pretrained, photos, tmp_path):
    typed = ("--dataset=birdsnap", f"--data_dir={photos}", "--image_size=8", "--epochs=3", "--with_flags=--lr=0.1")
    weights = pretrained.encoder("student") / "weights.npz"
    before = weights.read_bytes()
    (command, *words) = run(*typed, images="").ran[0]
    done = commands.run(command, *words)
    assert done.code == 0, done.err
    done = run(*typed, ends=(0,), images="")
    assert done.code == 0, done.err
    measured, taken = (read_results(tmp_path / name) for name in ("out-linear", "out"))
    assert taken.metrics == {
        name.replace("linear/bssl/folder", "transfer/bssl/birdsnap"): value for name, value in measured.metrics.items()
    }
    assert taken.settings["linear_preset"] == "bssl"
    assert taken.settings["encoder_hash"] == pretrained.results()["encoders"]["student"]
    assert weights.read_bytes() == before
    assert "transfer/bssl/birdsnap/last/top1" in done.out
    # Again, nothing new.
    file = (tmp_path / "out" / "results.json").read_bytes()
    assert run(*typed, ends=(0,), images="").code == 0
    assert (tmp_path / "out" / "results.json").read_bytes() == file


def test_fine_tuning_on_a_folder_end_to_end(commands, run, pretrained, photos, tmp_path):
    tiny = "--with_flags=--deterministic --diagnostics_every=0 --embeddings_every=0"
    typed = ("--protocol=s2bnn_transfer", "--dataset=birdsnap", f"--data_dir={photos}", "--image_size=8", tiny)
    typed += ("--epochs=2", "--batch_size=12")
    (command, *words) = run(*typed, images="").ran[0]
    done = commands.run(command, *words)
    assert done.code == 0, done.err
    done = run(*typed, images="")
    assert (done.code, done.ran) == (0, [])
    tuned = RunFolder(tmp_path / "out" / "only")
    before, after = (saved.arrays(one.encoder("student") / "weights.npz") for one in (pretrained, tuned))
    assert [key for key in before if before[key].tobytes() == after[key].tobytes()] == []
    metrics = read_results(tmp_path / "out").metrics
    assert metrics["transfer/s2bnn_transfer/birdsnap/last/top1"] == tuned.results()["metrics"]["val_top1"]

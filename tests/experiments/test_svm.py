"""The command `svm`, from encoder and images to `results.json`."""

import json

import numpy as np
import pytest

from larq_ssl import models
from larq_ssl.models.folder import save_encoder
from tests import voc

QUICK = ("--costs=1", "--costs=0.01", "--jobs=1")
DIGITS = ("--dataset=digits", "--preset=pooled", "--image_size=8", "--max_train_images=60", *QUICK)


@pytest.fixture(scope="module")
def place(commands):
    """A folder with an encoder and images of pets."""
    folder = commands.folder / "svm"
    save_encoder(models.build("reactnet_18", None, "full", "cifar", 0.125), folder / "encoder")
    voc.pets(folder / "pets")
    return folder


def svm(commands, place, *arguments):
    return commands.run("svm", f"--encoder_dir={place}/encoder", *arguments)


def pets(place):
    return ("--dataset=voc_folder", f"--data_dir={place}/pets", "--image_size=48", *QUICK)


def results(place, name):
    return json.loads((place / "probes" / name / "results.json").read_text())


def arrays(file):
    with np.load(file) as held:
        return dict(held)


def test_digits_and_again(commands, place):
    before = {file.name: file.read_bytes() for file in (place / "encoder").iterdir()}
    done = svm(commands, place, *DIGITS)
    assert done.code == 0, done.err
    found = results(place, "svm-pooled-digits")
    names = {"map", "map_eleven_points", "top1", "not_converged"}
    names |= {f"{what}/{digit}" for what in ("ap", "cost") for digit in range(10)}
    assert set(found["metrics"]) == {f"svm/pooled/digits/full/{name}" for name in names}
    assert found["settings"]["costs"] == [1.0, 0.01]
    assert found["settings"]["folds"] == 3
    assert f"svm/pooled/digits/full/map: {found['metrics']['svm/pooled/digits/full/map']:.4f}" in done.out
    kept = arrays(place / "probes" / "svm-pooled-digits" / "svms.npz")
    assert kept["cross_validation"].shape == (10, 2)
    assert kept["names"].tolist() == [str(digit) for digit in range(10)]
    assert "measured earlier" in svm(commands, place, *DIGITS).out
    other = svm(commands, place, *DIGITS, "--costs=5")
    assert other.code == 2
    assert "other settings" in other.err
    assert {file.name: file.read_bytes() for file in (place / "encoder").iterdir()} == before


def test_digits_with_few_images(commands, place):
    done = svm(commands, place, *DIGITS, "--low_shot", "--k=1", "--k=4", "--samples=3")
    assert done.code == 0, done.err
    found = results(place, "svm_low_shot-pooled-digits")
    wanted = {f"svm_low_shot/pooled/digits/{k}/{name}" for k in (1, 4) for name in ("map", "map_std", "cost")}
    assert set(found["metrics"]) == wanted
    assert (found["settings"]["ks"], found["settings"]["samples"]) == ([1, 4], 3)
    drawn = arrays(place / "probes" / "svm_low_shot-pooled-digits" / "samples.npz")
    assert len(drawn) == 2 * 2 * 3
    assert drawn["k4/sample2/negatives"].shape == (10, 36)
    maps = arrays(place / "probes" / "svm_low_shot-pooled-digits" / "maps.npz")["maps"]
    assert maps.shape == (3, 2, 2)
    assert maps[:, 1].mean(axis=0).max() == pytest.approx(found["metrics"]["svm_low_shot/pooled/digits/4/map"])


@pytest.mark.slow
def test_a_folder_of_voc_and_the_untrained_encoder(commands, place):
    for flags, tag in (((), ""), (("--random",), "-random")):
        done = svm(commands, place, *pets(place), *flags)
        assert done.code == 0, done.err
        found = results(place, f"svm-voc07-voc_folder{tag}")
        names = {"map", "map_eleven_points", "not_converged", "ap/cat", "ap/dog", "cost/cat", "cost/dog"}
        assert set(found["metrics"]) == {f"svm/voc07/voc_folder/full/{name}" for name in names}
        kept = arrays(place / "probes" / f"svm-voc07-voc_folder{tag}" / "svms.npz")
        # One window of 6x6 of the last map, which is as wide as the features.
        assert kept["coefficients"].shape == (2, 64)
    done = svm(commands, place, *pets(place), "--low_shot", "--samples=2")
    assert done.code == 0, done.err
    assert "Without the class 'dog' there are only" in done.out
    metrics = results(place, "svm_low_shot-voc07-voc_folder")["metrics"]
    assert {name.split("/")[3] for name in metrics} == {"1", "2", "4", "8"}


def spoiled(place, name, *objects):
    """Pets of which one image shows something else; returns the flags."""
    root = place / name
    if not root.exists():
        voc.pets(root)
        for image, content in objects:
            (root / "Annotations" / f"{image}.xml").write_text(voc.annotation(content))
    return (*pets(place), f"--data_dir={root}")


MISTAKES = {
    "a window that does not fit": (("--image_size=40",), "the size must be at least 41"),
    "few images of no few": (("--k=3",), "--k and --samples go with --low_shot alone"),
    "more than there are": (("--low_shot", "--k=500"), "asks for 500 images of the class 'cat', of which there are"),
    "no folder": (("--data_dir={}/nowhere",), "it must be a folder in VOC format, but has no JPEGImages"),
    "a cost twice": (("--costs=1",), "`costs` must be different numbers above 0"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_told_in_one_sentence(case, commands, place):
    arguments, sentence = MISTAKES[case]
    done = svm(commands, place, *pets(place), *(argument.replace("{}", str(place)) for argument in arguments))
    assert done.code == 2, done
    assert sentence in done.err.splitlines()[-1]
    assert "Traceback" not in done.err


def test_a_class_without_images_is_told(commands, place):
    images = [(f"{number:06}", [("cat", False)]) for number in range(18, 27)]
    done = svm(commands, place, *spoiled(place, "no_dog", *images))
    assert done.code == 2
    assert "The class 'dog' is in none of the 9 test images" in done.err
    images = [(f"{number:06}", [("cat", False)] * (number % 2)) for number in range(18)]
    done = svm(commands, place, *spoiled(place, "one_dog", *images[1:], ("000000", [("dog", False)])))
    assert done.code == 2
    assert "The class 'dog' is in 1 of the 18 training images" in done.err


def test_other_probes_say_what_measures_them(commands, place):
    done = commands.run("knn", f"--encoder_dir={place}/encoder", *pets(place)[:3])
    assert done.code == 2
    assert "several labels per image, where one is needed" in done.err

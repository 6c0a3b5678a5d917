"""What a command takes over from an earlier run: only what nobody typed."""

import pytest
from absl import flags as absl_flags

from larq_ssl import models
from larq_ssl.experiments import inherited
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.models.folder import save_encoder


@pytest.fixture
def flags(monkeypatch):
    """Flags of a command, of which none is typed yet."""
    values = absl_flags.FlagValues()
    strings = ("encoder", "stem", "preprocessing", "binarization", "dataset", "data_dir", "classes_list")
    defaults = {"dataset": "digits", "stem": "imagenet", "preprocessing": "imagenet"}
    for name in strings:
        absl_flags.DEFINE_string(name, defaults.get(name), "", flag_values=values)
    for name, default in (("width", 1.0), ("val_fraction", 0.0)):
        absl_flags.DEFINE_float(name, default, "", flag_values=values)
    for name, default in (("image_size", 224), ("max_train_images", None)):
        absl_flags.DEFINE_integer(name, default, "", flag_values=values)
    values.mark_as_parsed()
    monkeypatch.setattr(inherited, "FLAGS", values)
    return values


@pytest.fixture
def run(tmp_path) -> RunFolder:
    found = RunFolder(tmp_path / "run")
    found.path.mkdir()
    lines = ("dataset=folder", "data_dir=photos", "val_fraction=0.2", "max_train_images=70", "image_size=32", "lr=3")
    found.flags_file.write_text("".join(f"--{line}\n" for line in lines))
    return found


def test_images_are_those_of_the_run(flags, run):
    inherited.images(run)
    assert (flags.dataset, flags.data_dir, flags.val_fraction) == ("folder", "photos", 0.2)
    assert (flags.max_train_images, flags.image_size, flags.classes_list) == (70, 32, None)


def test_other_images_lie_elsewhere(flags, run):
    flags(["command", "--dataset=cifar10", "--image_size=24"])
    inherited.images(run)
    assert (flags.dataset, flags.data_dir, flags.val_fraction) == ("cifar10", None, 0.0)
    assert (flags.max_train_images, flags.image_size) == (None, 24)


def test_what_is_typed_wins(flags, run):
    flags(["command", "--data_dir=elsewhere", "--max_train_images=30"])
    inherited.images(run)
    assert (flags.dataset, flags.data_dir, flags.max_train_images, flags.val_fraction) == (
        "folder",
        "elsewhere",
        30,
        0.2,
    )


def test_an_imported_network_has_no_images(flags, tmp_path):
    (tmp_path / "import.json").write_text("{}")
    inherited.images(RunFolder(tmp_path))
    assert (flags.dataset, flags.image_size) == ("digits", 224)


def test_the_network_is_that_of_the_folder(flags, tmp_path):
    save_encoder(models.build("reactnet_18", None, "activations", "cifar", 0.125, "unit"), tmp_path / "encoder")
    inherited.network(tmp_path / "encoder")
    assert (flags.encoder, flags.width, flags.stem, flags.preprocessing) == ("reactnet_18", 0.125, "cifar", "unit")
    assert flags.binarization is None
    inherited.same_network(tmp_path / "encoder")
    assert flags.binarization == "activations"
    flags(["command", "--stem=imagenet"])
    with pytest.raises(ValueError, match="--stem=imagenet contradicts the network in .*, which has cifar"):
        inherited.same_network(tmp_path / "encoder")


@pytest.mark.parametrize(
    ("dataset", "typed", "recipe"),
    [
        ("digits", ["--run={}"], "digits/fine_tune"),
        ("cifar10", ["--run={}"], None),
        ("cifar10", ["--run", "{}", "--dataset=digits"], "digits/fine_tune"),
        ("digits", ["--run={}/encoders/student"], "digits/fine_tune"),
        ("digits", ["--run=nowhere"], None),
        ("digits", [], "digits/fine_tune"),
    ],
)
def test_the_recipe_of_the_digits_is_for_runs_of_the_digits(dataset, typed, recipe, tmp_path):
    (tmp_path / "flags.txt").write_text(f"--dataset={dataset}\n")
    typed = [text.replace("{}", str(tmp_path)) for text in typed]
    assert inherited.digits_recipe("fine_tune", "run", ["command", *typed]) == recipe

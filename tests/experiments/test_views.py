"""The command that shows what a view policy does: out of the box, on a folder, with other crops."""

import json

import numpy as np
import pytest
from PIL import Image

from larq_ssl.data import pixel_scale, views


def said(commands, *arguments):
    done = commands.run("views", *arguments)
    assert (done.code, done.err) == (0, ""), done.err
    return done.out.splitlines()


def contents(folder):
    return {path.name for path in folder.iterdir()}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Two that can be decoded, one that cannot."""
    folder = tmp_path_factory.mktemp("photographs")
    (folder / "train").mkdir()
    rng = np.random.default_rng(0)
    for number, shape in enumerate(((90, 120, 3), (120, 90, 3))):
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(folder / "train" / f"{number}.png")
    (folder / "train" / "2.png").write_bytes(b"not a picture")
    return folder


def test_digits_out_of_the_box(commands):
    lines = said(commands, "--policy=digits_multi_crop")
    folder = commands.folder / "runs" / "views" / "digits_multi_crop-digits"
    assert contents(folder) == {"sheet.png", "pixel_scale.png", "views.json"}
    numbers = json.loads((folder / "views.json").read_text())
    policy = views.policy("digits_multi_crop", 32)
    ids, sides = np.arange(1400), np.full(1400, 8)
    expected = pixel_scale.statistics(pixel_scale.ratios(policy, ids, sides, sides))
    found = numbers["pixel_scale"]
    assert abs(found["mean"] - expected["mean"]) < 4 * expected["standard_error"]
    assert 0 < found["standard_error"] < expected["standard_error"]
    assert len(numbers["policy"]["local_views"]) == 4
    assert numbers["policy"]["local_views"][0]["size"] == 23
    assert lines[0] == (
        "digits_multi_crop: 2 global of 32 px from 0.5 to 1 of the image's area, "
        "4 local of 23 px from 0.2 to 0.5 of the image's area."
    )
    assert lines[1].startswith(f"PS_g/PS_l: mean {found['mean']:.3f} with a standard error of ")
    assert lines[2] == (
        "Global-global pairs are 0.200 of the loss if all pairs count alike; --alpha sets another share."
    )
    assert lines[-1] == "runs/views/digits_multi_crop-digits: pixel_scale.png, sheet.png, views.json."
    # A row per image: the original of 1.3 inches, two views and four smaller ones.
    with Image.open(folder / "sheet.png") as sheet:
        assert sheet.width > 1.3 * sheet.height

    again = commands.run("views", "--policy=digits_multi_crop")
    assert again.code == 2
    assert again.err == (
        "error: --out=runs/views/digits_multi_crop-digits exists already; choose another folder, "
        "or move that one away.\n"
    )


def test_a_folder_with_other_crops(commands, photographs, tmp_path):
    crops = ("--crop_scale=0.2", "--local_crop_scale=0.4", "--local_size=16", "--local_views=3", "--alpha=0.4")
    where = ("--dataset=folder", f"--data_dir={photographs}", f"--out={tmp_path}/out", "--seed=5")
    done = commands.run("views", "--policy=sslight", "--image_size=24", "--images=3", *where, *crops)
    assert done.code == 0, done.err
    assert "2.png" in done.err
    assert "Traceback" not in done.err
    numbers = json.loads((tmp_path / "out" / "views.json").read_text())
    changed = numbers["policy"]
    assert [view["crop_scale"] for view in changed["global_views"]] == [[0.2, 1.0]] * 2
    assert [(view["crop_scale"], view["size"]) for view in changed["local_views"]] == [([0.05, 0.4], 16)] * 3
    policy = views.policy("sslight", 24, smallest_global=0.2, largest_local=0.4, local_size=16, local_views=3)
    ids, epochs = np.tile([0, 1], 10_000), np.repeat(np.arange(10_000), 2)
    heights, widths = np.where(ids == 0, 90, 120), np.where(ids == 0, 120, 90)
    ratios = pixel_scale.ratios(policy, ids, heights, widths, 5, epochs)
    assert numbers["pixel_scale"] == {
        name: pytest.approx(value)
        for name, value in {**pixel_scale.statistics(ratios), "uniform_mean": pixel_scale.uniform_mean(policy)}.items()
    }
    assert "are 0.250 of the loss if all pairs count alike; with --alpha=0.4 they are 0.4 of it." in done.out


@pytest.mark.parametrize("arguments", [("--policy=bssl",), ("--policy=sslight", "--local_views=0")])
def test_global_views_alone_have_only_a_sheet(arguments, commands, tmp_path):
    lines = said(commands, *arguments, f"--out={tmp_path}/out", "--images=2")
    assert contents(tmp_path / "out") == {"sheet.png", "views.json"}
    assert len(lines) == 2
    assert "pixel_scale" not in json.loads((tmp_path / "out" / "views.json").read_text())


@pytest.mark.parametrize("arguments", [("--policy=infomin_jigsaw",), ("--policy=digits", "--jigsaw")])
def test_patches_have_a_sheet_of_their_own(arguments, commands, tmp_path):
    lines = said(commands, *arguments, f"--out={tmp_path}/out", "--images=2", "--image_size=56")
    assert contents(tmp_path / "out") == {"sheet.png", "patches.png", "views.json"}
    assert lines[0].endswith(" of the image's area, 9 patches of 16 px from 0.6 to 1 of the image's area.")
    policy = json.loads((tmp_path / "out" / "views.json").read_text())["policy"]
    infomin = arguments[0] == "--policy=infomin_jigsaw"
    assert policy["jigsaw"] == {"cell": 21, "patch": 16, "crop_scale": [0.6, 1.0], "flip": 0.5 if infomin else 0.0}
    rand_augment = {"ops": 2, "magnitude": 10.0, "deviation": 0.5, "probability": 0.5}
    assert [view["rand_augment"] for view in policy["global_views"]] == [rand_augment if infomin else None] * 2
    # Two rows of nine patches.
    with Image.open(tmp_path / "out" / "patches.png") as sheet:
        assert 3 < sheet.width / sheet.height < 4.5


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ((), 1, "--policy"),
        (("--policy=blurry",), 1, "--policy=blurry"),
        (("--policy=bssl", "--local_size=16"), 2, "--local_size=16 has no meaning with the views 'bssl'"),
        (("--policy=sslight", "--local_size=64"), 2, "local_size is 64: it must lie in [8, 32]"),
        (("--policy=sslight", "--local_crop_scale=0.01"), 2, "--local_crop_scale must be at least 0.05"),
        (("--policy=sslight", "--alpha=1.5"), 1, "--alpha=1.5"),
        (("--policy=sslight", "--dataset=folder"), 2, "data_dir"),
        (("--policy=sslight", "--dataset=folder", "--data_dir={}/broken"), 2, "no image can be decoded"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(arguments, code, sentence, commands, tmp_path):
    (tmp_path / "broken" / "train").mkdir(parents=True)
    (tmp_path / "broken" / "train" / "0.png").write_bytes(b"not a picture")
    arguments = [argument.replace("{}", str(tmp_path)) for argument in arguments]
    done = commands.run("views", *arguments, f"--out={tmp_path}/out")
    assert done.code == code, done
    assert sentence in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "out").exists()

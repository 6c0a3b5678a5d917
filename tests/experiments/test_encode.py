"""The command that writes features of any images."""

import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from larq_ssl import models
from larq_ssl.evaluation.codes import code_centre, codes
from larq_ssl.inference import load_encoder
from larq_ssl.models.folder import encoder_hash, save_encoder


@pytest.fixture(scope="module")
def photos(commands):
    """An encoder, eight photographs in two folders, and a file that is none."""
    folder = commands.folder / "encoded"
    save_encoder(models.build("reactnet_short", 16, "full", "cifar", 0.125), folder / "encoder")
    rng = np.random.default_rng(0)
    for number in range(8):
        place = folder / "photos" / ("a" if number < 3 else "b")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (80, 90, 3), np.uint8)).save(place / f"{number}.png")
    (folder / "photos" / "b" / "broken.png").write_bytes(b"no picture")
    return folder


def encode(commands, photos, *arguments):
    return commands.run("encode", f"--encoder_dir={photos}/encoder", *arguments)


def test_features_and_codes_of_a_pattern(commands, photos):
    pattern, out = f"{photos}/photos/**/*.png", photos / "all.npz"
    refused = encode(commands, photos, f"--images={pattern}", f"--out={out}")
    assert refused.code == 2
    assert "1 of 9 images cannot be decoded, more than max_bad_images = 0.001" in refused.err
    assert "broken.png" in refused.err
    assert not out.exists()
    done = encode(commands, photos, f"--images={pattern}", f"--out={out}", "--max_bad_images=0.2", "--codes")
    assert done.code == 0, done.err
    assert f"Left out, as it could not be read: {photos}/photos/b/broken.png" in done.out
    held = np.load(out)
    names = [f"{photos}/photos/{'a' if number < 3 else 'b'}/{number}.png" for number in range(8)]
    assert held["paths"].tolist() == names
    assert held["left_out"].tolist() == [f"{photos}/photos/b/broken.png"]
    using = load_encoder(photos / "encoder")
    np.testing.assert_allclose(held["features"], using.encode(names), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(held["code_centre"], code_centre(held["features"]))
    np.testing.assert_array_equal(held["codes"], codes(held["features"], held["code_centre"]))
    settings = json.loads(str(held["settings"]))
    assert (settings["encoder_hash"], settings["image_size"]) == (encoder_hash(using.encoder), 16)


def test_words_are_images_too_and_codes_take_the_centre_of_an_earlier_file(commands, photos):
    first, second = photos / "first.npz", photos / "second.npz"
    done = encode(commands, photos, f"--images={photos}/photos/a", "--codes", f"--out={first}")
    assert done.code == 0, done.err
    words = [f"{photos}/photos/b/{number}.png" for number in (5, 4, 5)]
    arguments = ("--images", *words, f"--out={second}", "--codes", f"--centre_of={first}")
    done = encode(commands, photos, *arguments)
    assert done.code == 0, done.err
    held = np.load(second)
    assert held["paths"].tolist() == words[:2]
    assert len(held["left_out"]) == 0
    np.testing.assert_array_equal(held["code_centre"], np.load(first)["code_centre"])
    np.testing.assert_array_equal(held["codes"], codes(held["features"], held["code_centre"]))
    before = second.read_bytes()
    again = encode(commands, photos, *arguments)
    assert again.code == 2
    assert "second.npz exists already; choose another one, or give --overwrite" in again.err
    assert second.read_bytes() == before
    other = encode(commands, photos, *arguments, "--overwrite", "--image_size=8")
    assert other.code == 2
    assert "first.npz is of images of 16 pixels, and not of 8" in other.err
    assert second.read_bytes() == before
    assert encode(commands, photos, *arguments[:-1], "--overwrite", "--image_size=8").code == 0
    assert json.loads(str(np.load(second)["settings"]))["image_size"] == 8
    tf.keras.utils.set_random_seed(1)
    save_encoder(models.build("reactnet_short", 16, "full", "cifar", 0.125), photos / "another")
    other = commands.run("encode", f"--encoder_dir={photos}/another", *arguments, "--overwrite")
    assert other.code == 2
    assert "first.npz is of another encoder" in other.err
    held = dict(np.load(first))
    for name, change, message in (
        ("settings", np.array(""), "has no readable `settings`"),
        ("settings", np.array("{"), "has no readable `settings`"),
        ("settings", np.array("3"), "has no readable `settings`, but 3"),
        ("code_centre", held["code_centre"][1:], "is damaged: `code_centre` must be"),
    ):
        np.savez(photos / "odd.npz", **(held | {name: change}))
        other = encode(commands, photos, *arguments[:-1], f"--centre_of={photos}/odd.npz", "--overwrite")
        assert (other.code, "Traceback" in other.err) == (2, False)
        assert message in other.err
    np.savez(photos / "odd.npz", codes=held["codes"], code_centre=held["code_centre"])
    other = encode(commands, photos, *arguments[:-1], f"--centre_of={photos}/odd.npz", "--overwrite")
    assert (other.code, "has no readable `settings`" in other.err) == (2, True)


def test_the_encoder_of_a_run_is_chosen_and_other_files_are_counted(commands, photos):
    run, out = photos / "run", photos / "ema.npz"
    for name in ("student", "ema"):
        save_encoder(models.build("reactnet_short", None, "full", "cifar", 0.125), run / "encoders" / name)
    (run / "flags.txt").write_text("--image_size=16\n")
    (run / "results.json").write_text("{}")
    (photos / "more").mkdir()
    Image.new("RGB", (40, 30), "red").save(photos / "more" / "a.png")
    (photos / "more" / "a.webp").write_bytes(b"")
    done = commands.run("encode", f"--run={run}", "--which=ema", f"--images={photos}/more", f"--out={out}")
    assert done.code == 0, done.err
    assert "1 other files of these folders are passed over: images end in .jpg, .jpeg, .png, .bmp, .gif." in done.out
    settings = json.loads(str(np.load(out)["settings"]))
    assert settings["encoder_hash"] == encoder_hash(models.load_encoder(run / "encoders" / "ema"))
    assert settings["encoder_hash"] != encoder_hash(models.load_encoder(run / "encoders" / "student"))


def test_what_lies_in_the_place_of_the_file_is_seen_first(commands, photos):
    (photos / "dangling.npz").symlink_to(photos / "nowhere.npz")
    (photos / "folder.npz").mkdir()
    for name, message in (("dangling", "exists already"), ("folder", "is a folder; choose the name of a file")):
        done = encode(commands, photos, "--images=nowhere", f"--out={photos}/{name}.npz")
        assert done.code == 2
        assert message in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--out=x.npz",), "--images is missing"),
        (("--images=nowhere/*.jpg", "--out=x.npz"), "fits no file as a pattern"),
        (("--images=.", "--out=x.npy"), "--out must be a file that ends in .npz, got x.npy"),
        (("--images={}/photos/a", "--out=x.npz", "--centre_of=y.npz"), "has no meaning without --codes"),
        (("--images={}/photos/a", "--out=x.npz", "--codes", "--centre_of={}/encoder/weights.npz"), "has no codes"),
        (
            ("--images={}/photos/a", "--out=x.npz", "--codes", "--centre_of={}/encoder/encoder.json"),
            "is no file of features",
        ),
        (("--images={}/photos/a", "--out=x.npz", "--run=y"), "either --run=<run folder> or --encoder_dir"),
        (
            ("--images={}/photos/a", "--out=x.npz", "--which=student"),
            "--which=student has no meaning with --encoder_dir",
        ),
        (("--images={}/photos/b/broken.png", "--out=x.npz", "--max_bad_images=1"), "None of the 1 files could be read"),
    ],
)
def test_mistakes_end_with_a_sentence(commands, photos, arguments, message):
    done = encode(commands, photos, *(argument.format(photos) for argument in arguments))
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err
    assert not (commands.folder / "x.npz").exists()

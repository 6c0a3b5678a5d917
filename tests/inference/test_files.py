"""Files of images: what paths, folders and patterns stand for, and files that are not as they should be."""

import os

import numpy as np
import pytest
from PIL import Image

from larq_ssl.inference.files import files, passed_over, printable
from larq_ssl.inference.images import batches, image_dataset


@pytest.fixture
def nested(tmp_path):
    """Folders whose names sort otherwise as texts than folder by folder, and files that are no images."""
    for name in ("b.png", "a/z.png", "a-b/y.PNG", "a/.hidden.png", ".below/x.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (20, 20), "red").save(tmp_path / name)
    for name in ("a/x.webp", "a-b/notes.txt", ".below/notes.txt", ".notes"):
        (tmp_path / name).write_text("no image")
    return tmp_path


def test_folders_and_patterns_come_in_one_order(nested):
    of_folder = [path.relative_to(nested).as_posix() for path in files(nested)]
    assert of_folder == ["a/z.png", "a-b/y.PNG", "b.png"]
    assert files(f"{nested}/**/*.[pP][nN][gG]") == files(nested)


def test_files_with_other_endings_are_counted(nested):
    assert passed_over(nested) == 2
    assert passed_over(nested / "a") == 1
    (nested / "a" / "z.png").unlink()
    with pytest.raises(ValueError, match=r"holds no images \(\.jpg, \.jpeg, \.png, \.bmp, \.gif\)"):
        files(nested / "a")


def test_a_link_to_nowhere_is_an_image_that_cannot_be_read(nested, caplog):
    (nested / "lost.png").symlink_to(nested / "nowhere.png")
    for given in (nested, f"{nested}/**/*.[pP]*", [*files(nested / "a"), nested / "lost.png"]):
        dataset = image_dataset(given)
        with pytest.raises(ValueError, match=rf"^1 of {dataset.size} images cannot be decoded.*lost\.png"):
            list(batches(dataset, 8, 4))
        ((numbers, _),) = batches(dataset, 8, 4, max_bad_images=0.5)
        assert numbers.tolist() == list(range(dataset.size - 1))
    assert "lost.png" in caplog.text


def test_names_that_are_not_utf_8(nested):
    name = os.fsencode(nested) + b"/\xff.png"
    Image.new("RGB", (20, 20), "blue").save(nested / "a" / "blue.png")
    os.rename(nested / "a" / "blue.png", name)
    dataset = image_dataset(nested)
    ((_, seen),) = batches(dataset, 8, 4)
    np.testing.assert_array_equal(seen[-1], np.broadcast_to([0, 0, 255], (8, 8, 3)))
    assert printable(os.fsdecode(name)) == f"{nested}/\\xff.png"
    with open(name, "wb") as broken:
        broken.write(b"none")
    with pytest.raises(ValueError, match=r"1 of 4 images cannot be decoded.*\\xff\.png"):
        list(batches(dataset, 8, 4))


def test_fingerprints_tell_files_and_pixels_apart(nested):
    pixels = np.zeros((2, 8, 8, 3), np.uint8)
    other = pixels.copy()
    other[1, 3, 3, 1] = 1
    prints = [image_dataset(given).fingerprint for given in (pixels, other, list(pixels), list(other), nested)]
    assert len(set(prints)) == 5
    assert [image_dataset(given).fingerprint for given in (pixels, other, list(pixels))] == prints[:3]
    Image.new("RGB", (21, 20), "green").save(nested / "b.png")
    assert image_dataset(nested).fingerprint != prints[4]

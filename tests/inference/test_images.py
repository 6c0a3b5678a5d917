"""Images of every kind come as the same batches."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from larq_ssl.data.datasets import load_dataset
from larq_ssl.data.reader import evaluation_image
from larq_ssl.inference.images import batches, count, files, image_dataset

SIZE = 16


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (5, 90, 70, 3), np.uint8)


@pytest.fixture(scope="module")
def folder(pixels, tmp_path_factory):
    place = tmp_path_factory.mktemp("photos")
    (place / "below").mkdir()
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(place / ("below" if number > 2 else "") / f"{number}.png")
    (place / "notes.txt").write_text("no image")
    return place


def collected(images, batch_size=2):
    parts = list(batches(images, SIZE, batch_size))
    np.testing.assert_array_equal(np.concatenate([numbers for numbers, _ in parts]), np.arange(5))
    assert {len(numbers) for numbers, _ in parts[:-1]} == {batch_size}
    return np.concatenate([seen.numpy() for _, seen in parts])


KINDS = {
    "array": lambda pixels, folder: pixels,
    "list of arrays": lambda pixels, folder: list(pixels),
    "list of pictures": lambda pixels, folder: [Image.fromarray(image) for image in pixels],
    "list of files": lambda pixels, folder: [*sorted(folder.glob("*.png")), *sorted(folder.glob("below/*.png"))],
    "array of names": lambda pixels, folder: np.array(
        list(map(str, sorted(folder.rglob("*.png"), key=lambda f: f.name)))
    ),
    "pattern and folder": lambda pixels, folder: [f"{folder}/*.png", folder / "below"],
    "images of tf.data": lambda pixels, folder: tf.data.Dataset.from_tensor_slices(pixels),
    "batches of tf.data": lambda pixels, folder: tf.data.Dataset.from_tensor_slices(pixels).batch(3),
    "labelled in tf.data": lambda pixels, folder: tf.data.Dataset.from_tensor_slices((pixels, np.arange(5))),
    "named in tf.data": lambda pixels, folder: tf.data.Dataset.from_tensor_slices(
        {"image": pixels, "id": np.arange(5)}
    ),
    "data set": lambda pixels, folder: image_dataset(pixels),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_seen_as_probes_see_it(kind, pixels, folder):
    expected = [evaluation_image(Image.fromarray(image), SIZE) for image in pixels]
    images = KINDS[kind](pixels, folder)
    np.testing.assert_array_equal(collected(images), expected)
    assert count(images) == (None if kind == "batches of tf.data" else 5)


def test_a_pattern_finds_what_lies_below_in_the_order_of_names(folder):
    names = [path.relative_to(folder).as_posix() for path in files(f"{folder}/**/*.png")]
    assert names == ["0.png", "1.png", "2.png", "below/3.png", "below/4.png"]
    assert files(folder) == files(f"{folder}/**/*.png")
    assert files(folder / "notes.txt") == [folder / "notes.txt"]


def test_images_of_several_sizes_and_grey_ones():
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (80, 100), np.uint8)
    mixed = [grey, grey[..., None], np.repeat(grey[..., None], 3, axis=2), rng.integers(0, 256, (20, 30, 3), np.uint8)]
    (_, seen), (_, last) = batches(mixed, SIZE, 3)
    for image in seen.numpy():
        np.testing.assert_array_equal(image, seen[2])
    np.testing.assert_array_equal(last[0], evaluation_image(Image.fromarray(mixed[3]), SIZE))
    ((_, alone),) = batches(np.stack(mixed[:2][1:]), SIZE, 3)
    np.testing.assert_array_equal(alone[0], seen[0])


def test_a_data_set_keeps_its_own_order():
    digits = load_dataset("digits", "val").subset(np.array([7, 3]), "two")
    ((numbers, seen),) = batches(digits, 8, 4)
    assert numbers.tolist() == [0, 1]
    np.testing.assert_array_equal(seen, digits.images)


def test_files_that_are_no_images_are_named_or_left_out(folder, caplog):
    named = [folder / "0.png", folder / "notes.txt", folder / "1.png"]
    with pytest.raises(ValueError, match=r"^1 of 3 images cannot be decoded.*notes\.txt"):
        list(batches(named, SIZE, 2))
    ((numbers, seen),) = batches(named, SIZE, 2, max_bad_images=0.5)
    assert numbers.tolist() == [0, 2]
    assert len(seen) == 2
    assert "notes.txt" in caplog.text


class Column:
    """A column of a table, as far as it matters here: it can be an array, and its rows have names of their own."""

    def __init__(self, values):
        self.values = np.array(values, object)

    def __array__(self, dtype=None, copy=None):
        return self.values.astype(dtype or object)


def opened(path):
    return Image.open(path)


KINDS_OF_FILES = {
    "turned.jpg": lambda rgb, grey: (Image.fromarray(rgb), {"exif": turned(), "quality": 95}),
    "transparent.png": lambda rgb, grey: (Image.fromarray(np.dstack([rgb, grey])), {}),
    "transparent grey.png": lambda rgb, grey: (Image.fromarray(np.dstack([grey, 255 - grey]), "LA"), {}),
    "deep.png": lambda rgb, grey: (Image.fromarray(grey.astype(np.uint16) * 200 + 7), {}),
    "palette.gif": lambda rgb, grey: (Image.fromarray(rgb).quantize(16), {"transparency": 3}),
    "plain.jpg": lambda rgb, grey: (Image.fromarray(rgb), {}),
}


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@pytest.mark.parametrize("name", KINDS_OF_FILES)
def test_an_opened_picture_is_seen_as_its_file(name, tmp_path):
    rng = np.random.default_rng(0)
    image, options = KINDS_OF_FILES[name](*(rng.integers(0, 256, (90, 70, 3)[:rank], np.uint8) for rank in (3, 2)))
    image.save(tmp_path / name, **options)
    ((_, expected),) = batches(tmp_path / name, SIZE, 2)
    ((_, seen),) = batches([opened(tmp_path / name)], SIZE, 2)
    np.testing.assert_array_equal(seen, expected)
    naive = evaluation_image(opened(tmp_path / name).convert("RGB"), SIZE)
    assert (naive != expected[0].numpy()).any() == (name != "plain.jpg")


def test_an_opened_picture_that_ends_too_early_is_named(folder, tmp_path):
    (tmp_path / "cut.png").write_bytes((folder / "0.png").read_bytes()[:2000])
    with pytest.raises(ValueError, match="`images`: number 1 of the list cannot be decoded: OSError"):
        image_dataset([opened(folder / "0.png"), opened(tmp_path / "cut.png")])


def test_columns_of_tables_and_tensors(pixels, folder):
    names, expected = [str(path) for path in files(f"{folder}/**/*.png")], collected(pixels)
    for images in (Column(names), tf.constant(pixels)):
        np.testing.assert_array_equal(collected(images), expected)


def test_an_image_of_a_stream_whose_shape_shows_late(pixels):
    stream = tf.data.Dataset.from_generator(
        lambda: [np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 2), np.uint8)],
        output_signature=tf.TensorSpec([None, None, None], tf.uint8),
    )
    with pytest.raises(ValueError, match=r"^`images` must be .* got one that is uint8 \[8, 8, 2\]"):
        list(batches(stream, SIZE, 2))


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, True])
def test_batch_sizes_are_checked(batch_size, pixels):
    with pytest.raises(ValueError, match=f"`batch_size` must be a whole number of at least 1, got {batch_size}"):
        list(batches(pixels, SIZE, batch_size))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 8, 8, 3)), r"`images` must be images uint8 .* got an array float64 \[2, 8, 8, 3\]"),
        (np.zeros((8, 8, 3), np.uint8), r"got an array uint8 \[8, 8, 3\]"),
        (np.zeros((0, 8, 8, 3), np.uint8), r"got an array uint8 \[0, 8, 8, 3\]"),
        ([np.zeros((8, 8, 4), np.uint8)], r"got one that is uint8 \[8, 8, 4\]"),
        ([np.zeros((8, 8, 3))], r"got one that is float64 \[8, 8, 3\]"),
        ([], "got an empty list"),
        ([1, 2], r"got \[1, 2\]"),
        (3, "got 3"),
        ("nowhere/*.jpg", r"'nowhere/\*\.jpg' is neither a file nor a folder, and fits no file as a pattern"),
        (tf.data.Dataset.range(3), r"of tf.data must be uint8 .* got TensorSpec\(shape=\(\), dtype=tf.int64"),
        (tf.data.Dataset.from_tensors({"id": 1}), "called 'image' in a dict; got"),
    ],
)
def test_what_is_no_image_is_refused(images, message):
    with pytest.raises(ValueError, match=message):
        list(batches(images, SIZE, 2))


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no images"):
        image_dataset(tmp_path)

"""Images with several labels each: folders in VOC format, and VOC itself as TensorFlow Datasets prepares it."""

import numpy as np
import pytest
from PIL import Image

from larq_ssl.data import datasets, pipeline, reader
from larq_ssl.data.decode import decode
from larq_ssl.data.multi_label import MultiLabelDataset, output_count, presence_of
from tests import golden, voc


@pytest.fixture
def folder(tmp_path):
    return voc.pets(tmp_path / "pets")


def load(folder, split="train", **arguments):
    return datasets.load_dataset("voc_folder", split, data_dir=str(folder), **arguments)


def test_a_folder_in_the_order_of_its_names(folder):
    train, test = load(folder), load(folder, "val")
    assert (train.size, test.size, train.object_names, test.object_names) == (18, 9, ("cat", "dog"), ("cat", "dog"))
    # Cat, dog, both, and so on, with three exceptions: a difficult cat, an empty image, a difficult dog.
    kinds = np.array([[1, 0], [0, 1], [1, 1]], np.int8)
    expected = np.tile(kinds, (9, 1))
    expected[3], expected[7], expected[20] = [-1, 1], [0, 0], [1, -1]
    np.testing.assert_array_equal(train.presence, expected[:18])
    np.testing.assert_array_equal(test.presence, expected[18:])
    assert train.presence.dtype == np.int8
    assert [train.file_name(i) for i in (0, 17)] == ["000000.jpg", "000017.jpg"]
    data, label = train.encoded(4)
    assert label == -1
    assert decode(data).size == (48, 33)


def test_a_class_of_difficult_objects_alone_is_one_of_the_classes(folder):
    (folder / "Annotations" / "000004.xml").write_text(voc.annotation([("cow", True), ("dog", False)]))
    train, test = load(folder), load(folder, "val")
    assert train.object_names == test.object_names == ("cat", "cow", "dog")
    assert train.presence[4].tolist() == [0, -1, 1]
    assert not np.delete(train.presence[:, 1], 4).any()
    assert not test.presence[:, 1].any()


def test_it_is_without_labels_for_what_needs_one_per_image(folder):
    train = load(folder)
    assert train.classes is None
    assert train.labels().tolist() == [-1] * 18
    with pytest.raises(ValueError, match="several labels per image.*measured by svm, linear and transfer"):
        train.class_count()
    (batch,) = pipeline.image_batches(train, 16, 32)
    assert batch["id"].numpy().tolist() == list(range(18))


def test_parts_keep_what_is_in_their_images(folder):
    train = load(folder)
    part = train.subset(np.array([7, 3, 2]), "some")
    assert isinstance(part, MultiLabelDataset)
    assert part.presence.tolist() == [[0, 0], [-1, 1], [1, 1]]
    assert [part.file_name(i) for i in range(3)] == ["000007.jpg", "000003.jpg", "000002.jpg"]
    some = load(folder, limit=6)
    for i in range(6):
        row = int(some.file_name(i).removesuffix(".jpg"))
        np.testing.assert_array_equal(some.presence[i], train.presence[row])


def test_small_images_are_kept_in_memory_with_what_is_in_them(tmp_path):
    images = {str(i): (("cat", False),) if i % 2 else () for i in range(3)}
    root = voc.write(tmp_path / "same", images, {"train": "012", "val": "0"})
    for file in (root / "JPEGImages").iterdir():
        Image.new("RGB", (20, 20)).save(file)
    train = load(root)
    assert train.images.shape == (3, 20, 20, 3)
    assert train.presence.tolist() == [[0], [1], [0]]


def test_the_fingerprint_knows_a_label(folder):
    before = load(folder).fingerprint
    assert load(folder).fingerprint == before != load(folder, "val").fingerprint
    (folder / "Annotations" / "000001.xml").write_text(voc.annotation([("cat", False)]))
    assert load(folder).fingerprint != before


def test_lists_are_those_of_voc_2012_where_there_is_no_test(folder):
    main = folder / "ImageSets" / "Main"
    (main / "train.txt").write_text("000001  1\n000002 -1\n\n")
    (main / "val.txt").write_text("000000\n")
    assert (load(folder).size, load(folder, "val").size) == (18, 9)
    (main / "test.txt").unlink()
    assert (load(folder).size, load(folder, "val").size) == (2, 1)


def test_presence_of_one_label_per_image(folder):
    table, names = presence_of(datasets.load_dataset("digits", limit=30))
    assert names == tuple("0123456789")
    assert table.dtype == np.int8
    np.testing.assert_array_equal(table.argmax(axis=1), datasets.load_dataset("digits", limit=30).labels())
    assert (table.sum(axis=1) == 1).all()
    table, names = presence_of(load(folder))
    assert (table.min(), names) == (-1, ("cat", "dog"))
    assert [output_count(one) for one in (load(folder), datasets.load_dataset("digits", limit=30))] == [2, 10]


def _list(name, text):
    return lambda root: (root / "ImageSets" / "Main" / f"{name}.txt").write_text(text)


def _annotation(image, text):
    return lambda root: (root / "Annotations" / f"{image}.xml").write_text(text)


MISTAKES = {
    "no images": (lambda root: (root / "JPEGImages").rename(root / "images"), "has no JPEGImages"),
    "no lists": (lambda root: (root / "ImageSets" / "Main" / "test.txt").unlink(), "must hold trainval.txt and test"),
    "an annotation without the image": (lambda root: (root / "JPEGImages" / "000005.jpg").unlink(), "first is '000005"),
    "an image without annotation": (lambda root: (root / "Annotations" / "000020.xml").unlink(), "'000020' has no ann"),
    "a broken annotation": (_annotation("000002", "<annotation><object>"), "000002.xml' is not an annotation"),
    "no name": (_annotation("000002", voc.annotation([(" ", False)])), "an object without a name"),
    "a class to test alone": (
        _annotation("000020", voc.annotation([("cow", False)])),
        "000020.xml' has an object 'cow",
    ),
    "an image twice": (_list("trainval", "000001\n000002\n000001\n"), "names the image '000001' twice"),
    "an empty list": (_list("test", "\n"), "test.txt' names no image"),
    "no object at all": (_list("trainval", "000007\n"), "none of the images in trainval.txt has an object"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_in_a_folder_are_named(case, folder):
    spoil, message = MISTAKES[case]
    spoil(folder)
    with pytest.raises(ValueError, match=message):
        [load(folder, split) for split in ("train", "val")]


def test_mistakes_are_named(folder):
    with pytest.raises(ValueError, match="data_dir is not given: dataset 'voc_folder'"):
        datasets.load_dataset("voc_folder")
    with pytest.raises(ValueError, match="val_fraction is 0.1"):
        load(folder, val_fraction=0.1)
    with pytest.raises(ValueError, match="not prepared"):
        datasets.load_dataset("voc/2007", data_dir=str(folder))


def prepare(monkeypatch, source, data_dir, year, file_format):
    """Lets TensorFlow Datasets prepare VOC of a folder, as if it had been downloaded."""
    import tensorflow_datasets as tfds

    builder = tfds.builder(f"voc/{year}", data_dir=data_dir, file_format=file_format)
    manager = tfds.download.DownloadManager
    monkeypatch.setattr(manager, "download_and_extract", lambda *_: dict.fromkeys(("trainval", "test"), str(source)))
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=2))


@pytest.mark.parametrize(
    ("year", "file_format"), [("2007", "tfrecord"), ("2007", "array_record"), ("2012", "tfrecord")]
)
def test_tfds(monkeypatch, tmp_path, year, file_format):
    root = voc.pets(tmp_path / "VOCdevkit" / f"VOC{year}")
    for file in (root / "Annotations").iterdir():
        # TFDS reads the mark of every object.
        file.write_text(file.read_text().replace("</truncated><bnd", "</truncated><difficult>0</difficult><bnd"))
    names = [f"{i:06}\n" for i in range(27)]
    for part, members in (("train", names[:18:2]), ("val", names[1:18:2]), ("test", names[18:])):
        (root / "ImageSets" / "Main" / f"{part}.txt").write_text("".join(members))
    prepare(monkeypatch, tmp_path, tmp_path / "prepared", year, file_format)
    train, test = (
        datasets.load_dataset(f"voc/{year}", split, data_dir=str(tmp_path / "prepared")) for split in ("train", "val")
    )
    assert (len(train.object_names), train.object_names[7], train.object_names[11]) == (20, "cat", "dog")
    expected = [(load(root, "train"), train), (load(root, "val"), test)]
    if year == "2012":
        # Its test images have no labels: train and val are trained and tested with.
        (root / "ImageSets" / "Main" / "test.txt").unlink()
        expected = [(load(root, "train"), train), (load(root, "val"), test)]
    for wanted, found in expected:
        assert found.size == wanted.size
        np.testing.assert_array_equal(found.presence[:, [7, 11]], wanted.presence)
        assert not np.delete(found.presence, [7, 11], axis=1).any()
        assert [found.file_name(i) for i in range(found.size)] == [wanted.file_name(i) for i in range(wanted.size)]
        assert found.encoded(5) == wanted.encoded(5)
    assert train.fingerprint != test.fingerprint


@pytest.mark.parametrize("image", ["im0", "im1"])
def test_the_view_of_voc07_is_that_of_torchvision(image):
    arrays = golden.load("a7_augment")
    short = min(arrays[f"{image}_resize_short_bilinear"].shape[:2])
    expected = arrays[f"{image}_resize_short_then_square_bilinear"]
    found = reader.squeezed(Image.fromarray(arrays[f"{image}_image"]), short, len(expected))
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_the_view_of_voc07_shows_the_whole_image():
    pixels = np.zeros((40, 120, 3), np.uint8)
    pixels[:, :20], pixels[:, -20:] = 255, 128
    found = reader.evaluation_image(Image.fromarray(pixels), 56, "voc07")
    assert found.shape == (56, 56, 3)
    assert (found[:, :7] == 255).all()
    assert (found[:, 12:-12] == 0).all()
    assert (found[:, -7:] == 128).all()
    np.testing.assert_array_equal(found, reader.squeezed(Image.fromarray(pixels), 64, 56))

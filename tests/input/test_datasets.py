"""Where images come from: the digits, folders, TensorFlow Datasets; good and bad files."""

import io
from typing import ClassVar

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from larq_ssl.data import datasets, pipeline, views
from larq_ssl.data.decode import BadImageError, decode
from larq_ssl.data.folder import load_folder


def encode(pixels, image_format="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, image_format, **options)
    return buffer.getvalue()


def picture(seed, height=20, width=30):
    """Smooth, so that JPEG keeps it."""
    y, x = np.mgrid[:height, :width]
    return np.stack([(7 * y + 13 * seed) % 256, (5 * x + 29 * seed) % 256, (3 * (x + y)) % 256], -1).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Two classes, 12 and 6 training images, 4 held out."""
    for part, counts in (("train", (12, 6)), ("val", (2, 2))):
        for name, count in zip(("cat", "dog"), counts, strict=True):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(count):
                data = encode(picture(i, 70 + i, 90), "JPEG" if i % 2 else "PNG")
                (tmp_path / part / name / f"{i:02}.{'JPEG' if i % 2 else 'png'}").write_bytes(data)
    return tmp_path


def test_digits():
    train, val = (datasets.load_dataset("digits", split) for split in ("train", "val"))
    assert (train.size, val.size, train.classes, train.image_shape) == (1400, 397, 10, (8, 8))
    assert train.fingerprint != val.fingerprint
    assert np.ptp(np.bincount(val.labels())) <= 3
    both = np.concatenate([train.images, val.images])
    assert both.max() == 255
    assert both.dtype == np.uint8
    # Each of the 1,797 digits is in one of the two.
    from sklearn.datasets import load_digits

    assert both[..., 0].astype(float).sum() == np.floor(load_digits().images * 255 / 16 + 0.5).sum()
    assert datasets.load_dataset("digits").fingerprint == train.fingerprint


def test_limit_is_balanced_seeded_and_nested():
    some = datasets.load_dataset("digits", limit=100)
    assert np.bincount(some.labels()).tolist() == [10] * 10
    more = datasets.load_dataset("digits", limit=200)
    assert {x.tobytes() for x in some.images} <= {x.tobytes() for x in more.images}
    assert datasets.load_dataset("digits", limit=100, seed=1).fingerprint != some.fingerprint
    assert datasets.load_dataset("digits", limit=5000).size == 1400


def test_folder(folder):
    train = datasets.load_dataset("folder", data_dir=str(folder))
    val = datasets.load_dataset("folder", "val", data_dir=str(folder))
    assert (train.size, val.size, train.classes, train.class_names) == (18, 4, 2, ("cat", "dog"))
    assert train.labels().tolist() == [0] * 12 + [1] * 6
    assert train.image_shape is None
    batches = list(pipeline.image_batches(train, 32, 7))
    assert [len(b["id"]) for b in batches] == [7, 7, 4]
    assert np.concatenate([b["id"] for b in batches]).tolist() == list(range(18))
    assert np.concatenate([b["label"] for b in batches]).tolist() == train.labels().tolist()
    (folder / "val").rename(folder / "test")
    assert datasets.load_dataset("folder", "val", data_dir=str(folder)).size == 4


def test_folder_val_fraction_is_stratified(folder):
    for path in sorted((folder / "val").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (folder / "val").rmdir()
    parts = [datasets.load_dataset("folder", s, str(folder), val_fraction=1 / 3) for s in ("train", "val")]
    assert [np.bincount(p.labels()).tolist() for p in parts] == [[8, 4], [4, 2]]
    names = [[p.describe(i) for i in range(p.size)] for p in parts]
    assert not set(names[0]) & set(names[1])
    other = datasets.load_dataset("folder", "val", str(folder), val_fraction=1 / 3, seed=1)
    assert other.fingerprint != parts[1].fingerprint


def test_folder_without_classes_and_small_images_in_memory(tmp_path):
    (tmp_path / "train").mkdir()
    for i in range(5):
        (tmp_path / "train" / f"{i}.png").write_bytes(encode(picture(i)))
    flat = datasets.load_dataset("folder", data_dir=str(tmp_path))
    assert flat.classes is None
    assert flat.labels().tolist() == [-1] * 5
    assert flat.image_shape == (20, 30)
    np.testing.assert_array_equal(flat.images[3], picture(3))
    (tmp_path / "train" / "5.png").write_bytes(encode(picture(5, 21)))
    assert datasets.load_dataset("folder", data_dir=str(tmp_path)).image_shape is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "digits", "split": "dev"}, "split is 'dev'"),
        ({"name": "digits", "limit": 0}, "limit is 0"),
        ({"name": "digits", "val_fraction": 1.0}, "val_fraction is 1.0"),
        ({"name": "folder"}, "data_dir is not given"),
        ({"name": "folder", "data_dir": "/nowhere"}, "data_dir is '/nowhere'"),
        ({"name": "no_such_data"}, "dataset is 'no_such_data'"),
        ({"name": "cifar10", "data_dir": "/nowhere"}, "not prepared in '/nowhere'"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        datasets.load_dataset(**arguments)


def test_folder_mistakes_are_named(folder):
    with pytest.raises(ValueError, match="val_fraction is 0.1"):
        datasets.load_dataset("folder", data_dir=str(folder), val_fraction=0.1)
    (folder / "val" / "cow").mkdir()
    (folder / "val" / "cow" / "1.png").write_bytes(encode(picture(1)))
    with pytest.raises(ValueError, match="cow.*train/ has not"):
        datasets.load_dataset("folder", "val", data_dir=str(folder))
    (folder / "train" / "loose.png").write_bytes(encode(picture(1)))
    with pytest.raises(ValueError, match="beside class folders"):
        datasets.load_dataset("folder", data_dir=str(folder))


def as_array(data):
    image = decode(data)
    assert image.mode == "RGB"
    return np.asarray(image)


def test_formats():
    pixels = picture(1)
    grey = pixels[..., 0]
    np.testing.assert_array_equal(as_array(encode(pixels, "PNG")), pixels)
    np.testing.assert_array_equal(as_array(encode(pixels, "BMP")), pixels)
    np.testing.assert_array_equal(as_array(encode(grey, "PNG")), np.repeat(grey[..., None], 3, -1))
    np.testing.assert_allclose(as_array(encode(grey, "JPEG", quality=95)), np.repeat(grey[..., None], 3, -1), atol=40)
    assert np.abs(as_array(encode(pixels, "JPEG", quality=95)).astype(int) - pixels).mean() < 12
    wide = grey.astype(np.uint16) * 257
    np.testing.assert_array_equal(as_array(encode(wide, "PNG")), np.repeat(grey[..., None], 3, -1))


def test_palette_alpha_cmyk_and_animation():
    pixels = picture(1)
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.quantize(64).save(buffer, "PNG")
    assert np.abs(as_array(buffer.getvalue()).astype(int) - pixels).mean() < 25
    alpha = np.concatenate([pixels, np.full((20, 30, 1), 255, np.uint8)], -1)
    alpha[:10, :, 3] = 0
    shown = as_array(encode(alpha))
    assert (shown[:10] == 255).all()
    np.testing.assert_array_equal(shown[10:], pixels[10:])
    plain = np.full((16, 16, 3), [200, 100, 50], np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(plain).convert("CMYK").save(buffer, "JPEG", quality=95)
    assert np.abs(as_array(buffer.getvalue()).astype(int) - plain).max() < 6
    buffer = io.BytesIO()
    frames = [Image.fromarray(np.full((9, 9), level, np.uint8)) for level in (10, 200)]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    assert (as_array(buffer.getvalue()) == 10).all()


@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
def test_orientation_is_applied(image_format):
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    shown = as_array(encode(pixels, image_format, exif=exif))
    assert shown.shape == (32, 16, 3)
    assert shown[:12].min() > 240
    assert shown[20:].max() < 15


def test_bad_bytes_are_refused(monkeypatch):
    good = encode(picture(1), "JPEG")
    for data in (b"", b"no image", good[: len(good) // 2], encode(picture(1))[:60]):
        with pytest.raises(BadImageError):
            decode(data)
    monkeypatch.setattr("larq_ssl.data.decode.MAX_PIXELS", 500)
    with pytest.raises(BadImageError, match="30 x 20"):
        decode(good)


def test_bad_images_are_replaced_named_and_counted(folder, caplog):
    bad = folder / "train" / "cat" / "03.JPEG"
    bad.write_bytes(b"broken")
    dataset = load_folder("train", str(folder), 0.0, 0)
    policy = views.policy("bssl", 16)
    with caplog.at_level("WARNING"):
        runs = [list(pipeline.view_batches(dataset, policy, b, 5, max_bad_images=0.1).take(36 // b)) for b in (6, 18)]
        kept = list(pipeline.image_batches(dataset, 16, 18, max_bad_images=0.1))
    for key in ("id", "label", "global"):
        one, other = (np.concatenate([b[key] for b in run]) for run in runs)
        np.testing.assert_array_equal(one, other)
    ids = np.concatenate([b["id"] for b in runs[0]])
    assert 3 not in ids
    assert len(ids) == 36
    # The label is the replacement's, too.
    np.testing.assert_array_equal(np.concatenate([b["label"] for b in runs[0]]), dataset.labels()[ids])
    assert str(bad) in caplog.text
    assert np.concatenate([b["id"] for b in kept]).tolist() == [i for i in range(18) if i != 3]
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"1 of 18 images.*03.JPEG"):
        list(pipeline.view_batches(dataset, policy, 18, 5).take(1))


@pytest.fixture(scope="module", params=["tfrecord", "array_record"])
def prepared(request, tmp_path_factory):
    """A tiny data set of TensorFlow Datasets: 23 training and 5 test images, several shards."""
    import tensorflow_datasets as tfds

    data_dir = tmp_path_factory.mktemp(request.param)

    class TinyPictures(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        pkg_dir_path = data_dir
        # TFDS looks this up in a file beside the module, with a package that it does not install on Python 3.11.
        url_infos: ClassVar[dict] = {}

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(None, None, 3)),
                "label": tfds.features.ClassLabel(names=["a", "b", "c"]),
            }
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(23, 0), "test": self._generate_examples(5, 100)}

        def _generate_examples(self, count, first):
            for i in range(first, first + count):
                yield i, {"image": picture(i, 80 + i % 3, 70), "label": i % 3}

    builder = TinyPictures(data_dir=data_dir, file_format=request.param)
    config = tfds.download.DownloadConfig(num_shards=3)
    builder.download_and_prepare(download_config=config)
    return str(data_dir)


def test_tfds(prepared):
    train = datasets.load_dataset("tiny_pictures", data_dir=prepared)
    val = datasets.load_dataset("tiny_pictures", "val", data_dir=prepared)
    assert (train.size, val.size, train.classes, train.class_names) == (23, 5, 3, ("a", "b", "c"))
    assert np.bincount(train.labels()).tolist() == [8, 8, 7]
    (batch,) = pipeline.image_batches(train, 96, 23)
    np.testing.assert_array_equal(batch["label"], train.labels())
    # The images are the ones that were written, each with its own label.
    expected = {picture(i, 80 + i % 3, 70).tobytes(): i % 3 for i in range(23)}
    for i in range(23):
        data, label = train.encoded(i)
        assert expected.pop(np.asarray(decode(data)).tobytes()) == label
    policy = views.policy("bssl", 16)
    whole = list(pipeline.view_batches(train, policy, 5, seed=1).take(6))
    resumed = list(pipeline.view_batches(train, policy, 5, seed=1, start_step=4).take(2))
    for key in ("id", "label", "global"):
        np.testing.assert_array_equal(whole[5][key], resumed[1][key])
    assert len(np.unique(np.concatenate([b["id"] for b in whole[:4]]))) == 20
    assert datasets.load_dataset("tiny_pictures", data_dir=prepared, limit=6).labels().tolist().count(1) == 2


def test_tfds_split_names():
    from larq_ssl.data import tfds_source

    assert tfds_source._VAL_SPLITS.index("validation") < tfds_source._VAL_SPLITS.index("test")

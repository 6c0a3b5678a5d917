"""Data sets of some classes alone, and SimCLR's subsets of ImageNet, as TensorFlow Datasets prepares them."""

import functools
import re
from typing import ClassVar

import numpy as np
import pytest

from larq_ssl.data import datasets, pipeline, views
from larq_ssl.data.class_lists import CLASS_LISTS, read_class_list, restrict
from larq_ssl.data.label_subsets import listed_labels
from tests.input.test_datasets import encode, picture


@functools.cache
def real():
    """TFDS's own data set. Imported where it is used: it takes seconds."""
    import tensorflow_datasets as tfds

    return tfds.builder_cls("imagenet2012_subset")


@functools.cache
def features():
    return real()(config="1pct").info.features


def classes():
    return features()["label"].names


def test_imagenet100_is_a_part_of_imagenet():
    names = read_class_list("imagenet100")
    assert len(set(names)) == len(names) == 100
    assert set(names) < set(classes())
    assert all(re.fullmatch(r"n\d{8}", name) for name in names)
    # What the file says that it holds: the classes of the authors, sorted, begin and end so.
    assert list(names) == sorted(names)
    assert (names[0], names[-1]) == ("n01558993", "n13040303")
    assert "github.com/HobbitLong/CMC" in CLASS_LISTS["imagenet100"].read_text()


def test_a_list_that_is_no_text_is_told(tmp_path):
    (tmp_path / "classes.txt").write_bytes(b"ant\n\xff\n")
    with pytest.raises(ValueError, match=r"classes\.txt is damaged, or no text: its byte 4 is not UTF-8\."):
        read_class_list(str(tmp_path / "classes.txt"))


@pytest.fixture
def folder(tmp_path):
    for part in ("train", "val"):
        for number, name in enumerate(("ant", "bee", "cat")):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(2 + number):
                (tmp_path / part / name / f"{i}.png").write_bytes(encode(picture(i, 70, 90)))
    return tmp_path


def test_folders_of_the_listed_classes_alone(folder):
    file = folder / "classes.txt"
    file.write_text("# Some.\ncat\n\nant\n")
    for split in ("train", "val"):
        part = datasets.load_dataset("folder", split, str(folder), classes_list=str(file))
        # Numbered in the order of the data set.
        assert (part.classes, part.class_names) == (2, ("ant", "cat"))
        assert part.labels().tolist() == [0, 0, 1, 1, 1, 1]
        assert [part.file_name(i) for i in range(6)] == ["0.png", "1.png", "0.png", "1.png", "2.png", "3.png"]
        whole = datasets.load_dataset("folder", split, str(folder))
        assert part.fingerprint != whole.fingerprint
        (batch,) = pipeline.view_batches(part, views.policy("bssl", 8), 6, seed=0).take(1)
        np.testing.assert_array_equal(batch["label"], part.labels()[batch["id"]])
    limited = datasets.load_dataset("folder", "train", str(folder), classes_list=str(file), limit=4)
    assert limited.labels().tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ant\ndog\n", "has 1 of 2 classes that folder .train. has not, the first is 'dog'"),
        ("ant\nant\n", "'ant' is in it twice"),
        ("# none\n", "no names"),
        (None, r"it must be one of \['imagenet100'\], or a file"),
    ],
)
def test_lists_that_do_not_fit_are_refused(text, message, folder):
    file = folder / "classes.txt"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ValueError, match=message):
        datasets.load_dataset("folder", "train", str(folder), classes_list=str(file))


def test_images_without_label_belong_to_no_class():
    digits = datasets.load_dataset("digits")
    hidden = digits.relabelled(lambda ids, labels: np.where(ids < 700, -1, labels))
    part = restrict(hidden, ("3", "8"))
    assert part.size == np.isin(digits.labels()[700:], (3, 8)).sum()
    assert set(part.labels()) == {0, 1}


def prepare(data_dir, name, config, chosen):
    """Writes a data set of TFDS under the name of a real one: images of four classes, as `chosen` has them."""

    import tensorflow_datasets as tfds

    class Prepared(real(), skip_registration=True):
        pkg_dir_path = data_dir
        url_infos: ClassVar[dict] = {}
        BUILDER_CONFIGS: ClassVar[list] = real().BUILDER_CONFIGS if config else []

        def _info(self):
            return self.dataset_info_from_configs(features=features())

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(chosen), "validation": self._generate_examples(range(8))}

        def _generate_examples(self, numbers):
            for i in numbers:
                label = classes()[7 * (i % 4)]
                file_name = f"{label}_{i}.JPEG"
                yield file_name, {"image": picture(i, 80, 70), "label": label, "file_name": file_name}

    Prepared.name = name
    if not config:
        Prepared.VERSION = tfds.builder_cls(name).VERSION
    builder = Prepared(data_dir=data_dir, **({"config": config} if config else {}))
    builder.download_and_prepare()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """`imagenet2012` of 24 images, and its subset `1pct` of 8 of them."""
    data_dir = tmp_path_factory.mktemp("tfds")
    prepare(data_dir, "imagenet2012", None, range(24))
    prepare(data_dir, "imagenet2012_subset", "1pct", range(8))
    return str(data_dir)


def test_the_subsets_of_simclr_are_data_sets_of_tfds(prepared):
    train = datasets.load_dataset("imagenet2012_subset/1pct", data_dir=prepared)
    val = datasets.load_dataset("imagenet2012_subset/1pct", "val", prepared)
    assert (train.size, val.size, train.classes) == (8, 8, 1000)
    assert sorted(train.labels().tolist()) == [0, 0, 7, 7, 14, 14, 21, 21]
    for i in range(8):
        wnid, number = train.file_name(i).removesuffix(".JPEG").split("_")
        assert classes().index(wnid) == train.labels()[i] == 7 * (int(number) % 4)
    (batch,) = pipeline.view_batches(train, views.policy("bssl", 8), 8, seed=0).take(1)
    np.testing.assert_array_equal(batch["label"], train.labels()[batch["id"]])
    with pytest.raises(ValueError, match="imagenet2012_subset/10pct"):
        datasets.load_dataset("imagenet2012_subset/10pct", data_dir=prepared)


def test_a_list_of_file_names_chooses_the_same_images_of_all(prepared, tmp_path):
    subset = datasets.load_dataset("imagenet2012_subset/1pct", data_dir=prepared)
    names = {subset.file_name(i) for i in range(8)}
    (tmp_path / "1percent.txt").write_text("\n".join(names))
    whole = datasets.load_dataset("imagenet2012", data_dir=prepared)
    chosen = listed_labels(whole, tmp_path / "1percent.txt").only(whole)
    assert whole.size == 24
    assert {chosen.file_name(i) for i in range(8)} == names
    by_name = {subset.file_name(i): subset.labels()[i] for i in range(8)}
    assert {chosen.file_name(i): chosen.labels()[i] for i in range(8)} == by_name


def test_imagenet100_is_imagenet_of_these_classes(prepared, monkeypatch, tmp_path):
    short = tmp_path / "short.txt"
    short.write_text("\n".join([classes()[21], classes()[7]]))
    monkeypatch.setitem(CLASS_LISTS, "imagenet100", short)
    for split, size in (("train", 12), ("val", 4)):
        part = datasets.load_dataset("imagenet100", split, prepared)
        assert (part.name, part.size, part.class_names) == ("imagenet100", size, (classes()[7], classes()[21]))
        assert np.bincount(part.labels()).tolist() == [size // 2] * 2
        found = {part.file_name(i).partition("_")[0]: part.encoded(i)[1] for i in range(size)}
        assert found == {classes()[7]: 0, classes()[21]: 1}

"""Which images keep their label: by class and seed, by a list, by what an earlier run kept."""

import dataclasses

import numpy as np
import pytest

from larq_ssl.data import datasets, label_subsets, pipeline, views
from larq_ssl.data.datasets import ImageDataset
from larq_ssl.data.label_subsets import balanced_labels, known_list, listed_labels, read_labels
from tests import golden
from tests.input.test_datasets import encode, picture

PARTS = {"1": 0.01, "10": 0.1}


def blank(labels: np.ndarray) -> ImageDataset:
    """A data set of nothing but labels."""
    names = tuple(f"class{i}" for i in range(int(labels.max()) + 1))
    return ImageDataset("blank", "train", len(labels), len(names), names, "0", targets=labels)


@pytest.fixture(scope="module")
def digits():
    return datasets.load_dataset("digits")


@pytest.fixture
def folder(tmp_path):
    """Two classes called as in ImageNet, of 6 and 4 images too large to be kept in memory."""
    for name, count in (("n00000001", 6), ("n00000002", 4)):
        (tmp_path / "train" / name).mkdir(parents=True)
        for i in range(count):
            (tmp_path / "train" / name / f"{name}_{i}.JPEG").write_bytes(encode(picture(i, 70, 90), "JPEG"))
    return datasets.load_dataset("folder", data_dir=str(tmp_path))


def test_a_share_is_balanced_seeded_and_nested(digits):
    chosen = {share: balanced_labels(digits, share) for share in (0.01, 0.1, 0.5)}
    for share, subset in chosen.items():
        assert len(subset.ids) == round(share * digits.size)
        assert np.ptp(np.bincount(digits.labels()[subset.ids], minlength=10)) <= 1
        assert np.all(np.diff(subset.ids) > 0)
    assert set(chosen[0.01].ids) < set(chosen[0.1].ids) < set(chosen[0.5].ids)
    np.testing.assert_array_equal(balanced_labels(digits, 0.1).ids, chosen[0.1].ids)
    assert balanced_labels(digits, 0.1).fingerprint == chosen[0.1].fingerprint
    other = balanced_labels(digits, 0.1, seed=1)
    assert len(set(other.ids) & set(chosen[0.1].ids)) < 30
    assert other.fingerprint != chosen[0.1].fingerprint
    # And not those that a limit of as many images would take.
    limited = datasets.load_dataset("digits", limit=140)
    assert {x.tobytes() for x in limited.images} != {x.tobytes() for x in digits.images[chosen[0.1].ids]}


def test_all_images_are_a_share_too(digits):
    np.testing.assert_array_equal(balanced_labels(digits, 1.0).ids, np.arange(digits.size))


def test_images_without_label_are_not_chosen(digits):
    hidden = digits.relabelled(lambda ids, labels: np.where(ids % 2, -1, labels))
    for subset in (balanced_labels(hidden, 0.1), balanced_labels(hidden, per_class=14)):
        assert len(subset.ids) == 140
        assert np.all(subset.ids % 2 == 0)


def test_so_many_of_each_class(digits):
    subset = balanced_labels(digits, per_class=3)
    assert np.bincount(digits.labels()[subset.ids]).tolist() == [3] * 10
    assert set(subset.ids) < set(balanced_labels(digits, 0.1).ids)


def test_shares_of_imagenet_have_the_numbers_per_class_of_the_published_lists():
    """Of a set of labels as large as ImageNet's."""
    arrays = golden.load("q8_probes")
    random = np.random.default_rng(0)
    labels = random.permutation(np.arange(1281167) % 1000)
    chosen = {part: balanced_labels(blank(labels), share).ids for part, share in PARTS.items()}
    for part, ids in chosen.items():
        lines, unique, classes = arrays[f"subset_{part}percent_lines_unique_classes"]
        assert len(ids) == lines == unique
        counts = np.bincount(labels[ids], minlength=1000)
        assert np.count_nonzero(counts) == classes
        histogram = np.stack(np.unique(counts, return_counts=True), axis=1)
        np.testing.assert_array_equal(histogram, arrays[f"subset_{part}percent_images_per_class_histogram"])
    assert (set(chosen["1"]) <= set(chosen["10"])) == bool(arrays["subset_1_in_10"])


@pytest.mark.parametrize("part", PARTS)
def test_the_published_lists_are_known_by_what_was_counted_in_them(part, monkeypatch):
    arrays = golden.load("q8_probes")
    lines = int(arrays[f"subset_{part}percent_lines_unique_classes"][0])
    counted = (lines, *arrays[f"subset_{part}percent_sum_wnid_sum_index"].tolist())
    assert label_subsets._PUBLISHED[counted] == f"SimCLR's {part} % of ImageNet"
    names = ["n00000003_4.JPEG", "n10000000_20.JPEG"]
    assert known_list(names) is None
    monkeypatch.setitem(label_subsets._PUBLISHED, (2, 10000003, 24), "two images")
    assert known_list(names) == "two images"
    assert known_list([*names, "cat.png"]) is None


def test_an_origin_tells_its_share(digits):
    for share in (0.01, 0.25, 1.0):
        assert label_subsets.known_share(balanced_labels(digits, share).origin) == share
    published = [label_subsets.known_share(origin) for origin in label_subsets._PUBLISHED.values()]
    assert published == list(PARTS.values())
    for origin in (balanced_labels(digits, per_class=2).origin, "the list some.txt", ""):
        assert label_subsets.known_share(origin) is None


def test_only_those_images_are_trained_on(digits):
    subset = balanced_labels(digits, 0.1)
    part = subset.only(digits)
    np.testing.assert_array_equal(part.images, digits.images[subset.ids])
    np.testing.assert_array_equal(part.labels(), digits.labels()[subset.ids])
    assert part.fingerprint not in (digits.fingerprint, balanced_labels(digits, 0.1, seed=1).only(digits).fingerprint)


def test_the_others_lose_their_label(digits):
    subset = balanced_labels(digits, 0.1)
    part = subset.hide_others(digits)
    np.testing.assert_array_equal(part.images, digits.images)
    np.testing.assert_array_equal(np.flatnonzero(part.labels() >= 0), subset.ids)
    np.testing.assert_array_equal(part.labels()[subset.ids], digits.labels()[subset.ids])
    assert part.class_count() == 10
    assert part.fingerprint not in (digits.fingerprint, subset.only(digits).fingerprint)


@pytest.mark.parametrize("kept", ["only", "hide_others"])
def test_labels_of_encoded_images_come_with_the_batches(folder, kept):
    subset = balanced_labels(folder, per_class=2)
    part = getattr(subset, kept)(folder)
    assert part.image_shape is None
    expected = np.array([0, 0, 1, 1])
    labels = part.labels()
    np.testing.assert_array_equal(labels[labels >= 0], expected)
    (batch,) = pipeline.view_batches(part, views.policy("bssl", 8), part.size, seed=0).take(1)
    np.testing.assert_array_equal(batch["label"], labels[batch["id"]])
    assert sorted(batch["label"].numpy().tolist()) == [-1] * (part.size - 4) + expected.tolist()


def test_labels_that_only_records_know_are_not_read_before_they_are_needed(folder):
    read = []

    def counted(index):
        read.append(index)
        return folder.read(index)

    unread = dataclasses.replace(folder, read=counted, targets=None)
    subset = balanced_labels(folder, per_class=2)
    only, hidden = subset.only(unread), subset.hide_others(unread)
    assert read == []
    np.testing.assert_array_equal(only.labels(), [0, 0, 1, 1])
    assert sorted(read) == subset.ids.tolist()
    np.testing.assert_array_equal(np.flatnonzero(hidden.labels() >= 0), subset.ids)


def test_a_list_of_names(folder, tmp_path):
    file = tmp_path / "some.txt"
    file.write_text("n00000002_3.JPEG\nn00000001_0.JPEG\n\nn00000009_1.JPEG\n")
    subset = listed_labels(folder, file)
    # Of the third class the data set has nothing: lists are for all of ImageNet.
    assert [folder.file_name(int(i)) for i in subset.ids] == ["n00000001_0.JPEG", "n00000002_3.JPEG"]
    assert subset.origin == "the list some.txt"
    assert [subset.only(folder).file_name(i) for i in range(2)] == ["n00000001_0.JPEG", "n00000002_3.JPEG"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "n00000001_0.JPEG\nn00000001_77.JPEG\ncat.png",
            "2 of its 3 lines name no image .*first is 'n00000001_77.JPEG'",
        ),
        ("", "0 of its 0 lines name no image"),
        (None, "there is no such file"),
    ],
)
def test_lists_that_do_not_fit_are_refused(text, message, folder, tmp_path):
    file = tmp_path / "some.txt"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ValueError, match=message):
        listed_labels(folder, file)


def test_two_images_of_one_name_are_refused(folder, tmp_path):
    (tmp_path / "some.txt").write_text("n00000001_0.JPEG")
    source = tmp_path / "train" / "n00000001" / "n00000001_0.JPEG"
    (tmp_path / "train" / "n00000002" / source.name).write_bytes(source.read_bytes())
    with pytest.raises(ValueError, match="2 images have the name 'n00000001_0.JPEG'"):
        listed_labels(datasets.load_dataset("folder", data_dir=str(tmp_path)), tmp_path / "some.txt")


def test_images_without_names_have_no_list(digits, tmp_path):
    with pytest.raises(ValueError, match="the images of digits have no file names"):
        listed_labels(digits, tmp_path / "some.txt")


def test_what_was_written_is_read_again(digits, tmp_path):
    subset = balanced_labels(digits, 0.1)
    (tmp_path / "labels.json").write_text(subset.to_json())
    again = read_labels(tmp_path / "labels.json")
    np.testing.assert_array_equal(again.ids, subset.ids)
    assert (again.fingerprint, again.origin) == (subset.fingerprint, subset.origin)
    limited = datasets.load_dataset("digits", limit=500)
    for choose in (again.only, again.hide_others):
        with pytest.raises(ValueError, match="labels were chosen of other images"):
            choose(limited)


@pytest.mark.parametrize(
    "alter",
    [
        lambda text: text.replace("larq_ssl labels", "other"),
        lambda text: text.replace("[", "[3, 2, "),
        lambda text: text.replace('"ids"', '"numbers"'),
        lambda text: text[:30],
    ],
)
def test_damaged_files_are_refused(alter, digits, tmp_path):
    (tmp_path / "labels.json").write_text(alter(balanced_labels(digits, 0.1).to_json()))
    with pytest.raises(ValueError, match="is not a file of labels"):
        read_labels(tmp_path / "labels.json")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either fraction or per_class must be given, got None and None"),
        ({"fraction": 0.1, "per_class": 2}, "either fraction or per_class must be given, got 0.1 and 2"),
        ({"fraction": 0.005}, r"fraction is 0.005: it must lie in \(0.00714, 1\], or some of the 10 classes"),
        ({"fraction": 1.5}, "fraction is 1.5"),
        ({"fraction": 0.0}, "fraction is 0.0"),
        ({"per_class": 0}, r"per_class is 0: it must lie in \[1, 13\d\]"),
        ({"per_class": 500}, r"per_class is 500: it must lie in \[1, 13\d\]"),
    ],
)
def test_choices_that_cannot_be_made_are_refused(arguments, message, digits):
    with pytest.raises(ValueError, match=message):
        balanced_labels(digits, **arguments)


def test_images_without_labels_are_refused():
    unlabelled = dataclasses.replace(blank(np.zeros(5, np.int64)), classes=None, class_names=(), targets=None)
    with pytest.raises(ValueError, match="has no labels"):
        balanced_labels(unlabelled, 0.5)

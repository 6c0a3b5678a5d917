"""Images with boxes: VOC's format, COCO's format, and TensorFlow Datasets, which prepares both of generated folders."""

import json
import shutil

import numpy as np
import pytest

from larq_ssl.evaluation.detection import images
from larq_ssl.evaluation.detection.truth import truth
from tests.detection import scenes


def boxes(number):
    """Top, left, bottom, right of what image `number` shows."""
    return [[top, left, top + height, left + width] for _, left, top, width, height in scenes.objects(number)]


def kinds(number):
    return [1 + scenes.CLASSES.index(name) for name, *_ in scenes.objects(number)]


def check(found, numbers, inked=True):
    for index, number in enumerate(numbers):
        one = found.truths[index]
        np.testing.assert_allclose(one.boxes[: len(kinds(number))], boxes(number), atol=0.01)
        np.testing.assert_array_equal(one.classes[: len(kinds(number))], kinds(number))
        if inked:
            pixels = found.pixels(index)
            assert pixels.shape == (scenes.HEIGHT, scenes.WIDTH, 3) == (one.height, one.width, 3)
            for (top, left, bottom, right), kind in zip(boxes(number), kinds(number), strict=True):
                # The middle of the box is where its colour is.
                middle = pixels[(top + bottom) // 2, (left + right) // 2].astype(int)
                assert np.abs(middle - scenes.COLOURS[scenes.CLASSES[kind - 1]]).max() < 40


def test_voc_format(tmp_path):
    root = scenes.voc_folder(tmp_path / "voc")
    train, test = (images.load_images("folder", split, str(root), "shapes") for split in images.SPLITS)
    assert (train.name, train.class_names, train.size, test.size) == ("shapes", ("box", "disc"), 8, 4)
    assert len(train.truths[0].classes) == 0
    check(train.subset(range(1, 8)), range(1, 8))
    check(test, range(8, 12))
    assert [bool(one.ignored.any()) for one in test.truths] == [False, False, False, True]
    assert not any(one.crowd.any() for one in test.truths)
    np.testing.assert_allclose(test.truths[0].areas, [width * height for *_, width, height in scenes.objects(8)])
    assert train.to_train_on().size == 7
    assert not train.has_outlines
    assert images.load_images("voc", "test", str(root)).name == "voc"
    with pytest.raises(ValueError, match="There are no outlines: masks need segmentations"):
        test.truths[0].runs()


def test_the_size_is_that_of_the_file_where_the_annotation_does_not_say_it(tmp_path):
    root = scenes.voc_folder(tmp_path / "voc")
    (root / "Annotations" / "000003.xml").write_text(scenes.voc_annotation(scenes.objects(3), size=False))
    train = images.load_images("folder", "train", str(root))
    assert (train.truths[3].height, train.truths[3].width) == (scenes.HEIGHT, scenes.WIDTH)


def test_coco_format(tmp_path):
    root = scenes.coco_folder(tmp_path / "coco")
    train, test = (images.load_images("folder", split, str(root)) for split in images.SPLITS)
    assert (train.class_names, train.size, test.size) == (("box", "disc"), 8, 4)
    assert test.ids == (108, 109, 110, 111)
    check(train, range(8))
    check(test, range(8, 12))
    crowds = [one.crowd.tolist() for one in test.truths]
    assert crowds == [[False, False]] * 3 + [[False, False, True]]
    assert [one.ignored.tolist() for one in test.truths] == crowds
    assert train.has_outlines
    assert test.fingerprint != train.fingerprint


def test_outlines_are_polygons_or_run_lengths(tmp_path):
    pytest.importorskip("pycocotools", reason="needs the extra detection")
    test = images.load_images("folder", "test", str(scenes.coco_folder(tmp_path / "coco")))
    for number, one in zip(range(8, 12), test.truths, strict=True):
        masks = one.masks()
        assert masks.shape == (len(one.classes), scenes.HEIGHT, scenes.WIDTH)
        for mask, (name, left, top, width, height) in zip(masks, scenes.objects(number), strict=False):
            inked = np.argwhere(mask)
            np.testing.assert_array_equal(inked.min(axis=0), [top, left])
            np.testing.assert_array_equal(inked.max(axis=0), [top + height - 1, left + width - 1])
            share = mask.sum() / (width * height)
            assert share == 1 if name == "box" else 0.7 < share < 0.9


def test_compressed_run_lengths_are_those_of_pycocotools():
    mask = pytest.importorskip("pycocotools.mask", reason="needs the extra detection")
    from larq_ssl.evaluation.detection.coco_format import _is_outline, _run_lengths

    draw = np.random.default_rng(0)
    for _ in range(30):
        height, width = (int(side) for side in draw.integers(1, 90, 2))
        shown = np.asfortranarray(draw.random((height, width)) < draw.random(), np.uint8)
        packed = mask.encode(shown)
        outline = {"size": packed["size"], "counts": packed["counts"].decode()}
        assert _is_outline(outline, height, width)
        assert not _is_outline({**outline, "counts": outline["counts"] + "5"}, height, width)
        flat = shown.T.ravel()
        ends = np.flatnonzero(np.diff(flat, prepend=0, append=2))
        assert _run_lengths(outline["counts"]) == np.diff(ends, prepend=0).tolist()


def test_areas_are_those_of_the_annotations(tmp_path):
    """Also where results are measured by size."""
    from larq_ssl.evaluation.detection import coco_metrics

    test = images.load_images("folder", "test", str(scenes.coco_folder(tmp_path / "coco")))
    wanted = []
    for number in range(8, 12):
        for name, _, _, width, height in scenes.objects(number):
            wanted.append(width * height * (1 if name == "box" else 0.785))
    told = coco_metrics.truth_json(test, False)["annotations"]
    assert [entry["area"] for entry in told if not entry["iscrowd"]] == pytest.approx(wanted)


def test_the_fingerprint_knows_a_box(tmp_path):
    root = scenes.voc_folder(tmp_path / "voc")
    before = images.load_images("folder", "train", str(root)).fingerprint
    file = root / "Annotations" / "000003.xml"
    name, left, top, width, height = scenes.objects(3)[0]
    file.write_text(scenes.voc_annotation([(name, left, top, width + 1, height), *scenes.objects(3)[1:]]))
    assert images.load_images("folder", "train", str(root)).fingerprint != before


def _annotation(text):
    return lambda root: (root / "Annotations" / "000009.xml").write_text(text)


_SHOWN = scenes.voc_annotation(scenes.objects(9))
VOC_MISTAKES = {
    "a box beside the image": (
        _annotation(scenes.voc_annotation([("box", scenes.WIDTH, 2, 5, 9)])),
        r"000009.xml' has a box outside of its image of 48 x 64: \[2.0, 64.0, 11.0, 69.0\]",
    ),
    "a class to test alone": (
        _annotation(_SHOWN.replace("box<", "cow<")),
        "has an object 'cow', of a class that no image",
    ),
    "no box": (
        _annotation(_SHOWN.replace("ymax", "end")),
        "has an object whose box lacks one of ymin, xmin, ymax, xmax",
    ),
    "no number": (_annotation(_SHOWN.replace("<xmax>", "<xmax>x")), "has an object whose box lacks one of"),
    "a box inside out": (
        _annotation(scenes.voc_annotation([("box", 20, 20, -5, 9)])),
        "has a box that ends before it begins",
    ),
    "no XML": (_annotation("<annotation>"), "is not an annotation in VOC format"),
    "no objects": (
        lambda root: [file.write_text(scenes.voc_annotation([])) for file in (root / "Annotations").iterdir()],
        "none of the images in trainval.txt has an object",
    ),
}


@pytest.mark.parametrize("case", VOC_MISTAKES)
def test_mistakes_in_voc_format_are_named(case, tmp_path):
    root = scenes.voc_folder(tmp_path / "voc")
    spoil, message = VOC_MISTAKES[case]
    spoil(root)
    with pytest.raises(ValueError, match=message):
        images.load_images("folder", "test", str(root))


def test_an_image_that_is_not_the_one_of_its_annotation(tmp_path):
    root = scenes.voc_folder(tmp_path / "voc")
    scenes.picture(0, []).resize((20, 20)).save(root / "JPEGImages" / "000008.jpg")
    with pytest.raises(ValueError, match=r"000008.jpg has 20 x 20 pixels, and its annotation says 48 x 64"):
        images.load_images("folder", "test", str(root)).pixels(0)


def _changed(**changes):
    def spoil(root):
        file = root / "annotations" / "instances_val2017.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return spoil


def _with(kind, place=0, **changes):
    """With changes of one entry of a list."""

    def spoil(root):
        file = root / "annotations" / "instances_val2017.json"
        content = json.loads(file.read_text())
        content[kind][place].update(changes)
        file.write_text(json.dumps(content))

    return spoil


def _outlined(outline):
    return _with("annotations", segmentation=outline)


_NO_OUTLINE = r"is not in COCO format: ValueError the segmentation of annotation \d+ is no outline in"
COCO_MISTAKES = {
    "a line for an outline": (_outlined([[1, 2, 3, 4]]), _NO_OUTLINE),
    "half a corner": (_outlined([[1, 2, 3, 4, 5, 6, 7]]), _NO_OUTLINE),
    "text for an outline": (_outlined("abc"), _NO_OUTLINE),
    "nothing for an outline": (_outlined([[]]), _NO_OUTLINE),
    "run lengths of another image": (_outlined({"size": [3, 3], "counts": [9]}), _NO_OUTLINE),
    "another category": (
        _changed(categories=[{"id": 1, "name": "cow"}]),
        "is not in COCO format: KeyError 7|KeyError 3",
    ),
    "a category twice": (_with("categories", id=7), "the category number 7 is there 2 times"),
    "two categories of a name": (_with("categories", name="disc"), "the category name 'disc' is there 2 times"),
    "an image twice": (_with("images", id=108), "the image number 108 is there 2 times"),
    "an annotation twice": (_with("annotations", id=2), "the annotation number 2 is there 2 times"),
    "a box above the image": (
        _with("annotations", bbox=[3, -9, 5, 9]),
        "the box of annotation 1 is outside of its image of 48 x 64",
    ),
    "a side that is no number": (
        _with("annotations", bbox=[3, 4, float("nan"), 9]),
        "the box or the area of annotation 1 is made of other things than numbers",
    ),
    "no box": (_with("annotations", bbox=None), "the box or the area of annotation 1 is made of other things"),
    "no area": (_with("annotations", area=None), "the box or the area of annotation 1 is made of other things"),
    "letters for run lengths": (_outlined({"size": [48, 64], "counts": "!!garbage"}), _NO_OUTLINE),
    "run lengths that end too soon": (_outlined({"size": [48, 64], "counts": [5, 6]}), _NO_OUTLINE),
    "no image": (_changed(images=[], annotations=[]), "names no image or no category"),
    "no file": (lambda root: (root / "val2017" / "000008.jpg").unlink(), "1 of the 4 images of .* are missing, as"),
    "two lists": (
        lambda root: (root / "annotations" / "instances_val.json").write_text("{}"),
        "must hold one file instances_val.*json or instances_test.*json, and has these: instances_val",
    ),
    "no list": (
        lambda root: (root / "annotations" / "instances_val2017.json").unlink(),
        "must hold one file .*, and has none",
    ),
}


@pytest.mark.parametrize("case", COCO_MISTAKES)
def test_mistakes_in_coco_format_are_named(case, tmp_path):
    root = scenes.coco_folder(tmp_path / "coco")
    spoil, message = COCO_MISTAKES[case]
    spoil(root)
    with pytest.raises(ValueError, match=message):
        images.load_images("folder", "test", str(root))


def test_mistakes_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"dataset must be one of \['voc', 'coco', 'folder'\], got 'kitti'"):
        images.load_images("kitti", "train")
    with pytest.raises(ValueError, match=r"split must be one of \['train', 'test'\], got 'val'"):
        images.load_images("folder", "val")
    with pytest.raises(ValueError, match="dataset 'folder' needs a folder in VOC format, which holds JPEGImages"):
        images.load_images("folder", "train", str(tmp_path))
    coco = str(scenes.coco_folder(tmp_path / "other"))
    with pytest.raises(
        ValueError, match="a folder in the format of coco, and dataset is 'voc': give dataset 'coco' if"
    ):
        images.load_images("voc", "train", coco)
    with pytest.raises(ValueError, match="is not prepared in"):
        images.load_images("coco", "train", str(tmp_path))
    empty = images.load_images("folder", "train", str(scenes.voc_folder(tmp_path / "voc"))).subset([0])
    with pytest.raises(ValueError, match=r"None of the 1 images of folder \(train\) shows an object"):
        empty.to_train_on()


def test_a_data_set_that_lacks_a_split(monkeypatch):
    from types import SimpleNamespace

    from larq_ssl.data import tfds_source

    lacking = SimpleNamespace(info=SimpleNamespace(splits={"test": None}))
    monkeypatch.setattr(tfds_source, "find_builder", lambda name, data_dir: lacking)
    with pytest.raises(ValueError, match="'coco/2017' has no split 'train': its splits are"):
        images.check("coco", None)


def test_boxes_that_reach_over_an_edge_are_kept(tmp_path):
    """As hands draw them; the parsers cut them off."""
    root = scenes.coco_folder(tmp_path / "coco")
    _with("annotations", bbox=[-3, 40, 20, 20])(root)
    (test, *_) = images.load_images("coco", "test", str(root)).truths
    assert test.boxes[0].tolist() == [40, -3, 60, 17]


def test_a_truth_of_lists():
    one = truth(4, 5, [], [], [])
    assert (one.boxes.shape, one.classes.shape, one.areas.shape) == ((0, 4), (0,), (0,))


def prepare(monkeypatch, name, source, data_dir):
    """Lets TensorFlow Datasets prepare a data set of folders, as if they had been downloaded."""
    import tensorflow_datasets as tfds

    def downloaded(self, urls):
        return dict.fromkeys(urls, str(source))

    monkeypatch.setattr(tfds.download.DownloadManager, "download_and_extract", downloaded)
    builder = tfds.builder(name, data_dir=data_dir)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=1))


def test_voc_of_tensorflow_datasets(monkeypatch, tmp_path):
    """07+12 to train on and 07 to test on, with the boxes of the folder that it was prepared from."""
    from tensorflow_datasets.object_detection import voc as tfds_voc

    monkeypatch.setattr(scenes, "CLASSES", ("cat", "dog"))
    monkeypatch.setattr(scenes, "COLOURS", {"cat": (230, 60, 60), "dog": (60, 230, 60)})
    assert {"cat", "dog"} <= set(tfds_voc._VOC_LABELS)
    for year in ("2007", "2012"):
        root = scenes.voc_folder(tmp_path / "source" / "VOCdevkit" / f"VOC{year}")
        for part, numbers in (("train", range(4)), ("val", range(4, 8)), ("test", range(8, 12))):
            lines = "".join(f"{number:06}\n" for number in numbers)
            (root / "ImageSets" / "Main" / f"{part}.txt").write_text(lines)
        prepare(monkeypatch, f"voc/{year}", tmp_path / "source", tmp_path / "prepared")
    train, test = (images.load_images("voc", split, str(tmp_path / "prepared")) for split in images.SPLITS)
    assert (train.size, test.size) == (16, 4)
    assert len(train.class_names) == len(test.class_names) == 20
    folder = images.load_images("folder", "test", str(tmp_path / "source" / "VOCdevkit" / "VOC2007"))
    for index in range(test.size):
        wanted, found = folder.truths[index], test.truths[index]
        np.testing.assert_allclose(found.boxes, wanted.boxes, atol=1e-3)
        assert [test.class_names[kind - 1] for kind in found.classes] == [
            folder.class_names[kind - 1] for kind in wanted.classes
        ]
        np.testing.assert_array_equal(found.ignored, wanted.ignored)
        assert (found.height, found.width) == (wanted.height, wanted.width)
        assert test.read(index) == folder.read(index)
    assert test.describe(0) == "voc 000008.jpg"


def test_coco_of_tensorflow_datasets(monkeypatch, tmp_path):
    categories = [(3, "box"), (7, "disc"), *((number, f"class{number}") for number in range(10, 88))]
    source = scenes.coco_folder(tmp_path / "source", categories=categories)
    # The images whose objects were never published have to be there, too.
    shutil.copytree(source / "val2017", source / "test2017")
    told = source / "annotations" / "instances_val2017.json"
    shutil.copy(told, source / "annotations" / "image_info_test2017.json")
    prepare(monkeypatch, "coco/2017", source, tmp_path / "prepared")
    train, test = (images.load_images("coco", split, str(tmp_path / "prepared")) for split in images.SPLITS)
    assert (train.size, test.size, len(train.class_names)) == (8, 4, 80)
    assert test.ids == (108, 109, 110, 111)
    check(test, range(8, 12))
    assert [one.crowd.tolist() for one in test.truths] == [[False, False]] * 3 + [[False, False, True]]
    assert not test.has_outlines

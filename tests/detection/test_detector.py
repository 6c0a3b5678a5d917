"""Detectors of the Model Garden on our encoders: batches, a few steps, what moves, what is found."""

import json

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import models
from larq_ssl.evaluation.detection import images
from larq_ssl.evaluation.detection.batches import MOST_OBJECTS, Augmentation, test_batches, training_batches
from larq_ssl.evaluation.detection.settings import DetectorSettings
from larq_ssl.models.transfer import named_weights
from larq_ssl.optimizers import build_optimizer
from tests.detection import scenes
from tests.experiments.commands import add_short_networks

add_short_networks()

SMALL = dict(
    min_level=3,
    max_level=5,
    anchor_size=2.0,
    filters=8,
    head_dense=1,
    head_units=16,
    proposals=16,
    samples=8,
    anchor_samples=32,
)


def settings(task="faster_rcnn", **changes):
    changes = {"head_convs": int(task == "retinanet"), **changes}
    return DetectorSettings(**{**dict(task=task, classes=2, height=60, width=64), **SMALL, **changes})


@pytest.fixture
def data(tmp_path):
    root = str(scenes.voc_folder(tmp_path / "voc"))
    train, test = (images.load_images("folder", split, root) for split in images.SPLITS)
    return train.to_train_on(), test


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "yolo"}, r"task must be one of \['faster_rcnn', 'mask_rcnn', 'retinanet'\], got 'yolo'"),
        ({"min_level": 1}, "min_level must be 2 to 5, the levels of an encoder, got 1"),
        ({"min_level": 4, "max_level": 4}, "max_level must be above min_level=4, at least 5, .* and at most 7, got 4"),
        (
            {"task": "retinanet", "head_convs": 0},
            "head_convs must be at least 1 for retinanet, which is published with 4, got 0",
        ),
        ({"samples": 117}, r"samples must be at most proposals \+ 100 = 116, what they are drawn from, got 117"),
        ({"max_level": 7}, "The coarsest level has a stride of 128 pixels, and images of 60 x 64 are smaller"),
    ],
)
def test_settings_that_do_not_go_together_are_told(changes, message):
    with pytest.raises(ValueError, match=message):
        settings(**changes)


def test_a_range_of_scales_that_is_empty():
    with pytest.raises(ValueError, match="scale_min must be above 0 and at most scale_max, got 2, 1"):
        Augmentation(scale_min=2, scale_max=1)


def test_padding_is_to_the_coarsest_stride():
    assert settings().padded == (64, 64)
    assert settings(height=240, width=320).padded == (256, 320)


def test_batches_of_an_epoch_hold_every_image_and_go_on_where_they_were(data):
    pytest.importorskip("official", reason="needs the extra detection")
    train, _ = data
    whole = [
        batch["id"].numpy().tolist() for batch in training_batches(train, settings(), Augmentation(), 3, 7).take(5)
    ]
    later = [
        batch["id"].numpy().tolist() for batch in training_batches(train, settings(), Augmentation(), 3, 7, 3).take(2)
    ]
    assert later == whole[3:]
    assert all(len({*first, *second}) == 6 for first, second in (whole[:2], whole[2:4]))
    assert whole[:2] != whole[2:4]
    others = training_batches(train, settings(), Augmentation(), 3, 8).take(5)
    assert [batch["id"].numpy().tolist() for batch in others] != whole
    with pytest.raises(ValueError, match=r"batch_size is 8: it must lie in \[1, 7\], the number of images"):
        training_batches(train, settings(), Augmentation(), 8, 0)
    with pytest.raises(ValueError, match="vertical_flip must be False for RetinaNet, whose parser has no such flip"):
        training_batches(train, settings("retinanet"), Augmentation(vertical_flip=True), 2, 0)


def test_boxes_go_with_their_images(data):
    """Also flipped and scaled: the middle of a box has the colour of its class."""
    pytest.importorskip("official", reason="needs the extra detection")
    train, _ = data
    moved = Augmentation(True, True, 0.8, 1.3)
    flipped = 0
    for batch in training_batches(train, settings(), moved, 2, 0).take(12):
        pixels = 255 * (batch["image"].numpy() * [0.229, 0.224, 0.225] + [0.485, 0.456, 0.406])
        boxes, classes = batch["labels"]["gt_boxes"].numpy(), batch["labels"]["gt_classes"].numpy()
        assert boxes.shape == (2, MOST_OBJECTS, 4)
        for image, own, kinds, index in zip(pixels, boxes, classes, batch["id"].numpy(), strict=True):
            for (top, left, bottom, right), kind in zip(own[kinds > 0], kinds[kinds > 0], strict=True):
                if min(bottom - top, right - left) < 8:
                    continue  # cropped
                middle = image[int(top + bottom) // 2, int(left + right) // 2]
                assert np.abs(middle - scenes.COLOURS[scenes.CLASSES[kind - 1]]).max() < 60
            lefts = train.truths[index].boxes[:, 1]
            flipped += len(lefts) == np.sum(kinds > 0) == 2 and np.argmin(lefts) != np.argmin(own[:2, 1])
    assert flipped > 0


def _shown(train, augmentation, count=8):
    """Images and lefts, tops of the boxes of `count` batches of two."""
    for batch in training_batches(train, settings(), augmentation, 2, 0).take(count):
        corners = batch["labels"]["gt_boxes"].numpy()[..., :2]
        kinds = batch["labels"]["gt_classes"].numpy()
        for index, own, kind in zip(batch["id"].numpy(), corners, kinds, strict=True):
            yield train.truths[index], own[kind > 0]


def test_images_are_scaled_as_asked(data):
    """In the range, and up to both of its ends."""
    pytest.importorskip("official", reason="needs the extra detection")
    factors = []
    for batch in training_batches(data[0], settings(), Augmentation(False, False, 0.5, 2.0), 2, 0).take(30):
        factors += batch["labels"]["image_info"].numpy()[:, 2, 0].tolist()
    assert 0.5 <= min(factors) < 0.7
    assert 1.7 < max(factors) <= 2.0


@pytest.mark.parametrize(("flip", "vertical_flip"), [(False, False), (True, False), (False, True)])
def test_images_are_flipped_as_asked(data, flip, vertical_flip):
    """Boxes are where they were, or, on an axis that is flipped, now and then on its far side."""
    pytest.importorskip("official", reason="needs the extra detection")
    moved = np.zeros(2, bool)
    for truth, corners in _shown(data[0], Augmentation(flip, vertical_flip)):
        moved |= np.any(np.abs(corners - truth.boxes[:, :2]) > 1, axis=0)
    assert moved.tolist() == [vertical_flip, flip]


def test_crowds_are_not_trained_on_and_difficult_objects_are(tmp_path):
    pytest.importorskip("official", reason="needs the extra detection")
    coco = str(scenes.coco_folder(tmp_path / "coco"))
    (crowded,) = [truth for truth in images.load_images("folder", "test", coco).truths if truth.crowd.any()]
    assert len(crowded.classes) == 3
    for task in ("faster_rcnn", "retinanet"):
        # The folder's own list of tests, which has the crowd.
        batches = training_batches(
            images.load_images("folder", "test", coco), settings(task), Augmentation(flip=False), 4, 0
        )
        labels = next(iter(batches))["labels"]
        if task == "faster_rcnn":
            assert (labels["gt_classes"].numpy() > 0).sum(axis=1).tolist() == [2, 2, 2, 2]
        else:
            classes = [len(np.unique(labels["cls_targets"]["3"][i])) for i in range(4)]
            assert max(classes) <= 4  # nothing, left out, and two classes
    voc = images.load_images("folder", "test", str(scenes.voc_folder(tmp_path / "voc")))
    assert [truth.ignored.any() for truth in voc.truths] == [False, False, False, True]
    labels = next(iter(training_batches(voc, settings(), Augmentation(flip=False), 4, 0)))["labels"]
    assert (labels["gt_classes"].numpy() > 0).sum(axis=1).tolist() == [2, 2, 2, 2]


@pytest.mark.parametrize("task", ["faster_rcnn", "retinanet"])
def test_settings_reach_the_network(task, data):
    pytest.importorskip("official", reason="needs the extra detection")
    from larq_ssl.evaluation.detection.detector import Detector

    def made(**changes):
        chosen = settings(task, **changes)
        detector = Detector(models.build("reactnet_stages", None, "full", width=0.125), chosen, gradient_clip=0.25)
        assert detector.gradient_clip == 0.25
        own = {id(weight) for weight in detector.encoder.weights}
        return [layer for layer in detector._flatten_layers() if not own & {id(weight) for weight in layer.weights}]

    layers = made()
    norms = [layer for layer in layers if type(layer).__name__ in ("BatchNormalization", "SyncBatchNormalization")]
    assert len(norms) > 3
    assert {(norm.momentum, norm.epsilon) for norm in norms} == {(0.9, 1e-5)}

    def convolutions(found):
        return sum(isinstance(layer, tf.keras.layers.Conv2D) for layer in found)

    heads = 2 if task == "retinanet" else 1
    assert convolutions(made(head_convs=3)) == convolutions(made(head_convs=1)) + 2 * heads
    for size in (2.0, 3.0):
        batches = training_batches(data[0], settings(task, anchor_size=size), Augmentation(), 2, 0)
        anchors = next(iter(batches))["labels"]["anchor_boxes"]
        for level in (3, 4, 5):
            top, left, bottom, right = anchors[str(level)].numpy().reshape(-1, 4).T
            np.testing.assert_allclose(np.sqrt((bottom - top) * (right - left)), size * 2**level, rtol=0.02)


def test_what_is_found_is_told_in_the_pixels_of_the_image():
    from larq_ssl.evaluation.detection.found import _in_pixels

    outputs = {
        "boxes": np.array([[0, 0, 30, 60], [10, 20, 40, 40], [0, 0, 1, 1]], np.float32),
        "scores": np.array([0.5, 0.75, 0.25], np.float32),
        "classes": np.array([2, 1, 1]),
        "count": np.array(2),
    }
    found = _in_pixels(outputs, np.array([0.5, 0.25], np.float32), 70, 200)
    np.testing.assert_allclose(found.boxes, [[20, 80, 70, 160], [0, 0, 60, 200]])
    assert (found.classes.tolist(), found.scores.tolist()) == ([1, 2], [0.75, 0.5])


def test_every_variable_of_the_backbone_learns_and_frozen_stages_stay(data):
    pytest.importorskip("official", reason="needs the extra detection")
    from larq_ssl.evaluation.detection.detector import Detector
    from larq_ssl.evaluation.detection.found import find

    train, test = data
    encoder = models.build("reactnet_stages", None, "full", width=0.125)
    detector = Detector(encoder, settings(), freeze_stages=1)
    detector.compile(build_optimizer("sgd", 0.01, 1e-4))
    before = {name: weight.numpy() for name, weight in named_weights(encoder).items()}
    history = detector.fit(
        training_batches(train, settings(), Augmentation(), 2, 0), epochs=1, steps_per_epoch=3, verbose=0
    )
    assert set(detector.term_names) <= set(history.history)
    assert np.isfinite(history.history["loss"][0])
    frozen = {id(variable) for variable in detector.backbone.frozen_variables}
    trained = {id(variable) for variable in detector.backbone.trained_variables}
    assert len(frozen) > 10
    assert len(trained) > 20
    for name, weight in named_weights(encoder).items():
        moved = weight.numpy().tobytes() != before[name].tobytes()
        assert moved != (id(weight) in frozen), name
    seen = detector.gradient_seen.numpy()
    of_backbone = [
        largest for variable, largest in zip(detector.optimized_variables, seen, strict=True) if id(variable) in trained
    ]
    assert len(of_backbone) == len(trained)
    assert min(of_backbone) > 0
    assert detector.variables_without_gradient() == []
    detector.gradient_seen.assign(np.zeros(len(seen), np.float32))
    assert set(detector.variables_without_gradient()) == {v.name for v in detector.backbone.trained_variables}
    found = find(detector, test, 3)
    assert len(found) == test.size
    for one in found:
        assert len(one.boxes) == len(one.classes) == len(one.scores) <= 100
        assert np.all(one.boxes[:, 2:] <= [scenes.HEIGHT, scenes.WIDTH])
        assert np.all(np.diff(one.scores) <= 0)
    sizes = [len(batch["id"]) for batch in test_batches(test, settings(), 3)]
    assert sizes == [3, 1]


@pytest.mark.slow
@pytest.mark.parametrize("task", ["faster_rcnn", "mask_rcnn", "retinanet"])
def test_each_task_learns_two_shapes(task, tmp_path):
    """Float and small, on eight images: what it has seen it finds."""
    pytest.importorskip("official", reason="needs the extra detection")
    from larq_ssl.evaluation.detection import coco_metrics
    from larq_ssl.evaluation.detection.detector import Detector
    from larq_ssl.evaluation.detection.found import find

    root = str(scenes.coco_folder(tmp_path / "coco", train=16))
    train = images.load_images("folder", "train", root)
    chosen = settings(task, filters=32, head_units=64, proposals=64, samples=32, anchor_samples=64, anchor_size=2.5)
    detector = Detector(models.build("reactnet_stages", None, "none", width=0.25), chosen)
    detector.compile(build_optimizer("adam", 2e-3))
    batches = training_batches(train, chosen, Augmentation(), 4, 0)
    first = detector.fit(batches, epochs=1, steps_per_epoch=20, verbose=0).history["loss"][0]
    last = detector.fit(batches, epochs=8, steps_per_epoch=20, verbose=0).history["loss"][-1]
    assert last < first / 2
    masks = task == "mask_rcnn"
    entries = json.loads(json.dumps(coco_metrics.detections_json(train, find(detector, train))))
    metrics = coco_metrics.coco_metrics(coco_metrics.truth_json(train, masks), entries, masks)
    assert metrics["ap50"] > 0.5
    if masks:
        assert metrics["mask/ap50"] > 0.5

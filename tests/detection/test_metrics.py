"""Average precision by VOC's rules and by COCO's, and the kinds of errors, against computations written here."""

import json

import numpy as np
import pytest

from larq_ssl.evaluation.detection import coco_metrics, drawing, errors, images
from larq_ssl.evaluation.detection.found import Detections
from larq_ssl.evaluation.detection.overlaps import overlaps
from larq_ssl.evaluation.detection.truth import DetectionImages, truth
from larq_ssl.evaluation.detection.voc_metrics import voc_average_precision, voc_metrics
from tests.detection import scenes

SIDE = 160


def made(seed=0, count=12, classes=3, masks=False):
    """Random objects of whole pixels, some of them ignored, and detections near some and far from others."""
    draw = np.random.default_rng(seed)
    truths, found = [], []
    for _ in range(count):
        number = int(draw.integers(0, 7))
        low = draw.integers(0, 90, (number, 2))
        boxes = np.concatenate([low, low + draw.integers(6, 70, (number, 2))], axis=1)
        kinds, ignored = draw.integers(1, classes + 1, number), draw.random(number) < 0.2
        truths.append(truth(SIDE, SIDE, boxes, kinds, ignored, ignored))
        near = np.repeat(boxes, 2, axis=0)[draw.random(2 * number) < 0.7]
        near_kinds = np.repeat(kinds, 2)[: len(near)]
        shifted = near + draw.integers(-8, 9, near.shape)
        far = draw.integers(0, 60, (4, 2))
        every = np.concatenate([shifted, np.concatenate([far, far + draw.integers(5, 60, (4, 2))], axis=1)])
        every = np.clip(every, 0, SIDE).astype(np.float32)
        every = every[np.all(every[:, 2:] > every[:, :2], axis=1)]
        kinds = np.concatenate([near_kinds, draw.integers(1, classes + 1, 4)])[: len(every)]
        scores = np.sort(draw.random(len(every)).astype(np.float32))[::-1]
        found.append(Detections(every, kinds.astype(np.int64), scores))
    names = tuple(f"class{kind}" for kind in range(1, classes + 1))
    data = DetectionImages("made", "test", names, tuple(truths), tuple(range(1, count + 1)), lambda index: b"")
    return data, found


def inclusive_overlap(one, other):
    """As VOC's own code: of whole pixels counted from 1, the last one inside."""
    a, b = ([box[0] + 1, box[1] + 1, box[2], box[3]] for box in (one, other))
    height = min(a[2], b[2]) - max(a[0], b[0]) + 1
    width = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if height <= 0 or width <= 0:
        return 0.0
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
    return height * width / (areas[0] + areas[1] - height * width)


def slow_voc(data, found, kind, threshold, eleven):
    """One class, as the development kit of 2007 has it, in loops."""
    rows = []
    for number, one in enumerate(found):
        rows += [(one.scores[i], number, one.boxes[i]) for i in range(len(one.scores)) if one.classes[i] == kind]
    rows.sort(key=lambda row: -row[0])
    seen, right, wrong, points = set(), 0, 0, []
    objects = sum(int(k == kind and not i) for t in data.truths for k, i in zip(t.classes, t.ignored, strict=True))
    for _, number, box in rows:
        best, place = 0.0, None
        for index, other in enumerate(data.truths[number].boxes):
            if data.truths[number].classes[index] == kind and inclusive_overlap(box, other) > best:
                best, place = inclusive_overlap(box, other), index
        if best > threshold:
            if data.truths[number].ignored[place]:
                points.append((right / objects, right / max(right + wrong, 1)))
                continue
            if (number, place) in seen:
                wrong += 1
            else:
                seen.add((number, place))
                right += 1
        else:
            wrong += 1
        points.append((right / objects, right / max(right + wrong, 1)))
    if eleven:
        total = 0.0
        for tenth in range(11):
            total += max((p for r, p in points if r >= tenth / 10 - 1e-12), default=0.0)
        return total / 11
    area, before = 0.0, 0.0
    for recall in sorted({r for r, _ in points}):
        area += (recall - before) * max(p for r, p in points if r >= recall)
        before = recall
    return area


@pytest.mark.parametrize("seed", range(5))
def test_voc_average_precision_is_that_of_the_development_kit(seed):
    data, found = made(seed)
    metrics = voc_metrics(data, found)
    tens = [0.5 + 0.05 * step for step in range(10)]
    wanted = {t: [slow_voc(data, found, kind, t, True) for kind in (1, 2, 3)] for t in tens}
    assert metrics["voc07/ap50"] == pytest.approx(np.mean(wanted[0.5]), abs=1e-9)
    assert metrics["voc07/ap75"] == pytest.approx(np.mean(wanted[tens[5]]), abs=1e-9)
    assert metrics["voc07/ap"] == pytest.approx(np.mean([np.mean(wanted[t]) for t in tens]), abs=1e-9)
    area = [slow_voc(data, found, kind, 0.5, False) for kind in (1, 2, 3)]
    assert metrics["voc_area/ap50"] == pytest.approx(np.mean(area), abs=1e-9)
    for kind in (1, 2, 3):
        assert metrics[f"voc07/class/class{kind}/ap50"] == pytest.approx(wanted[0.5][kind - 1], abs=1e-9)
    assert 0.05 < metrics["voc07/ap50"] < 0.95  # something is compared


def test_voc_average_precision_by_hand():
    # Recalls 1/4, 1/4, 2/4, 3/4 at precisions 1, 1/2, 2/3, 3/4: 3 points at 1, 5 at 3/4, 3 at 0.
    hits = np.array([True, False, True, True])
    assert voc_average_precision(hits, 4) == pytest.approx((3 * 1 + 5 * 0.75) / 11)
    assert voc_average_precision(hits, 4, "area") == pytest.approx(0.25 * 1 + 0.5 * 0.75)
    assert voc_average_precision(np.array([], bool), 3) == 0
    with pytest.raises(ValueError, match=r"method must be one of \['11_point', 'area'\], got 'all'"):
        voc_average_precision(hits, 4, "all")


def test_overlaps_are_those_of_whole_pixels():
    draw = np.random.default_rng(0)
    low = draw.integers(0, 40, (2, 9, 2))
    first, second = np.concatenate([low, low + draw.integers(1, 40, low.shape)], axis=2)
    wanted = [[inclusive_overlap(one, other) for other in second] for one in first]
    np.testing.assert_allclose(overlaps(first, second), wanted)
    assert np.any(overlaps(first, second) > 0.1)
    assert overlaps(np.zeros((1, 4)), first).tolist() == [[0.0] * 9]
    assert overlaps(np.zeros((0, 4)), first).shape == (0, 9)


def test_nothing_to_be_found():
    data, found = made()
    hidden = [truth(SIDE, SIDE, t.boxes, t.classes, np.ones(len(t.classes), bool)) for t in data.truths]
    none = DetectionImages("made", "test", data.class_names, tuple(hidden), data.ids, data.read)
    with pytest.raises(ValueError, match="none has an object that is not difficult"):
        voc_metrics(none, found)
    with pytest.raises(ValueError, match="none has an object that counts"):
        coco_metrics.coco_metrics(coco_metrics.truth_json(none), [])


def test_kinds_of_errors():
    boxes = [[0, 0, 20, 20], [40, 40, 140, 140], [100, 0, 130, 30]]
    data = DetectionImages(
        "made",
        "test",
        ("cat", "dog"),
        (truth(SIDE, SIDE, boxes, [1, 2, 1], [False, False, True]),),
        (1,),
        lambda i: b"",
    )
    found = Detections(
        np.array(
            [
                [0, 0, 20, 20],  # the cat
                [0, 1, 20, 21],  # the cat again
                [40, 40, 140, 140],  # the dog, as a cat
                [40, 40, 80, 80],  # a part of the dog
                [150, 150, 158, 158],  # nothing
                [100, 0, 130, 30],  # what is ignored
                [100, 0, 130, 30],  # the same, as a dog
                [40, 40, 140, 140],  # the dog, of too low a score
            ],
            np.float32,
        ),
        np.array([1, 1, 1, 2, 2, 1, 2, 2]),
        np.array([0.9, 0.8, 0.8, 0.7, 0.7, 0.6, 0.6, 0.4], np.float32),
    )
    table = errors.errors(data, [found])
    zeros = dict.fromkeys((*errors.KINDS, "objects", "missed"), 0)
    assert table["class"]["cat"] == {**zeros, "hit": 1, "duplicate": 1, "confused": 1, "objects": 1}
    assert table["class"]["dog"] == {**zeros, "misplaced": 1, "background": 1, "objects": 1, "missed": 1}
    small = {**zeros, "hit": 1, "duplicate": 1, "background": 1, "objects": 1}
    assert table["size"] == {
        "small": small,
        "medium": zeros,
        "large": {**zeros, "confused": 1, "misplaced": 1, "objects": 1, "missed": 1},
    }
    rates = errors.rates(table)
    assert rates["errors/class/cat/missed"] == 0
    assert rates["errors/class/dog/missed"] == 1
    assert rates["errors/class/cat/duplicate"] == pytest.approx(1 / 3)
    assert not [name for name in rates if "/medium/" in name]
    low = errors.errors(data, [found], score=0.3)
    assert (low["class"]["dog"]["hit"], low["class"]["dog"]["missed"]) == (1, 0)


def test_pictures(tmp_path):
    data = images.load_images("folder", "test", str(scenes.voc_folder(tmp_path / "voc")))
    found = [Detections(t.boxes, t.classes, np.linspace(0.9, 0.2, len(t.classes))) for t in data.truths]
    figure = drawing.detection_sheet(tmp_path / "sheet.png", data, found)
    truths, right = figure.axes[0::2], figure.axes[1::2]
    assert [len(axis.patches) for axis in truths] == [2, 2, 2, 2]
    assert [len(axis.patches) for axis in right] == [1, 1, 1, 1]
    assert [text.get_text() for text in right[0].texts] == [f"{data.class_names[data.truths[0].classes[0] - 1]} 0.90"]
    bars = drawing.error_bars(tmp_path / "errors.png", errors.errors(data, found))
    assert [axis.get_title() for axis in bars.axes] == ["objects", "detections"]
    for name in ("sheet.png", "errors.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("seed", range(3))
def test_coco_metrics_are_those_of_pycocotools_on_stored_files(seed, tmp_path, capsys):
    """Read back by pycocotools alone, as anybody would check them."""
    pytest.importorskip("pycocotools", reason="needs the extra detection")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    data, found = made(seed)
    (tmp_path / "truth.json").write_text(json.dumps(coco_metrics.truth_json(data)))
    (tmp_path / "detections.json").write_text(json.dumps(coco_metrics.detections_json(data, found)))
    known = COCO(str(tmp_path / "truth.json"))
    evaluation = COCOeval(known, known.loadRes(str(tmp_path / "detections.json")), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    capsys.readouterr()
    metrics = coco_metrics.coco_metrics(
        *(json.loads((tmp_path / name).read_text()) for name in ("truth.json", "detections.json"))
    )
    names = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
    for name, wanted in zip(names, evaluation.stats, strict=False):
        assert metrics.get(name, -1) == pytest.approx(wanted, abs=1e-12)
    assert metrics["ar"] == pytest.approx(evaluation.stats[8])
    assert np.mean([metrics[f"class/class{kind}/ap50"] for kind in (1, 2, 3)]) == pytest.approx(metrics["ap50"])
    assert 0.05 < metrics["ap50"] < 0.95
    assert capsys.readouterr().out == ""


def test_no_detection_is_worth_nothing():
    pytest.importorskip("pycocotools", reason="needs the extra detection")
    data, _ = made()
    metrics = coco_metrics.coco_metrics(coco_metrics.truth_json(data), [])
    assert metrics["ap"] == metrics["ap50"] == metrics["class/class1/ap"] == 0
    nothing = [Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32))] * data.size
    assert coco_metrics.detections_json(data, nothing) == []
    assert voc_metrics(data, nothing)["voc07/ap50"] == 0


def test_masks_that_are_the_truth_are_worth_everything(tmp_path):
    pytest.importorskip("pycocotools", reason="needs the extra detection")
    data = images.load_images("folder", "test", str(scenes.coco_folder(tmp_path / "coco")))
    plain = [np.flatnonzero(~t.ignored) for t in data.truths]
    found = [
        Detections(
            t.boxes[kept], t.classes[kept], np.ones(len(kept), np.float32), tuple(t.runs()[place] for place in kept)
        )
        for t, kept in zip(data.truths, plain, strict=True)
    ]
    entries = json.loads(json.dumps(coco_metrics.detections_json(data, found)))
    metrics = coco_metrics.coco_metrics(json.loads(json.dumps(coco_metrics.truth_json(data, True))), entries, True)
    assert metrics["ap"] == metrics["mask/ap"] == pytest.approx(1)
    assert metrics["mask/class/disc/ap75"] == pytest.approx(1)
    drawing.detection_sheet(tmp_path / "sheet.png", data, found)


def test_coco_metrics_are_those_of_the_model_garden():
    """Its evaluator knows no crowds that it was not told of, so there are none here."""
    pytest.importorskip("official", reason="needs the extra detection")
    import tensorflow as tf
    from official.vision.evaluation.coco_evaluator import COCOEvaluator

    data, found = made(4, count=6)
    plain = [truth(SIDE, SIDE, t.boxes, t.classes, np.zeros(len(t.classes), bool)) for t in data.truths]
    data = DetectionImages("made", "test", data.class_names, tuple(plain), data.ids, data.read)
    evaluator = COCOEvaluator(annotation_file=None, include_mask=False)

    def padded(rows, length, value):
        rows = np.asarray(rows)
        return np.concatenate([rows, np.full((length - len(rows), *rows.shape[1:]), value, rows.dtype)])[None]

    for number, (one, own) in enumerate(zip(data.truths, found, strict=True), start=1):
        known = {
            "source_id": np.array([number]),
            "height": np.array([SIDE]),
            "width": np.array([SIDE]),
            "num_detections": np.array([len(one.classes)]),
            "boxes": padded(one.boxes, 20, -1),
            "classes": padded(one.classes, 20, -1),
        }
        told = {
            "source_id": np.array([number]),
            "num_detections": np.array([len(own.classes)]),
            "detection_boxes": padded(own.boxes, 20, 0),
            "detection_classes": padded(own.classes, 20, 0),
            "detection_scores": padded(own.scores, 20, 0),
            "image_info": np.array([[[SIDE, SIDE], [SIDE, SIDE], [1, 1], [0, 0]]], np.float32),
        }
        evaluator.update_state(*(tf.nest.map_structure(tf.constant, part) for part in (known, told)))
    wanted = evaluator.result()
    metrics = coco_metrics.coco_metrics(coco_metrics.truth_json(data), coco_metrics.detections_json(data, found))
    for name, theirs in (("ap", "AP"), ("ap50", "AP50"), ("ap75", "AP75"), ("ap_medium", "APm"), ("ar", "ARmax100")):
        assert metrics[name] == pytest.approx(float(wanted[theirs]), abs=1e-6)

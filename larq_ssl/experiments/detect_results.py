"""What is measured of a detector that is trained, and what stays of it in its folder."""

import dataclasses

from absl import flags

from larq_ssl.evaluation.detection import coco_metrics, drawing, errors, found, voc_metrics
from larq_ssl.evaluation.detection.detector import Detector
from larq_ssl.evaluation.detection.truth import DetectionImages
from larq_ssl.evaluation.results import named, read_results, write_results
from larq_ssl.experiments import common
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.files import write_json
from larq_ssl.models.folder import save_encoder

FLAGS = flags.FLAGS

SCORE = 0.5
"""Detections of lower scores are neither drawn nor told as errors; they count for average precision."""

_HEADLINES = ("ap", "ap50", "ap75", "mask/ap", "mask/ap50", "voc07/ap50")


def measure(run: RunFolder, detector: Detector, train: DetectionImages, test: DetectionImages, started: str) -> None:
    """Looks for everything in the test images and writes down how well that went; last of all `results.json`.

    # Arguments
        run: Where it is written.
        detector: Trained.
        train, test: Images.
        started: Hash of the encoder that the backbone started from.
    """
    detections = found.find(detector, test, FLAGS.batch_size, common.bar("test images"))
    truth = coco_metrics.truth_json(test, detector.settings.has_masks)
    entries = coco_metrics.detections_json(test, detections)
    write_json(run.path / "truth.json", truth, overwrite=True)
    write_json(run.path / "detections.json", entries, overwrite=True)
    table = errors.errors(test, detections, SCORE)
    write_json(run.path / "errors.json", table, overwrite=True)
    metrics = {
        **coco_metrics.coco_metrics(truth, entries, detector.settings.has_masks),
        **voc_metrics.voc_metrics(test, detections),
        **errors.rates(table),
    }
    _draw(run, test, detections, table)
    if not run.encoder("student").exists():
        save_encoder(detector.encoder, run.encoder("student"))
    settings = {
        "encoder_hash": started,
        "image_size": [FLAGS.image_height, FLAGS.image_width],
        "seed": FLAGS.seed,
        "init": FLAGS.init,
        "steps": FLAGS.steps,
        "batch_size": FLAGS.batch_size,
        "train": train.fingerprint,
        "test": test.fingerprint,
        "detector": dataclasses.asdict(detector.settings),
    }
    of_test = {f"test/{key}": value for key, value in metrics.items()}
    write_results(run.path, named("detection", FLAGS.task, test.name, of_test), settings)
    show(run)


def show(run: RunFolder) -> None:
    """Tells the main numbers of a run that is finished."""
    metrics = read_results(run.path).metrics
    for name, value in metrics.items():
        if name.split("/test/", 1)[-1] in _HEADLINES:
            common.say(f"{name}: {value:.4f}")
    pictures = [file.name for file in (run.path / "detections.png", run.path / "errors.png") if file.exists()]
    common.say(f"{run.path}: {len(metrics)} numbers in results.json; {', '.join(pictures)}.")


def _draw(run: RunFolder, test: DetectionImages, detections: list[found.Detections], table: errors.Breakdown) -> None:
    drawing.error_bars(run.path / "errors.png", table, overwrite=True)
    count = min(FLAGS.pictures, test.size)
    if count:
        # Spread over all of them: neighbours look alike.
        chosen = [place * test.size // count for place in range(count)]
        shown = [detections[place] for place in chosen]
        drawing.detection_sheet(run.path / "detections.png", test.subset(chosen), shown, SCORE, overwrite=True)

"""Detection on an encoder as the backbone: `python -m larq_ssl.experiments.detect --run=<run folder>`.

`--task=faster_rcnn|mask_rcnn|retinanet` is trained on `--dataset=voc|coco|folder`, and measured on its test images;
with `--init=random` on the same network with fresh weights, the baseline. The same command goes on where it was
stopped. It needs the extra `detection` (`make detection`).
"""

import contextlib
import dataclasses
import functools
import pathlib
import sys
from collections.abc import Mapping

import tensorflow as tf
from absl import flags

from larq_ssl import callbacks, distribute
from larq_ssl.checkpoints import Checkpoints
from larq_ssl.data.decode import BadImageError
from larq_ssl.evaluation.detection import extra, images
from larq_ssl.evaluation.detection.backbone import DetectionBackbone
from larq_ssl.evaluation.detection.batches import training_batches
from larq_ssl.evaluation.detection.detector import Detector
from larq_ssl.evaluation.detection.truth import DetectionImages
from larq_ssl.experiments import common, detect_export, detect_flags, detect_results, endings
from larq_ssl.experiments.resuming import restore
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.models import Encoder, build, copy_weights
from larq_ssl.models.folder import encoder_hash, load_encoder
from larq_ssl.optimizers import MATRIX_ROLES, build_optimizer

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(detect_flags)


def backbone(source: Encoder) -> Encoder:
    """A network like the one that was pre-trained, with its weights or, with `--init=random`, with fresh ones."""
    synchronized = FLAGS.sync_batch_norm and FLAGS.strategy != "single"
    spec = dataclasses.replace(source.spec, image_size=None, classes=None)
    encoder = build(**dataclasses.asdict(spec), synchronized=synchronized)
    if FLAGS.init == "encoder":
        common.say(f"The backbone starts from {FLAGS.run or FLAGS.encoder_dir}: {_taken_over(source, encoder)}.")
    return encoder


def _taken_over(source: Encoder, encoder: Encoder) -> str:
    if source.spec.classes is None:
        return str(copy_weights(source, encoder))
    raise ValueError(f"{source.spec.name} ends in a classifier of its own: give an encoder without one.")


def refuse_no_backbone(source: Encoder) -> None:
    """Raises a `ValueError` if an encoder cannot be a backbone, before images are read."""
    DetectionBackbone(source, FLAGS.min_level, FLAGS.freeze_stages, FLAGS.batch_norm)


def compiled(encoder: Encoder, classes: int) -> Detector:
    """The detector that the flags describe, with its optimizer."""
    detector = Detector(
        encoder, detect_flags.settings(classes), FLAGS.freeze_stages, FLAGS.batch_norm, FLAGS.gradient_clip
    )
    optimizer = build_optimizer(
        FLAGS.optimizer, detect_flags.learning_rate(), FLAGS.weight_decay, decay_roles=MATRIX_ROLES
    )
    detector.compile(optimizer)
    return detector


def watchers(run: RunFolder) -> list[tf.keras.callbacks.Callback]:
    """What looks on while a detector trains, in this order."""
    return [
        callbacks.EpochRecorder(FLAGS.batch_size),
        callbacks.ScheduleLogger({"learning_rate": detect_flags.learning_rate()}),
        callbacks.GradientCheck(),
        callbacks.Estimate(FLAGS.steps, FLAGS.batch_size, common.say),
        callbacks.MetricsFile(run.metrics_file),
        callbacks.TensorBoard(run.tensorboard),
        callbacks.ProgressBar(["loss"]),
    ]


def fit(
    run: RunFolder, detector: Detector, checkpoints: Checkpoints, batches: tf.data.Dataset, stop: float | None
) -> int:
    """Trains up to `--steps`; returns the exit code, 0 if they were reached."""

    def saved(step: int, seconds: float) -> None:
        run.record_progress(step, FLAGS.steps, seconds)

    saving = callbacks.Checkpointing(checkpoints, FLAGS.checkpoint_every, saved, stop)
    detector.fit(
        batches,
        epochs=FLAGS.steps // FLAGS.steps_per_epoch,
        steps_per_epoch=FLAGS.steps_per_epoch,
        callbacks=[*watchers(run), saving],
        verbose=1 if sys.stdout.isatty() else 2,
    )
    if saving.interrupted:
        common.say(f"{run.path}: stopped by SIGTERM after saving; the same command goes on.")
        return common.SIGTERM_EXIT
    if saving.out_of_time and detector.optimizer.iterations.numpy() < FLAGS.steps:
        common.say(f"{run.path}: stopped by --max_hours after saving; the same command goes on.")
        return common.TIME_EXIT
    return 0


def load(source: Encoder) -> tuple[DetectionImages, DetectionImages]:
    """The images to train on and those to test on.

    # Raises
        ValueError: If the task cannot be trained or measured on them.
    """
    name = detect_flags.dataset_name()
    train, test = (images.load_images(FLAGS.dataset, split, FLAGS.data_dir, name) for split in images.SPLITS)
    if train.class_names != test.class_names:
        raise ValueError(f"The classes to train on and to test on differ: {train.class_names}, {test.class_names}.")
    if FLAGS.task == "mask_rcnn" and not (train.has_outlines and test.has_outlines):
        raise ValueError(
            f"--task=mask_rcnn needs an outline of each object, which those of {name} have not: give a folder in "
            "COCO's format with segmentations, or another --task."
        )
    if all(truth.ignored.all() for truth in test.truths):
        raise ValueError(f"There is nothing to be found in the test images of {name}: none has an object that counts.")
    train = train.to_train_on()
    if FLAGS.batch_size > train.size:
        raise ValueError(f"--batch_size={FLAGS.batch_size} must be at most {train.size}, the images to train on.")
    return train, test


def refuse_others(run: RunFolder, folder: pathlib.Path, text: Mapping[str, str]) -> None:
    """Raises a `ValueError` if a finished run had other images or another encoder.

    # Arguments
        folder: Of the encoder.
        text: The flags of this command; what lies where it lay is not read again.
    """
    before = run.flags()
    if all(before.get(name) == text.get(name) for name in ("data_dir", "encoder_dir", "run")):
        return
    source = load_encoder(folder)
    train, test = load(source)
    found = {"train": train.fingerprint, "test": test.fingerprint}
    if FLAGS.init == "encoder":
        found["encoder"] = encoder_hash(source)
    run.refuse_other_inputs({**run.inputs(), **found})


def show_earlier(run: RunFolder) -> int:
    """Tells the result of a finished run, and exports its backbone if that is asked for; returns the exit code."""
    common.say(f"{run.path}: finished earlier (--fresh begins anew).")
    detect_results.show(run)
    if FLAGS.export_backbone:
        detect_export.write(run, images.load_images(FLAGS.dataset, "test", FLAGS.data_dir))
    return 0


def main() -> int:
    text, stop_at = common.flags_as_text(), endings.deadline()
    with contextlib.ExitStack() as stack:
        with common.user_errors(), endings.told():
            folder, beside = detect_flags.source()
            run = detect_flags.run_folder(beside)
            detect_flags.learning_rate(), detect_flags.augmentation(), detect_flags.settings(1)
            if FLAGS.export_backbone:
                detect_export.refuse(folder)
            stack.enter_context(run.open(text, detect_flags.identity(FLAGS), FLAGS.fresh))
            if run.finished and not FLAGS.fresh:
                refuse_others(run, folder, text)
                return show_earlier(run)
            images.check(FLAGS.dataset, FLAGS.data_dir)
            source = load_encoder(folder)
            refuse_no_backbone(source)
            extra.require()
            train, test = load(source)
            tf.keras.utils.set_random_seed(FLAGS.seed)
            strategy = distribute.strategy(FLAGS.strategy)
            if FLAGS.batch_size % strategy.num_replicas_in_sync:
                raise ValueError(f"--batch_size must be a multiple of the {strategy.num_replicas_in_sync} replicas.")
            with strategy.scope():
                detector = compiled(backbone(source), len(train.class_names))
            started = encoder_hash(detector.encoder)
            inputs = {"train": train.fingerprint, "test": test.fingerprint, "encoder": started}
            run.begin(text, inputs, "python -m larq_ssl.experiments.detect", FLAGS.fresh)
            checkpoints = Checkpoints(run.checkpoints, method=detector, optimizer=detector.optimizer)
            done = restore(run, checkpoints)
            # A process that goes on must not draw again what an earlier one drew.
            tf.random.set_seed(FLAGS.seed + done)
            make = functools.partial(training_batches, train, detector.settings, detect_flags.augmentation())
            batches = make(FLAGS.batch_size, FLAGS.seed, done)
        begun = f"going on after step {done:,}" if done else "a new run"
        common.say(f"{run.path}: {begun}; {train.size} images to train on, {test.size} to test on.")
        try:
            with endings.told():
                code = fit(run, detector, checkpoints, batches, stop_at)
                if code:
                    return code
                detect_results.measure(run, detector, train, test, started)
            with common.user_errors():
                if FLAGS.export_backbone:
                    detect_export.write(run, test)
            return 0
        except (*endings.ERRORS, BadImageError) as error:
            kept = f" The last checkpoint in {run.checkpoints} is kept." if checkpoints.steps() else ""
            return common.fail(f"{error}{kept}", endings.exit_code(error))


if __name__ == "__main__":
    common.run(main)

"""The flags of detection: which encoder, which images, what is built on it and how it is trained."""

import pathlib
import re
from collections.abc import Collection

import tensorflow as tf
from absl import flags

from larq_ssl import schedules
from larq_ssl.evaluation.detection.backbone import BATCH_NORMS
from larq_ssl.evaluation.detection.batches import Augmentation
from larq_ssl.evaluation.detection.images import DATASETS
from larq_ssl.evaluation.detection.settings import TASKS, DetectorSettings
from larq_ssl.experiments import common
from larq_ssl.experiments.common import CHECKPOINT_EVERY, TIME_EXIT
from larq_ssl.experiments.run_folder import RunFolder

FLAGS = flags.FLAGS

OPERATIONAL = frozenset(
    "checkpoint_every data_dir encoder_dir export_backbone fresh max_hours pictures recipe run strategy workdir".split()
)
"""Flags that may change between two starts of the same run; all others decide what is trained and measured."""

_SCHEDULES = ("step", "cosine", "constant")
_OF_REGIONS = ("head_dense", "head_units", "proposals", "samples", "anchor_samples")
"""Flags of what is done with proposed regions."""

_ALONE = ("single", "mirrored")
"""Strategies of one process."""

flags.DEFINE_string("run", None, "Run folder whose encoder becomes the backbone.")
flags.DEFINE_string("encoder_dir", None, "Encoder folder that becomes the backbone, instead of --run.")
flags.DEFINE_enum("which", "student", ["student", "ema"], "Encoder of the run.")
flags.DEFINE_enum("init", "encoder", ["encoder", "random"], "The encoder's weights, or fresh ones: the baseline.")
flags.DEFINE_enum("task", "faster_rcnn", TASKS, "What is built on the encoder.")
flags.DEFINE_enum(
    "dataset",
    "folder",
    DATASETS,
    "voc (07+12, tested on 07) or coco (2017), of TensorFlow Datasets or of their own folder; or any folder in the "
    "format of one of them.",
)
flags.DEFINE_string("data_dir", None, "The folder, or TFDS's data_dir.")
flags.DEFINE_string("dataset_name", None, "What the images are called in results; by default as --dataset.")
flags.DEFINE_string(
    "workdir", None, "Folder of the detector and its results; by default beside the other probes of the encoder."
)
flags.DEFINE_string("recipe", None, "Flagfile <dataset>/<name> of larq_ssl; flags that are typed win over it.")
flags.DEFINE_integer("image_height", 800, "Of what images are scaled into, in pixels.", 32)
flags.DEFINE_integer("image_width", 1344, "Of what images are scaled into, in pixels.", 32)
flags.DEFINE_integer("min_level", 2, "Finest level of the feature pyramid, as a power of two of its stride.", 2, 5)
flags.DEFINE_integer("max_level", 6, "Coarsest level of the feature pyramid.", 5, 7)
flags.DEFINE_float("anchor_size", 8.0, "Side of the anchors in strides of their level.", 0.1)
flags.DEFINE_integer("anchor_scales", 1, "Sizes of anchors per level; RetinaNet is published with 3.", 1)
flags.DEFINE_integer("filters", 256, "Channels of feature pyramid and heads.", 8)
flags.DEFINE_integer(
    "head_convs", None, "Convolutions of the box head, by default none; of RetinaNet, of both heads, by default 4.", 0
)
flags.DEFINE_integer("head_dense", 2, "Dense layers of the box head.", 0)
flags.DEFINE_integer("head_units", 1024, "Of each of them.", 8)
flags.DEFINE_integer("proposals", 1000, "Regions that are proposed per image.", 1)
flags.DEFINE_integer("samples", 512, "Regions per image that the heads are trained on, at most.", 4)
flags.DEFINE_integer("anchor_samples", 256, "Anchors per image that the proposals are trained on, at most.", 2)
flags.DEFINE_integer(
    "freeze_stages", 0, "Stages of the encoder that stay as they are: 1 ends at stride 4, 4 at 32.", 0, 4
)
flags.DEFINE_enum("batch_norm", "train", BATCH_NORMS, "BatchNorm of the encoder: of batches, or as it is.")
flags.DEFINE_bool("sync_batch_norm", False, "BatchNorm of encoder and heads sees the images of all replicas.")
flags.DEFINE_bool("flip", True, "Flip half of the training images left to right.")
flags.DEFINE_bool("vertical_flip", False, "Flip half of the training images upside down.")
flags.DEFINE_float("scale_min", 1.0, "Smallest factor by which training images are scaled before cropping.", 0.01)
flags.DEFINE_float("scale_max", 1.0, "Largest such factor.", 0.01)
flags.DEFINE_enum("optimizer", "sgd", ["sgd", "sgd_nesterov", "adam", "adamw"], "Optimizer.")
flags.DEFINE_float("lr", 0.02, "Peak learning rate.", 0)
flags.DEFINE_enum("schedule", "step", _SCHEDULES, "Of the learning rate.")
flags.DEFINE_string(
    "milestones", None, "Steps at which --schedule=step multiplies by --step_factor, such as 18000,22000."
)
flags.DEFINE_float("step_factor", 0.1, "See --milestones.", 0, 1)
flags.DEFINE_integer("warmup_steps", 0, "Steps in which the learning rate rises from a thousandth of its peak.", 0)
flags.DEFINE_float("weight_decay", 1e-4, "Weight decay of kernels.", 0)
flags.DEFINE_float("gradient_clip", None, "Largest global norm of the gradients.", 1e-9)
flags.DEFINE_integer("steps", 24000, "Updates in all.", 1)
flags.DEFINE_integer("steps_per_epoch", 100, "Updates per line of metrics.jsonl; it divides --steps.", 1)
flags.DEFINE_integer("batch_size", 16, "Images per update over all replicas.", 1)
flags.DEFINE_integer("seed", 0, "Of new weights, and of the order of the images.", 0, 2**32 - 1)
flags.DEFINE_enum("strategy", "single", _ALONE, "Devices: one, or all GPUs of this machine.")
flags.DEFINE_bool("fresh", False, "Move an earlier run in --workdir aside and begin anew.")
flags.DEFINE_integer("checkpoint_every", CHECKPOINT_EVERY, "Updates between two checkpoints.", 1)
flags.DEFINE_float(
    "max_hours", None, f"Stop after so many hours, saved, with exit code {TIME_EXIT}; the same command goes on.", 0
)
flags.DEFINE_bool(
    "export_backbone", False, "Also write the binary backbone, as trained, as an audited file of Larq Compute Engine."
)
flags.DEFINE_integer("pictures", 8, "Test images that are drawn, with the truth beside what was found; 0 for none.", 0)


def identity(names: Collection[str]) -> set[str]:
    """Those of the flags that decide what is trained and measured."""
    return set(names) - OPERATIONAL


def source() -> tuple[pathlib.Path, pathlib.Path]:
    """The folder of the encoder, and the one where its probes lie.

    # Raises
        ValueError: If the flags name none, or two.
    """
    if (FLAGS.run is None) == (FLAGS.encoder_dir is None):
        raise ValueError("Give either --run=<run folder> or --encoder_dir=<encoder folder>.")
    if FLAGS.run is None:
        if FLAGS["which"].present:
            raise ValueError("--which has no meaning with --encoder_dir, which is one encoder: leave one out.")
        folder = pathlib.Path(FLAGS.encoder_dir)
        beside = folder.parent / "probes"
    else:
        run = RunFolder(FLAGS.run)
        if not run.finished:
            raise ValueError(f"--run={run.path} is not a finished run.")
        folder, beside = run.encoder(FLAGS.which), run.path / "probes"
    if not folder.is_dir():
        raise ValueError(f"There is no encoder in {folder}.")
    return folder, beside


def run_folder(beside: pathlib.Path) -> RunFolder:
    """`--workdir`, or the default place below `beside`.

    # Raises
        ValueError: If nothing can be written there.
    """
    if FLAGS.dataset_name is not None and not re.fullmatch(r"\w[\w.-]*", FLAGS.dataset_name):
        raise ValueError(
            f"--dataset_name must be letters, digits, _, - and dots, the first one no dot, got {FLAGS.dataset_name!r}."
        )
    if FLAGS.workdir is not None:
        common.refuse_no_place("workdir", FLAGS.workdir)
        return RunFolder(FLAGS.workdir)
    marks = [*(["random"] if FLAGS.init == "random" else []), *([FLAGS.which] if FLAGS.which != "student" else [])]
    marks += [f"seed{FLAGS.seed}"] if FLAGS.seed else []
    return RunFolder(beside / "-".join(["detection", FLAGS.task, dataset_name(), *marks]))


def dataset_name() -> str:
    """What the images are called in results."""
    return str(FLAGS.dataset_name or FLAGS.dataset)


def settings(classes: int) -> DetectorSettings:
    """What is built.

    # Arguments
        classes: Of the images.
    # Raises
        ValueError: If the sizes do not go together.
    """
    if FLAGS.task == "retinanet":
        for name in _OF_REGIONS:
            if FLAGS[name].present:
                raise ValueError(f"--{name} has no meaning for --task=retinanet, which proposes no regions.")
    convs = FLAGS.head_convs
    if convs is None:
        convs = 4 if FLAGS.task == "retinanet" else 0
    names = ("task", "min_level", "max_level", "anchor_size", "anchor_scales", "filters", *_OF_REGIONS)
    synchronized = FLAGS.sync_batch_norm and FLAGS.strategy != "single"
    chosen = {name: FLAGS[name].value for name in names}
    size = {"height": FLAGS.image_height, "width": FLAGS.image_width}
    return DetectorSettings(**chosen, **size, head_convs=convs, classes=classes, synchronized=synchronized)


def augmentation() -> Augmentation:
    """What happens to training images.

    # Raises
        ValueError: If the task has no such thing.
    """
    if FLAGS.vertical_flip and FLAGS.task == "retinanet":
        raise ValueError("--vertical_flip has no meaning for --task=retinanet: its parser has no such flip.")
    return Augmentation(FLAGS.flip, FLAGS.vertical_flip, FLAGS.scale_min, FLAGS.scale_max)


def learning_rate() -> tf.keras.optimizers.schedules.LearningRateSchedule:
    """The schedule of `--schedule`.

    # Raises
        ValueError: If its flags contradict each other.
    """
    steps, warmup, peak = FLAGS.steps, FLAGS.warmup_steps, FLAGS.lr
    if steps % FLAGS.steps_per_epoch:
        raise ValueError(f"--steps_per_epoch={FLAGS.steps_per_epoch} must divide --steps={steps}.")
    if warmup >= steps:
        raise ValueError(f"--warmup_steps must be less than --steps={steps}, got {warmup}.")
    if FLAGS.milestones is not None and FLAGS.schedule != "step":
        raise ValueError(f"--milestones={FLAGS.milestones} needs --schedule=step, got --schedule={FLAGS.schedule}.")
    if FLAGS.schedule == "cosine":
        return schedules.WarmupCosine(peak, 0.0, steps, warmup, peak / 1000)
    return schedules.StepDecay(peak, _milestones(steps), FLAGS.step_factor, warmup)


def _milestones(steps: int) -> list[int]:
    if FLAGS.milestones is None:
        return []
    parts = FLAGS.milestones.split(",")
    numbers = [int(part) for part in parts if part.strip().isdecimal()]
    if len(numbers) != len(parts) or sorted({0, *numbers, steps}) != [0, *numbers, steps]:
        raise ValueError(
            f"--milestones must be increasing numbers of steps below --steps={steps}, such as 18000,22000, got "
            f"{FLAGS.milestones!r}."
        )
    return numbers

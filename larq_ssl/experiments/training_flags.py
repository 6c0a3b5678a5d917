"""The flags that all training commands share."""

import json
from collections.abc import Collection, Mapping

from absl import flags

from larq_ssl.distribute import STRATEGIES
from larq_ssl.experiments.common import CHECKPOINT_EVERY, LARGEST_IMAGE, TIME_EXIT
from larq_ssl.models.binary_compute import BINARY_COMPUTES
from larq_ssl.optimizers import OPTIMIZERS

FLAGS = flags.FLAGS

OPERATIONAL = frozenset(
    (
        "cache checkpoint_every data_dir diagnostics_every embeddings_every encoder_dir fresh knn_every label_list "
        "labels max_bad_images max_hours prefetch recipe run stage1 strategy teacher validate_every workdir"
    ).split()
)
"""Flags that may change between two starts of the same run; all others of a command decide what is trained.

Paths are among them because folders move: what lies there is compared by fingerprint instead.
"""

_PATHS = ("data_dir", "encoder_dir", "label_list", "labels", "run", "stage1", "teacher")

flags.DEFINE_string(
    "dataset",
    "digits",
    "Images: digits (bundled), folder, voc_folder, imagenet100 (of TFDS), or the name of a TFDS data set.",
)
flags.DEFINE_string("data_dir", None, "Where the data set lies: the folder of images, or TFDS's data_dir.")
flags.DEFINE_string("classes_list", None, "Take only images of these classes: imagenet100, or a file with their names.")
flags.DEFINE_float("val_fraction", 0.0, "Share of a folder's images held out where it has no val folder.", 0, 0.9)
flags.DEFINE_integer("max_train_images", None, "Train on a fixed, class-balanced subset of that many images.", 2)
flags.DEFINE_float("max_bad_images", 0.001, "Share of unreadable images at which a run stops.", 0, 1)
flags.DEFINE_integer("prefetch", 2, "Batches of views that are made ahead of the step.", 1, 1024)
flags.DEFINE_float(
    "cache",
    0.0,
    "GiB of memory for decoded images of files, kept when they are first read; for small data sets.",
    0,
    4096,
)
flags.DEFINE_string(
    "workdir", None, "Folder of the run; by default runs/<experiment>/<dataset>-<encoder>-<preset or scheme>/<stage>."
)
flags.DEFINE_string("recipe", None, "Flagfile <dataset>/<name> of larq_ssl; flags that are typed win over it.")
flags.DEFINE_string("encoder", None, "Network to train, see larq_ssl.models.")
flags.DEFINE_float("width", 1.0, "Factor of the encoder's channels.", 0.01, 16)
flags.DEFINE_enum("stem", "imagenet", ["imagenet", "cifar"], "First layers: for large or for small images.")
flags.DEFINE_integer("image_size", 224, "Side of the (global) views in pixels.", 8, LARGEST_IMAGE)
flags.DEFINE_enum("preprocessing", "imagenet", ["imagenet", "unit", "zoo", "none"], "Of pixels, inside the encoder.")
flags.DEFINE_enum("binarization", None, ["none", "activations", "full"], "Of the encoder; a stage sets it.")
flags.DEFINE_integer("stage", None, "1: binary activations; 2: binary weights too, starting from stage 1.", 1, 2)
flags.DEFINE_string(
    "stage1", None, "Run folder of stage 1 that stage 2 starts from; found beside --workdir if left out."
)
flags.DEFINE_bool("one_stage", False, "Train a fully binary network from scratch.")
flags.DEFINE_string("views", None, "View policy, see larq_ssl.data.views.")
flags.DEFINE_float(
    "crop_scale", None, "Smallest (global) crop as a share of the image's area, instead of the policy's.", 0.01, 1
)
flags.DEFINE_enum("optimizer", "adam", OPTIMIZERS, "Optimizer; LARS by the name of its preset.")
flags.DEFINE_float("lr", None, "Peak learning rate.", 0)
flags.DEFINE_enum(
    "schedule",
    None,
    ["cosine", "epoch_cosine", "epoch_cosine_from_1", "linear", "linear_to_zero", "simclr", "step", "constant"],
    "Of the learning rate. Those of epochs change once per epoch, counted from 0 or from 1; so does linear, whose last "
    "epoch is at zero with linear_to_zero only; simclr: a cosine after a warm-up that begins at 0, over one step more "
    "than there are.",
)
flags.DEFINE_float("min_lr", 0.0, "Learning rate at the end of a cosine, but for simclr.", 0)
flags.DEFINE_float("step_factor", 0.1, "Of the learning rate at 60 % and 80 % of the epochs of --schedule=step.", 0, 1)
flags.DEFINE_float("warmup_epochs", 0.0, "Epochs in which the learning rate rises.", 0)
flags.DEFINE_float("warmup_lr", 0.0, "Learning rate from which it rises, with --schedule=cosine.", 0)
flags.DEFINE_float("weight_decay", None, "Weight decay; by default none, or the one of the LARS preset.", 0)
flags.DEFINE_float("final_weight_decay", None, "Weight decay at the end, reached by a cosine; by default constant.", 0)
flags.DEFINE_float("gradient_clip", None, "Largest global norm of the gradients (of DINO: --clip_norm).", 0)
flags.DEFINE_bool("sync_batch_norm", False, "BatchNorm of the encoder sees the images of all replicas.")
flags.DEFINE_integer("accumulate", 1, "Parts of a replica's batch whose gradients are averaged into one update.", 1)
flags.DEFINE_integer("epochs", 200, "Epochs of this stage.", 1)
flags.DEFINE_integer("steps_per_epoch", None, "Steps per epoch, if fewer than a whole pass.", 1)
flags.DEFINE_integer(
    "batch_size", 256, "Global batch: images per step over all replicas, each of which gets an equal part.", 2
)
flags.DEFINE_integer("seed", 0, "Of weights, views and order.", 0, 2**32 - 1)
flags.DEFINE_enum("precision", "float32", ["float32", "mixed_bfloat16", "mixed_float16"], "Keras precision policy.")
flags.DEFINE_enum(
    "binary_compute",
    "auto",
    BINARY_COMPUTES,
    "Arithmetic of convolutions of binary inputs and kernels, see larq_ssl.models.binary_compute; auto tries which one "
    "is faster here, once for a run.",
)
flags.DEFINE_bool("deterministic", False, "Bit-identical runs on the same machine, at some cost in speed.")
flags.DEFINE_enum(
    "strategy",
    "single",
    STRATEGIES,
    "Devices to train on: one; all GPUs of this machine; those of all machines in the environment variable TF_CONFIG, "
    "on each of which the same command is started; a TPU.",
)
flags.DEFINE_bool("fresh", False, "Move an earlier run in --workdir aside and begin anew.")
flags.DEFINE_integer(
    "checkpoint_every", CHECKPOINT_EVERY, "Steps between two checkpoints: what a killed run recomputes at most.", 1
)
flags.DEFINE_float(
    "max_hours",
    None,
    f"Stop after so many hours of this start, with a checkpoint and exit code {TIME_EXIT}; the same command goes on. "
    "The step, evaluation or checkpoint under way is finished, so leave some minutes for it.",
    0,
)
flags.DEFINE_integer("diagnostics_every", 1, "Epochs between two looks at the binary layers; 0 for none.", 0)
flags.DEFINE_integer("embeddings_every", 1, "Epochs between two looks at how the embeddings lie; 0 for none.", 0)
flags.DEFINE_integer("knn_every", 5, "Epochs between two online kNN evaluations; 0 for none.", 0)


def identity(names: Collection[str]) -> set[str]:
    """Those of the flags that decide what is trained."""
    return set(names) - OPERATIONAL


def of_all_workers(told: Mapping[str, str]) -> str:
    """What processes that train together must have in common: evaluating and saving is work of all of them, too.

    # Arguments
        told: Flags as text; paths may differ from machine to machine, and `--max_hours` of one stops all.
    """
    own = {*_PATHS, "max_hours", "recipe", "workdir"}
    common = {name: value for name, value in told.items() if name not in own}
    return json.dumps({**common, "fresh": FLAGS.fresh}, sort_keys=True)


def names_others(before: Mapping[str, str], now: Mapping[str, str]) -> bool:
    """Whether paths are others than those with which a run began, so that what lies there has to be compared.

    # Arguments
        before, now: Flags as text.
    """
    return any(before.get(name) != now.get(name) for name in _PATHS)

"""Flags of a linear evaluation: whose protocol, and what is changed of it."""

from typing import Any

from absl import flags

from larq_ssl.data.views import POLICIES
from larq_ssl.evaluation.linear_presets import PRESETS, linear_preset
from larq_ssl.evaluation.linear_settings import OPTIMIZERS, SCHEDULES, LinearPreset
from larq_ssl.models import Encoder

_PRESET = flags.DEFINE_enum("preset", "bssl", list(PRESETS), "Whose protocol; the flags below win over it.")
_EPOCHS = flags.DEFINE_integer("epochs", None, "Epochs of the classifiers.", 1)
_RATES = flags.DEFINE_multi_float(
    "lr", None, "Learning rates to sweep; where the preset scales its own to the batch, these are of 256 images.", 1e-9
)
_BATCH = flags.DEFINE_integer("train_batch_size", None, "Images per step of the classifiers.", 1)
_OPTIMIZER = flags.DEFINE_enum("optimizer", None, list(OPTIMIZERS), "Of the classifiers.")
_SCHEDULE = flags.DEFINE_enum("schedule", None, list(SCHEDULES), "Of the learning rates.")
_MIN_RATE = flags.DEFINE_float("min_lr", None, "Learning rate at the end of a cosine.", 0)
_MOMENTUM = flags.DEFINE_float("momentum", None, "Of the optimizer.", 0, 1)
_DECAY = flags.DEFINE_float("weight_decay", None, "Of the classifiers.", 0)
_NORMALISE = flags.DEFINE_bool("normalise", None, "Divide each feature vector by its length.")
_VIEWS = flags.DEFINE_enum(
    "views", None, sorted(POLICIES), "View policy of --augmented, of which the first view is taken: digits_plain, ..."
)

AUGMENTED = flags.DEFINE_bool(
    "augmented",
    False,
    "Train on a new view of each image in each epoch, as the papers do, instead of on cached features of its middle.",
)


def default() -> LinearPreset:
    """The preset that is asked for, as it is published for convolutional networks."""
    return linear_preset(_PRESET.value)


def chosen(encoder: Encoder) -> LinearPreset:
    """The preset of the flags for an encoder.

    # Raises
        ValueError: If a number is out of range, or views are named that nothing is made of.
    """
    given: dict[str, Any] = {
        "epochs": _EPOCHS.value,
        "learning_rates": tuple(_RATES.value) if _RATES.value else None,
        "batch_size": _BATCH.value,
        "optimizer": _OPTIMIZER.value,
        "schedule": _SCHEDULE.value,
        "min_learning_rate": _MIN_RATE.value,
        "momentum": _MOMENTUM.value,
        "weight_decay": _DECAY.value,
        "normalise": _NORMALISE.value,
    }
    changes = {field: value for field, value in given.items() if value is not None}
    if _VIEWS.value is not None:
        if not AUGMENTED.value:
            raise ValueError(f"--views={_VIEWS.value} has no meaning without --augmented; leave it out.")
        # Another policy than the preset's: what the preset changes of its own is no part of it.
        changes |= {"views": _VIEWS.value, "interpolation": None, "family": None}
    transformer = "class_tokens" in encoder.named_outputs
    return linear_preset(_PRESET.value, transformer, **changes)

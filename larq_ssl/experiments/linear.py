"""Linear evaluation of a frozen encoder: `python -m larq_ssl.experiments.linear --run=<run folder>`."""

import dataclasses

from absl import flags

from larq_ssl.evaluation import pictures
from larq_ssl.evaluation.features import Features, holdout
from larq_ssl.evaluation.linear import PRESETS, linear, linear_preset
from larq_ssl.experiments import common, probes

flags.adopt_module_key_flags(probes)

_PRESET = flags.DEFINE_enum("preset", "bssl", list(PRESETS), "Whose protocol.")
_EPOCHS = flags.DEFINE_integer("epochs", None, "Epochs of the classifiers, instead of the preset's.", 1)
_RATES = flags.DEFINE_multi_float("lr", None, "Learning rates to sweep, instead of the preset's.", 1e-9)
_HOLDOUT = flags.DEFINE_integer(
    "holdout_per_class",
    0,
    "Choose learning rate and best epoch on that many training images of each class, set aside, instead of on the "
    "test images as the papers do.",
    0,
)


def main() -> int:
    with common.user_errors():
        overrides = {"epochs": _EPOCHS.value, "learning_rates": tuple(_RATES.value) if _RATES.value else None}
        preset = linear_preset(_PRESET.value, **{key: value for key, value in overrides.items() if value is not None})

    def measure(probe: probes.Probe, train: Features, test: Features) -> dict[str, float]:
        validation = None
        if _HOLDOUT.value:
            train, validation = holdout(train, _HOLDOUT.value, probes.FLAGS.seed)
        result = linear(
            train,
            test,
            probe.train.class_count(),
            preset,
            probes.FLAGS.seed,
            validation,
            progress=common.bar("linear classifiers"),
        )
        pictures.confusion_matrix(
            probe.folder / "confusion.png",
            test.labels,
            result.predictions,
            probe.train.class_names,
            overwrite=True,
        )
        return result.metrics

    return probes.run_probe(
        "linear",
        preset.name,
        measure,
        {**dataclasses.asdict(preset), "holdout_per_class": _HOLDOUT.value},
        "/last/top1",
    )


if __name__ == "__main__":
    common.run(main)

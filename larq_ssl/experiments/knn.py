"""kNN accuracy of a frozen encoder: `python -m larq_ssl.experiments.knn --run=<run folder>`.

`--preset=sslight_monitor` is no kNN accuracy as papers report it: see `larq_ssl.evaluation.knn.knn_leave_one_out`.
"""

import dataclasses

from absl import flags

from larq_ssl.evaluation.knn import PRESETS, KnnPreset, fitting, knn, knn_leave_one_out, knn_preset
from larq_ssl.experiments import common, probes

flags.adopt_module_key_flags(probes)

_PRESET = flags.DEFINE_enum(
    "preset", "dino", list(PRESETS), "Whose protocol; sslight_monitor looks test images up among themselves."
)
_KS = flags.DEFINE_multi_integer("k", None, "Numbers of neighbours; by default those of the preset that fit.", 1)
_TEMPERATURE = flags.DEFINE_float("temperature", None, "Of the vote's weights, instead of the preset's.", 1e-6)


def chosen() -> KnnPreset:
    """The preset of the flags."""
    given = {"ks": tuple(_KS.value) if _KS.value else None, "temperature": _TEMPERATURE.value}
    return knn_preset(_PRESET.value, **{field: value for field, value in given.items() if value is not None})


def measure(probe: probes.Probe, preset: KnnPreset) -> dict[str, float]:
    """Accuracies of the probe's encoder. Numbers of neighbours that were typed must fit."""
    classes = probe.train.class_count()
    if preset.leave_one_out:
        images = probe.features_of(probe.test)
        ks = _KS.value or fitting(preset.ks, len(images) - 1)
        return knn_leave_one_out(images, classes, ks, preset.temperature)
    train, test = probe.features()
    return knn(train, test, classes, _KS.value or fitting(preset.ks, len(train)), preset.temperature)


def main() -> int:
    with common.user_errors():
        preset = chosen()
        probe = probes.load("knn", preset.name)
        there = probe.test.size - 1 if preset.leave_one_out else probe.train.size
        if _KS.value and max(_KS.value) > there:
            raise ValueError(f"--k={max(_KS.value)} must be at most {there}, the images to look for neighbours in.")
    return probes.record(probe, "knn", preset.name, lambda: measure(probe, preset), dataclasses.asdict(preset), "top1")


if __name__ == "__main__":
    common.run(main)

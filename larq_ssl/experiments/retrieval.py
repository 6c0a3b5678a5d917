"""Retrieval with a frozen encoder: `python -m larq_ssl.experiments.retrieval --run=<run folder>`."""

import dataclasses

from absl import flags

from larq_ssl.evaluation.features import Features
from larq_ssl.evaluation.retrieval import PRESETS, SETTINGS, retrieval
from larq_ssl.experiments import common, probes

flags.adopt_module_key_flags(probes)

_PRESET = flags.DEFINE_enum("preset", "metric_learning", list(PRESETS), "Whose numbers of neighbours.")
_SETTINGS = flags.DEFINE_multi_enum(
    "setting",
    list(SETTINGS),
    list(SETTINGS),
    "Test images are looked for among each other (leave_one_out), or among the training images (gallery); by default "
    "both.",
)
_KS = flags.DEFINE_multi_integer("k", None, "Numbers of neighbours of the recall, instead of the preset's.", 1)


def main() -> int:
    with common.user_errors():
        preset = PRESETS[_PRESET.value]
        if _KS.value:
            preset = dataclasses.replace(preset, ks=tuple(_KS.value))

    def measure(probe: probes.Probe, train: Features, test: Features) -> dict[str, float]:
        metrics = {}
        for setting in dict.fromkeys(_SETTINGS.value):
            gallery = train if setting == "gallery" else None
            bar = common.bar(f"retrieval, {setting}")
            found = retrieval(test, gallery, probe.train.class_count(), preset, bar)
            metrics.update({f"{setting}/{name}": value for name, value in found.items()})
        return metrics

    settings = {**dataclasses.asdict(preset), "settings": sorted(set(_SETTINGS.value))}
    return probes.run_probe("retrieval", preset.name, measure, settings, "recall_at_1")


if __name__ == "__main__":
    common.run(main)

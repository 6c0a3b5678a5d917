"""Accuracy under corruption: `python -m larq_ssl.experiments.robustness --run=<run folder> --preset=cifar_c`.

Writes beside `results.json` a table (`robustness.md`), a picture (`robustness.png`) and a sheet of the corruptions
(`corruptions.png`). A killed probe goes on where it was (`measured.json`).
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import flags

from larq_ssl.data.datasets import ImageDataset
from larq_ssl.data.reader import Reader, evaluation_image
from larq_ssl.evaluation import pictures
from larq_ssl.evaluation.corruptions import CORRUPTIONS, PRESETS, SEVERITIES
from larq_ssl.evaluation.features import Features
from larq_ssl.evaluation.robustness import CLASSIFIERS, robustness
from larq_ssl.experiments import common, probes
from larq_ssl.experiments.study_table import markdown
from larq_ssl.files import read_json, write_json, write_whole
from larq_ssl.models.folder import encoder_hash

flags.adopt_module_key_flags(probes)

_PRESET = flags.DEFINE_enum(
    "preset", "cifar_c", list(PRESETS), "How strong corruptions are: cifar_c for images of up to 64 pixels."
)
_CLASSIFIERS = flags.DEFINE_multi_enum(
    "classifier", ["knn"], list(CLASSIFIERS), "What classifies features, trained on clean images; can be repeated."
)
_KINDS = flags.DEFINE_multi_enum(
    "corruption", list(CORRUPTIONS), list(CORRUPTIONS), "Which corruptions; by default all."
)


def table(accuracies: Mapping[str, float], kinds: list[str], classifiers: list[str]) -> str:
    """A line for each corruption and classifier, in percent, as Markdown."""
    cells = [["corruption", "classifier", "clean", *map(str, SEVERITIES), "mean of 1 to 5"]]
    for kind in kinds:
        for name in classifiers:
            places = ["clean/0", *(f"{kind}/{severity}" for severity in SEVERITIES), f"{kind}/mean"]
            values = (f"{100 * accuracies[f'{place}/{name}_top1']:.1f}" for place in places)
            cells.append([kind.replace("_", " "), name, *values])
    return markdown(cells)


def first_image(images: ImageDataset, size: int) -> tuple[np.ndarray, int]:
    """The first image that can be decoded, as the probe sees it, and its id."""
    reader = Reader(images, max_bad_images=1.0)
    found = ((index, reader.read(index)) for index in range(images.size))
    index, (image, _) = next((index, pair) for index, pair in found if pair is not None)
    return evaluation_image(image, size), index


class Measured:
    """Accuracies of a probe that was killed, if it had the settings of this one.

    # Arguments
        file: Where they are kept.
        settings: Of the probe.
    """

    def __init__(self, file: pathlib.Path, settings: Mapping[str, Any]) -> None:
        self._file, self._settings = file, json.loads(json.dumps(settings))

    def read(self) -> dict[str, float]:
        """What is there."""
        if not self._file.is_file():
            return {}
        held = read_json(self._file)
        return held["accuracies"] if held["settings"] == self._settings else {}

    def write(self, accuracies: Mapping[str, float]) -> None:
        """Keeps what is measured so far."""
        write_json(self._file, {"settings": self._settings, "accuracies": dict(accuracies)}, overwrite=True)


def main() -> int:
    preset, kinds = PRESETS[_PRESET.value], list(dict.fromkeys(_KINDS.value))
    classifiers = list(dict.fromkeys(_CLASSIFIERS.value))
    settings = {**dataclasses.asdict(preset), "classifiers": classifiers, "corruptions": kinds}

    def measure(probe: probes.Probe, train: Features, test: Features) -> dict[str, float]:
        seed = probes.FLAGS.seed
        known = Measured(
            probe.folder / "measured.json",
            {
                **settings,
                "encoder_hash": encoder_hash(probe.encoder),
                "seed": seed,
                "image_size": probe.image_size,
                "data": [probe.train.fingerprint, probe.test.fingerprint],
            },
        )
        found = robustness(
            probe.encoder,
            train,
            test,
            probe.test,
            probe.image_size,
            classifiers,
            preset,
            kinds,
            seed,
            probes.FLAGS.batch_size,
            known.read(),
            known.write,
            common.bar("corruptions"),
        )
        text = table(found, kinds, classifiers)
        write_whole(probe.folder / "robustness.md", text, overwrite=True)
        pictures.robustness_curves(probe.folder / "robustness.png", found, kinds, classifiers, overwrite=True)
        image, example = first_image(probe.test, probe.image_size)
        pictures.corruption_sheet(probe.folder / "corruptions.png", image, kinds, preset, seed, example, overwrite=True)
        common.say(f"Top 1 in percent.\n\n{text}")
        return found

    return probes.run_probe(
        "robustness", preset.name, measure, settings, "/mean/", lambda probe: preset.check(probe.image_size)
    )


if __name__ == "__main__":
    common.run(main)

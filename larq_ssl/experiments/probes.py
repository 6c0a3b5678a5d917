"""What all probes share: which encoder, which labelled images, where the result goes."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from absl import flags

from larq_ssl.data import datasets
from larq_ssl.data.datasets import ImageDataset
from larq_ssl.data.multi_label import MultiLabelDataset
from larq_ssl.evaluation.features import Features, extract
from larq_ssl.evaluation.results import FILE_NAME, named, read_results, write_results
from larq_ssl.evaluation.untrained import raw_pixels, untrained
from larq_ssl.experiments import common
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.models import Encoder
from larq_ssl.models.folder import encoder_hash, load_encoder

FLAGS = flags.FLAGS

_RUN = flags.DEFINE_string("run", None, "Run folder whose encoder is probed.")
_ENCODER_DIR = flags.DEFINE_string("encoder_dir", None, "Encoder folder that is probed, instead of --run.")
_WHICH = flags.DEFINE_enum(
    "which",
    None,
    ["student", "ema"],
    "Encoder of the run; by default the one that the preset looks at, mostly student.",
)
_DATASET = flags.DEFINE_string("dataset", None, "Labelled images; by default those of the run.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where they lie; by default as for the run.")
_CLASSES = flags.DEFINE_string("classes_list", None, "Take only images of these classes; by default as for the run.")
_VAL_FRACTION = flags.DEFINE_float(
    "val_fraction", None, "Share held out of a folder without val; by default the run's.", 0, 0.9
)
_LIMIT = flags.DEFINE_integer(
    "max_train_images", None, "Probe with a fixed, class-balanced subset; by default the run's.", 2
)
_IMAGE_SIZE = flags.DEFINE_integer(
    "image_size", None, "Side of the images; by default as for the run.", 8, common.LARGEST_IMAGE
)
_RANDOM = flags.DEFINE_bool("random", False, "Probe the untrained encoder (BatchNorm calibrated): the baseline.")
_RAW_PIXELS = flags.DEFINE_bool("raw_pixels", False, "Probe the pixels themselves, without any network: a baseline.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the probe, and of the weights with --random.", 0, 2**32 - 1)
_BATCH = flags.DEFINE_integer("batch_size", 256, "Images per step of the feature extraction.", 1)
_PROBE_DIR = flags.DEFINE_string("probe_dir", None, "Folder of the result; by default beside the encoder's run.")


@dataclasses.dataclass(frozen=True)
class Probe:
    """An encoder and the labelled images that it is measured with."""

    encoder: Encoder
    train: ImageDataset
    test: ImageDataset
    image_size: int
    folder: pathlib.Path
    limit: int | None = None

    @property
    def cache(self) -> pathlib.Path:
        """Where the probes of an encoder keep what they have computed."""
        return self.folder.parent / "features"

    def features(self, output: str | None = None, view: str = "torchvision") -> tuple[Features, Features]:
        """Features of both splits; see `features_of`."""
        train, test = (self.features_of(part, output, view) for part in (self.train, self.test))
        return train, test

    def features_of(self, part: ImageDataset, output: str | None = None, view: str = "torchvision") -> Features:
        """Features of some images, extracted once per encoder and kept beside the probes; see `extract`."""
        bar = common.bar(f"features of {part.split}")
        return extract(self.encoder, part, self.image_size, _BATCH.value, self.cache, bar, output, view)


def load(protocol: str, preset: str, which: str = "student", multi_label: bool = False) -> Probe:
    """The probe that the flags describe.

    # Arguments
        protocol, preset: What is measured.
        which: Encoder of a run that the protocol looks at, where --which does not name one.
        multi_label: Whether the protocol can do with several labels per image.
    # Raises
        ValueError: If flags contradict each other or name nothing.
    """
    if (_RUN.value is None) == (_ENCODER_DIR.value is None):
        raise ValueError("Give either --run=<run folder> or --encoder_dir=<encoder folder>.")
    if _WHICH.value is not None and _ENCODER_DIR.value is not None:
        raise ValueError(f"--which={_WHICH.value} has no meaning with --encoder_dir, which holds one encoder.")
    if _RANDOM.value and _RAW_PIXELS.value:
        raise ValueError("--random and --raw_pixels are two baselines: give one of them.")
    if _PROBE_DIR.value is not None:
        common.refuse_no_place("probe_dir", _PROBE_DIR.value)
    run = RunFolder(_RUN.value) if _RUN.value is not None else None
    if run is not None and not run.finished:
        raise ValueError(f"--run={run.path} is not a finished run.")
    before = run.flags() if run is not None else {}
    which = _WHICH.value or (which if run is not None else "student")
    source = run.encoder(which) if run is not None else pathlib.Path(_ENCODER_DIR.value)
    if not source.is_dir():
        raise ValueError(f"There is no encoder in {source}{_instead(run)}.")
    encoder = load_encoder(source)
    name = _DATASET.value or before.get("dataset")
    if name is None:
        raise ValueError("--dataset is missing: the labelled images to probe with.")
    same = name == before.get("dataset")
    inherited = before if same else {}
    data_dir = _DATA_DIR.value or inherited.get("data_dir")
    classes_list = _CLASSES.value or inherited.get("classes_list")
    val_fraction = _first(_VAL_FRACTION.value, float(inherited.get("val_fraction", 0)))
    limit = _first(_LIMIT.value, _int(inherited.get("max_train_images")))
    size = _first(_IMAGE_SIZE.value, _int(before.get("image_size")), encoder.spec.image_size, 224)
    train, test = (
        datasets.load_dataset(
            name, split, data_dir, val_fraction=val_fraction, limit=part_limit, classes_list=classes_list
        )
        for split, part_limit in (("train", limit), ("val", None))
    )
    if not (multi_label and isinstance(train, MultiLabelDataset)):
        train.class_count()
    tag = "-".join(
        [
            protocol,
            preset,
            name.replace("/", "_"),
            *(["random"] if _RANDOM.value else []),
            *(["raw_pixels"] if _RAW_PIXELS.value else []),
            *([which] if which != "student" else []),
        ]
    )
    folder = run.probe(tag) if run is not None else source.parent / "probes" / tag
    if _PROBE_DIR.value is not None:
        folder = pathlib.Path(_PROBE_DIR.value)
    if _RANDOM.value:
        encoder = untrained(encoder, train, size, _SEED.value)
    if _RAW_PIXELS.value:
        encoder = raw_pixels(size)
    return Probe(encoder, train, test, size, folder, limit)


def run_probe(
    protocol: str,
    preset: str,
    measure: Callable[[Probe, Features, Features], Mapping[str, float]],
    settings: Mapping[str, object],
    headline: str,
    check: Callable[[Probe], None] | None = None,
) -> int:
    """Measures once, writes `results.json`, and shows the headline; returns the exit code.

    # Arguments
        protocol: Such as `knn`.
        preset: Such as `dino`.
        measure: Given the probe and the features of both splits, returns metrics.
        settings: Of the protocol, for the record.
        headline: Name of the metric that is printed.
        check: Raises a `ValueError` if the probe cannot be measured in this way, before features are extracted.
    """
    with common.user_errors():
        probe = load(protocol, preset)
        if check is not None:
            check(probe)
    return record(probe, protocol, preset, lambda: measure(probe, *probe.features()), settings, headline)


def record(
    probe: Probe,
    protocol: str,
    preset: str,
    measure: Callable[[], Mapping[str, float]],
    settings: Mapping[str, object],
    headline: str,
) -> int:
    """Measures with a probe unless that was done, as `run_probe` does.

    # Arguments
        probe: Of `load`.
        measure: Returns metrics.
        protocol, preset, settings, headline: See `run_probe`.
    """
    with common.user_errors():
        full = {
            "encoder_hash": encoder_hash(probe.encoder),
            "image_size": probe.image_size,
            "seed": _SEED.value,
            "train": probe.train.fingerprint,
            "test": probe.test.fingerprint,
            **settings,
        }
        if (probe.folder / FILE_NAME).is_file():
            old = read_results(probe.folder)
            _refuse_other(probe.folder, old.settings, json.loads(json.dumps(full)))
            common.say(f"{probe.folder}: measured earlier.")
            _show(old.metrics, headline)
            return 0
        metrics = named(protocol, preset, probe.train.name, measure())
        # For readers: of what the training images are, their fingerprint is compared.
        path = write_results(probe.folder, metrics, {**full, "max_train_images": probe.limit})
    common.say(f"{path}: {len(metrics)} numbers.")
    _show(metrics, headline)
    return 0


def _instead(run: RunFolder | None) -> str:
    """Which encoders a run has, for a preset that looks at another one."""
    found = [] if run is None else sorted(path.parent.name for path in run.path.glob("encoders/*/encoder.json"))
    return f"; the run has others: give --which={' or '.join(found)}" if found else ""


def _refuse_other(folder: pathlib.Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises a `ValueError` if what was measured earlier was not measured with the settings of now."""
    for key, value in now.items():
        if before.get(key) != value:
            raise ValueError(
                f"{folder} holds results of other settings ({key} is {json.dumps(before.get(key))} there and "
                f"{json.dumps(value)} here); give another --probe_dir, or move it away to measure again."
            )


def _show(metrics: Mapping[str, float], headline: str) -> None:
    # As people count: 20 stands before 100, also of a file, whose names are sorted as text.
    for name, value in sorted(metrics.items(), key=lambda pair: _counted(pair[0])):
        if headline in name:
            common.say(f"{name}: {value:.4f}")


def _counted(name: str) -> list[tuple[float, str]]:
    return [(float(part) if part.isdecimal() else math.inf, part) for part in name.split("/")]


def _first(*values: Any) -> Any:
    """The first value that is given."""
    return next((value for value in values if value is not None), None)


def _int(text: str | None) -> int | None:
    return None if text is None else int(text)

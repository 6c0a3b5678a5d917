"""Which network a sweep begins with and on which images, by the flags of the probes."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import Any

from absl import flags

from larq_ssl.data import datasets
from larq_ssl.data.datasets import ImageDataset
from larq_ssl.experiments import common, probes
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.models.encoder import EncoderSpec
from larq_ssl.models.folder import read_hash, read_spec

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(probes)

_IMAGES = ("data_dir", "classes_list", "val_fraction", "max_train_images")
_BASELINES = ("random", "raw_pixels")
_NUMBERS = {"val_fraction": float, "max_train_images": int, "image_size": int}

flags.DEFINE_string("out", None, "Folder of the result, and of the runs of a sweep; by default beside the probes.")
FLAGS.set_default("batch_size", None)
FLAGS["batch_size"].help = "Images per step, instead of the protocol's; of a linear probe, of the feature extraction."


@dataclasses.dataclass(frozen=True)
class Probed:
    """A network that is pre-trained, and labelled images.

    Attributes:
        folder: Of the encoder.
        name: What the images are called in results.
        images: The flags that find them: `dataset` and others, without those that have no value.
        image_size: Their side in pixels.
    """

    folder: pathlib.Path
    name: str
    images: Mapping[str, Any]
    image_size: int

    @functools.cached_property
    def spec(self) -> EncoderSpec:
        return read_spec(self.folder)

    @functools.cached_property
    def encoder_hash(self) -> str:
        return read_hash(self.folder)

    @property
    def larger(self) -> bool:
        """Whether the network is wider than 1 or has selective kernels."""
        return self.spec.width > 1 or self.spec.name.endswith("_sk")

    def flags(self) -> list[str]:
        """For a command that takes the same network and images."""
        source = f"--run={FLAGS.run}" if FLAGS.run is not None else f"--encoder_dir={FLAGS.encoder_dir}"
        of_images = [f"--{flag}={value}" for flag, value in self.images.items()]
        switches = [f"--{name}" for name in _BASELINES if FLAGS[name].value]
        which = [f"--which={FLAGS.which}"] if FLAGS.which is not None else []
        return [source, *which, *switches, *of_images, f"--image_size={self.image_size}"]

    def load(self, split: str) -> ImageDataset:
        """The images, as the command that trains loads them."""
        limit = self.images.get("max_train_images") if split == "train" else None
        return datasets.load_dataset(
            self.images["dataset"],
            split,
            self.images.get("data_dir"),
            val_fraction=self.images.get("val_fraction", 0.0),
            limit=limit,
            classes_list=self.images.get("classes_list"),
        )

    def place(self, protocol: str, preset: str, *parts: str) -> pathlib.Path:
        """`--out`, or the folder beside the probes of the encoder."""
        if FLAGS.out is not None:
            common.refuse_no_place("out", FLAGS.out)
            return pathlib.Path(FLAGS.out)
        marks = (
            *(name for name in _BASELINES if FLAGS[name].value),
            *([FLAGS.which] if FLAGS.which not in (None, "student") else []),
            *([f"seed{FLAGS.seed}"] if FLAGS.seed else []),
        )
        tag = "-".join([protocol, preset, self.name.replace("/", "_"), *parts, *marks])
        return RunFolder(FLAGS.run).probe(tag) if FLAGS.run is not None else self.folder.parent / "probes" / tag


def probed(
    dataset: str | None = None, data_dir: str | None = None, name: str | None = None, image_size: int | None = None
) -> Probed:
    """What the flags describe; images that are those of the run are found as it found them.

    # Arguments
        dataset: Instead of `--dataset`.
        data_dir: Instead of `--data_dir`.
        name: What the images are called in results, by default `dataset`.
        image_size: Where `--image_size` is not given; by default as for the run, or the encoder.
    # Raises
        ValueError: If flags contradict each other or name nothing.
    """
    folder, told = _source()
    if FLAGS.probe_dir is not None:
        raise ValueError(f"--probe_dir={FLAGS.probe_dir} has no meaning here: results go to --out.")
    dataset = dataset or FLAGS.dataset or told.get("dataset")
    if dataset is None:
        raise ValueError("--dataset is missing: an encoder folder does not tell which images are meant.")
    inherited = told if dataset == told.get("dataset") else {}
    given = {flag: FLAGS[flag].value for flag in _IMAGES} | ({"data_dir": data_dir} if data_dir else {})
    images = {flag: _value(flag, given[flag], inherited) for flag in _IMAGES}
    found = {flag: value for flag, value in images.items() if value is not None}
    size = FLAGS.image_size or image_size or _value("image_size", None, told) or read_spec(folder).image_size or 224
    return Probed(folder, name or dataset, {"dataset": dataset, **found}, size)


def _value(flag: str, given: Any, told: Mapping[str, str]) -> Any:
    if given is not None or flag not in told:
        return given
    return _NUMBERS.get(flag, str)(told[flag])


def _source() -> tuple[pathlib.Path, Mapping[str, str]]:
    """The encoder's folder, and the flags of the run that it is of."""
    if (FLAGS.run is None) == (FLAGS.encoder_dir is None):
        raise ValueError("Give either --run=<run folder> or --encoder_dir=<encoder folder>.")
    if FLAGS.run is None:
        folder, told = pathlib.Path(FLAGS.encoder_dir), {}
    else:
        run = RunFolder(FLAGS.run)
        if not run.finished:
            raise ValueError(f"--run={run.path} is not a finished run.")
        folder, told = run.encoder(FLAGS.which or "student"), run.flags()
    if not folder.is_dir():
        raise ValueError(f"There is no encoder in {folder}.")
    return folder, told

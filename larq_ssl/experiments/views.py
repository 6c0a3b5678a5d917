"""What a view policy does to images: `python -m larq_ssl.experiments.views --policy=sslight [--dataset= --data_dir=]`.

Writes a sheet of views (`sheet.png`), their numbers (`views.json`), one of patches where there are any (`patches.png`)
and, where there are local views, the distribution of the pixel scale of global over local ones (`pixel_scale.png`).
A training with the same `--seed` sees the same views.
"""

import dataclasses
import os
import pathlib

import numpy as np
from absl import flags

from larq_ssl.data import datasets, pipeline, pixel_scale
from larq_ssl.data.datasets import ImageDataset
from larq_ssl.data.jigsaw import PATCHES
from larq_ssl.data.reader import Reader
from larq_ssl.data.views import POLICIES, ViewPolicy
from larq_ssl.evaluation import pictures
from larq_ssl.experiments import chosen_views, common, jigsaw_flags, multi_crop_flags
from larq_ssl.files import AlreadyExistsError, whole_folder, write_json

FLAGS = flags.FLAGS
for module in (multi_crop_flags, jigsaw_flags):
    flags.adopt_module_key_flags(module)

_POLICY = flags.DEFINE_enum("policy", None, list(POLICIES), "View policy.", required=True)
_DATASET = flags.DEFINE_string("dataset", "digits", "Images: digits (bundled), folder, or the name of a TFDS data set.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where the data set lies: the folder of images, or TFDS's data_dir.")
_IMAGE_SIZE = flags.DEFINE_integer(
    "image_size",
    None,
    "Side of the global views in pixels; by default 224, for images of up to 64 pixels 32.",
    8,
    common.LARGEST_IMAGE,
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the views and the choice of images.", 0, 2**32 - 1)
_OUT = flags.DEFINE_string("out", None, "Folder to be made; by default runs/views/<policy>-<dataset>.")
_IMAGES = flags.DEFINE_integer("images", 4, "Images of the sheet, at most.", 1)
flags.DEFINE_float(
    "crop_scale", None, "Smallest (global) crop as a share of the image's area, instead of the policy's.", 0.01, 1
)

# Images whose sizes are looked at, and images that are cropped for the distribution, in as many epochs as that takes.
_LOOKED_AT, _CROPPED = 256, 20_000
_SMALL_SIZE, _LARGE_SIZE = 32, 224


@dataclasses.dataclass(frozen=True)
class Sample:
    """Some images of a data set that can be decoded: their numbers and sides."""

    ids: np.ndarray
    heights: np.ndarray
    widths: np.ndarray


def look_at(dataset: ImageDataset) -> Sample:
    """Images from all over the data set."""
    reader = Reader(dataset, max_bad_images=1.0)
    spread = np.unique(np.linspace(0, dataset.size - 1, _LOOKED_AT, dtype=np.int64))
    found = [(i, *image[0].size) for i in spread if (image := reader.read(int(i))) is not None]
    if not found:
        raise ValueError(f"--dataset={_DATASET.value}: no image can be decoded: {'; '.join(reader.bad.values())}")
    ids, widths, heights = np.array(found, np.int64).T
    return Sample(ids, heights, widths)


def draw_sheets(folder: pathlib.Path, policy: ViewPolicy, dataset: ImageDataset) -> None:
    """The first images that a training sees."""
    count = min(_IMAGES.value, dataset.size)
    stream = pipeline.view_batches(dataset, policy, count, _SEED.value, boxes=True, max_bad_images=1.0)
    batch = {name: part.numpy() for name, part in next(iter(stream)).items()}
    images = (Reader(dataset, max_bad_images=1.0).read(int(i)) for i in batch["id"])
    originals = [np.asarray(image[0]) for image in images if image is not None]
    pictures.view_sheet(folder / "sheet.png", batch["global"], batch.get("local"), originals, batch["boxes"])
    if "patches" in batch:
        pictures.view_sheet(folder / "patches.png", batch["patches"])


def measure(policy: ViewPolicy, sample: Sample) -> np.ndarray:
    """Ratios of pixel scales."""
    epochs = -(-_CROPPED // len(sample.ids))
    ids, heights, widths = (np.tile(column, epochs) for column in dataclasses.astuple(sample))
    return pixel_scale.ratios(policy, ids, heights, widths, _SEED.value, np.repeat(np.arange(epochs), len(sample.ids)))


def describe(policy: ViewPolicy) -> str:
    """What an image becomes."""
    groups = {"global": policy.global_views, "local": policy.local_views}
    parts = []
    for name, group in groups.items():
        if group:
            low, high = group[0].crop_scale or (1.0, 1.0)
            area = f"{low:g} to {high:g} of the image's area" if low < high else f"{high:g} of the image's area"
            parts.append(f"{len(group)} {name} of {group[0].size} px from {area}")
    if policy.jigsaw is not None:
        low, high = policy.jigsaw.crop_scale
        parts.append(f"{PATCHES} patches of {policy.jigsaw.patch} px from {low:g} to {high:g} of the image's area")
    return f"{policy.name}: {', '.join(parts)}."


def compare(policy: ViewPolicy, ratios: np.ndarray) -> dict[str, float]:
    """Says how global and local views compare; returns the numbers."""
    found = {**pixel_scale.statistics(ratios), "uniform_mean": pixel_scale.uniform_mean(policy)}
    common.say(
        f"PS_g/PS_l: mean {found['mean']:.3f} with a standard error of {found['standard_error']:.3f} (if areas were "
        f"uniform: {found['uniform_mean']:.3f}), median {found['q50']:.2f}, 90 % in {found['q05']:.2f} to "
        f"{found['q95']:.2f}."
    )
    share, alpha = pixel_scale.pair_share(policy), multi_crop_flags.alpha(policy)
    weighted = "; --alpha sets another share" if alpha is None else f"; with --alpha={alpha:g} they are {alpha:g} of it"
    common.say(f"Global-global pairs are {share:.3f} of the loss if all pairs count alike{weighted}.")
    return found


def main() -> int:
    with common.user_errors():
        out = pathlib.Path(_OUT.value or f"runs/views/{_POLICY.value}-{_DATASET.value.replace('/', '_')}")
        if os.path.lexists(out):
            raise AlreadyExistsError(f"--out={out} exists already; choose another folder, or move that one away.")
        dataset = datasets.load_dataset(_DATASET.value, "train", _DATA_DIR.value)
        if _IMAGE_SIZE.value is None:
            FLAGS.image_size = _LARGE_SIZE if dataset.images is None else _SMALL_SIZE
        policy = chosen_views.policy(_POLICY.value)
        common.say(describe(policy))
        sample = look_at(dataset)
        numbers = {
            "policy": dataclasses.asdict(policy),
            "data": {"name": dataset.name, "fingerprint": dataset.fingerprint},
            "seed": _SEED.value,
        }
        with whole_folder(out) as folder:
            draw_sheets(folder, policy, dataset)
            if policy.local_views:
                ratios = measure(policy, sample)
                pictures.pixel_scale_ratios(folder / "pixel_scale.png", ratios, f"{policy.name} on {dataset.name}")
                numbers["pixel_scale"] = compare(policy, ratios)
            write_json(folder / "views.json", numbers)
        common.say(f"{out}: {', '.join(sorted(path.name for path in out.iterdir()))}.")
    return 0


if __name__ == "__main__":
    common.run(main)

"""What the benchmark measures of the input pipeline: ours, and the same views made image by image."""

import dataclasses
import pathlib
import time
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from PIL import Image

from larq_ssl.data import per_image, pipeline, views
from larq_ssl.data.datasets import ImageDataset, load_dataset
from larq_ssl.experiments.benchmark_workers import Turn, Variant

REFERENCE = "per-image tf.data map"
_LIMIT = 4096
_WARM_UP = 3


def groups(folders: dict[int, pathlib.Path], policies: Sequence[str], batch_size: int) -> dict[str, list[Variant]]:
    """Variants to be compared, the reference first, by what they are fed.

    # Arguments
        folders: Where the images of a view size lie.
        policies: Names of view policies.
        batch_size: Images per batch; fewer where the folder holds fewer.
    """
    result = {}
    for size, folder in folders.items():
        for in_memory in (True, False) if size <= 64 else (False,):
            for policy in policies:
                source = "decoded in memory" if in_memory else "image files"
                common = {
                    "folder": str(folder),
                    "in_memory": in_memory,
                    "policy": policy,
                    "size": size,
                    "batch_size": batch_size,
                }
                result[f"2 views of {size} px, {policy}, {source}"] = [
                    Variant(REFERENCE, prepare, {**common, "ours": False}),
                    Variant("larq_ssl's view_batches", prepare, {**common, "ours": True}),
                ]
    return result


def prepare(folder: str, in_memory: bool, policy: str, size: int, batch_size: int, ours: bool) -> Turn:
    """Turns that make batches of views and throw them away."""
    tf.config.set_visible_devices([], "GPU")
    dataset = load_dataset("folder", "train", folder, limit=_LIMIT)
    if in_memory:
        dataset = decoded(dataset)
    batch_size = min(batch_size, dataset.size)
    chosen = views.policy(policy, size)
    if ours:
        batches = pipeline.view_batches(dataset, chosen, batch_size, seed=0)
    else:
        batches = per_image.per_image_batches(dataset, chosen, batch_size)

    def turn(steps: int) -> tuple[int, float]:
        # A stream of its own, so that nothing is prefetched while the other variant has its turn.
        stream = iter(batches)
        for _ in range(_WARM_UP):
            next(stream)
        started = time.perf_counter()
        for _ in range(steps):
            next(stream)
        return steps * batch_size, time.perf_counter() - started

    return turn


def decoded(dataset: ImageDataset) -> ImageDataset:
    """The data set with its images, all of one size, kept in memory as those of small TFDS data sets are."""
    encoded = [tf.io.decode_image(dataset.encoded(index), 3).numpy() for index in range(dataset.size)]
    if len({image.shape for image in encoded}) > 1:
        raise ValueError(f"The images of {dataset.describe(0)} and beside it must be of one size to be kept in memory.")
    return dataclasses.replace(dataset, images=np.stack(encoded), read=None)


def make_images(folder: pathlib.Path, height: int, width: int, count: int, seed: int = 0) -> None:
    """Writes JPEGs into `folder/train`: noise with the spectrum of photographs, which compresses like them."""
    (folder / "train").mkdir(parents=True)
    rows, columns = np.meshgrid(np.fft.fftfreq(height), np.fft.rfftfreq(width), indexing="ij")
    # Amplitudes of natural images fall with the frequency.
    fall = 1.0 / np.maximum(np.hypot(rows, columns), 1.0 / max(height, width))
    for index in range(count):
        draws = np.random.default_rng([seed, index]).standard_normal((3, height, width))
        draws += 2.0 * draws[:1]  # channels of photographs are alike
        planes = np.fft.irfft2(np.fft.rfft2(draws) * fall, (height, width))
        planes = 128.0 + 50.0 * (planes - planes.mean()) / planes.std()
        pixels = np.clip(np.moveaxis(planes, 0, -1), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "train" / f"{index:05d}.jpg", quality=95)

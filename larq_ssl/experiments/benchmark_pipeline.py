"""What the benchmark measures of the input pipeline: ours, and the same views made image by image."""

import pathlib
import time
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from PIL import Image

from larq_ssl.data import per_image, pipeline, views
from larq_ssl.data.datasets import load_dataset
from larq_ssl.experiments.benchmark_workers import Turn, Variant

_LIMIT = 4096


def groups(folders: dict[int, pathlib.Path], policies: Sequence[str], batch_size: int) -> dict[str, list[Variant]]:
    """Variants to be compared, the reference first, by what they are fed.

    # Arguments
        folders: Where the images of a view size lie.
        policies: Names of view policies.
        batch_size: Images per batch; fewer where the folder holds fewer.
    """
    result = {}
    for size, folder in folders.items():
        for policy in policies:
            settings = {"folder": str(folder), "policy": policy, "size": size, "batch_size": batch_size}
            result[f"{policy}, views of {size} px"] = [
                Variant("per-image tf.data map", prepare, {**settings, "ours": False}),
                Variant("view_batches", prepare, {**settings, "ours": True}),
            ]
    return result


def prepare(folder: str, policy: str, size: int, batch_size: int, ours: bool) -> Turn:
    """Turns that make batches of views and throw them away."""
    tf.config.set_visible_devices([], "GPU")
    dataset = load_dataset("folder", "train", folder, limit=_LIMIT)
    batch_size = min(batch_size, dataset.size)
    chosen = views.policy(policy, size)
    if ours:
        batches = pipeline.view_batches(dataset, chosen, batch_size, seed=0)
    else:
        batches = per_image.per_image_batches(dataset, chosen, batch_size)

    def turn(steps: int) -> tuple[int, float]:
        # A stream of its own, so that nothing is prefetched while the other variant has its turn.
        stream = iter(batches)
        next(stream)
        started = time.perf_counter()
        for _ in range(steps):
            next(stream)
        return steps * batch_size, time.perf_counter() - started

    return turn


def make_images(
    folder: pathlib.Path, height: int, width: int, count: int, seed: int = 0, classes: int | None = None
) -> None:
    """Writes JPEGs into `folder/train`: noise with the spectrum of photographs, which compresses like them.

    They are of so many classes, which mean nothing, or have no labels.
    """
    folders = [folder / "train" / str(label) for label in range(classes)] if classes else [folder / "train"]
    for place in folders:
        place.mkdir(parents=True)
    rows, columns = np.meshgrid(np.fft.fftfreq(height), np.fft.rfftfreq(width), indexing="ij")
    # Amplitudes of natural images fall with the frequency.
    fall = 1.0 / np.maximum(np.hypot(rows, columns), 1.0 / max(height, width))
    for index in range(count):
        draws = np.random.default_rng([seed, index]).standard_normal((3, height, width))
        draws += 2.0 * draws[:1]  # channels of photographs are alike
        planes = np.fft.irfft2(np.fft.rfft2(draws) * fall, (height, width))
        planes = 128.0 + 50.0 * (planes - planes.mean()) / planes.std()
        pixels = np.clip(np.moveaxis(planes, 0, -1), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folders[index % len(folders)] / f"{index:05d}.jpg", quality=90)

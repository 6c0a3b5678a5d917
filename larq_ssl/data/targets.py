"""Outputs of a teacher, computed once for all images: where the views of an image are always the same picture."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from larq_ssl.data.datasets import ImageDataset
from larq_ssl.data.pipeline import Batch, view_batches
from larq_ssl.data.views import View, ViewPolicy


def is_fixed(policy: ViewPolicy) -> bool:
    """Whether a policy makes one view of an image, which never changes."""
    view = policy.global_views[0]
    # Whatever a policy can have besides a plain view changes from epoch to epoch.
    plain = View(view.size, interpolation=view.interpolation, family=view.family)
    return policy == ViewPolicy(policy.name, (plain,))


def compute_targets(
    dataset: ImageDataset,
    policy: ViewPolicy,
    batch_size: int,
    teacher: Callable[[tf.Tensor], tf.Tensor],
    max_bad_images: float = 0.001,
    progress: Callable[[int, int], object] | None = None,
) -> np.ndarray:
    """What a teacher says of the view of each image.

    # Arguments
        dataset: The images.
        policy: A fixed one.
        batch_size: Images per step.
        teacher: Function of uint8 `[batch, size, size, 3]` that gives `[batch, dim]`.
        max_bad_images: See `view_batches`.
        progress: Called with the number of images done and their total.
    # Returns
        Float32 `[images, dim]`; rows of images that cannot be read are NaN, and never looked up.
    # Raises
        ValueError: If the views change.
    """
    if not is_fixed(policy):
        raise ValueError(f"policy is {policy.name!r}: its views are random, so there is nothing to be computed once")
    batch_size = min(batch_size, dataset.size)
    rows: dict[int, np.ndarray] = {}
    _collect(rows, dataset, np.arange(dataset.size), policy, batch_size, teacher, max_bad_images, progress)
    left = np.setdiff1d(np.arange(dataset.size), list(rows))
    if len(left):
        # The images that an epoch leaves out; with a good one, in case that all of them are bad.
        ids = np.append(left, min(rows))
        part = dataset.subset(ids, "left")
        _collect(rows, part, ids, policy, len(ids), teacher, 1.0, None)
    table = np.full((dataset.size, len(next(iter(rows.values())))), np.nan, np.float32)
    table[list(rows)] = np.stack(list(rows.values()))
    return table


def _collect(
    rows: dict[int, np.ndarray],
    dataset: ImageDataset,
    ids: np.ndarray,
    policy: ViewPolicy,
    batch_size: int,
    teacher: Callable[[tf.Tensor], tf.Tensor],
    max_bad_images: float,
    progress: Callable[[int, int], object] | None,
) -> None:
    """Adds what the teacher says of the images of an epoch, by their number in `ids`."""
    steps = dataset.size // batch_size
    batches = view_batches(dataset, policy, batch_size, seed=0, max_bad_images=max_bad_images)
    for step, batch in enumerate(batches.take(steps), start=1):
        outputs = tf.cast(teacher(batch["global"][:, 0]), tf.float32).numpy()
        rows.update(zip(ids[batch["id"]].tolist(), outputs, strict=True))
        if progress is not None:
            progress(step * batch_size, steps * batch_size)


def with_targets(batches: tf.data.Dataset, table: np.ndarray) -> tf.data.Dataset:
    """The same batches with `targets` float32 `[batch, dim]`, the rows of a table `[images, dim]` for their ids."""

    def look_up(ids: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(table[ids], np.float32)

    def add(batch: Batch) -> Batch:
        targets = tf.numpy_function(look_up, [batch["id"]], tf.float32)
        targets.set_shape([batch["id"].shape[0], table.shape[1]])
        return {**batch, "targets": targets}

    return batches.map(add)

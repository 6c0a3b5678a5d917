"""Batches of views for training, and of plain images for evaluation."""

import os
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from larq_ssl.data import augment, families, jigsaw, resize, resize_tf, rng, view_ops
from larq_ssl.data.datasets import ImageDataset
from larq_ssl.data.reader import PROTOCOLS, Reader, cut, evaluation_image
from larq_ssl.data.views import View, ViewPolicy

AUTOTUNE = tf.data.AUTOTUNE
Batch = dict[str, tf.Tensor]
Cuts = tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, list[tf.Tensor]]
# Float32 pixels that one call works on: about what stays in a core's cache.
_CHUNK_BYTES = 4 * 2**20
_FOREVER = 2**62


def steps_per_epoch(dataset: ImageDataset, batch_size: int) -> int:
    """Whole batches of an epoch; at least one."""
    if not 1 <= batch_size <= dataset.size:
        raise ValueError(f"batch_size is {batch_size}: it must lie in [1, {dataset.size}], the number of images")
    return dataset.size // batch_size


def _resized(images: tf.Tensor, boxes: tf.Tensor, flips: tf.Tensor, view: View) -> tf.Tensor:
    """Crops of a batch of images, as planes."""
    if families.family_of([view]).antialias:
        return resize.crop_resize(images, boxes, flips, view.size, view.interpolation)
    return resize_tf.crop_resize(images, boxes, flips, view.size)


def _cut_in_memory(dataset: ImageDataset, policy: ViewPolicy, seed: int, ids: tf.Tensor, epochs: tf.Tensor) -> Cuts:
    """See `_cut_encoded`; by matrix products, of images that are kept decoded."""
    views = policy.views
    uniforms = rng.view_uniforms(seed, epochs, ids, range(len(views)), view_ops.columns(policy))
    images = tf.gather(tf.constant(dataset.images), ids)
    sides = tf.shape(images, tf.int64)[1:3]
    boxes = families.crop_boxes(uniforms, sides[:1], sides[1:], views)
    flips = view_ops.flips(uniforms, views)
    planes, first = [], 0
    for group in policy.groups.values():
        part = slice(first, first + len(group))
        planes.append(_resized(images, boxes[:, part], flips[:, part], group[0]))
        first += len(group)
    return ids, tf.gather(tf.constant(dataset.labels()), ids), uniforms, boxes, planes


def _cut_encoded(reader: Reader, policy: ViewPolicy, seed: int, ids: tf.Tensor, epochs: tf.Tensor) -> Cuts:
    """Ids (bad ones replaced), labels, draws, boxes and, for each group of views, planes of the crops; by Pillow."""
    views, groups, columns = policy.views, list(policy.groups.values()), view_ops.columns(policy)
    family = families.family_of(views)

    def numpy_cut(ids: np.ndarray, epochs: np.ndarray) -> list[np.ndarray]:
        found = [reader.read_or_replace(int(i), seed, int(e)) for i, e in zip(ids, epochs, strict=True)]
        ids, labels = (np.array([f[i] for f in found], np.int64) for i in (0, 2))
        images = [f[1] for f in found]
        uniforms = rng.view_uniforms(seed, epochs, ids, range(len(views)), columns)
        heights, widths = np.array([[image.height, image.width] for image in images], np.int64).T
        boxes = families.crop_boxes(uniforms, heights, widths, views)
        flips = view_ops.flips(uniforms, views)
        parts, first = [], 0
        for group in groups:
            part = slice(first, first + len(group))
            size, interpolation = group[0].size, group[0].interpolation
            parts.append(cut(images, boxes[:, part], flips[:, part], size, interpolation, family.antialias))
            first += len(group)
        return [ids, labels, uniforms, boxes, *parts]

    count = ids.shape[0]
    types = [tf.int64, tf.int64, tf.float64, tf.int64] + [tf.uint8] * len(groups)
    ids, labels, uniforms, boxes, *parts = tf.numpy_function(numpy_cut, [ids, epochs], types)
    ids.set_shape([count])
    labels.set_shape([count])
    uniforms.set_shape([count, len(views), len(columns)])
    boxes.set_shape([count, len(views), 4])
    planes = []
    for group, part in zip(groups, parts, strict=True):
        size = group[0].size
        planes.append(augment.to_planes(tf.reshape(part, [count * len(group), size, size, 3])))
    return ids, labels, uniforms, boxes, planes


def _finish(policy: ViewPolicy, cuts: Cuts, with_boxes: bool) -> Batch:
    """Colours and blurs crops, and makes a batch of them."""
    ids, labels, uniforms, boxes, planes = cuts
    batch = {"id": ids, "label": labels}
    first = 0
    for (name, group), part in zip(policy.groups.items(), planes, strict=True):
        size, count = group[0].size, len(group)
        colour = view_ops.apply_colour(part, uniforms[:, first : first + count], group)
        batch[name] = tf.reshape(colour, [ids.shape[0], count, size, size, 3])
        first += count
    if policy.jigsaw is not None:
        drawn = uniforms[:, -1, -len(jigsaw.COLUMNS) :]
        batch["patches"] = jigsaw.cut(batch["patches"][:, 0], drawn, policy.jigsaw)
    if with_boxes:
        batch["boxes"] = boxes[:, : len(policy.global_views) + len(policy.local_views)]
    return batch


def _chunk_size(views: tuple[View, ...], batch_size: int) -> int:
    return max(1, min(batch_size, _CHUNK_BYTES // sum(12 * view.size**2 for view in views)))


def _in_parallel(
    starts: tf.data.Dataset,
    chunk: Callable[[tf.Tensor], Batch],
    batch_size: int,
    parallel_calls: int,
    prefetch: int = 2,
    endless: bool = False,
) -> tf.data.Dataset:
    """Maps chunks on as many threads as there are cores, each op on its own thread, and joins them to batches.

    Those of an endless stream all have the same shape, and the graph of a step knows it.
    """
    cores = os.cpu_count() or 1
    options = tf.data.Options()
    options.deterministic = True
    options.threading.max_intra_op_parallelism = 1
    options.threading.private_threadpool_size = cores if parallel_calls == AUTOTUNE else max(1, parallel_calls)
    calls = cores if parallel_calls == AUTOTUNE else max(1, parallel_calls)
    chunk = tf.autograph.experimental.do_not_convert(chunk)
    batches = starts.map(chunk, num_parallel_calls=calls).rebatch(batch_size, drop_remainder=endless)
    return batches.prefetch(prefetch).with_options(options)


def view_batches(
    dataset: ImageDataset,
    policy: ViewPolicy,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    num_shards: int = 1,
    shard: int = 0,
    parallel_calls: int = AUTOTUNE,
    boxes: bool = False,
    max_bad_images: float = 0.001,
    prefetch: int = 2,
    cache_bytes: int = 0,
) -> tf.data.Dataset:
    """Batches of random views, without end.

    Batch number `s` is a function of `(dataset, batch_size, seed, s)`, and the pixels of a view one of
    `(dataset, policy, seed, epoch, id, view)`: whatever the number of shards and calls, and wherever it is started.
    An epoch is `steps_per_epoch` batches; in it every image appears at most once, and others are left out each epoch.

    # Arguments
        batch_size: Images of a global batch, over all shards.
        start_step: Number of the first batch, to go on where an earlier run stopped.
        num_shards, shard: This is worker `shard` of `num_shards`: it gets its slice of each global batch.
        parallel_calls: Chunks that are worked on at once.
        boxes: Adds where the crops lie, in pixels of the image.
        max_bad_images: See `reader.Reader`.
        prefetch: Batches that are made ahead.
        cache_bytes: See `reader.Reader`; pixels are the same with and without.
    # Returns
        Dicts of `global` uint8 `[b, views, size, size, 3]`, `local` (likewise, if the policy has local views),
        `patches` uint8 `[b, 9, size, size, 3]` (if it has a jigsaw), `id` and `label` int64 `[b]` (label -1: none),
        `boxes` int64 `[b, views, 4]` (top, left, height, width).
    """
    steps = steps_per_epoch(dataset, batch_size)
    if num_shards < 1 or batch_size % num_shards:
        raise ValueError(f"num_shards is {num_shards}: it must divide batch_size, which is {batch_size}")
    if not 0 <= shard < num_shards:
        raise ValueError(f"shard is {shard}: it must lie in [0, {num_shards - 1}]")
    if start_step < 0:
        raise ValueError(f"start_step is {start_step}: it must be at least 0")
    if prefetch < 1:
        raise ValueError(f"prefetch is {prefetch}: it must be at least 1")
    local_size = batch_size // num_shards
    size = _chunk_size(policy.views, local_size)
    reader = Reader(dataset, max_bad_images, cache_bytes)

    def chunk(start: tf.Tensor) -> Batch:
        position = start + tf.range(size, dtype=tf.int64)
        step = position // local_size
        in_epoch = step % steps * batch_size + shard * local_size + position % local_size
        epochs = step // steps
        ids = rng.shuffled(in_epoch, seed, epochs, dataset.size)
        if dataset.images is not None:
            cuts = _cut_in_memory(dataset, policy, seed, ids, epochs)
        else:
            cuts = _cut_encoded(reader, policy, seed, ids, epochs)
        return _finish(policy, cuts, boxes)

    starts = tf.data.Dataset.range(start_step * local_size, _FOREVER, size)
    return _in_parallel(starts, chunk, local_size, parallel_calls, prefetch, endless=True)


def image_batches(
    dataset: ImageDataset,
    image_size: int,
    batch_size: int,
    max_bad_images: float = 0.001,
    protocol: str = "torchvision",
) -> tf.data.Dataset:
    """All images in the order of their index, once, as probes see them (`reader.evaluation_image`: of a protocol).

    An image that cannot be decoded is left out.

    # Returns
        Dicts of `image` uint8 `[b, image_size, image_size, 3]`, `id` and `label` int64 `[b]`; the last
        batch may be smaller.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: it must be at least 1")
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol is {protocol!r}: it must be one of {PROTOCOLS}")
    reader = Reader(dataset, max_bad_images)
    size = min(batch_size, 32)

    def numpy_read(start: np.int64) -> list[np.ndarray]:
        ids = range(int(start), min(int(start) + size, dataset.size))
        found = [(i, *pair) for i in ids if (pair := reader.read(i)) is not None]
        pixels = np.empty((len(found), image_size, image_size, 3), np.uint8)
        for row, (_, image, _) in zip(pixels, found, strict=True):
            row[:] = evaluation_image(image, image_size, protocol)
        return [np.array([f[0] for f in found], np.int64), np.array([f[2] for f in found], np.int64), pixels]

    def chunk(start: tf.Tensor) -> Batch:
        ids, targets, images = tf.numpy_function(numpy_read, [start], [tf.int64, tf.int64, tf.uint8])
        ids.set_shape([None])
        targets.set_shape([None])
        images.set_shape([None, image_size, image_size, 3])
        return {"image": images, "label": targets, "id": ids}

    return _in_parallel(tf.data.Dataset.range(0, dataset.size, size), chunk, batch_size, AUTOTUNE)

"""The same views made image by image, as a `tf.data` map is usually written: what `pipeline` is measured against.

It is written with care: calls in parallel, one decode per image, a separable blur, ops that were not drawn skipped by
`tf.cond`, TensorFlow's own samplers and fused ops. It passes the augmentation goldens within the same tolerances.
Differences from `pipeline.view_batches`: only the torchvision family, without RandAugment and patches; its draws depend
on the order of execution, so nothing can be resumed.
"""

from collections.abc import Callable

import tensorflow as tf

from larq_ssl.data.datasets import ImageDataset
from larq_ssl.data.views import View, ViewPolicy

_BLUR_TAPS = 23


def _blend(image: tf.Tensor, other: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    return tf.floor(tf.clip_by_value(image * factor + other * (1.0 - factor), 0.0, 255.0))


def _luma(image: tf.Tensor) -> tf.Tensor:
    return tf.floor(tf.tensordot(image, tf.constant([0.299, 0.587, 0.114]), 1)[..., None] + 0.5)


def crop_resize(image: tf.Tensor, box: tf.Tensor, size: int, interpolation: str) -> tf.Tensor:
    """Box (top, left, height, width) of `[height, width, 3]` as float32 `[size, size, 3]`."""
    crop = tf.slice(image, tf.pad(box[:2], [[0, 1]]), tf.concat([box[2:], [3]], 0))
    resized = tf.image.resize(crop, (size, size), interpolation, antialias=True)
    return tf.clip_by_value(tf.floor(resized + 0.5), 0.0, 255.0)


def brightness(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """See `augment.brightness`."""
    return tf.floor(tf.clip_by_value(image * factor, 0.0, 255.0))


def contrast(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """See `augment.contrast`."""
    return _blend(image, tf.floor(tf.reduce_mean(_luma(image)) + 0.5), factor)


def saturation(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """See `augment.saturation`."""
    return _blend(image, _luma(image), factor)


def hue(image: tf.Tensor, shift: tf.Tensor) -> tf.Tensor:
    """See `augment.hue`; by TensorFlow's fused op."""
    shifted = tf.image.adjust_hue(image * (1.0 / 255.0), shift)
    return tf.floor(tf.clip_by_value(shifted * 255.0, 0.0, 255.0))


def grey(image: tf.Tensor) -> tf.Tensor:
    """See `augment.grey`."""
    return tf.tile(_luma(image), [1, 1, 3])


def jitter(image: tf.Tensor, order: tf.Tensor, factors: tf.Tensor) -> tf.Tensor:
    """The four ops in the order of `order` `[4]`, with `factors` `[4]` by op."""
    ops: list[Callable] = [brightness, contrast, saturation, hue]
    for place in range(4):
        current = image
        branches = [lambda op=op, i=i, x=current: op(x, factors[i]) for i, op in enumerate(ops)]
        image = tf.ensure_shape(tf.switch_case(order[place], branches), image.shape)
    return image


def gaussian_blur(image: tf.Tensor, sigma: tf.Tensor) -> tf.Tensor:
    """A Gaussian of 23 taps (fewer on tiny images) with a mirrored border, rows and columns apart."""
    reach = min(_BLUR_TAPS // 2, *image.shape[:2])
    offset = tf.range(-reach, reach + 1, dtype=tf.float32)
    kernel = tf.exp(-0.5 * (offset / sigma) ** 2)
    kernel = tf.tile((kernel / tf.reduce_sum(kernel))[:, None, None, None], [1, 1, 3, 1])
    x = tf.pad(image, [[reach, reach], [reach, reach], [0, 0]], "SYMMETRIC")[None]
    x = tf.nn.depthwise_conv2d(x, kernel, [1, 1, 1, 1], "VALID")
    x = tf.nn.depthwise_conv2d(x, tf.transpose(kernel, [1, 0, 2, 3]), [1, 1, 1, 1], "VALID")[0]
    return tf.floor(x + 0.5)


def solarise(image: tf.Tensor, threshold: float = 128.0) -> tf.Tensor:
    """See `augment.solarise`."""
    return tf.where(image >= threshold, 255.0 - image, image)


def _random_box(shape: tf.Tensor, view: View) -> tf.Tensor:
    if view.crop_scale is None:
        return tf.concat([[0, 0], shape[:2]], 0)
    begin, extent, _ = tf.image.sample_distorted_bounding_box(
        shape,
        tf.zeros([0, 0, 4]),
        aspect_ratio_range=view.ratio,
        area_range=view.crop_scale,
        max_attempts=10,
        use_image_if_no_bounding_boxes=True,
    )
    return tf.concat([begin[:2], extent[:2]], 0)


def random_view(image: tf.Tensor, view: View) -> tf.Tensor:
    """One view uint8 `[size, size, 3]` of an image uint8 `[height, width, 3]`."""
    x = crop_resize(image, _random_box(tf.shape(image), view), view.size, view.interpolation)
    u = tf.random.uniform([10])

    def sometimes(i: int, probability: float, op: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor) -> tf.Tensor:
        return x if probability == 0.0 else tf.cond(u[i] < probability, lambda: op(x), lambda: x)

    def some_jitter(x: tf.Tensor) -> tf.Tensor:
        strength = tf.constant(view.jitter)
        low = tf.maximum(tf.constant([1.0, 1.0, 1.0, 0.0]) - strength, [0.0, 0.0, 0.0, -0.5])
        high = tf.constant([1.0, 1.0, 1.0, 0.0]) + strength
        return jitter(x, tf.random.shuffle(tf.range(4)), low + (high - low) * u[5:9])

    low, high = view.blur_sigma
    x = sometimes(0, view.flip, lambda x: tf.reverse(x, [1]), x)
    x = sometimes(1, view.jitter_probability, some_jitter, x)
    x = sometimes(2, view.grey_probability, grey, x)
    x = sometimes(3, view.blur_probability, lambda x: gaussian_blur(x, low + (high - low) * u[9]), x)
    x = sometimes(4, view.solarise_probability, solarise, x)
    return tf.cast(x, tf.uint8)


def per_image_batches(
    dataset: ImageDataset, policy: ViewPolicy, batch_size: int, parallel_calls: int = tf.data.AUTOTUNE
) -> tf.data.Dataset:
    """Endless batches like those of `pipeline.view_batches`, of JPEGs or of images kept in memory."""
    family = policy.global_views[0].family
    if family != "torchvision":
        raise ValueError(f"policy is {policy.name!r}, of family {family!r}: image by image there is only 'torchvision'")
    if policy.global_views[0].rand_augment or policy.jigsaw:
        raise ValueError(f"policy is {policy.name!r}: image by image there is neither RandAugment nor a jigsaw")

    def views(image: tf.Tensor, index: tf.Tensor) -> dict[str, tf.Tensor]:
        result = {"global": tf.stack([random_view(image, view) for view in policy.global_views]), "id": index}
        if policy.local_views:
            result["local"] = tf.stack([random_view(image, view) for view in policy.local_views])
        return result

    def decoded(index: tf.Tensor) -> dict[str, tf.Tensor]:
        data = tf.numpy_function(lambda i: dataset.encoded(int(i))[0], [index], tf.string)
        return views(tf.io.decode_jpeg(data, channels=3), index)

    indices = tf.data.Dataset.range(dataset.size)
    if dataset.images is None:
        examples = indices.shuffle(min(dataset.size, 10_000)).repeat().map(decoded, parallel_calls)
    else:
        pixels = tf.data.Dataset.from_tensor_slices(dataset.images)
        examples = tf.data.Dataset.zip((pixels, indices)).shuffle(min(dataset.size, 10_000)).repeat()
        examples = examples.map(views, parallel_calls)
    return examples.batch(batch_size, drop_remainder=True).prefetch(2)

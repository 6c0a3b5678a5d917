"""Images, however they come, as batches that an encoder takes: as probes see them."""

import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf
from PIL import Image

from larq_ssl.data import pipeline
from larq_ssl.data.datasets import ImageDataset, fingerprint
from larq_ssl.data.decode import BadImageError, to_rgb
from larq_ssl.data.reader import evaluation_image
from larq_ssl.inference.checks import check_count
from larq_ssl.inference.files import Path, files, of_files

Images: TypeAlias = np.ndarray | Path | Sequence[Any] | ImageDataset | tf.data.Dataset
"""What `FrozenEncoder.encode` takes, see there."""

Part = tuple[np.ndarray, tf.Tensor]
"""Numbers of some images, int64 `[n]`, and their pixels, uint8 `[n, size, size, 3]`."""

_ALLOWED = (
    "images uint8 [images, height, width, 3] or [images, height, width, 1]; a list of images uint8 [height, width, 3] "
    "or [height, width], of any sizes; paths of files or folders, and patterns such as 'photos/**/*.jpg'; an "
    "ImageDataset; or a tf.data.Dataset of images"
)


def count(images: Images) -> int | None:
    """Number of images, `None` if only who reads them all knows it."""
    if not isinstance(images, tf.data.Dataset):
        return image_dataset(images).size
    known = int(images.cardinality())
    return known if known >= 0 and len(_image_shape(images)) == 3 else None


def batches(images: Images, image_size: int, batch_size: int, max_bad_images: float = 0.0) -> Iterator[Part]:
    """All images once, in their order, as probes see them (`reader.evaluation_image`).

    # Arguments
        images: See `FrozenEncoder.encode`.
        image_size: Side of the images in pixels.
        batch_size: Images of a batch; the last may be smaller.
        max_bad_images: Share of files that may turn out not to be images: they are left out, and named in the log.
    # Raises
        ValueError: If they are no images, or more are bad.
    """
    check_count("batch_size", batch_size)
    with told():
        if isinstance(images, tf.data.Dataset):
            start = 0
            for pixels in _of_stream(images, image_size).batch(batch_size).prefetch(2):
                yield np.arange(start, start + len(pixels)), pixels
                start += len(pixels)
        else:
            dataset = image_dataset(images)
            for batch in pipeline.image_batches(dataset, image_size, batch_size, max_bad_images):
                yield batch["id"].numpy(), batch["image"]


def image_dataset(images: Images) -> ImageDataset:
    """Images that are there by index as a data set without labels.

    # Raises
        ValueError: If they are none of what is allowed, or there are none.
    """
    if isinstance(images, ImageDataset):
        return images
    if isinstance(images, str | os.PathLike):
        return of_files(files(images))
    if is_column(images):
        images = np.asarray(images)
    if isinstance(images, np.ndarray) and images.dtype != object and images.dtype.kind != "U":
        return _of_array(images)
    found = list(images) if isinstance(images, Sequence | np.ndarray) else []
    if found and all(isinstance(image, str | os.PathLike) for image in found):
        return of_files([file for path in found for file in files(path)])
    if found and all(isinstance(image, np.ndarray | Image.Image) for image in found):
        return _of_list([_numbered_picture(number, image) for number, image in enumerate(found)])
    given = f"an empty {type(images).__name__}" if isinstance(images, Sequence) and not found else repr(images)[:80]
    raise ValueError(f"`images` must be {_ALLOWED}; got {given}.")


def is_column(images: Any) -> bool:
    """Whether it is no array of NumPy, but can be one: a column of a table, or a tensor."""
    return hasattr(images, "__array__") and not isinstance(images, np.ndarray | Image.Image)


def _of_array(images: np.ndarray) -> ImageDataset:
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or images.dtype != np.uint8 or not images.size:
        raise ValueError(f"`images` must be {_ALLOWED}; got an array {images.dtype} {list(images.shape)}.")
    colour = images if images.shape[-1] == 3 else np.repeat(images, 3, axis=-1)
    return ImageDataset(
        name="array",
        split="all",
        size=len(images),
        classes=None,
        class_names=(),
        fingerprint=fingerprint(str(images.shape), np.ascontiguousarray(images).tobytes()),
        images=colour,
    )


def _of_list(pictures: Sequence[Image.Image]) -> ImageDataset:
    def read(index: int) -> tuple[bytes, int]:
        stream = io.BytesIO()  # of one kind with files: nothing of an image is lost in this format
        pictures[index].save(stream, "ppm")
        return stream.getvalue(), -1

    return ImageDataset(
        name="list",
        split="all",
        size=len(pictures),
        classes=None,
        class_names=(),
        fingerprint=fingerprint(*(part for one in pictures for part in (str(one.size), one.tobytes()))),
        read=read,
        describe=lambda i: f"image {i}",
    )


def _numbered_picture(number: int, image: np.ndarray | Image.Image) -> Image.Image:
    try:
        return _picture(image)
    except BadImageError as error:
        raise ValueError(f"`images`: number {number} of the list cannot be decoded: {error}.") from error


def _picture(image: np.ndarray | Image.Image) -> Image.Image:
    """One image in colours."""
    if isinstance(image, Image.Image):
        return to_rgb(image)
    if image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]
    if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[-1] == 3)) or not image.size:
        raise ValueError(f"`images` must be {_ALLOWED}; got one that is {image.dtype} {list(image.shape)}.")
    return Image.fromarray(image).convert("RGB")


def _of_stream(images: tf.data.Dataset, image_size: int) -> tf.data.Dataset:
    """Each image of a stream as probes see it."""
    rank = len(_image_shape(images))
    plain = images.map(_image_of)
    if rank == 4:
        plain = plain.unbatch()

    def numpy_view(image: np.ndarray) -> np.ndarray:
        return evaluation_image(_picture(image), image_size)

    def view(image: tf.Tensor) -> tf.Tensor:
        seen = tf.numpy_function(numpy_view, [image], tf.uint8)
        seen.set_shape([image_size, image_size, 3])
        return seen

    return plain.map(view, num_parallel_calls=os.cpu_count(), deterministic=True)


def _image_shape(images: tf.data.Dataset) -> tf.TensorShape:
    spec = images.element_spec
    image = _image_of(*spec) if isinstance(spec, tuple) else _image_of(spec)
    shape = getattr(image, "shape", None)
    if shape is None or shape.rank not in (3, 4) or image.dtype != tf.uint8:
        raise ValueError(
            "`images` of tf.data must be uint8 [height, width, 3] or batches of such, alone, first in a tuple, or "
            f"called 'image' in a dict; got {spec}."
        )
    return shape


@tf.autograph.experimental.do_not_convert
def _image_of(*element: Any) -> Any:
    """The image in an element of a stream: alone, with a label, or in a dict."""
    return element[0].get("image") if isinstance(element[0], dict) else element[0]


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Finds what is wrong with images in what TensorFlow makes of an error inside a pipeline."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        for line in str(error).splitlines():
            kind, _, sentence = line.partition("Error: ")
            if sentence and ("max_bad_images" in sentence or "`images`" in sentence):
                raise ValueError(sentence) from error
        raise

"""Reading encoded images: bad ones replaced, counted and named; crops cut by Pillow."""

import math
import threading
from collections.abc import Sequence

import numpy as np
from absl import logging
from PIL import Image

from larq_ssl.data import resize_tf, rng
from larq_ssl.data.datasets import ImageDataset
from larq_ssl.data.decode import BadImageError, decode

_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_MAX_REPLACEMENTS = 100


class TooManyBadImagesError(ValueError):
    """More images cannot be decoded than allowed. (Out of a `tf.data` pipeline: `tf.errors.InvalidArgumentError`.)"""


class Reader:
    """Decodes images of a data set by index.

    An image that cannot be decoded is named in the log once, and replaced by another one, drawn by
    `(seed, epoch, index)`: so batches stay full, and the same whatever the batch size, workers and restarts.
    (The replacement may be in the same epoch a second time. It appears under its own id and label.)

    # Arguments
        dataset: Where the images come from.
        max_bad_images: Fraction of the data set; more bad images than that raise an error which lists them.
        cache_bytes: Decoded pixels that are kept, in the order in which they come, until so many bytes are full.
    """

    def __init__(self, dataset: ImageDataset, max_bad_images: float = 0.001, cache_bytes: int = 0) -> None:
        if not 0.0 <= max_bad_images <= 1.0:
            raise ValueError(f"max_bad_images is {max_bad_images}: it must lie in [0, 1]")
        if cache_bytes < 0:
            raise ValueError(f"cache_bytes is {cache_bytes}: it must be at least 0")
        self._kept: dict[int, tuple[Image.Image, int]] = {}
        self._room = cache_bytes
        self.dataset = dataset
        self.max_bad_images = max_bad_images
        self.bad: dict[int, str] = {}
        self._lock = threading.Lock()

    def read(self, index: int) -> tuple[Image.Image, int] | None:
        """Image and label, `None` if the image is bad."""
        if self.dataset.images is not None:
            return Image.fromarray(self.dataset.images[index]), int(self.dataset.labels()[index])
        if (kept := self._kept.get(index)) is not None:
            return kept
        try:
            data, label = self.dataset.encoded(index)
            found = decode(data), label
        except (BadImageError, OSError) as error:
            self._record(index, error)
            return None
        self._keep(index, found)
        return found

    def _keep(self, index: int, found: tuple[Image.Image, int]) -> None:
        size = found[0].width * found[0].height * len(found[0].getbands())
        with self._lock:
            # Another thread may have read the same image.
            if size <= self._room and index not in self._kept:
                self._room -= size
                self._kept[index] = found

    def _record(self, index: int, error: Exception) -> None:
        with self._lock:
            if index not in self.bad:
                self.bad[index] = f"{self.dataset.describe(index)} ({error})"
                logging.warning("Bad image %d, skipped: %s", len(self.bad), self.bad[index])
            # Also at an image that is known already: whoever came first may have been a batch that nobody waited for.
            if len(self.bad) > self.max_bad_images * self.dataset.size:
                raise TooManyBadImagesError(
                    f"{len(self.bad)} of {self.dataset.size} images cannot be decoded, more than max_bad_images = "
                    f"{self.max_bad_images} allows: " + "; ".join(self.bad.values())
                )

    def read_or_replace(self, index: int, seed: int, epoch: int) -> tuple[int, Image.Image, int]:
        """Index, image and label; of another index if the image is bad."""
        chosen = index
        for draw in range(_MAX_REPLACEMENTS):
            found = self.read(chosen)
            if found is not None:
                return chosen, *found
            u = rng.uniform(seed, epoch, np.array([index]), 0, int(rng.Op.REPLACEMENT), draw)
            chosen = int(u[0] * self.dataset.size)
        raise TooManyBadImagesError(f"no good image found in {_MAX_REPLACEMENTS} tries: {list(self.bad.values())}")


def cut(
    images: Sequence[Image.Image],
    boxes: np.ndarray,
    flips: np.ndarray,
    size: int,
    interpolation: str,
    antialias: bool = True,
) -> np.ndarray:
    """Several crops of each image, each resized to a square.

    # Arguments
        boxes: Integers `[n, views, 4]`: top, left, height, width.
        flips: Bool `[n, views]`.
        antialias: By Pillow, as torchvision does; without it by TensorFlow, bicubic (see `resize_tf`).
    # Returns
        uint8 `[n, views, size, size, 3]`.
    """
    out = np.empty((*flips.shape, size, size, 3), np.uint8)
    for (i, v), flip in np.ndenumerate(flips):
        top, left, height, width = boxes[i, v].tolist()
        crop = images[i].crop((left, top, left + width, top + height))
        if antialias:
            view = np.asarray(crop.resize((size, size), _RESAMPLING[interpolation]))
        else:
            view = resize_tf.resize_image(np.asarray(crop), size)
        out[i, v] = view[:, ::-1] if flip else view
    return out


PROTOCOLS = ("torchvision", "simclr", "voc07")
# Images of at most this side are shown whole to a probe.
_WHOLE_SIDE = {"torchvision": 64, "simclr": 32}
_SIMCLR_SHARE = 0.875


def evaluation_image(image: Image.Image, size: int, protocol: str = "torchvision") -> np.ndarray:
    """The image as probes see it, uint8 `[size, size, 3]`.

    "torchvision": short side to `size * 256 / 224` (bicubic), then the middle; images of at most 64 pixels, and those
    that have the size already, are resized whole. "simclr": the middle square of 0.875 of the short side, resized
    (bicubic without anti-aliasing); images of at most 32 pixels are resized whole. "voc07": short side to
    `size * 256 / 224`, then the whole image to the square, its aspect not kept (both bilinear).
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol is {protocol!r}: it must be one of {PROTOCOLS}")
    width, height = image.size
    short = math.floor(size * 256 / 224 + 0.5)
    if protocol == "voc07":
        return squeezed(image, short, size)
    whole = max(width, height) <= _WHOLE_SIDE[protocol]
    if protocol == "simclr":
        return resize_tf.resize_image(np.asarray(image if whole else _simclr_middle(image)), size)
    if whole or (width, height) == (size, size):
        return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))
    image = _resize_short(image, short, Image.Resampling.BICUBIC)
    # torchvision rounds the offset of the crop.
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def squeezed(image: Image.Image, short: int, size: int) -> np.ndarray:
    """The whole image as uint8 `[size, size, 3]`, its short side resized to `short` before; bilinear."""
    resized = _resize_short(image, short, Image.Resampling.BILINEAR)
    return np.asarray(resized.resize((size, size), Image.Resampling.BILINEAR))


def _resize_short(image: Image.Image, short: int, resampling: Image.Resampling) -> Image.Image:
    width, height = image.size
    # torchvision truncates the long side.
    new_width = short if width <= height else int(short * width / height)
    new_height = short if height <= width else int(short * height / width)
    return image.resize((new_width, new_height), resampling)


def _simclr_middle(image: Image.Image) -> Image.Image:
    side = round(_SIMCLR_SHARE * min(image.size))
    left, top = ((whole - side + 1) // 2 for whole in image.size)
    return image.crop((left, top, left + side, top + side))

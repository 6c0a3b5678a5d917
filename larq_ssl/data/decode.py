"""Encoded images to RGB bytes, the same everywhere: EXIF orientation applied, every mode made RGB."""

import contextlib
import io
import struct
import warnings
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# Larger images are refused as bad: 200 million pixels are 600 MB.
MAX_PIXELS = 200_000_000
_SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I")


class BadImageError(ValueError):
    """An image that cannot be decoded."""


def to_rgb(image: Image.Image) -> Image.Image:
    """An image that Pillow has opened as `decode` gives it: upright, as RGB.

    # Raises
        BadImageError: If it cannot be decoded or is truncated: Pillow reads the pixels of a file late.
    """
    with _bad_images_told():
        return _in_colours(ImageOps.exif_transpose(image))


def _in_colours(image: Image.Image) -> Image.Image:
    if image.mode in _SIXTEEN_BIT_MODES:
        # Pillow's own conversion clips 16-bit grey at 255 instead of scaling it.
        levels = np.asarray(image).astype(np.int64)
        return Image.fromarray(np.clip(levels >> 8, 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        # The colour under transparent pixels is whatever the writer left there: white is what a reader would see.
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def decode(data: bytes) -> Image.Image:
    """The first frame of an encoded image, upright, as an RGB Pillow image.

    # Raises
        BadImageError: If it cannot be decoded, is truncated, or has more than `MAX_PIXELS` pixels.
    """
    with _bad_images_told():
        image = Image.open(io.BytesIO(data))
        if image.width * image.height > MAX_PIXELS:
            raise BadImageError(f"{image.width} x {image.height} pixels: more than {MAX_PIXELS} are refused")
        if image.mode == "RGB" and image.format == "JPEG" and b"Exif" not in data[:4096]:
            image.load()
            return image
        return to_rgb(image)


@contextlib.contextmanager
def _bad_images_told() -> Iterator[None]:
    """Makes one error of all that Pillow raises for images that cannot be decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except BadImageError:
        raise
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        OSError,
        SyntaxError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        EOFError,
        MemoryError,
        OverflowError,
        ZeroDivisionError,
        struct.error,
        zlib.error,
    ) as error:
        raise BadImageError(f"{type(error).__name__}: {error}") from error

"""Corruptions of images in five severities, for measuring how much of an accuracy they leave.

# References
    - Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations
"""

import dataclasses
import io
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib import colors
from PIL import Image, ImageFilter

from larq_ssl.data.datasets import ImageDataset, fingerprint
from larq_ssl.data.decode import BadImageError
from larq_ssl.data.reader import Reader, evaluation_image

SEVERITIES = (1, 2, 3, 4, 5)


@dataclasses.dataclass(frozen=True)
class CorruptionPreset:
    """How strong each corruption is, in the order of `SEVERITIES`, and for images of what size.

    # Arguments
        name: Name of the preset.
        sides: Smallest and largest side of the images, in pixels.
        gaussian_noise: Standard deviation of what is added to each value, as a share of the range.
        gaussian_blur: Sigma in pixels.
        jpeg: Quality.
        brightness: Added to the value of HSV, as a share of its range.
        contrast: Factor of the distance from the mean of the image's channel.
        pixelate: Side of the shrunken image, as a share of the side.
    """

    name: str
    sides: tuple[int, int]
    gaussian_noise: tuple[float, ...]
    gaussian_blur: tuple[float, ...]
    jpeg: tuple[int, ...]
    brightness: tuple[float, ...]
    contrast: tuple[float, ...]
    pixelate: tuple[float, ...]

    def check(self, image_size: int) -> None:
        """Refuse images of a size that these severities are not made for.

        # Raises
            ValueError: Names the preset, the size, and what fits.
        """
        low, high = self.sides
        if not low <= image_size <= high:
            other = next((name for name, preset in PRESETS.items() if preset.sides[0] <= image_size), self.name)
            raise ValueError(
                f"`preset` {self.name!r} is for images of {low} to {high} pixels, these have {image_size}; "
                f"take {other!r}."
            )


PRESETS = {
    # The severities of ImageNet-C and of CIFAR-10-C, as their authors generated them; which sizes they are applied to
    # is ours, as the published ones are of 224 and 32 pixels.
    "imagenet_c": CorruptionPreset(
        "imagenet_c",
        sides=(65, 2**15),
        gaussian_noise=(0.08, 0.12, 0.18, 0.26, 0.38),
        gaussian_blur=(1.0, 2.0, 3.0, 4.0, 6.0),
        jpeg=(25, 18, 15, 10, 7),
        brightness=(0.1, 0.2, 0.3, 0.4, 0.5),
        contrast=(0.4, 0.3, 0.2, 0.1, 0.05),
        pixelate=(0.6, 0.5, 0.4, 0.3, 0.25),
    ),
    "cifar_c": CorruptionPreset(
        "cifar_c",
        sides=(8, 64),
        gaussian_noise=(0.04, 0.06, 0.08, 0.09, 0.10),
        gaussian_blur=(0.4, 0.6, 0.7, 0.8, 1.0),
        jpeg=(80, 65, 58, 50, 40),
        brightness=(0.05, 0.1, 0.15, 0.2, 0.3),
        contrast=(0.75, 0.5, 0.4, 0.3, 0.15),
        pixelate=(0.95, 0.9, 0.85, 0.75, 0.65),
    ),
}


def _to_uint8(image: np.ndarray) -> np.ndarray:
    return np.clip(np.floor(image + 0.5), 0, 255).astype(np.uint8)


def _noise(image: np.ndarray, strength: float, seed: int, example: int) -> np.ndarray:
    # The draws are those of the image, not of the severity: the same noise, only stronger.
    normal = np.random.default_rng((seed, example)).standard_normal(image.shape)
    return _to_uint8(image + 255.0 * strength * normal)


def _blur(image: np.ndarray, strength: float, *_: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(strength)))


def _jpeg(image: np.ndarray, strength: int, *_: int) -> np.ndarray:
    with io.BytesIO() as stream:
        Image.fromarray(image).save(stream, "JPEG", quality=strength)
        return np.asarray(Image.open(stream).convert("RGB"))


def _brightness(image: np.ndarray, strength: float, *_: int) -> np.ndarray:
    hsv = colors.rgb_to_hsv(image / 255.0)
    hsv[..., 2] = np.clip(hsv[..., 2] + strength, 0.0, 1.0)
    return _to_uint8(255.0 * colors.hsv_to_rgb(hsv))


def _contrast(image: np.ndarray, strength: float, *_: int) -> np.ndarray:
    mean = image.mean(axis=(0, 1), keepdims=True)
    return _to_uint8((image - mean) * strength + mean)


def _pixelate(image: np.ndarray, strength: float, *_: int) -> np.ndarray:
    height, width = image.shape[:2]
    small = (max(1, int(width * strength)), max(1, int(height * strength)))
    box = Image.Resampling.BOX
    return np.asarray(Image.fromarray(image).resize(small, box).resize((width, height), box))


CORRUPTIONS: dict[str, Callable[[np.ndarray, Any, int, int], np.ndarray]] = {
    "gaussian_noise": _noise,
    "gaussian_blur": _blur,
    "jpeg": _jpeg,
    "brightness": _brightness,
    "contrast": _contrast,
    "pixelate": _pixelate,
}


def corrupt(
    image: np.ndarray, kind: str, severity: int, preset: CorruptionPreset, seed: int = 0, example: int = 0
) -> np.ndarray:
    """One image, corrupted: a function of its arguments alone.

    Differences from the published data sets: blur is Pillow's, by three boxes; noise is drawn for each image by its
    id; values are rounded, not cut off.

    # Arguments
        image: uint8 `[height, width, 3]`.
        kind: One of `CORRUPTIONS`.
        severity: One of `SEVERITIES`.
        preset: How strong that is.
        seed, example: Of the noise: that of the probe, and the image's id.
    # Returns
        uint8 `[height, width, 3]`.
    # Raises
        ValueError: If there is no such corruption or severity, or the image is not as described.
    """
    if kind not in CORRUPTIONS:
        raise ValueError(f"`kind` must be one of {sorted(CORRUPTIONS)}, got {kind!r}.")
    if severity not in SEVERITIES:
        raise ValueError(f"`severity` must be one of {SEVERITIES}, got {severity}.")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(f"`image` must be uint8 [height, width, 3], got {image.dtype} {image.shape}.")
    return CORRUPTIONS[kind](image, getattr(preset, kind)[severity - 1], seed, example)


def corrupted(
    dataset: ImageDataset, kind: str, severity: int, preset: CorruptionPreset, image_size: int, seed: int = 0
) -> ImageDataset:
    """The images as a probe sees them, corrupted while they are read; labels and ids stay.

    # Arguments
        dataset: Where the images come from.
        kind, severity, preset, seed: See `corrupt`.
        image_size: Side at which they are corrupted, and at which the encoder is to see them.
    # Raises
        ValueError: If the preset is not for images of that size.
    """
    preset.check(image_size)
    reader = Reader(dataset, max_bad_images=1.0)

    def read(index: int) -> tuple[bytes, int]:
        found = reader.read(index)
        if found is None:
            raise BadImageError(reader.bad[index])
        pixels = evaluation_image(found[0], image_size)
        with io.BytesIO() as stream:
            changed = corrupt(pixels, kind, severity, preset, seed, index)
            # Not compressed: it is decoded at once.
            Image.fromarray(changed).save(stream, "PNG", compress_level=0)
            return stream.getvalue(), found[1]

    note = fingerprint(dataset.fingerprint, preset.name, kind, str(severity), str(image_size), str(seed))
    return dataclasses.replace(dataset, read=read, images=None, fingerprint=note)

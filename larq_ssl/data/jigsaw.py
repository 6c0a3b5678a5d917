"""Jigsaw patches (PIRL): nine parts of a crop of an image, in random order.

The crop is cut into three by three cells; of each a smaller square at a random place is kept, so that patches do not
fit together at their edges.

# References
    - Self-Supervised Learning of Pretext-Invariant Representations (PIRL, Misra and van der Maaten, 2020), Sec. 3.3
    - What Makes for Good Views for Contrastive Learning? (InfoMin, Tian et al., 2020), released code
"""

import dataclasses

import numpy as np
import tensorflow as tf

from larq_ssl.data.rng import Op

SIDE = 3
PATCHES = SIDE * SIDE
SMALLEST_PATCH = 8
"""In pixels: a smaller picture shows nothing, and few networks take it."""
_GLOBAL_SIZE, _CELL, _PATCH = 224, 85, 64
COLUMNS = tuple((Op.JIGSAW, draw) for draw in range(3 * PATCHES))
"""The draws of the places (row and column of each patch), then those of the order."""


@dataclasses.dataclass(frozen=True)
class Jigsaw:
    """What patches are made of.

    # Arguments
        cell: Side of a cell in pixels; the crop is resized to three of them.
        patch: Side of a patch in pixels.
        crop_scale: Range of the crop's proposed area, as a fraction of the image's.
        flip: Probability of a horizontal flip of the crop.
    # Raises
        ValueError: If a number is out of its range.
    """

    cell: int = _CELL
    patch: int = _PATCH
    crop_scale: tuple[float, float] = (0.6, 1.0)
    flip: float = 0.5

    def __post_init__(self) -> None:
        if not 1 <= self.patch <= self.cell:
            raise ValueError(f"patch is {self.patch}: it must lie in [1, {self.cell}], the latter the side of a cell")

    @classmethod
    def for_views(cls, size: int, flip: float = 0.5) -> "Jigsaw":
        """For views of a size: cells and patches in proportion to 85 and 64 pixels of 224, patches of 8 at least."""
        patch = max(SMALLEST_PATCH, round(_PATCH * size / _GLOBAL_SIZE))
        return cls(max(patch, round(_CELL * size / _GLOBAL_SIZE)), patch, flip=flip)

    @property
    def size(self) -> int:
        """Side of the resized crop in pixels."""
        return SIDE * self.cell


def cut(images: tf.Tensor, uniforms: tf.Tensor, jigsaw: Jigsaw) -> tf.Tensor:
    """The patches of crops, in their order.

    # Arguments
        images: `[n, jigsaw.size, jigsaw.size, channels]`.
        uniforms: Float64 `[n, len(COLUMNS)]` in `[0, 1)`.
    # Returns
        `[n, PATCHES, jigsaw.patch, jigsaw.patch, channels]`, of the type of the images.
    """
    corners = np.stack(np.divmod(np.arange(PATCHES), SIDE), axis=1) * jigsaw.cell
    free = jigsaw.cell - jigsaw.patch + 1
    places = tf.reshape(uniforms[:, : 2 * PATCHES], [-1, PATCHES, 2])
    corners = corners + tf.cast(tf.floor(places * free), tf.int64)
    corners = tf.gather(corners, tf.argsort(uniforms[:, 2 * PATCHES :], axis=1, stable=True), batch_dims=1)
    pixels = corners[..., None] + np.arange(jigsaw.patch)
    rows = tf.gather(images, pixels[:, :, 0], axis=1, batch_dims=1)
    return tf.gather(rows, pixels[:, :, 1], axis=3, batch_dims=2)

"""Multi-crop: how views of two sizes go through one encoder.

Rows are view-major: of `views` views of `batch` images, rows `[v * batch : (v + 1) * batch]` belong to view `v`, global
views first. BatchNormalization of the encoder sees the views of each size apart, that of a head all views together.

# References
    - Unsupervised Learning of Visual Features by Contrasting Cluster Assignments (Caron et al., 2020), Sec. 3.3
"""

from collections.abc import Sequence

import tensorflow as tf

from larq_ssl.methods.base import Batch


def groups_of_views(batch: Batch, skip: int = 0) -> list[tf.Tensor]:
    """The images of each size, those of the global views first.

    # Arguments
        batch: With `global` `[batch, views, height, width, 3]`, and `local` where there are local views.
        skip: Number of global views to leave out, the first ones.
    # Returns
        Tensors `[views * batch, height, width, 3]`, view-major.
    """
    groups = [batch["global"][:, skip:], *([batch["local"]] if "local" in batch else [])]
    return [_view_major(group) for group in groups if group.shape[1] != 0]


def embed(encoder: tf.keras.Model, groups: Sequence[tf.Tensor]) -> tf.Tensor:
    """Features of all views in training mode, by one pass of the encoder per size.

    # Arguments
        encoder: An encoder of any image size.
        groups: See `groups_of_views`.
    # Returns
        Float tensor `[views * batch, dim]`, view-major.
    """
    return tf.concat([encoder(images, training=True) for images in groups], axis=0)


def views_of(batch: Batch) -> tuple[int, int]:
    """How many global and local views a batch has."""
    return batch["global"].shape[1], batch["local"].shape[1] if "local" in batch else 0


def _view_major(views: tf.Tensor) -> tf.Tensor:
    sides = views.shape[2:]
    rows = tf.transpose(views, [1, 0, 2, 3, 4])
    size = None if views.shape[0] is None else views.shape[0] * views.shape[1]
    return tf.ensure_shape(tf.reshape(rows, [-1, *sides]), [size, *sides])

"""Jigsaw patches: where they lie, and in which order."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.data import jigsaw, rng
from larq_ssl.data.jigsaw import Jigsaw


def draws(count):
    return rng.view_uniforms(5, np.zeros(count, np.int64), np.arange(count), (2,), jigsaw.COLUMNS)[:, 0]


def coordinates(size):
    """An image whose pixels are their row and column."""
    return np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"), axis=-1)


def cut(settings, count):
    """Corners `[count, 9, 2]` of the patches of such images."""
    uniforms = draws(count)
    images = np.repeat(coordinates(settings.size)[None], count, axis=0)
    patches = jigsaw.cut(tf.constant(images), tf.constant(uniforms), settings).numpy()
    assert patches.shape == (count, 9, settings.patch, settings.patch, 2)
    corners = patches[:, :, 0, 0]
    # Each is a square of the image: its pixels follow upon its corner.
    expected = corners[:, :, None, None] + coordinates(settings.patch)
    np.testing.assert_array_equal(patches, expected)
    return corners


def test_the_published_sizes():
    assert (Jigsaw().cell, Jigsaw().size, Jigsaw().patch, Jigsaw().crop_scale) == (85, 255, 64, (0.6, 1.0))
    assert Jigsaw.for_views(224) == Jigsaw()
    assert Jigsaw.for_views(112, 0.0) == Jigsaw(cell=42, patch=32, flip=0.0)
    assert Jigsaw.for_views(16) == Jigsaw(cell=8, patch=8)


def test_patches_are_squares_of_their_cells_at_random_places_in_random_order():
    count, settings = 3000, Jigsaw(cell=7, patch=4)
    corners = cut(settings, count)
    cells, places = np.divmod(corners, settings.cell)
    assert places.max() == 3
    # One patch of each cell.
    order = cells[..., 0] * 3 + cells[..., 1]
    np.testing.assert_array_equal(np.sort(order, axis=1), np.tile(np.arange(9), (count, 1)))
    # Any cell at any place of the order alike, and any place in a cell alike.
    for position in range(9):
        for values, kinds in ((order[:, position], 9), (places[:, position, 0], 4), (places[:, position, 1], 4)):
            share = np.bincount(values, minlength=kinds) / count
            assert np.abs(share - 1 / kinds).max() < 6 * np.sqrt(1 / kinds / count)
    assert len(np.unique(order, axis=0)) > 0.99 * count
    table = np.concatenate([order, places[..., 0], places[..., 1]], axis=1)
    correlation = np.corrcoef(table.T) - np.eye(27)
    correlation[:9, :9] = 0  # an order is none of independent numbers
    assert np.abs(correlation).max() < 6 / np.sqrt(count)


def test_cells_without_room_are_the_patches():
    corners = cut(Jigsaw(cell=8, patch=8), 20)
    assert set(map(tuple, corners.reshape(-1, 2))) == {(8 * y, 8 * x) for y in range(3) for x in range(3)}


def test_the_same_in_a_map_of_tf_data():
    settings = Jigsaw(cell=7, patch=4)
    images = np.random.default_rng(0).integers(0, 256, (10, 21, 21, 3), np.uint8)
    eager = jigsaw.cut(tf.constant(images), tf.constant(draws(10)), settings)
    assert eager.dtype == tf.uint8
    stream = tf.data.Dataset.from_tensor_slices((images, draws(10))).batch(3)
    mapped = stream.map(lambda x, u: jigsaw.cut(x, u, settings))
    np.testing.assert_array_equal(np.concatenate(list(mapped)), eager)


@pytest.mark.parametrize("patch", [0, 86])
def test_patches_that_do_not_fit_are_refused(patch):
    with pytest.raises(ValueError, match=rf"patch is {patch}: it must lie in \[1, 85\]"):
        Jigsaw(patch=patch)

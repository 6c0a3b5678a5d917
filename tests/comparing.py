"""Comparisons that golden tests share."""

import numpy as np


def assert_near(actual, expected, tolerance: float = 1e-5, what: str = "") -> None:
    """The largest difference, over the largest magnitude expected, is at most `tolerance`."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape, what
    error = np.max(np.abs(actual - expected)) / max(np.max(np.abs(expected)), 1e-12)
    assert error <= tolerance, f"{what}: {error:.2e} > {tolerance:.0e}"


def turned_maps(maps) -> np.ndarray:
    """Maps `[batch, height, width, channels]`, turned by 180 degrees."""
    return np.asarray(maps)[:, ::-1, ::-1]


def turned_kernel(array) -> np.ndarray:
    """A convolution kernel `[height, width, in, out]`, turned by 180 degrees; anything else as it is."""
    array = np.asarray(array)
    return array[::-1, ::-1] if array.ndim == 4 else array

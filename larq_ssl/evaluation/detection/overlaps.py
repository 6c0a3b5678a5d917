"""Overlap of boxes."""

import numpy as np


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of each box with each other one.

    In these coordinates, where a box ends behind its last pixel, it is what VOC's own code computes from pixels of
    which the last is inside.

    # Arguments
        boxes, others: `[n, 4]` and `[m, 4]`: top, left, bottom, right.
    # Returns
        Float64 `[n, m]` in 0..1; 0 for boxes without area.
    """
    a, b = (np.asarray(part, np.float64).reshape(-1, 4) for part in (boxes, others))
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0.0), axis=2)
    areas = [np.prod(np.maximum(part[:, 2:] - part[:, :2], 0.0), axis=1) for part in (a, b)]
    union = areas[0][:, None] + areas[1][None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)

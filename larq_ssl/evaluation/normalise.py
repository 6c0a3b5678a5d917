"""Features brought to one length."""

import numpy as np


def unit_rows(features: np.ndarray, epsilon: float = 0.0) -> np.ndarray:
    """Rows of length 1, and of zeros where they were: \\( x / \\max(\\|x\\|_2 + \\epsilon, 10^{-12}) \\).

    # Arguments
        features: Float array `[images, dim]`, of any precision.
        epsilon: Makes short rows shorter; BSSL's support vector machines have 1e-5, kNN has 0.
    """
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True) + epsilon, 1e-12)

"""Limits on the length of gradients."""

from collections.abc import Sequence

import tensorflow as tf

CLIP_NORMS = ("global", "variable")


def clip(gradients: Sequence[tf.Tensor], limit: float | None, norm: str = "global") -> list[tf.Tensor]:
    """Shortens gradients whose L2 norm is above a limit to that limit.

    # Arguments
        gradients: One per variable.
        limit: Largest norm; `None` leaves everything as it is.
        norm: `global`: the norm of all gradients together, which keep their proportions. `variable`: of each alone.
    # References
        - Emerging Properties in Self-Supervised Vision Transformers (Caron et al., 2021), released code: `variable`
    # Differences from the paper
        The released code divides by the norm plus 1e-6.
    """
    if limit is None:
        return list(gradients)
    if norm == "global":
        return tf.clip_by_global_norm(gradients, limit)[0]
    return [tf.clip_by_norm(gradient, limit) for gradient in gradients]

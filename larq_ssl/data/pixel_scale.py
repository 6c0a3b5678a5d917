"""How much larger a global view shows things than a local one: the ratio of their pixel scales.

\\[ PS = \\frac{\\text{area of the view}}{\\text{area of its crop}}, \\qquad
\\frac{PS_g}{PS_l} = \\left(\\frac{GC}{LC}\\right)^2 \\frac{area_l}{area_g} \\]

SSLight finds that views are matched best where this is 1 on average, and chooses LC by it.

The ratios here are those of the crops that `pipeline.view_batches` cuts out of images of given sizes. `uniform_mean` is
what their mean would be if every proposed crop fitted into its image. On photographs it is about a sixth too low: there
large crops, proposed anew until they fit, come out smaller.

Differences from the paper: none.

# References
    - SSLight, Sec. 3.3.2, Eq. 1
"""

import math

import numpy as np

from larq_ssl.data import crops, families, rng
from larq_ssl.data.views import ViewPolicy

_CHUNK = 2000


def ratios(
    policy: ViewPolicy,
    ids: np.ndarray,
    heights: np.ndarray,
    widths: np.ndarray,
    seed: int = 0,
    epochs: int | np.ndarray = 0,
) -> np.ndarray:
    """PS_g / PS_l of every pair of a global and a local view of some images.

    # Arguments
        policy: With local views.
        ids: int64 `[n]`, the numbers of the images.
        heights, widths: int64 `[n]`, their sides in pixels.
        seed, epochs: Of the draws, as in `pipeline.view_batches`; one epoch, or one for each image.
    # Returns
        Float64 `[n, global views, local views]`.
    # Raises
        ValueError: If the policy has no local views.
    """
    _check_local(policy)
    all_views, count = policy.global_views + policy.local_views, len(policy.global_views)
    sizes = np.array([view.size**2 for view in all_views])
    epochs = np.broadcast_to(np.asarray(epochs, np.int64), ids.shape)
    parts = []
    for first in range(0, len(ids), _CHUNK):
        part = slice(first, first + _CHUNK)
        uniforms = rng.view_uniforms(seed, epochs[part], ids[part], range(len(all_views)), crops.COLUMNS)
        boxes = families.crop_boxes(uniforms, heights[part], widths[part], all_views)
        areas = boxes[..., 2] * boxes[..., 3] / sizes
        parts.append(areas[:, None, count:] / areas[:, :count, None])
    return np.concatenate(parts)


def statistics(values: np.ndarray) -> dict[str, float]:
    """The mean of `ratios` with its standard error, and how the pairs are distributed.

    # Arguments
        values: `[n, global views, local views]`. Pairs of one image share crops, so that the error is one of `n` means.
    # Returns
        `mean`, `standard_error`, the quantiles `q05`, `q25`, `q50`, `q75`, `q95`, and `within_2`: the share of pairs
        whose pixel scales differ by at most a factor of 2.
    """
    means = values.mean(axis=(1, 2))
    result = {
        "mean": float(means.mean()),
        "standard_error": float(means.std(ddof=1) / math.sqrt(len(means))) if len(means) > 1 else math.inf,
    }
    for level in (5, 25, 50, 75, 95):
        result[f"q{level:02d}"] = float(np.quantile(values, level / 100))
    result["within_2"] = float(np.mean(np.abs(np.log2(values)) <= 1.0))
    return result


def uniform_mean(policy: ViewPolicy) -> float:
    """The mean of PS_g / PS_l if areas were uniform in the views' `crop_scale`.

    \\[ \\left(\\frac{GC}{LC}\\right)^2 \\mathbb{E}[area_l] \\, \\mathbb{E}[1 / area_g] \\]

    # Raises
        ValueError: If the policy has no local views.
    """
    _check_local(policy)
    inverses, areas = [], []
    for view in policy.global_views:
        low, high = view.crop_scale or (1.0, 1.0)
        inverses.append(1.0 / low if low == high else math.log(high / low) / (high - low))
    for view in policy.local_views:
        low, high = view.crop_scale or (1.0, 1.0)
        areas.append((low + high) / 2)
    sizes = policy.global_views[0].size / policy.local_views[0].size
    return sizes**2 * (sum(areas) / len(areas)) * (sum(inverses) / len(inverses))


def pair_share(policy: ViewPolicy) -> float:
    """Share of the global-global ones among the pairs of two views, one of which is global: alpha of a plain mean."""
    views, others = len(policy.global_views), len(policy.local_views)
    return (views - 1) / (views - 1 + others) if views - 1 + others else 0.0


def _check_local(policy: ViewPolicy) -> None:
    if not policy.local_views:
        raise ValueError(f"policy is {policy.name!r}: it has no local views to compare global ones with")

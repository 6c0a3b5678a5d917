"""What the benchmark measures of multi-crop: a step of DINO with local views, and without."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from larq_ssl import models
from larq_ssl.experiments.benchmark_workers import Measurement, Turn, Variant
from larq_ssl.heads import dino_head
from larq_ssl.methods.dino import DINO

GLOBAL_VIEWS, LOCAL_VIEWS = 2, 6
_ALONE, _WITH = "fit: DINO, 2 global views", "fit: DINO, 2 global and 6 local views"


def groups(
    settings: Mapping[str, Any], precisions: Sequence[str], fit: Callable[..., Turn]
) -> dict[str, list[Variant]]:
    """Variants of the step of DINO by precision, the one without local views first.

    # Arguments
        settings: `encoder`, `image_size` and `batch_size`.
        precisions: Names of Keras precision policies.
        fit: Prepares turns of `fit`, given the settings, a precision and `method`.
    """
    local = local_size(settings["image_size"])
    return {
        f"multi-crop, local views of {local} px, {precision}": [
            Variant(name, fit, {**settings, "precision": precision, "method": f"dino_{count}"})
            for name, count in ((_ALONE, 0), (_WITH, LOCAL_VIEWS))
        ]
        for precision in precisions
    }


def local_size(image_size: int) -> int:
    """Side of a local view, as 96 is to 224."""
    return max(8, round(image_size * 96 / 224))


def method(encoder: dict[str, Any]) -> DINO:
    """The method, with SSLight's head for convolutional networks."""
    networks = [models.build(**encoder) for _ in range(2)]
    heads = [
        dino_head(name, networks[0].feature_dim, 4096, batch_norm=True) for name in ("student_head", "momentum_head")
    ]
    return DINO(networks[0], heads[0], networks[1], heads[1])


def summary(measured: Mapping[str, Sequence[Measurement]], image_size: int) -> str:
    """For each group of `groups`, how the time of a step grows compared with its pixels."""
    pixels = 1 + LOCAL_VIEWS * local_size(image_size) ** 2 / (GLOBAL_VIEWS * image_size**2)
    text = ""
    for group, results in measured.items():
        rates = {result.name: result.rates for result in results}
        if _WITH not in rates:
            continue
        longer = [alone / both for alone, both in zip(rates[_ALONE], rates[_WITH], strict=True)]
        text += (
            f"\n{group}: with 6 local views a step takes {_spread(longer)} times as long, and has {pixels:.2f} times "
            f"the pixels: {_spread([time / pixels for time in longer])} of what its pixels cost.\n"
        )
    return text


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"

"""SVMs of few images: for each class k with it and so many more without, drawn several times."""

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from larq_ssl.evaluation.average_precision import average_precisions
from larq_ssl.evaluation.examples import Examples, check_pair, normalise
from larq_ssl.evaluation.features import Progress
from larq_ssl.evaluation.low_shot_draws import Draw, check_low_shot, draw, fitting_ks
from larq_ssl.evaluation.partial import PartialResults
from larq_ssl.evaluation.svm import partial_key
from larq_ssl.evaluation.svm_machines import SvmPreset, Task, in_parallel, svm_preset

SAMPLES = 5


@dataclasses.dataclass(frozen=True)
class LowShotResult:
    """What `low_shot` found.

    # Arguments
        metrics: For each k `<k>/map` (mean over the samples), `<k>/map_std` (their standard deviation, that of a
            population) and `<k>/cost`, the one at which it is.
        maps: Mean average precision of the test images, float64 `[samples, ks, costs]`.
    """

    metrics: dict[str, float]
    maps: np.ndarray


def draw_maps(
    drawn: Draw,
    train: np.ndarray,
    test: np.ndarray,
    presence: np.ndarray,
    preset: SvmPreset,
    seed: int = 0,
    jobs: int | None = None,
    on_machine: Callable[[], object] = lambda: None,
) -> np.ndarray:
    """Mean average precision of the SVMs of one draw at each cost, float64 `[costs]`.

    # Arguments
        drawn: Rows of `train`.
        train, test: Normalised features.
        presence: What is in the test images, `[images, classes]`.
        preset: Of the SVMs.
        seed, jobs: See `low_shot`.
        on_machine: Called after each SVM.
    """

    def tasks() -> Iterator[Task]:
        for number in range(presence.shape[1]):
            rows, wanted = drawn.of_class(number)
            features = train[rows]
            for cost in preset.costs:
                yield preset.machine(cost, seed).fit, (features, wanted)

    scores = []
    for machine in in_parallel(tasks(), jobs):
        scores.append(test @ machine.coef_[0] + machine.intercept_[0])
        on_machine()
    by_class = np.stack(scores).reshape(presence.shape[1], len(preset.costs), len(test))
    return np.array([np.mean(average_precisions(presence, at_cost.T)) for at_cost in by_class.transpose(1, 0, 2)])


def summary(maps: np.ndarray, ks: Sequence[int], costs: Sequence[float]) -> dict[str, float]:
    """The metrics of `LowShotResult` of `maps`, `[samples, ks, costs]`; of equally good costs the first is taken."""
    metrics = {}
    for number, k in enumerate(ks):
        best = int(maps[:, number].mean(axis=0).argmax())
        metrics[f"{k}/map"] = float(maps[:, number, best].mean())
        metrics[f"{k}/map_std"] = float(maps[:, number, best].std())
        metrics[f"{k}/cost"] = float(costs[best])
    return metrics


def low_shot(
    train: Examples,
    test: Examples,
    preset: str | SvmPreset = "voc07",
    ks: Sequence[int] | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
    jobs: int | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> LowShotResult:
    """Mean average precision of SVMs that are trained with k images of a class, and its spread over several draws.

    As published, there is no cross-validation: of each k the cost is that with the highest mean over the samples of the
    mean average precision on the test images. So the numbers flatter a little, all encoders alike.

    Differences from the paper: see `draw`, and `svm` for the solver.

    # Arguments
        train, test: Features, not normalised, and what is in the images.
        preset: Name of a preset, or an `SvmPreset`.
        ks: Numbers of images of a class; by default those of 1, 2, 4, 8, 16, 32, 64 and 96 that all classes have.
        samples: Independent draws.
        seed: Of the draws and of the solver.
        jobs, cache_dir: See `svm`.
        progress: Called with SVMs done and in all.
    # Returns
        `LowShotResult`.
    # Raises
        ValueError: If a class has too few images, or sizes disagree.
    # References
        - BSSL, Sec. 4 (low-shot SVM); Goyal et al., Scaling and Benchmarking Self-Supervised Visual Representation
          Learning, Sec. 6.1
    """
    config = svm_preset(preset) if isinstance(preset, str) else preset
    check_pair(train, test)
    ks = tuple(ks) if ks is not None else fitting_ks(train.presence)
    check_low_shot(train.presence, train.names, ks)
    if samples < 1:
        raise ValueError(f"`samples` must be at least 1, got {samples}.")
    partial = PartialResults(cache_dir, "low_shot", partial_key("low_shot", train, test, config, seed))
    seen, unseen = (normalise(part.features, config.epsilon) for part in (train, test))
    per_draw = len(train.names) * len(config.costs)
    maps = np.empty((samples, len(ks), len(config.costs)))
    for place, (sample, k) in enumerate(itertools.product(range(samples), ks)):
        name = f"k{k}sample{sample}"
        if name not in partial:
            count = _counter(progress, place * per_draw, maps.shape[0] * maps.shape[1] * per_draw)
            drawn = draw(train.presence, k, seed, sample)
            partial.add(name, draw_maps(drawn, seen, unseen, test.presence, config, seed, jobs, count))
        maps[sample, ks.index(k)] = partial[name]
    return LowShotResult(summary(maps, ks, config.costs), maps)


def _counter(progress: Progress | None, done: int, total: int) -> Callable[[], None]:
    """Counts up from what is done, and tells so."""
    numbers = itertools.count(done + 1)

    def count() -> None:
        number = next(numbers)
        if progress is not None:
            progress(number, total)

    return count

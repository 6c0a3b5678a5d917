"""Linear SVMs on frozen features, one per class against the rest, as VOC2007 is classified."""

import dataclasses
import functools
import json
import os
from typing import Any

import numpy as np
import sklearn
from sklearn.model_selection import cross_val_score

from larq_ssl.evaluation.average_precision import average_precisions
from larq_ssl.evaluation.examples import Examples, check_pair, check_train, normalise, signs
from larq_ssl.evaluation.features import Progress
from larq_ssl.evaluation.partial import PartialResults
from larq_ssl.evaluation.svm_machines import SvmPreset, in_parallel, svm_preset


@dataclasses.dataclass(frozen=True)
class SvmResult:
    """What `svm` found.

    # Arguments
        metrics: `full/map` (mean over the classes), `full/map_eleven_points`, `full/not_converged` (final SVMs that
            reached the last pass), `full/ap/<class>` and `full/cost/<class>`; with one label per image also
            `full/top1`, the share of images whose highest score is that of their class.
        cross_validation: Mean average precision over the folds, float64 `[classes, costs]`.
        costs: The chosen ones, float64 `[classes]`.
        coefficients: Float64 `[classes, dim]`.
        intercepts: Float64 `[classes]`.
    """

    metrics: dict[str, float]
    cross_validation: np.ndarray
    costs: np.ndarray
    coefficients: np.ndarray
    intercepts: np.ndarray


def svm(
    train: Examples,
    test: Examples,
    preset: str | SvmPreset = "voc07",
    seed: int = 0,
    jobs: int | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> SvmResult:
    """Mean average precision of one SVM per class, the cost of each chosen by cross-validation on the training images.

    Features are divided by their length. The cost of a class is that with the highest average precision over the folds
    (scikit-learn's, without interpolation); then it is trained on all training images, and tested by VOC's average
    precision (area). Difficult images are negatives in training, and left out in the test.

    Differences from the released code: the solver's random numbers are seeded, there they are not.

    # Arguments
        train, test: Features, not normalised, and what is in the images.
        preset: Name of a preset, or an `SvmPreset` (see `svm_preset`).
        seed: Of the solver.
        jobs: Processes; `None` for as many as there are cores. Each holds a copy of the features of its images, of
            16 bytes per number.
        cache_dir: Where what is finished of the cross-validation is kept, to go on with; `None` for nowhere.
        progress: Called with cross-validations (one per class and cost) done and in all.
    # Returns
        `SvmResult`.
    # Raises
        ValueError: If a class has too few images, or sizes disagree.
    # References
        - BSSL, Sec. 4 (SVM classification); Goyal et al., Scaling and Benchmarking Self-Supervised Visual
          Representation Learning, Sec. 6.1
    """
    config = svm_preset(preset) if isinstance(preset, str) else preset
    check_pair(train, test)
    check_train(train.presence, train.names, config.folds)
    features, wanted = normalise(train.features, config.epsilon), signs(train.presence)
    partial = PartialResults(cache_dir, "svm", partial_key("svm", train, test, config, seed))
    table = _cross_validate(features, wanted, config, seed, jobs, partial, progress)
    costs = np.array(config.costs)[table.argmax(axis=1)]
    tasks = ((config.machine(c, seed).fit, (features, wanted[:, i])) for i, c in enumerate(costs))
    machines = list(in_parallel(tasks, jobs))
    coefficients = np.concatenate([machine.coef_ for machine in machines])
    intercepts = np.concatenate([machine.intercept_ for machine in machines])
    scores = normalise(test.features, config.epsilon) @ coefficients.T + intercepts
    stopped = sum(int(machine.n_iter_) >= config.max_iter for machine in machines)
    metrics = {**_metrics(test, scores, costs), "full/not_converged": float(stopped)}
    return SvmResult(metrics, table, costs, coefficients, intercepts)


def partial_key(protocol: str, train: Examples, test: Examples, preset: SvmPreset, seed: int, **others: Any) -> str:
    """All that a measurement depends on, for `PartialResults`."""
    versions = {"scikit-learn": sklearn.__version__, "numpy": np.__version__}
    data = {"train": train.fingerprint, "test": test.fingerprint}
    settings = {"protocol": protocol, "seed": seed, **data, **versions, **dataclasses.asdict(preset), **others}
    return json.dumps(settings, sort_keys=True)


def _cross_validate(
    features: np.ndarray,
    wanted: np.ndarray,
    preset: SvmPreset,
    seed: int,
    jobs: int | None,
    partial: PartialResults,
    progress: Progress | None,
) -> np.ndarray:
    """Mean average precision over the folds, float64 `[classes, costs]`."""
    count, costs = wanted.shape[1], preset.costs
    done = sum(f"class{number}" in partial for number in range(count)) * len(costs)
    left = [(i, cost) for i in range(count) if f"class{i}" not in partial for cost in costs]
    validate = functools.partial(cross_val_score, cv=preset.folds, scoring="average_precision", error_score="raise")
    tasks = ((validate, (preset.machine(cost, seed), features, wanted[:, i])) for i, cost in left)
    row: list[float] = []
    for (i, _), precisions in zip(left, in_parallel(tasks, jobs), strict=True):
        row.append(float(np.mean(precisions)))
        done += 1
        if progress is not None:
            progress(done, count * len(costs))
        if len(row) == len(costs):
            partial.add(f"class{i}", np.array(row))
            row = []
    return np.stack([partial[f"class{i}"] for i in range(count)])


def _metrics(test: Examples, scores: np.ndarray, costs: np.ndarray) -> dict[str, float]:
    precisions = average_precisions(test.presence, scores)
    names = [name.replace("/", "_") for name in test.names]
    metrics = {
        "full/map": float(np.mean(precisions)),
        "full/map_eleven_points": float(np.mean(average_precisions(test.presence, scores, "eleven_points"))),
        **{f"full/ap/{name}": float(value) for name, value in zip(names, precisions, strict=True)},
        **{f"full/cost/{name}": float(value) for name, value in zip(names, costs, strict=True)},
    }
    if np.all(test.presence >= 0) and np.all(test.presence.sum(axis=1) == 1):
        metrics["full/top1"] = float(np.mean(test.presence[np.arange(len(scores)), scores.argmax(axis=1)]))
    return metrics

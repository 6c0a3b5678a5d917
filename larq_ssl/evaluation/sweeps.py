"""What is reported of a sweep: the run that is chosen, and beside it all of them."""

import dataclasses
from collections.abc import Mapping, Sequence

from larq_ssl.evaluation.accuracy import TOPS


def accuracies(measures: Sequence[str] = TOPS) -> tuple[str, ...]:
    """What is reported of each run: after its last epoch and after the one that was best on the images held out.

    # Arguments
        measures: `accuracy.TOPS`, or of images with several labels each `average_precision.PRECISIONS`.
    """
    return tuple(f"{when}/{measure}" for when in ("last", "best") for measure in measures)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run of a sweep ended.

    # Arguments
        name: Of the run.
        metrics: `accuracies` and `best/epoch`; `None` if the run diverged.
        hours: Of training.
    """

    name: str
    metrics: Mapping[str, float] | None
    hours: float = 0.0


def choose(outcomes: Sequence[Outcome], measures: Sequence[str] = TOPS) -> Outcome:
    """The run with the highest top-1 after its last epoch, then after its best one, then the first.

    Of what is chosen on the images that it is reported on, as the papers do, a little is luck: the more runs, the more.

    # Arguments
        outcomes: Of all runs.
        measures: See `accuracies`; the first is what has to be high.
    # Raises
        ValueError: If there is none, or all diverged.
    """
    finished = [outcome for outcome in outcomes if outcome.metrics is not None]
    if not finished:
        names = ", ".join(outcome.name for outcome in outcomes)
        raise ValueError(f"All runs of the sweep diverged ({names}): smaller learning rates are needed.")
    return max(finished, key=lambda outcome: _rank(outcome.metrics or {}, measures[0]))


def _rank(metrics: Mapping[str, float], measure: str) -> tuple[float, float]:
    return metrics[f"last/{measure}"], metrics[f"best/{measure}"]


def sweep_metrics(outcomes: Sequence[Outcome], measures: Sequence[str] = TOPS) -> dict[str, float]:
    """The numbers of the run that is chosen, and those of each as `<run>/last/top1` etc., with `<run>/diverged` 0 or 1.

    Where there is only one run, its numbers are not repeated.

    # Arguments
        outcomes, measures: See `choose`.
    # Raises
        ValueError: If all runs diverged.
    """
    reported = (*accuracies(measures), "best/epoch")
    chosen = choose(outcomes, measures).metrics or {}
    metrics = {name: float(chosen[name]) for name in reported}
    for outcome in outcomes if len(outcomes) > 1 else ():
        if outcome.metrics is not None:
            metrics |= {f"{outcome.name}/{name}": float(outcome.metrics[name]) for name in reported}
        metrics[f"{outcome.name}/diverged"] = float(outcome.metrics is None)
    return metrics

"""Presets of linear SVMs, and many of them trained at once."""

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC
from sklearn.utils.parallel import Parallel, delayed

Task = tuple[Callable[..., Any], tuple[Any, ...]]
"""A function and its arguments."""


@dataclasses.dataclass(frozen=True)
class SvmPreset:
    """What the SVMs see and how they are trained: L2 penalty, squared hinge loss, by dual coordinate descent.

    # Arguments
        name: Name of the preset.
        output: Named output of the encoder that is classified; `None` for its features.
        view: What is done to an image before, see `reader.evaluation_image`.
        costs: The costs C to choose from; of equally good ones the first.
        folds: Parts of the cross-validation, cut in the order of the images.
        positive_weight: Factor of the cost of images with the object.
        max_iter: Passes after which an SVM is taken as it is.
        tolerance: At which it is taken to have converged.
        epsilon: Added to the length by which features are divided.
    """

    name: str
    output: str | None = None
    view: str = "torchvision"
    costs: tuple[float, ...] = (1.0, 10.0, 100.0, *(0.5**k for k in range(4, 20)))
    folds: int = 3
    positive_weight: float = 2.0
    max_iter: int = 2000
    tolerance: float = 1e-4
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        if not self.costs or min(self.costs) <= 0 or len(set(self.costs)) < len(self.costs):
            raise ValueError(f"`costs` must be different numbers above 0, got {self.costs}.")
        for name, least in (("folds", 2), ("max_iter", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"`{name}` must be at least {least}, got {getattr(self, name)}.")

    def machine(self, cost: float, seed: int) -> LinearSVC:
        """An SVM that is not trained yet."""
        return LinearSVC(
            penalty="l2",
            loss="squared_hinge",
            dual=True,
            tol=self.tolerance,
            C=cost,
            intercept_scaling=1.0,
            class_weight={1: self.positive_weight, -1: 1.0},
            random_state=seed,
            max_iter=self.max_iter,
        )


PRESETS = {
    # BURN's downstream scripts (features, costs, weights), with the layer that the BSSL paper states: 4096 numbers of
    # ReActNet-A's last map, 7x7x1024, in windows of 6x6.
    "voc07": SvmPreset("voc07", output="svm", view="voc07"),
    # Ours, for images whose last map is smaller than a window: the encoder's features, in the view of kNN and linear.
    "pooled": SvmPreset("pooled"),
}


def svm_preset(name: str, **overrides: Any) -> SvmPreset:
    """A preset by name, with some of its fields replaced.

    # Raises
        ValueError: If there is no such preset.
    """
    if name not in PRESETS:
        raise ValueError(f"`preset` must be one of {sorted(PRESETS)}, got {name!r}.")
    return dataclasses.replace(PRESETS[name], **overrides)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        # The protocol stops large costs early; how many of the final SVMs were stopped is reported.
        warnings.simplefilter("ignore", ConvergenceWarning)
        # Two images without a class are enough for three parts, see `check_train`.
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        yield


def in_parallel(tasks: Iterable[Task], jobs: int | None) -> Iterator[Any]:
    """Results of calls, in order, as they come.

    In processes, not threads: the solver has one generator of random numbers for the whole process. They are handed
    nothing but what scikit-learn itself defines, so that none of them has to load TensorFlow.

    # Arguments
        tasks: Functions and their arguments.
        jobs: Processes; `None` for as many as there are cores. The results do not depend on it.
    """
    with _quiet():
        pool = Parallel(n_jobs=jobs or -1, return_as="generator")
        yield from pool(delayed(function)(*arguments) for function, arguments in tasks)

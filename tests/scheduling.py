"""Workers take the files of tests that last long first, so that at the end none is left alone with one of them."""

import pathlib

from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

LONG = (
    *("experiments/test_commands.py", "methods/test_replicas.py", "input/test_pipeline.py"),
    *("experiments/test_import_torch.py", "experiments/test_resume.py", "experiments/test_s2bnn.py"),
    *("experiments/test_infomin.py", "experiments/test_dino.py", "experiments/test_swav.py"),
    *("experiments/test_distill.py", "experiments/test_supervised.py", "experiments/test_simclr.py"),
    *("experiments/test_fine_tune.py", "experiments/test_byol.py", "experiments/test_moco_star.py"),
    *("experiments/test_study.py", "experiments/test_views.py"),
)
"""Files that train by commands or trace many graphs, about the longest first (`make test ARGS=--durations=0` tells)."""


class LongestFirst(LoadFileScheduling):
    """As `--dist loadfile`, which begins with the files that have the most tests, but with `LONG` before all."""

    def _assign_work_unit(self, node: WorkerController) -> None:
        # Of files that are alike, `min` finds the first, which has the most tests.
        self.workqueue.move_to_end(min(self.workqueue, key=_place), last=False)
        super()._assign_work_unit(node)


def _place(file: str) -> int:
    name = pathlib.PurePath(file).as_posix().removeprefix("tests/")
    return LONG.index(name) if name in LONG else len(LONG)

"""Whether training grows in memory, and what checkpoints cost: `python -m larq_ssl.experiments.endurance --out=<name>`.

Each method trains on the digits for some thousand steps, with `/photographs` behind its name on JPEG files, which are
made here and decoded for every step. Its own command does it in a process of its own, which is watched from here: at
each checkpoint its resident memory is read, and what the checkpoint took. The slope of the memory is that of a straight
line through all checkpoints after the first few. Checkpoints are saved more often than by default, which can only add
to it; their cost is reckoned for the default interval. (Linux alone: it reads `/proc`.)
"""

import os
import pathlib
import sys
import tempfile
from typing import Any

from absl import flags

from larq_ssl import models
from larq_ssl.experiments import common
from larq_ssl.experiments.benchmark_pipeline import make_images
from larq_ssl.experiments.endurance_watch import summary, told, watch
from larq_ssl.experiments.run_folder import RunFolder, environment
from larq_ssl.files import AlreadyExistsError, write_json
from larq_ssl.models.folder import save_encoder

METHODS = ("bssl", "dino", "dino/photographs")
_PHOTOGRAPHS = "photographs"

_OUT = flags.DEFINE_string("out", None, "All numbers go to <out>.json.", required=True)
_METHODS = flags.DEFINE_list(
    "methods", list(METHODS), "Commands to watch, of those with a recipe for the digits; see above."
)
_STEPS = flags.DEFINE_integer("measured_steps", 2000, "Steps in which memory is measured.", 100)
_WARM_UP = flags.DEFINE_integer("warm_up_steps", 200, "Steps before them: caches and buffers fill.", 1)
_EVERY = flags.DEFINE_integer("samples_every", 200, "Steps between two checkpoints, at which memory is read.", 1)


def measure(case: str, folder: pathlib.Path) -> dict[str, Any]:
    """Trains and watches one method; what it needs is made in the folder."""
    method, _, images = case.partition("/")
    run = RunFolder(folder / "runs" / case)
    recipe = f"digits/{method}_stage1"
    common.recipe_file(recipe)
    words = [f"--recipe={recipe}", f"--workdir={run.path}", f"--checkpoint_every={_EVERY.value}"]
    if method == "bssl":
        if not (folder / "teacher").exists():
            save_encoder(models.build("resnet_18", None, "none", "cifar", 0.25), folder / "teacher")
        words.append(f"--teacher={folder / 'teacher'}")
    # An epoch of ten steps: their number is then a matter of epochs.
    words += ["--steps_per_epoch=10", f"--epochs={-(-(_STEPS.value + _WARM_UP.value) // 10)}"]
    words += ["--diagnostics_every=20", "--embeddings_every=20"]
    if images:
        data = folder / _PHOTOGRAPHS
        if not data.exists():
            make_images(data, 240, 320, 320)
        words += ["--dataset=folder", f"--data_dir={data}", "--batch_size=32", "--knn_every=0"]
    else:
        words.append("--knn_every=20")
    command = [sys.executable, "-m", f"larq_ssl.experiments.{method}", *words]
    common.say(f"$ python {' '.join(command[1:])}")
    return {"command": " ".join(command[1:]), **summary(watch(command, run), _WARM_UP.value, run)}


def main() -> int:
    with common.user_errors(), tempfile.TemporaryDirectory() as folder:
        if not os.path.isdir("/proc/self"):
            raise ValueError("Memory is read from /proc, which this system has not.")
        if os.path.lexists(f"{_OUT.value}.json"):
            raise AlreadyExistsError(f"--out={_OUT.value}: {_OUT.value}.json exists already; choose another name.")
        common.refuse_no_place("out", _OUT.value, is_file=True)
        if not _METHODS.value:
            raise ValueError(f"--methods must name a command, such as {' or '.join(METHODS)}.")
        unknown = [case for case in _METHODS.value if case.partition("/")[2] not in ("", _PHOTOGRAPHS)]
        if unknown:
            raise ValueError(f"--methods must be commands, or have /{_PHOTOGRAPHS} behind them, got {unknown[0]}.")
        machine, measured = environment(), {}
        for method in _METHODS.value:
            measured[method] = measure(method, pathlib.Path(folder))
            common.say(told(method, measured[method]))
        write_json(f"{_OUT.value}.json", {"machine": machine, "measured": measured})
    return 0


if __name__ == "__main__":
    common.run(main)

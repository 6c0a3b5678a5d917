"""Scale on paper: `python -m larq_ssl.experiments.scaling --photographs=<folder of ImageNet photographs>`.

Writes `docs/scaling.md` and its picture: what the published recipes on ImageNet take at 8, 64 and 512 replicas, and
what holds them up first. Constants are measured once, and kept in a JSON file beside the page; with that file, the
page is made again in a moment, for other assumptions too. What is assumed of machines that are not here is a flag.
"""

import json
import pathlib
import sys
import tempfile
from collections.abc import Sequence

from absl import flags

from larq_ssl.data.datasets import load_dataset
from larq_ssl.evaluation import pictures
from larq_ssl.experiments import common, scaling_checks, scaling_measures, scaling_methods
from larq_ssl.experiments import scaling_formulas as formulas
from larq_ssl.experiments.benchmark_pipeline import make_images
from larq_ssl.experiments.scaling_formulas import Hardware, Workload
from larq_ssl.experiments.scaling_page import TITLE, page
from larq_ssl.experiments.scaling_tables import Question
from larq_ssl.files import write_json, write_whole

_OUT = flags.DEFINE_string("out", "docs/scaling", "Of the page (.md), its picture (.png) and the constants (.json).")
_PHOTOGRAPHS = flags.DEFINE_string(
    "photographs", None, "Folder of photographs, or of a folder train/ with them, to measure with; by default made up."
)
_SECONDS = flags.DEFINE_float("seconds", 5.0, "About how long each speed is measured.", 0.01)
_REPLICAS = flags.DEFINE_multi_integer("replicas", [8, 64, 512], "Numbers of replicas.", 1)
_DAYS = flags.DEFINE_float("days", 10.0, "Days that a training may take.", 1e-3)

_REPLICAS_PER_WORKER = flags.DEFINE_integer("replicas_per_worker", 8, "Assumption: accelerators of a machine.", 1)
_CORES = flags.DEFINE_integer("cores_per_worker", 96, "Assumption: cores of a machine, as fast as those here.", 1)
_TERAFLOPS = flags.DEFINE_float("teraflops", 30.0, "Assumption: 1e12 operations/s that an accelerator sustains.", 1e-3)
_STORAGE = flags.DEFINE_float("storage_gigabytes", 1.0, "Assumption: GB/s that a machine reads.", 1e-6)
_COPY = flags.DEFINE_float("copy_gigabytes", 10.0, "Assumption: GB/s from a machine to each of its accelerators.", 1e-6)
_LINK = flags.DEFINE_float("link_gigabytes", 100.0, "Assumption: GB/s between accelerators of a machine.", 1e-6)
_NETWORK = flags.DEFINE_float("network_gigabytes", 12.5, "Assumption: GB/s between machines, each way.", 1e-6)
_LATENCY = flags.DEFINE_float("latency_microseconds", 10.0, "Assumption: of a collective, times log2 of replicas.", 0)

_HELD = {"processor cores": "processors", "storage": "storage", "copies to devices": "copies to devices"}


def hardware() -> Hardware:
    """The assumptions."""
    return Hardware(
        replicas_per_worker=_REPLICAS_PER_WORKER.value,
        cores_per_worker=_CORES.value,
        flops=1e12 * _TERAFLOPS.value,
        storage_bytes=1e9 * _STORAGE.value,
        copy_bytes=1e9 * _COPY.value,
        link_bytes=1e9 * _LINK.value,
        network_bytes=1e9 * _NETWORK.value,
        latency=1e-6 * _LATENCY.value,
    )


def question() -> Question:
    """What the flags ask."""
    command = " ".join(["python -m larq_ssl.experiments.scaling", *sys.argv[1:]])
    policy = scaling_methods.settings(scaling_methods.RECIPES[0])["views"]
    replicas = sorted(set(_REPLICAS.value))
    return Question(tuple(replicas), _DAYS.value, common.CHECKPOINT_EVERY, hardware(), policy, command)


def panels(works: Sequence[Workload], asked: Question) -> list[pictures.InputSpeed]:
    """What the picture shows."""
    result = []
    for work in works:
        speeds: dict[str, list[float]] = {name: [] for name in ("accelerators", *_HELD)}
        for replicas in asked.replicas:
            batch = formulas.global_batch(work.batch_size, replicas)
            seconds = formulas.step_seconds(work, replicas, asked.hardware)
            for name in speeds:
                speeds[name].append(batch / seconds[name])
        needed = formulas.images_per_second(work.batch_size, work.epochs, asked.days)
        given = {title: speeds[name] for name, title in _HELD.items()}
        result.append(pictures.InputSpeed(work.recipe, asked.replicas, speeds["accelerators"], given, needed))
    return result


def constants(file: pathlib.Path) -> dict:
    """Those of the file, or measured and written to it."""
    if file.exists():
        if _PHOTOGRAPHS.present or _SECONDS.present:
            raise ValueError(f"--photographs and --seconds are for measuring, and {file} is there: leave them out.")
        return json.loads(file.read_text())
    with tempfile.TemporaryDirectory() as beside:
        folder = pathlib.Path(_PHOTOGRAPHS.value or beside)
        if not folder.is_dir():
            raise ValueError(f"--photographs={folder} must be a folder of images, or hold a folder train/ with them.")
        if _PHOTOGRAPHS.value is None:
            make_images(folder, 375, 500, 48)
        photographs = load_dataset("folder", "train", str(folder))
        if photographs.read is None:
            raise ValueError(f"--photographs={folder} must hold larger images than those that are kept decoded.")
        found = scaling_measures.measure(photographs, _SECONDS.value, lambda what: common.say(f"measuring {what}"))
    write_json(file, found)
    # As it will be read.
    return json.loads(file.read_text())


def main() -> int:
    with common.user_errors():
        common.refuse_no_place("out", _OUT.value, is_file=True)
        target = pathlib.Path(f"{_OUT.value}.md")
        if target.exists() and not target.read_text().startswith(TITLE):
            raise ValueError(f"--out={_OUT.value}: {target} is another file than such a page; choose another name.")
        scaling_checks.two_devices()
        found = constants(pathlib.Path(f"{_OUT.value}.json"))
        works, asked = scaling_measures.workloads(found), question()
        pictures.input_speeds(f"{_OUT.value}.png", panels(works, asked), f"{asked.days:g} days", overwrite=True)
        write_whole(target, page(found, works, asked), overwrite=True)
        common.say(f"{target} and {_OUT.value}.png are written.")
    return 0


if __name__ == "__main__":
    common.run(main)

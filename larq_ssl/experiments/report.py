"""One page about any number of runs: `python -m larq_ssl.experiments.report runs/demo --out=report`.

Takes run folders and parents of such, with the probes that lie in them, and writes `report.html` (one file that opens
without a server and without a network), `report.md`, `report.csv` and `numbers.csv`. The runs are only read. Called
again, it writes these files anew; features of the images that it shows are kept in `<out>/features`.
"""

import pathlib
import shlex
import sys
import time

from absl import flags

from larq_ssl.evaluation.results import provenance
from larq_ssl.experiments import common
from larq_ssl.report import Report, collect, words, write
from larq_ssl.report.examples import Look, look
from larq_ssl.report.lines import Line, columns, lines
from larq_ssl.report.targets import compare
from larq_ssl.report.writing import FEATURES, PAGE, check_folder

_OUT = flags.DEFINE_string("out", None, "Folder of the report; made if it is missing.")
_LOOKS = flags.DEFINE_bool("looks", True, "Run the encoders over some images: neighbours, confusions, a map.")
_GALLERY = flags.DEFINE_integer("gallery_images", 5000, "Training images to find neighbours in, at most.", 8)
_QUERIES = flags.DEFINE_integer("query_images", 500, "Images held out that are looked at, at most.", 1)
_MAP = flags.DEFINE_enum("map", "t-SNE", ["t-SNE", "PCA"], "What draws the map of the features.")


def looks(of: list[Line], out: pathlib.Path) -> tuple[dict[int, Look], dict[int, str]]:
    """What encoders make of images, and why there is nothing of some, by the numbers of their lines."""
    found: dict[int, Look] = {}
    missed: dict[int, str] = {}
    for line in of:
        if line.run is None or line.baseline or line.name != line.run.name:
            continue
        if line.state == "unfinished":
            missed[line.number] = "the run is unfinished."
            continue
        common.say(f"{line.number}: {line.name}")
        bar = common.bar("features")
        try:
            found[line.number] = look(
                line.run, out / FEATURES, _GALLERY.value, _QUERIES.value, _MAP.value, progress=bar
            )
        except (ValueError, OSError) as error:
            missed[line.number] = f"{error}."
    return found, missed


def main(folders: list[str]) -> int:
    with common.user_errors():
        if _OUT.value is None:
            raise ValueError("--out is missing: the folder of the report.")
        out = pathlib.Path(_OUT.value)
        check_folder(out)
        runs = collect(folders)
        of = lines(runs)
        found, missed = looks(of, out) if _LOOKS.value else ({}, {})
        report = Report(
            lines=of,
            columns=columns(of),
            comparisons=compare(of),
            looks=found,
            missed=missed,
            command=shlex.join(["python", "-m", "larq_ssl.experiments.report", *sys.argv[1:]]),
            made=f"Made on {time.strftime('%d %B %Y')}{words.by(provenance()['commit'])}.",
        )
        write(report, out)
    common.say(f"{out / PAGE}: {len(runs)} runs, {len(of)} encoders, {len(found)} of them looked at.")
    return 0


if __name__ == "__main__":
    common.run_on_words(main)

"""A report of runs written by hand, with looks that no encoder was needed for."""

import io
import pathlib

import numpy as np
from PIL import Image

from larq_ssl.report import Report, collect
from larq_ssl.report.examples import Example, Look, Picture
from larq_ssl.report.lines import columns, lines
from larq_ssl.report.targets import compare
from tests.report.folders import linear_settings, write_probe, write_run
from tests.report.test_targets import recipe_flags

HOSTILE = '<script>alert(1)</script> & "more" | $title'


def png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    with io.BytesIO() as stream:
        Image.fromarray(pixels).save(stream, "PNG")
        return stream.getvalue()


def look(classes: int = 3) -> Look:
    names = ("<b>bold</b>", *(f"class {number}" for number in range(1, classes)))
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, 40)
    counts = np.diag(np.full(classes, 5))
    counts[0, 1] = 2
    neighbours = tuple(Picture(png(number), names[number % 2], 0.9 - 0.01 * number) for number in range(8))
    examples = (
        Example(Picture(png(9), names[0]), names[0], neighbours),
        Example(Picture(png(8), names[1]), names[0], neighbours),
    )
    return Look(examples, counts, names, rng.normal(size=(40, 2)), labels, "PCA", 100, 40)


def report(folder: pathlib.Path) -> Report:
    """Five runs: finished, hostile, float, unfinished, and one of a published recipe; with probes of three."""
    runs = folder / "runs"
    first = write_run(runs / "first", metrics={"knn": 0.5})
    write_run(runs / HOSTILE.replace("/", "\u2215"), {"encoder": "<i>"}, binarization="none", metrics={"knn": 0.93})
    write_run(runs / "third", binarization="activations", metrics={"knn": 0.7})
    write_run(runs / "unfinished", finished=False, binarization=None, epochs=1)
    published = write_run(runs / "published", recipe_flags("imagenet/bssl_paper_stage2"))
    write_probe(first, "knn-dino-digits", {"knn/dino/digits/20/top1": 0.81, "knn/dino/digits/20/top5": 0.9})
    write_probe(first, "knn-dino-digits-random", {"knn/dino/digits/20/top1": 0.2}, digest="f" * 16)
    measured = {"linear/bssl/imagenet2012/augmented/last/top1": 0.571}
    write_probe(published, "linear", measured, settings=linear_settings("bssl"))
    at = {f"{kind}/{s}/knn_top1": 0.9 - 0.1 * s for kind in ("jpeg", "contrast") for s in range(1, 6)}
    at |= {"clean/0/knn_top1": 0.95, "corrupted/mean/knn_top1": 0.6}
    write_probe(first, "robustness", {f"robustness/cifar_c/digits/{name}": value for name, value in at.items()})
    of = lines(collect([runs]))
    return Report(
        lines=of,
        columns=columns(of),
        comparisons=compare(of),
        looks={of[0].number: look(), of[1].number: look(30)},
        missed={of[2].number: f"no images: {HOSTILE}."},
        command=f"python -m larq_ssl.experiments.report '{HOSTILE}'",
        made="Made on a day.",
    )

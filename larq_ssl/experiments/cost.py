"""What networks cost: `python -m larq_ssl.experiments.cost`, every registered one or those of `--encoder`.

BOPs and FLOPs are multiply-accumulates as Larq counts them (`larq.models.ModelProfile`), binary and other ones;
OPs = BOPs / 64 + FLOPs. Memory is that of float32 weights, packed size that of binary weights as bits, the others as
float32. With `--out=<name>` the table is also written to `<name>.md`, `.csv` and `.json`, and drawn to `<name>.png`.
"""

import csv
import dataclasses
import io
import os

from absl import flags

from larq_ssl.evaluation import pictures
from larq_ssl.evaluation.results import provenance
from larq_ssl.experiments import common
from larq_ssl.files import AlreadyExistsError, write_json, write_whole
from larq_ssl.models import ARCHITECTURES
from larq_ssl.models.cost_table import Compared, NetworkCost, compare, network_cost
from larq_ssl.models.encoder import BINARIZATIONS, STEMS
from larq_ssl.models.published_costs import FIGURES

_ENCODERS = flags.DEFINE_multi_enum("encoder", None, list(ARCHITECTURES), "Network, once or more; by default all.")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 224, "Side of the images in pixels.", 8, common.LARGEST_IMAGE)
_BINARIZATION = flags.DEFINE_enum(
    "binarization", None, list(BINARIZATIONS), "Of the networks; by default the most binary one of each."
)
_CLASSES = flags.DEFINE_integer("classes", 1000, "Of a classifier that is counted, too; 0 for features alone.", 0)
_STEM = flags.DEFINE_enum("stem", "imagenet", list(STEMS), "First layers of the networks.")
_WIDTH = flags.DEFINE_float("width", 1.0, "Factor of the channels.", 0.01, 16)
_OUT = flags.DEFINE_string("out", None, "Also write <out>.md, <out>.csv, <out>.json and <out>.png.")

_SUFFIXES = (".md", ".csv", ".json", ".png")
_COLUMNS = ("encoder", "binarization", "parameters", "BOPs", "FLOPs", "OPs", "memory in MB", "packed size in MB")


def measured() -> list[NetworkCost]:
    """The costs of the networks of the flags, without classifier; said of one that cannot be built as asked."""
    names = list(dict.fromkeys(_ENCODERS.value or ARCHITECTURES))
    bar, costs = common.bar("networks"), []
    for number, name in enumerate(names, 1):
        try:
            costs.append(network_cost(name, _IMAGE_SIZE.value, _BINARIZATION.value, _STEM.value, _WIDTH.value))
        except ValueError as error:
            if _ENCODERS.value:
                raise
            common.say(f"Left out: {error}")
        bar(number, len(names))
    return costs


def table(costs: list[NetworkCost]) -> str:
    """The costs as Markdown."""
    lines = ["| " + " | ".join(_COLUMNS) + " |", "| --- | --- |" + " ---: |" * (len(_COLUMNS) - 2)]
    for cost in costs:
        counts = (cost.parameters, cost.binary_macs, cost.float_macs, round(cost.ops))
        cells = [cost.encoder, cost.binarization, *(f"{count:,}" for count in counts)]
        cells += [f"{size / 1e6:,.2f}" for size in (cost.memory_bytes, cost.size_bytes)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def notes(compared: list[Compared]) -> str:
    """What is published of the networks, as Markdown, and why it is not met where it is not."""
    if not compared:
        return ""
    equal = sum(comparison.equal for comparison in compared)
    lines = [f"### Published figures: {equal} of {len(compared)} are equal\n"]
    lines += [
        "| encoder | figure | published | here | classes | source | |",
        "| --- | --- | ---: | ---: | ---: | --- | --- |",
    ]
    for comparison in compared:
        published = comparison.published
        told = "equal" if comparison.equal else f"not equal: {published.note}"
        numbers = f"{published.value:,.0f} | {comparison.counted:,.0f} | {published.classes or 'none'}"
        lines.append(f"| {published.encoder} | {FIGURES[published.figure]} | {numbers} | {published.source} | {told} |")
    return "\n".join(lines) + "\n"


def as_csv(costs: list[NetworkCost]) -> str:
    """The costs as comma-separated values, in full."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(_row(costs[0])), lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(_row, costs))
    return text.getvalue()


def _row(cost: NetworkCost) -> dict[str, object]:
    return {**dataclasses.asdict(cost), "ops": cost.ops}


def write(out: str, text: str, costs: list[NetworkCost], compared: list[Compared]) -> None:
    """All files of `--out`."""
    write_whole(out + ".md", text)
    write_whole(out + ".csv", as_csv(costs))
    published = [{**dataclasses.asdict(one.published), "counted": one.counted, "equal": one.equal} for one in compared]
    content = {"classes": _CLASSES.value, "costs": [_row(cost) for cost in costs], "published": published}
    write_json(out + ".json", {**content, **provenance()})
    pictures.cost_scatter(out + ".png", costs)


def main() -> int:
    with common.user_errors():
        for suffix in _SUFFIXES if _OUT.value else ():
            if os.path.lexists(_OUT.value + suffix):
                raise AlreadyExistsError(f"--out={_OUT.value}: {_OUT.value}{suffix} exists; choose another name.")
        if _OUT.value:
            common.refuse_no_place("out", _OUT.value, is_file=True)
        bare = measured()
        costs, compared = [cost.with_classifier(_CLASSES.value) for cost in bare], list(compare(bare))
        classifier = f"with a classifier of {_CLASSES.value} classes" if _CLASSES.value else "without a classifier"
        head = f"# Cost of an image of {_IMAGE_SIZE.value} px, {classifier}\n"
        text = "\n".join(filter(None, (head, table(costs), notes(compared))))
        common.say(text)
        if _OUT.value:
            write(_OUT.value, text, costs, compared)
    return 0


if __name__ == "__main__":
    common.run(main)

"""What studies have measured of the networks that they trained, and of baselines beside them."""

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping

from larq_ssl.models.profile import Cost
from larq_ssl.report.collect import Run

_FILE = "rows.json"
# How far above a run the folder of its study's seed may lie.
_LEVELS = 3


@dataclasses.dataclass(frozen=True)
class Row:
    """What a study measured of one encoder.

    # Arguments
        name: What the study calls it.
        study: Its folder.
        encoder_hash: Of the encoder; "" of raw pixels.
        metrics: By the names that probes would give them, without the data set.
        cost: Of the encoder.
    """

    name: str
    study: str
    encoder_hash: str
    metrics: Mapping[str, float]
    cost: Cost | None


def study_rows(runs: Iterable[Run]) -> list[Row]:
    """What studies have measured of runs, and of raw pixels and untrained networks beside them."""
    folders = dict.fromkeys(parent for run in runs for parent in list(run.path.resolve().parents)[:_LEVELS])
    return [row for folder in folders if (folder / _FILE).is_file() for row in _study(folder)]


def _study(folder: pathlib.Path) -> Iterator[Row]:
    for row in json.loads((folder / _FILE).read_text())["rows"]:
        metrics = {"knn/dino//20/top1": row["knn"], "linear/bssl//last/top1": row["linear"]}
        cost = Cost(row["binary_macs"], row["float_macs"], row["size_bytes"]) if "size_bytes" in row else None
        yield Row(row["encoder"], str(folder), row.get("encoder_hash", ""), metrics, cost)

"""What binary codes of images lose: `python -m larq_ssl.experiments.codes --run=<run folder>`.

A code has one bit for each feature: its sign, about a centre that is learned from the training images
(`larq_ssl.evaluation.codes`). Nearest neighbours and retrieval are measured with features and with codes, side by side:
`.../features`, `.../codes`, and `.../loss`, the first minus the second.
"""

from collections.abc import Mapping

from absl import flags

from larq_ssl.evaluation.codes import CENTRES, HammingSearch, code_centre, coded
from larq_ssl.evaluation.features import Features
from larq_ssl.evaluation.knn import fitting, knn
from larq_ssl.evaluation.retrieval import PRESETS, retrieval
from larq_ssl.experiments import common, probes

flags.adopt_module_key_flags(probes)

_CENTRE = flags.DEFINE_enum("centre", "mean", list(CENTRES), "Of the training images: where signs are taken at.")
_KS = flags.DEFINE_multi_integer("k", None, "Numbers of neighbours that vote; by default 20.", 1)
# Mostly the best of DINO's.
_DEFAULT_KS = (20,)


def side_by_side(features: Mapping[str, float], codes: Mapping[str, float]) -> dict[str, float]:
    """Numbers of both, and what codes lose."""
    numbers: dict[str, float] = {}
    for name, value in features.items():
        numbers |= {f"{name}/features": value, f"{name}/codes": codes[name], f"{name}/loss": value - codes[name]}
    return numbers


def measure(probe: probes.Probe, train: Features, test: Features) -> dict[str, float]:
    """Accuracies, and the bytes that are kept of each image."""
    classes, dim = probe.train.class_count(), train.features.shape[1]
    centre, search = code_centre(train.features, _CENTRE.value), HammingSearch(dim)
    bank, queries = coded(train, centre), coded(test, centre)
    ks = _KS.value or fitting(_DEFAULT_KS, len(train))
    votes = side_by_side(knn(train, test, classes, ks), knn(bank, queries, classes, ks, search=search.nearest))
    recalls = side_by_side(
        retrieval(test, train, classes, progress=common.bar("retrieval with features")),
        retrieval(queries, bank, classes, similarities=search.similarities, progress=common.bar("with codes")),
    )
    ranked = {f"gallery/{name}": value for name, value in recalls.items() if name.startswith(("recall", "map"))}
    stored = {
        f"bytes_per_image/{what}": float(of.features[0].nbytes) for what, of in (("features", train), ("codes", bank))
    }
    return {**{f"knn_{name}": value for name, value in votes.items()}, **ranked, **stored}


def main() -> int:
    settings = {"centre": _CENTRE.value, "ks": _KS.value or _DEFAULT_KS, "recall_ks": PRESETS["metric_learning"].ks}
    return probes.run_probe("codes", _CENTRE.value, measure, settings, headline="/")


if __name__ == "__main__":
    common.run(main)

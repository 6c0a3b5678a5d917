"""kNN accuracy of a frozen encoder: `python -m larq_ssl.experiments.knn --run=<run folder>`."""

from absl import flags

from larq_ssl.evaluation.features import Features
from larq_ssl.evaluation.knn import DEFAULT_KS, knn
from larq_ssl.experiments import common, probes

flags.adopt_module_key_flags(probes)

_KS = flags.DEFINE_multi_integer("k", None, f"Numbers of neighbours; by default those of {DEFAULT_KS} that fit.", 1)
_TEMPERATURE = flags.DEFINE_float("temperature", 0.07, "Of the vote's weights.", 1e-6)


def main() -> int:
    def measure(probe: probes.Probe, train: Features, test: Features) -> dict[str, float]:
        return knn(train, test, probe.train.class_count(), _KS.value, _TEMPERATURE.value)

    settings = {"ks": _KS.value, "temperature": _TEMPERATURE.value}
    return probes.run_probe("knn", "dino", measure, settings, "top1")


if __name__ == "__main__":
    common.run(main)

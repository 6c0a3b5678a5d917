"""Linear SVMs on a frozen encoder, as on VOC2007: `python -m larq_ssl.experiments.svm --run=<run folder>`."""

import dataclasses

import numpy as np
from absl import flags

from larq_ssl import files
from larq_ssl.data.multi_label import presence_of
from larq_ssl.evaluation.examples import Examples, check_test, check_train, examples
from larq_ssl.evaluation.features import Features
from larq_ssl.evaluation.low_shot import SAMPLES, low_shot
from larq_ssl.evaluation.low_shot_draws import check_low_shot, drawn_ids, fitting_ks
from larq_ssl.evaluation.outputs import named_output
from larq_ssl.evaluation.svm import svm
from larq_ssl.evaluation.svm_machines import PRESETS, SvmPreset, svm_preset
from larq_ssl.experiments import common, probes

flags.adopt_module_key_flags(probes)

_PRESET = flags.DEFINE_enum(
    "preset",
    "voc07",
    list(PRESETS),
    "voc07: the last map in windows of 6x6, of images resized as a whole; pooled: the features of the other probes.",
)
_LOW_SHOT = flags.DEFINE_bool("low_shot", False, "Train with few images of a class, several times.")
_KS = flags.DEFINE_multi_integer(
    "k", None, "Images of a class; by default 1, 2, 4, ... 64, 96, if all have so many.", 1
)
_SAMPLES = flags.DEFINE_integer("samples", SAMPLES, "Draws of these images.", 1)
_COSTS = flags.DEFINE_multi_float("costs", None, "Costs C to choose from, instead of the preset's.", 1e-30)
_JOBS = flags.DEFINE_integer("jobs", None, "SVMs trained at once; by default as many as there are cores.", 1)


def measure_full(probe: probes.Probe, train: Examples, test: Examples, preset: SvmPreset) -> dict[str, float]:
    """Measures with all training images; leaves the SVMs in the probe's folder."""
    result = svm(train, test, preset, probes.FLAGS.seed, _JOBS.value, probe.cache, common.bar("SVMs"))
    arrays = {
        "coefficients": result.coefficients,
        "intercepts": result.intercepts,
        "chosen_costs": result.costs,
        "costs": np.array(preset.costs),
        "cross_validation": result.cross_validation,
        "names": np.array(train.names),
    }
    files.write_whole(probe.folder / "svms.npz", lambda file: np.savez(file, **arrays), overwrite=True)
    return result.metrics


def measure_low_shot(
    probe: probes.Probe, train: Examples, test: Examples, preset: SvmPreset, ks: tuple[int, ...], ids: np.ndarray
) -> dict[str, float]:
    """Measures with few training images; leaves which, and the precision of each draw, in the probe's folder."""
    seed, samples = probes.FLAGS.seed, _SAMPLES.value
    drawn = drawn_ids(train.presence, ids, ks, samples, seed)
    files.write_whole(probe.folder / "samples.npz", lambda file: np.savez_compressed(file, **drawn), overwrite=True)
    bar = common.bar("SVMs of few images")
    result = low_shot(train, test, preset, ks, samples, seed, _JOBS.value, probe.cache, bar)
    arrays = {"maps": result.maps, "ks": np.array(ks), "costs": np.array(preset.costs)}
    files.write_whole(probe.folder / "maps.npz", lambda file: np.savez(file, **arrays), overwrite=True)
    return result.metrics


def checked(probe: probes.Probe, preset: SvmPreset) -> tuple[int, ...]:
    """Refuses, before anything is extracted, what cannot be measured; returns the numbers k of `--low_shot`."""
    train, names = presence_of(probe.train)
    test, test_names = presence_of(probe.test)
    check_test(test, test_names)
    if preset.output is not None:
        named_output(probe.encoder, probe.image_size, preset.output)
    if not _LOW_SHOT.value:
        check_train(train, names, preset.folds)
        return ()
    ks = tuple(_KS.value) if _KS.value else fitting_ks(train)
    for note in check_low_shot(train, names, ks):
        common.say(note)
    return ks


def main() -> int:
    protocol = "svm_low_shot" if _LOW_SHOT.value else "svm"
    with common.user_errors():
        if not _LOW_SHOT.value and (_KS.value or probes.FLAGS["samples"].present):
            raise ValueError("--k and --samples go with --low_shot alone.")
        preset = svm_preset(_PRESET.value, **({"costs": tuple(_COSTS.value)} if _COSTS.value else {}))
        probe = probes.load(protocol, preset.name, multi_label=True)
        ks = checked(probe, preset)

    def measure() -> dict[str, float]:
        parts: tuple[Features, Features] = probe.features(preset.output, preset.view)
        train, test = (examples(part, data) for part, data in zip(parts, (probe.train, probe.test), strict=True))
        if _LOW_SHOT.value:
            return measure_low_shot(probe, train, test, preset, ks, parts[0].ids)
        return measure_full(probe, train, test, preset)

    few = {"ks": ks, "samples": _SAMPLES.value} if _LOW_SHOT.value else {}
    settings = {**dataclasses.asdict(preset), **few}
    return probes.record(probe, protocol, preset.name, measure, settings, "/map")


if __name__ == "__main__":
    common.run(main)

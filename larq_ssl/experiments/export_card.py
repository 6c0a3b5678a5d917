"""What the model card of an export tells of the run that it comes from."""

import pathlib
from typing import Any

from absl import flags

from larq_ssl.evaluation.results import FILE_NAME, read_results
from larq_ssl.experiments import common
from larq_ssl.experiments.probed import Probed
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.files import read_json, read_text

THIS, _OTHER = "this encoder", "another encoder"
_BASELINES = {"-random": "untrained network", "-raw_pixels": "raw pixels"}


def facts(source: Probed) -> dict[str, Any]:
    """Method, data, flags of the stages, probes and licences, as far as the folder of the encoder is in a run's."""
    if flags.FLAGS.random:
        return {"method": "nothing: its weights are random, a baseline"}
    run = RunFolder(source.folder.parent.parent)
    if source.folder.parent.name != "encoders" or not run.finished:
        return {}
    licences = run.licences_file.read_text() if run.licences_file.is_file() else None
    return {
        "method": method(run),
        "data": _data(run),
        "stages": _stages(run),
        "probes": probes(run, source.encoder_hash),
        "licences": licences,
    }


def method(run: RunFolder) -> str:
    """The command that trained a run."""
    if run.imported:
        record = read_json(run.path / "import.json")
        return f"other software (`import_torch`, {record['kind']} of {record['source']})"
    first = read_text(run.flags_file).splitlines()[0].removeprefix("#").split()
    return f"`{' '.join(first[:3])}`"


def probes(run: RunFolder, encoder_hash: str) -> dict[str, dict[str, float]]:
    """Metrics of the probes beside a run, and those of the run itself: of the encoder and, apart, of the baselines.

    # Arguments
        run: Of the encoder.
        encoder_hash: Of the encoder that is exported.
    # Returns
        Metrics by `THIS`, "untrained network", "raw pixels" and "another encoder", as far as there are such.
    """
    results = run.results()
    own = {name: value for name, value in results.get("metrics", {}).items() if "top1" in name or "top5" in name}
    measured_on = THIS if results.get("encoders", {}).get("student") == encoder_hash else _OTHER
    found: dict[str, dict[str, float]] = {THIS: {}, measured_on: own}
    for file in sorted((run.path / "probes").glob(f"*/{FILE_NAME}")):
        probe = read_results(file.parent)
        same = probe.settings.get("encoder_hash") == encoder_hash
        kind = next((kind for mark, kind in _BASELINES.items() if mark in file.parent.name), _OTHER)
        found.setdefault(THIS if same else kind, {}).update(probe.metrics)
    return {kind: dict(sorted(metrics.items())) for kind, metrics in found.items() if metrics}


def _data(run: RunFolder) -> str | None:
    given = run.flags()
    if "dataset" not in given:
        return None
    told = [f"`{given['dataset']}`"]
    for name, words in (("data_dir", "in"), ("max_train_images", "at most, images:"), ("classes_list", "classes:")):
        if name in given:
            told.append(f"{words} `{given[name]}`")
    inputs = ", ".join(f"{name} `{fingerprint}`" for name, fingerprint in sorted(run.inputs().items()))
    return f"Trained on {' '.join(told)}, at {given.get('image_size')} pixels. Fingerprints: {inputs}."


def _stages(run: RunFolder) -> dict[str, dict[str, str]]:
    """Flags of the run and of those that it went on from, the earliest first."""
    given, before = run.flags(), _before(run)
    earlier = {} if before is None else _stages(before)
    return {**earlier, **({str(run.path): given} if given else {})}


def _before(run: RunFolder) -> RunFolder | None:
    """The run that a run began with, if it is still there: its encoder is the one whose hash was written down."""
    inputs = run.inputs()
    known = {inputs[name] for name in ("stage 1", "pre-trained") if name in inputs}
    folders = [pathlib.Path(name) for name in _named(run)] + [run.path.parent / "stage1"]
    runs = (RunFolder(folder) for folder in folders if folder != run.path)
    return next((old for old in runs if old.finished and known & set(old.results().get("encoders", {}).values())), None)


def _named(run: RunFolder) -> list[str]:
    """What the commands that trained a run gave as --stage1 or --run."""
    file = run.path / "environment.json"
    starts = read_json(file)["starts"] if file.is_file() else []
    found = (common.argument(flag, start["command"]) for start in starts for flag in ("stage1", "run"))
    return [name for name in found if name is not None]

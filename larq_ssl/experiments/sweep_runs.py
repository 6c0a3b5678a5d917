"""Runs a sweep of the command `fine_tune`, each run in a process of its own, and writes down what came of it.

The folder of a sweep holds a run folder for each run, `sweep.json` (what is swept), `labels.json`, `table.md`, written
anew after each run, and at the end `results.json`. A killed sweep goes on where it was: what is finished is not trained
again, nor what diverged (`diverged.json`).
"""

import json
import pathlib
from collections.abc import Collection, Sequence
from typing import Any

from larq_ssl.evaluation.accuracy import TOPS
from larq_ssl.evaluation.average_precision import PRECISIONS
from larq_ssl.evaluation.results import FILE_NAME, named, read_results, write_results
from larq_ssl.evaluation.sweeps import Outcome, accuracies, choose, sweep_metrics
from larq_ssl.experiments import common
from larq_ssl.experiments.study_runs import training_hours
from larq_ssl.experiments.study_table import markdown
from larq_ssl.experiments.sweep import Sweep
from larq_ssl.files import read_json, write_json, write_whole

_TOLD = (*accuracies(TOPS), *accuracies(PRECISIONS))
_TITLES = {"top1": "top-1", "top5": "top-5", "map": "mAP", "map_eleven_points": "mAP at 11 points"}
_CHOSEN_BY = {"top1": "top-1", "map": "mean average precision"}


def run_sweep(sweep: Sweep) -> int:
    """Trains what is not trained yet and writes what came of it; returns the exit code.

    # Raises
        ValueError: If the folder holds another sweep, a run fails, or all of them diverge.
    """
    commands = {name: sweep.command(name) for name in sweep.trials}
    _begin(sweep)
    if (sweep.folder / FILE_NAME).is_file():
        common.say(f"{sweep.folder}: measured earlier.")
    else:
        for name, command in commands.items():
            _train(sweep, name, command)
            write_whole(sweep.folder / "table.md", table(sweep), overwrite=True)
        _write(sweep)
    common.say(f"\n{(sweep.folder / 'table.md').read_text()}")
    tell(sweep.folder, sweep.trials)
    return 0


def tell(folder: pathlib.Path, left_out: Collection[str] = ()) -> None:
    """Shows the accuracies of a result, but for those of some of its parts."""
    for metric, value in read_results(folder).metrics.items():
        if metric.endswith(_TOLD) and not set(metric.split("/")) & set(left_out):
            common.say(f"{metric}: {value:.4f}")


def _begin(sweep: Sweep) -> None:
    """Writes down what is swept, or raises a `ValueError` if the folder holds something else."""
    file, now = sweep.folder / "sweep.json", sweep.description()
    if not file.is_file():
        found = [path.name for path in sweep.folder.glob("[!.]*") if path != sweep.labels_file]
        if found:
            raise ValueError(f"{sweep.folder} holds other files ({found[0]}) and is not the folder of a sweep.")
        if sweep.labels is not None:
            write_whole(sweep.labels_file, sweep.labels.to_json(), overwrite=True)
        write_json(file, now)
        return
    before = read_json(file)
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            raise ValueError(
                f"{sweep.folder} holds a sweep of which {key} is {_shown(before.get(key))} and not "
                f"{_shown(now.get(key))}; give another --out, or move it away."
            )


def _shown(value: Any, most: int = 200) -> str:
    text = json.dumps(value)
    return text if len(text) <= most else f"{text[:most]}..."


def _train(sweep: Sweep, name: str, command: Sequence[str]) -> None:
    if sweep.run(name).finished or name in _diverged(sweep):
        return
    common.say("")
    code = common.run_command(command[0], command[1:])
    if code == common.DIVERGED_EXIT:
        common.say(f"{name}: diverged; the sweep goes on.")
        write_json(sweep.folder / "diverged.json", [*_diverged(sweep), name], overwrite=True)
    elif code:
        raise ValueError(f"The sweep stops: its run {name} ended with exit code {code}.")


def _diverged(sweep: Sweep) -> list[str]:
    file = sweep.folder / "diverged.json"
    return read_json(file) if file.is_file() else []


def outcomes(sweep: Sweep) -> list[Outcome]:
    """What is known of the runs so far."""
    found = [Outcome(name, None) for name in sweep.trials if name in _diverged(sweep)]
    for name in sweep.trials:
        run = sweep.run(name)
        if run.finished:
            metrics = {metric.split("/", 3)[-1]: value for metric, value in run.results()["metrics"].items()}
            told = {metric: metrics[metric] for metric in (*accuracies(sweep.measures), "best/epoch")}
            found.append(Outcome(name, told, training_hours(run)))
    return sorted(found, key=lambda outcome: list(sweep.trials).index(outcome.name))


def table(sweep: Sweep) -> str:
    """One line per run, as Markdown, accuracies in percent; the one that is chosen is marked."""
    shown = accuracies(sweep.measures)
    known = {outcome.name: outcome for outcome in outcomes(sweep)}
    finished = [outcome for outcome in known.values() if outcome.metrics is not None]
    chosen = choose(finished, sweep.measures).name if finished else None
    titles = [f"{when} {_TITLES[measure]}" for when, measure in (metric.split("/") for metric in shown)]
    lines = [["run", *titles, "best epoch", "hours of training"]]
    for name in sweep.trials:
        outcome = known.get(name)
        if outcome is None or outcome.metrics is None:
            lines.append([name, *["unfinished" if outcome is None else "diverged"] * 6])
            continue
        percents = [f"{100 * outcome.metrics[metric]:.2f}" for metric in shown]
        epoch, hours = f"{outcome.metrics['best/epoch']:.0f}", f"{outcome.hours:.2f}"
        lines.append([f"{name} (chosen)" if name == chosen else name, *percents, epoch, hours])
    return markdown(lines)


def _write(sweep: Sweep) -> None:
    """Writes `results.json`, which ends the sweep."""
    known = outcomes(sweep)
    metrics = sweep_metrics(known, sweep.measures)
    if sweep.setting is not None:
        metrics = {f"{sweep.setting}/{name}": value for name, value in metrics.items()}
    settings = {
        **sweep.description(),
        "chosen": choose(known, sweep.measures).name,
        "chosen_on": f"{_CHOSEN_BY[sweep.measures[0]]} of the images that are reported on, after the last epoch",
        "hours": {outcome.name: outcome.hours for outcome in known},
        "commands": {name: sweep.command(name) for name in sweep.trials},
    }
    write_results(sweep.folder, named(sweep.protocol, sweep.preset, sweep.probed.name, metrics), settings)

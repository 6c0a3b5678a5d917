"""Sweeps of fine-tuning with few labels: their commands, how a killed one goes on, and what they report."""

import json

import numpy as np
import pytest

from larq_ssl.data.datasets import load_dataset
from larq_ssl.data.label_subsets import LabelSubset, read_labels
from larq_ssl.evaluation.fine_tuning import SEMI_SUPERVISED, FineTuning, sweep, trial_names
from larq_ssl.evaluation.results import read_results
from larq_ssl.experiments.common import DIVERGED_EXIT
from larq_ssl.experiments.run_folder import RunFolder
from tests.experiments import classifiers, saved
from tests.experiments.sweeping import Swept, assert_mistakes
from tests.experiments.sweeping import sweep as swept

TENTH = "--label_fraction=0.1"
SMALL = "--batch_size=14"
TINY = "--with_flags=--deterministic --checkpoint_every=2 --diagnostics_every=0 --embeddings_every=0"


@pytest.fixture(scope="module")
def pretrained(commands) -> RunFolder:
    return classifiers.pretrain(commands)


@pytest.fixture
def run(commands, pretrained, tmp_path):
    def run(*typed: str, ends: tuple[float, ...] = (0.5,), out: str = "sweep") -> Swept:
        of_run = () if any(word.startswith("--encoder_dir") for word in typed) else (f"--run={pretrained.path}",)
        return swept(commands, "semi_supervised", *of_run, f"--out={tmp_path / out}", *typed, ends=ends)

    return run


PLANS = """
import json, sys
from absl import flags
from absl.testing import flagsaver
from larq_ssl.experiments import semi_supervised

FLAGS, report = flags.FLAGS, []
FLAGS.mark_as_parsed()
for protocol, fraction in {plans}:
    with flagsaver.flagsaver():
        FLAGS(["semi_supervised", *{typed}, f"--protocol={{protocol}}", f"--label_fraction={{fraction}}"])
        plan = semi_supervised.plan()
        report.append([plan.setting, len(plan.labels.ids), {{name: plan.command(name) for name in plan.trials}}])
print(json.dumps(report))
"""


def test_commands_have_the_numbers_of_their_protocol(commands, pretrained):
    plans = [(protocol, fraction) for protocol in SEMI_SUPERVISED for fraction in (0.01, 0.1)]
    typed = [f"--run={pretrained.path}", SMALL, "--out=sweep"]
    done = commands.python(PLANS.format(plans=plans, typed=typed))
    assert done.code == 0, done.err
    for (protocol, fraction), planned in zip(plans, json.loads(done.out.splitlines()[-1]), strict=True):
        part, labels, trials = planned
        published = sweep(protocol, fraction, 14)
        assert (part, labels) == (f"{100 * fraction:g}percent", int(1400 * fraction))
        assert list(trials) == list(trial_names(published))
        for (name, words), setting in zip(trials.items(), published, strict=True):
            assert (words[0], words[-1]) == ("fine_tune", f"--workdir=sweep/{name}")
            told = dict(word.lstrip("-").partition("=")[::2] for word in words[1:])
            has_numbers(told, setting)
            # Of digits, which are not flipped.
            assert (told["preset"], told["views"], told["seed"]) == (protocol, "digits_plain", "0")
            assert (told["run"], told["dataset"], told["image_size"]) == (str(pretrained.path), "digits", "8")
            assert told["labels"] == "sweep/labels.json"


def has_numbers(told: dict[str, str], setting: FineTuning) -> None:
    """The flags of a command are the fields of a setting, but for its views."""
    for flag, value in setting.flags().items():
        if isinstance(value, bool):
            assert ("freeze_encoder" in told, "nofreeze_encoder" in told) == (value, not value)
        elif flag != "views":
            assert type(value)(told[flag]) == value, flag
    assert ("classifier_lr" in told) == (setting.classifier_lr is not None)


def test_the_best_of_nine_is_reported_beside_all(run, tmp_path):
    ends = (0.2, 0.3, DIVERGED_EXIT, 0.6, 0.1, 0.4, 0.5, 0.2, 0.3)
    done = run(TENTH, SMALL, ends=ends)
    assert done.code == 0
    results = read_results(tmp_path / "sweep")
    prefix = "semi_supervised/bssl/digits/10percent"
    assert results.settings["chosen"] == "lr_0.01-classifier_lr_0.01"
    assert results.metrics[f"{prefix}/last/top1"] == 0.6
    assert results.metrics[f"{prefix}/lr_0.001-classifier_lr_0.001/last/top1"] == 0.5
    assert results.metrics[f"{prefix}/lr_0.1-classifier_lr_10/diverged"] == 1
    assert f"{prefix}/lr_0.1-classifier_lr_10/last/top1" not in results.metrics
    assert sum(name.endswith("/last/top1") for name in results.metrics) == 1 + 8
    assert len(results.settings["runs"]) == len(results.settings["commands"]) == 9
    # Of all images held out.
    assert results.settings["test"] == load_dataset("digits", "val").fingerprint
    assert results.settings["labels"] == read_labels(tmp_path / "sweep" / "labels.json").fingerprint
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table(tmp_path).splitlines() if "lr_" in line]
    assert len(rows) == 9
    assert rows[3] == ["lr_0.01-classifier_lr_0.01 (chosen)", "60.00", "90.00", "80.00", "95.00", "2", "0.02"]
    assert rows[2] == ["lr_0.1-classifier_lr_10", *["diverged"] * 6]
    assert f"{prefix}/last/top1: 0.6000" in done.out
    assert "lr_0.1-classifier_lr_0.1/last" not in done.out


def table(folder) -> str:
    return (folder / "sweep" / "table.md").read_text()


def test_a_killed_sweep_trains_nothing_twice(run, tmp_path):
    first = run(TENTH, SMALL, ends=(0.2, DIVERGED_EXIT, 0.3, 143))
    assert (first.code, len(first.ran)) == (2, 4)
    assert "its run lr_0.01-classifier_lr_0.01 ended with exit code 143" in first.err
    assert table(tmp_path).count("unfinished") == 6 * 6
    assert not (tmp_path / "sweep" / "results.json").exists()
    second = run(TENTH, SMALL, ends=(0.4,))
    assert second.code == 0
    # The one that was stopped, and those that had not begun.
    assert list(second.runs) == list(trial_names(sweep("bssl")))[3:]
    metrics = read_results(tmp_path / "sweep").metrics
    of_first = metrics["semi_supervised/bssl/digits/10percent/lr_0.1-classifier_lr_0.1/last/top1"]
    assert of_first == 0.2
    before = (tmp_path / "sweep" / "results.json").read_bytes()
    third = run(TENTH, SMALL)
    assert (third.code, third.ran) == (0, [])
    assert "measured earlier" in third.out
    assert (tmp_path / "sweep" / "results.json").read_bytes() == before


def test_another_sweep_in_its_place_is_refused(commands, run, pretrained, tmp_path):
    run(TENTH, SMALL, ends=(143,))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    others = (
        (["--epochs=3"], "holds a sweep of which runs is .* and not .*; give another --out"),
        (["--seed=1"], "of which seed is 0 and not 1"),
        (["--label_seed=1"], 'of which labels is "[0-9a-f]{16}" and not "[0-9a-f]{16}"'),
        (["--random"], "of which random is false and not true"),
        (["--protocol=swav"], 'of which preset is "bssl" and not "swav"'),
    )
    same = (f"--run={pretrained.path}", f"--out={tmp_path / 'sweep'}", TENTH, SMALL)
    assert_mistakes(commands, "semi_supervised", [([*same, *typed], message) for typed, message in others])
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_what_is_typed_takes_the_place_of_the_protocols_numbers(run):
    words = ("--with_flags=--views=digits --weight_decay=0.5", "--epochs=7", "--seed=3")
    done = run("--protocol=byol", TENTH, "--batch_size=20", *words)
    # Its runs differ in their epochs no more.
    assert list(done.runs) == [f"lr_{rate:g}" for rate in (0.005, 0.01, 0.02, 0.05, 0.1)]
    for told in done.runs.values():
        assert (told["epochs"], told["batch_size"], told["seed"]) == ("7", "20", "3")
        # The last one counts.
        assert (told["views"], told["weight_decay"]) == ("digits", "0.5")


def test_a_published_list_has_the_numbers_of_its_name(run, tmp_path):
    # Of ImageNet-100, SimCLR's list for 1 % holds 1,278 of 126,689 images.
    digits = load_dataset("digits", "train")
    ids = np.arange(round(0.0101 * digits.size) + 1)
    assert len(ids) > 0.01 * digits.size
    for origin, rates, part in (
        ("SimCLR's 1 % of ImageNet", ("0.02", "5.0"), "1percent"),
        ("so many of each class", ("0.01", "0.2"), f"{100 * len(ids) / digits.size:.3g}percent"),
    ):
        (tmp_path / f"{part}.json").write_text(LabelSubset(ids, digits.fingerprint, origin).to_json())
        done = run("--protocol=swav", f"--labels={tmp_path / f'{part}.json'}", SMALL, out=part)
        assert done.code == 0, done.err
        assert [(told["lr"], told["classifier_lr"]) for told in done.runs.values()] == [rates]
        assert f"semi_supervised/swav/digits/{part}/last/top1" in read_results(tmp_path / part).metrics


def test_by_default_it_lies_beside_the_probes(commands, pretrained):
    done = swept(commands, "semi_supervised", f"--run={pretrained.path}", TENTH, SMALL, "--random", ends=(9,))
    assert done.code == 2
    folder = pretrained.probe("semi_supervised-bssl-digits-10percent-random")
    assert {path.name for path in folder.iterdir()} == {"labels.json", "sweep.json"}
    assert all("random" in told for told in done.runs.values())


def test_an_encoder_folder_will_do_with_images_of_its_own(run, pretrained):
    folder = f"--encoder_dir={pretrained.encoder('student')}"
    done = run(folder, "--dataset=digits", "--image_size=8", TENTH, SMALL)
    assert done.code == 0
    assert all(told["encoder_dir"] == str(pretrained.encoder("student")) for told in done.runs.values())


def test_mistakes_are_told_before_anything_is_trained(commands, pretrained, tmp_path):
    of_run, encoder = f"--run={pretrained.path}", f"--encoder_dir={pretrained.encoder('student')}"
    both = f"--run={pretrained.path} {encoder}".split()
    mistakes = (
        ([of_run, SMALL], "Say which images keep their label, as by --label_fraction=0.01"),
        ([of_run, TENTH], "--batch_size=256 is more than the 140 images that have a label; give at most 140"),
        ([of_run, TENTH, "--labels_per_class=3", SMALL], "--label_fraction=0.1 and --labels_per_class=3 contradict"),
        ([of_run, "--label_fraction=0.001", SMALL], "fraction is 0.001: it must lie in"),
        ([of_run, TENTH, SMALL, "--with_flags=--seed=3"], "--with_flags must not give --seed, which the sweep sets"),
        ([of_run, TENTH, SMALL, "--with_flags=--lr=3"], "--with_flags must not give --lr, which the sweep sets"),
        (
            [of_run, TENTH, SMALL, "--with_flags=--validate_every=0"],
            "--validate_every=0: without accuracies there is no",
        ),
        ([of_run, TENTH, SMALL, "--with_flags=--optimizer=adam"], "--with_flags gives --optimizer and no --lr"),
        ([of_run, TENTH, SMALL, "--with_flags=lr 3"], "--with_flags must hold flags as --name=value, got 'lr'"),
        (["--run=nowhere", TENTH, SMALL], "--run=nowhere is not a finished run"),
        ([TENTH, SMALL], "Give either --run=<run folder> or --encoder_dir=<encoder folder>"),
        ([*both, TENTH, SMALL], "Give either --run=<run folder> or --encoder_dir=<encoder folder>"),
        ([encoder, TENTH, SMALL], "--dataset is missing"),
        (["--encoder_dir=nowhere", TENTH, SMALL], "There is no encoder in nowhere"),
        ([of_run, TENTH, SMALL, "--dataset=folder"], "data_dir is not given"),
    )
    out = f"--out={tmp_path / 'sweep'}"
    assert_mistakes(commands, "semi_supervised", [([*typed, out], message) for typed, message in mistakes])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_something_else_is_left_alone(run, tmp_path):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "thesis.tex").write_text("all my work")
    done = run(TENTH, SMALL)
    assert (done.code, done.ran) == (2, [])
    assert "holds other files (thesis.tex) and is not the folder of a sweep" in done.err
    assert [path.name for path in (tmp_path / "sweep").iterdir()] == ["thesis.tex"]


def test_where_all_diverge_there_is_no_result(run, tmp_path):
    done = run(TENTH, SMALL, ends=(DIVERGED_EXIT,))
    assert (done.code, len(done.ran)) == (2, 9)
    assert "All runs of the sweep diverged" in done.err
    assert not (tmp_path / "sweep" / "results.json").exists()


def end_to_end(commands, pretrained, *typed: str) -> tuple[RunFolder, RunFolder]:
    """A sweep of one run, stopped before it, that run, and then the sweep again, which finds it."""
    folder = RunFolder(commands.folder / f"sweep{'-'.join(typed)}")
    words = (f"--run={pretrained.path}", f"--out={folder.path}", TINY, SMALL, "--epochs=2", *typed)
    stopped = swept(commands, "semi_supervised", *words, ends=(9,))
    assert stopped.code == 2
    ((command, *arguments),) = stopped.ran
    done = commands.run(command, *arguments)
    assert done.code == 0, done.err
    done = commands.run("semi_supervised", *words)
    assert done.code == 0, done.err
    assert "$ python" not in done.out
    return folder, RunFolder(folder.path / "only")


def test_fine_tuning_on_digits_moves_everything(commands, pretrained):
    folder, run = end_to_end(commands, pretrained, "--protocol=swav", TENTH)
    before, after = (saved.arrays(one.encoder("student") / "weights.npz") for one in (pretrained, run))
    assert [key for key in before if before[key].tobytes() == after[key].tobytes()] == []
    assert classifiers.kept(run).fingerprint == classifiers.kept(folder).fingerprint == run.inputs()["labels"]
    told = run.flags()
    assert (told["lr"], told["classifier_lr"], told["views"], told["epochs"]) == ("0.01", "0.2", "digits_plain", "2")
    assert "recipe" not in told
    measured = {name: value for name, value in run.results()["metrics"].items() if name.startswith("fine_tune/")}
    reported = read_results(folder.path)
    assert reported.metrics == {
        name.replace("fine_tune/swav/digits", "semi_supervised/swav/digits/10percent"): value
        for name, value in measured.items()
    }
    assert reported.settings["encoder_hash"] == pretrained.results()["encoders"]["student"]


def test_msbreg_on_one_percent_leaves_the_encoder_as_it_is_to_the_byte(commands, pretrained):
    _, run = end_to_end(commands, pretrained, "--protocol=msbreg", "--label_fraction=0.01")
    before, after = (saved.arrays(one.encoder("student") / "weights.npz") for one in (pretrained, run))
    assert before.keys() == after.keys()
    assert any("moving" in key for key in before)
    assert [key for key in before if before[key].tobytes() != after[key].tobytes()] == []
    assert run.results()["encoders"]["student"] == pretrained.results()["encoders"]["student"]
    # The classifier began within these bounds, and learns.
    classifier = saved.arrays(run.head("classifier"))
    (kernel,) = (array for array in classifier.values() if array.ndim == 2)
    assert max(np.abs(array).max() for array in classifier.values()) > 1 / np.sqrt(kernel.shape[0])


@pytest.mark.slow
def test_a_sweep_in_processes_of_its_own(commands):
    folder, whole = commands.folder / "sweep_processes", commands.folder / "whole"
    # The short networks of tests are known to the processes of tests alone.
    network = ("--encoder=resnet_18", "--width=0.125", "--queue_size=70", f"--workdir={whole}")
    assert commands.run("moco", *classifiers.TINY[:-1], *network).code == 0
    words = (f"--run={whole}", f"--out={folder}", TINY, SMALL, "--protocol=byol", "--epochs=1")
    done = commands.run("semi_supervised", *words, "--label_fraction=0.01")
    assert done.code == 0, done.err
    assert done.out.count("$ python -m larq_ssl.experiments.fine_tune") == 5
    runs = [RunFolder(folder / f"lr_{rate:g}") for rate in (0.005, 0.01, 0.02, 0.05, 0.1)]
    assert len({run.inputs()["labels"] for run in runs}) == 1
    assert len({run.results()["encoders"]["student"] for run in runs}) == 5
    metrics = read_results(folder).metrics
    assert metrics["semi_supervised/byol/digits/1percent/last/top1"] == max(
        value for name, value in metrics.items() if name.endswith("/last/top1")
    )

"""Retrieval, robustness and the report, by the commands that a user types."""

import json

import numpy as np
import pytest

from larq_ssl.evaluation.corruptions import CORRUPTIONS, SEVERITIES
from larq_ssl.models.folder import encoder_hash, load_encoder
from tests.experiments.saved import arrays

TRAINING = (
    *("moco", "--workdir=reported/runs/float", "--queue_size=64", "--epochs=1", "--steps_per_epoch=4"),
    *("--batch_size=32", "--width=0.125", "--knn_every=1"),
)
RUN = "--run=reported/runs/float"


@pytest.fixture(scope="module")
def run(commands):
    done = commands.run(*TRAINING)
    assert done.code == 0, done.err
    return commands.folder / "reported" / "runs" / "float"


@pytest.fixture(scope="module")
def weights(run):
    """As they are before anything is measured."""
    return arrays(run / "encoders" / "student" / "weights.npz")


def results(run, tag):
    return json.loads((run / "probes" / tag / "results.json").read_text())


@pytest.fixture(scope="module")
def retrieved(commands, run, weights):
    return commands.run("retrieval", RUN)


def test_retrieval_measures_both_settings_and_remembers(commands, run, retrieved):
    assert retrieved.code == 0, retrieved.err
    found = results(run, "retrieval-metric_learning-digits")["metrics"]
    prefix = "retrieval/metric_learning/digits"
    wanted = {*(f"recall_at_{k}" for k in (1, 2, 4, 8)), "map", "queries", "without_match"}
    assert set(found) == {f"{prefix}/{setting}/{name}" for setting in ("leave_one_out", "gallery") for name in wanted}
    assert found[f"{prefix}/gallery/queries"] == 397
    recalls = [found[f"{prefix}/gallery/recall_at_{k}"] for k in (1, 2, 4, 8)]
    assert recalls == sorted(recalls)
    assert recalls[0] > 0.2
    assert f"{prefix}/gallery/recall_at_1: {recalls[0]:.4f}" in retrieved.out
    assert "measured earlier" in commands.run("retrieval", RUN).out
    other = commands.run("retrieval", RUN, "--k=3")
    assert other.code == 2
    assert "holds results of other settings (ks is [1, 2, 4, 8] there and [3] here)" in other.err


def test_the_untrained_network_is_measured_beside(commands, run, retrieved):
    done = commands.run("retrieval", RUN, "--random", "--setting=leave_one_out")
    assert done.code == 0, done.err
    assert results(run, "retrieval-metric_learning-digits-random")["settings"]["settings"] == ["leave_one_out"]


@pytest.fixture(scope="module")
def robust(commands, run, weights):
    return commands.run(
        "robustness", RUN, "--classifier=knn", "--classifier=linear", "--corruption=jpeg", "--corruption=gaussian_noise"
    )


def test_robustness_leaves_numbers_a_table_and_pictures(run, robust):
    assert robust.code == 0, robust.err
    found = results(run, "robustness-cifar_c-digits")
    prefix = "robustness/cifar_c/digits"
    assert f"{prefix}/jpeg/3/linear_top1" in found["metrics"]
    assert f"{prefix}/corrupted/mean/knn_top1" in found["metrics"]
    assert found["settings"]["jpeg"] == [80, 65, 58, 50, 40]
    folder = run / "probes" / "robustness-cifar_c-digits"
    assert {path.name for path in folder.iterdir()} == {
        *("results.json", "measured.json", "robustness.md", "robustness.png", "corruptions.png")
    }
    table = (folder / "robustness.md").read_text().splitlines()
    assert len(table) == 2 + 2 * 2
    clean = 100 * found["metrics"][f"{prefix}/clean/0/knn_top1"]
    assert f"{clean:.1f}" in table[2]


def test_a_killed_robustness_goes_on_where_it_was(commands, run, robust):
    folder = run / "probes" / "robustness-cifar_c-digits"
    whole = results(run, folder.name)["metrics"]
    (folder / "results.json").unlink()
    held = json.loads((folder / "measured.json").read_text())
    # A number that no measurement gives shows what was taken over.
    held["accuracies"]["jpeg/1/knn_top1"] = 0.123456
    del held["accuracies"]["jpeg/2/knn_top1"]
    (folder / "measured.json").write_text(json.dumps(held))
    again = commands.run(
        "robustness", RUN, "--classifier=knn", "--classifier=linear", "--corruption=jpeg", "--corruption=gaussian_noise"
    )
    assert again.code == 0, again.err
    found = results(run, folder.name)["metrics"]
    prefix = "robustness/cifar_c/digits"
    assert found[f"{prefix}/jpeg/1/knn_top1"] == 0.123456
    assert found[f"{prefix}/jpeg/2/knn_top1"] == whole[f"{prefix}/jpeg/2/knn_top1"]


def test_what_another_seed_has_measured_is_not_taken_over(commands, run, robust, tmp_path):
    held = run / "probes" / "robustness-cifar_c-digits" / "measured.json"
    told = json.loads(held.read_text())
    told["accuracies"] = dict.fromkeys(told["accuracies"], 0.123456)
    (tmp_path / "measured.json").write_text(json.dumps(told))
    same = ("--classifier=knn", "--classifier=linear", "--corruption=jpeg", "--corruption=gaussian_noise")
    done = commands.run("robustness", RUN, *same, "--seed=1", f"--probe_dir={tmp_path}")
    assert done.code == 0, done.err
    assert 0.123456 not in json.loads((tmp_path / "results.json").read_text())["metrics"].values()


@pytest.mark.parametrize(
    ("change", "said"), [("--random", "encoder_hash is"), ("--seed=3", "seed is 0 there and 3 here")]
)
def test_a_result_of_another_encoder_or_seed_is_not_shown(commands, run, retrieved, change, said):
    folder = run / "probes" / "retrieval-metric_learning-digits"
    done = commands.run("retrieval", RUN, change, f"--probe_dir={folder}")
    assert done.code == 2
    assert said in done.err
    assert "recall" not in done.out


def test_severities_of_large_images_are_refused_for_small_ones(commands, run):
    done = commands.run("robustness", RUN, "--preset=imagenet_c")
    assert done.code == 2
    assert "'imagenet_c' is for images of 65" in done.err


def test_a_frozen_encoder_stays_frozen(run, weights, retrieved, robust):
    after = arrays(run / "encoders" / "student" / "weights.npz")
    assert all(np.array_equal(weights[name], after[name]) for name in weights)
    encoder = load_encoder(run / "encoders" / "student")
    assert results(run, "robustness-cifar_c-digits")["settings"]["encoder_hash"] == encoder_hash(encoder)


@pytest.fixture(scope="module")
def reported(commands, run, retrieved, robust):
    return commands.run(
        "report", "reported/runs", "--out=reported/out", "--map=PCA", "--gallery_images=200", "--query_images=50"
    )


def test_the_report_shows_the_run_its_probes_and_its_images(commands, reported):
    assert reported.code == 0, reported.err
    out = commands.folder / "reported" / "out"
    assert {path.name for path in out.iterdir()} == {
        "report.html",
        "report.md",
        "report.csv",
        "numbers.csv",
        "features",
    }
    page = (out / "report.html").read_text()
    # Each example is a query and its eight neighbours.
    assert page.count("<img ") % 9 == 0
    assert page.count("<img ") >= 4 * 9
    assert "Which classes are taken for which" in page
    assert "50 images held out" in page
    assert "gaussian noise" in page
    assert f"{len(SEVERITIES)}" in page
    assert set(CORRUPTIONS) >= {"jpeg", "gaussian_noise"}
    assert "untrained, like" in page
    assert "reported/out/report.html: 1 runs, 2 encoders, 1 of them looked at." in reported.out


def test_the_report_is_made_again_without_pictures(commands, reported):
    done = commands.run("report", "reported/runs/float", "--out=reported/out", "--nolooks")
    assert done.code == 0, done.err
    assert "<img " not in (commands.folder / "reported" / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("reported/nowhere", "--out=x"), "reported/nowhere is not a folder"),
        (("log", "--out=x"), "log is not the folder of a run, and there is none below it"),
        (("--out=x",), "No folder is given"),
        (("reported/runs",), "--out is missing"),
        (("reported/runs", "--out=reported/runs"), "holds 'float', which is not of a report"),
    ],
)
def test_mistakes_are_one_sentence(commands, run, arguments, said):
    done = commands.run("report", *arguments)
    assert done.code == 2
    assert said in done.err
    assert done.err.count("\n") == 1
    assert not (commands.folder / "x").exists()

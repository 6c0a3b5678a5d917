"""Which commands the study of SimCLRv2's three steps runs, and what its table tells."""

import json
import pathlib
import re

import pytest

from tests.experiments.test_study import cells

RECIPES = pathlib.Path(__file__).parents[2] / "experiments" / "recipes"

# Trains nothing: each run has the accuracy that its place in the order gives it, and trains for a minute.
RUN = """
import json, pathlib, sys
from absl import flags
from larq_ssl.experiments import simclrv2
from larq_ssl.experiments.run_folder import RunFolder

trained = []

def train(name, command):
    trained.append([name, *command])
    if len(trained) > {finished}:
        raise ValueError("The study stops.")
    run = RunFolder(command[-1].partition("=")[2])
    run.path.mkdir(parents=True, exist_ok=True)
    run.flags_file.write_text("--batch_size=60\\n")
    run.metrics_file.write_text(json.dumps({{"epoch": 1, "step": 60, "images_per_second": 60}}) + "\\n")
    share = next((part for part in ("1percent", "10percent") if part in name), "")
    labels = "other" if name == {other!r} else share + command[-2]
    (run.path / "inputs.json").write_text(json.dumps({{"labels": labels}}))
    metrics = {{"fine_tune/simclr/cifar10/last/top1": len(trained) / 100, "fine_tune/simclr/cifar10/best/top1": 1}}
    run.results_file.write_text(json.dumps({{"metrics": metrics}}))
    return run

simclrv2.train = train
sys.argv = ["simclrv2", *{typed}]
flags.FLAGS(sys.argv)
try:
    code = simclrv2.main()
except SystemExit as stopped:
    code = stopped.code
print(json.dumps([code, trained]))
"""


@pytest.fixture
def run(commands, tmp_path):
    def run(*typed: str, finished: int = 1000, other: str = "") -> tuple[int, list[list[str]], str]:
        code = RUN.format(typed=[f"--out={tmp_path}", *typed], finished=finished, other=other)
        done = commands.python(code)
        assert done.code == 0, done.err
        return (*json.loads(done.out.splitlines()[-1]), done.err)

    return run


def test_what_is_pretrained_is_fine_tuned_and_what_is_fine_tuned_from_layer_1_is_distilled(run, tmp_path):
    code, trained, _ = run("--dataset=folder", "--data_dir=images")
    assert code == 0
    names = [name for name, *_ in trained]
    of_share = [
        *("supervised_{}", "fine_tune_{}_layer0", "fine_tune_{}_layer1", "fine_tune_{}_layer2", "distill_{}"),
        *("supervised_{}_one_stage/one_stage", "distill_{}_one_stage/one_stage"),
    ]
    assert names == ["simclr", *(name.format(part) for part in ("1percent", "10percent") for name in of_share)]
    told = {name: words for name, *words in trained}
    for name, (command, recipe, *words) in told.items():
        assert command == re.match("simclr|supervised|fine_tune|distill", name)[0]
        assert (RECIPES / f"{recipe.removeprefix('--recipe=')}.flags").is_file()
        of_labels = ["--label_seed=0"] * (command in ("supervised", "fine_tune"))
        last = ["--dataset=folder", "--data_dir=images", *of_labels, "--seed=0", f"--workdir={tmp_path}/seed0/{name}"]
        assert words[-len(last) :] == last
        assert (f"--run={tmp_path}/seed0/simclr" in words) == (command == "fine_tune")
        part = "10percent" if "10percent" in name else "1percent"
        assert (f"--teacher={tmp_path}/seed0/fine_tune_{part}_layer1" in words) == (command == "distill")
        assert command in ("simclr", "distill") or part in recipe
    for layer in range(3):
        assert f"--head_layer={layer}" in (RECIPES / f"cifar10/fine_tune_1percent_layer{layer}.flags").read_text()
    assert told["supervised_1percent_one_stage/one_stage"][2:4] == ["--encoder=reactnet_18", "--one_stage"]
    assert told["distill_10percent_one_stage/one_stage"][1] == "--recipe=cifar10/distill_one_stage"
    assert told["distill_10percent"][1] == "--recipe=cifar10/distill_float"


def test_the_table_has_networks_by_shares_of_labels_and_marks_what_is_missing(run, tmp_path):
    run("--seeds=2", finished=15 + 4)
    table = cells((tmp_path / "table.md").read_text())
    assert table["network"] == ["1 % of the labels", "10 % of the labels", "hours of training"]
    # Second of seed 0, second of seed 1: runs 2 and 17.
    assert table["labels alone, float"] == ["9.5 ± 10.6", "9.0 (1 of 2)", "0.05"]
    assert table["fine-tuned from the features, float"] == ["10.5 ± 10.6", "10.0 (1 of 2)", "0.05"]
    assert table["fine-tuned from layer 2 of the head, float"] == ["5.0 (1 of 2)", "12.0 (1 of 2)", "0.03"]
    assert table["and distilled, binary, in one stage"] == ["8.0 (1 of 2)", "15.0 (1 of 2)", "0.03"]
    assert len(table) == 2 + 7
    run(finished=3)
    assert cells((tmp_path / "table.md").read_text())["and distilled, float"] == ["unfinished"] * 3


def test_of_two_stages_the_second_is_measured_and_the_hours_of_both_count(run, tmp_path):
    code, trained, _ = run("--binary=one_stage,two_stages")
    assert code == 0
    names = [name for name, *_ in trained]
    table = cells((tmp_path / "table.md").read_text())
    for row, kind in (("labels alone", "supervised"), ("and distilled", "distill")):
        places = [names.index(f"{kind}_{part}_two_stages/stage2") + 1 for part in ("1percent", "10percent")]
        assert table[f"{row}, binary, in two stages"] == [*(f"{place}.0" for place in places), "0.07"]
    words = next(words for words in trained if words[0] == "distill_1percent_two_stages/stage1")
    assert words[2] == "--recipe=cifar10/distill_stage1"


def test_runs_with_other_labels_are_not_compared(run):
    code, trained, error = run(other="fine_tune_1percent_layer0")
    assert code == 2
    assert len(trained) == 3
    assert "had not the same labels: supervised_1percent, fine_tune_1percent_layer0." in error


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("--binary=three", "--binary must be some of one_stage, two_stages, got three."),
        ("--binary=", "--binary must be some of one_stage, two_stages, got ."),
        ("--recipes=digits", "--recipe must be one of .*, got 'digits/supervised_1percent'."),
    ],
)
def test_mistakes_are_told_before_anything_is_trained(run, typed, message):
    code, trained, error = run(typed)
    assert (code, trained) == (2, [])
    assert re.search(message, error)

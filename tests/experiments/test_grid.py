"""Which runs a grid trains, and what it tells of them."""

import json
import pathlib
import re

import pytest

from larq_ssl.experiments import common

TYPED = (
    '--train="msbreg --recipe=digits/msbreg"',
    *("--vary=lambda_b=0,0.5", "--vary=head_norm=batch,layer"),
    *("--metrics=knn,projection_rank", "--seeds=2", "--out=grid"),
)

# Trains nothing: each run logs what can be told from its command, and one does not come to its end.
RUN = """
import json, pathlib, sys
from absl import flags
from larq_ssl.experiments import grid
from larq_ssl.experiments.run_folder import RunFolder

trained = []

def train(name, command):
    trained.append([name, *command])
    if len(trained) > {finished}:
        raise ValueError("The study stops.")
    run = RunFolder(command[-1].partition("=")[2])
    run.path.mkdir(parents=True, exist_ok=True)
    told = dict(word.lstrip("-").partition("=")[::2] for word in command)
    seed, weight = int(told["seed"]), float(told.get("lambda_b", 0))
    rows = [
        {{"epoch": 1, "step": 1, "knn": 0.125 + weight, "projection_rank": 9.0}},
        {{"epoch": 2, "step": 2, "knn": 0.25 + weight + seed / 100}},
    ]
    run.metrics_file.write_text("".join(json.dumps(row) + "\\n" for row in rows))
    run.flags_file.write_text("--batch_size=8\\n")
    return run

grid.train = train
sys.argv = ["grid", *{typed}]
flags.FLAGS(sys.argv)
try:
    code = grid.main()
except SystemExit as stopped:
    code = stopped.code
print(json.dumps([code, trained]))
"""


@pytest.fixture
def run(commands):
    def run(*typed: str, finished: int = 100) -> tuple[int, list[list[str]], str]:
        done = commands.python(RUN.format(typed=[text.replace('"', "") for text in typed], finished=finished))
        assert done.code == 0, done.err
        return (*json.loads(done.out.splitlines()[-1]), done.err)

    return run


@pytest.fixture
def out(commands):
    """Of the grids of a test; it may be there of another one."""
    return commands.folder / "grid"


def test_every_combination_is_trained_for_every_seed(run, out):
    code, trained, _ = run(*TYPED)
    assert code == 0
    assert len(trained) == 8
    assert trained[1] == [
        *("0, layer with seed 0", "msbreg", "--recipe=digits/msbreg", "--lambda_b=0", "--head_norm=layer", "--seed=0"),
        "--workdir=grid/lambda_b_0-head_norm_layer/seed0",
    ]
    # One seed of all before the second of any.
    assert [words[-2] for words in trained] == ["--seed=0"] * 4 + ["--seed=1"] * 4
    assert len({words[-1] for words in trained}) == 8


def test_the_table_tells_how_the_runs_ended_and_what_is_missing(run, out):
    run(*TYPED, finished=5)
    lines = (out / "grid.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:6] if "---" not in line]
    assert cells == [
        ["lambda_b", "head_norm", "knn", "projection_rank"],
        ["0", "batch", "0.255 ± 0.0071", "9 ± 0"],
        ["0", "layer", "0.25 (1 of 2)", "9 (1 of 2)"],
        ["0.5", "batch", "0.75 (1 of 2)", "9 (1 of 2)"],
        ["0.5", "layer", "0.75 (1 of 2)", "9 (1 of 2)"],
    ]
    assert "larq_ssl.experiments.grid '--train=msbreg --recipe=digits/msbreg' --vary=lambda_b=0,0.5" in lines[-1]
    assert (out / "grid.png").is_file()
    run(*TYPED, finished=2)
    assert (out / "grid.md").read_text().count("| unfinished") == 4
    record = json.loads((out / "grid.json").read_text())
    assert record["ends"][0] == {"cell": ["0", "batch"], "knn": [0.25], "projection_rank": [9.0]}
    assert record["environment"]


def test_one_flag_alone_makes_a_grid(run, out):
    code, trained, _ = run("--train=byol", "--vary=lr=0.1,0.2", "--metrics=knn", "--out=grid")
    assert code == 0
    assert [words[-1] for words in trained] == [f"--workdir=grid/lr_{rate}/seed0" for rate in ("0.1", "0.2")]


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["--train=byol", "--out=grid"], "--vary must be given once or twice, got 0 of them."),
        (["--train=byol", "--out=grid", "--vary=lr"], "--vary must be a flag and its values, .*; got 'lr'."),
        (["--train=byol", "--out=grid", "--vary=lr=1,,2"], "got 'lr=1,,2'."),
        (["--train=byol", "--out=grid", "--vary=lr=1,1"], "got 'lr=1,1'."),
        (["--train=byol", "--out=grid", "--vary=views=a/b"], "got 'views=a/b'."),
        (
            ["--train=byol", "--out=grid", "--vary=lr=1", "--vary=lr=2"],
            "--vary=lr=1 and --vary=lr=2 must be two flags.",
        ),
        (["--out=grid", "--vary=lr=1"], "--train must be a command and its flags, .*; got None."),
        (["--train=--lr=1", "--out=grid", "--vary=lr=1"], "--train must be a command and its flags"),
        (["--train=byol --lr 3", "--out=grid", "--vary=lr=1"], "--train must not give --lr, which the grid sets."),
        (["--train=byol --seed=3", "--out=grid", "--vary=lr=1"], "--train must not give --seed, which the grid sets."),
        (
            ["--train=knn --k=3", "--out=grid", "--vary=lr=1"],
            "--train must begin with a command that trains, bssl, .*; got",
        ),
        (["--train=byol", "--vary=lr=1"], "--out is missing: the folder of the grid."),
    ],
)
def test_mistakes_are_told_before_anything_is_trained(run, typed, message):
    code, trained, error = run(*typed)
    assert (code, trained) == (2, [])
    assert re.search(message, error)


def test_a_metric_that_was_not_logged_is_refused(run):
    code, trained, error = run("--train=byol", "--vary=lr=0.1", "--metrics=typo", "--out=grid")
    assert (code, len(trained)) == (2, 1)
    assert (
        "--metrics=typo is not in grid/lr_0.1/seed0/metrics.jsonl, which has epoch, knn, projection_rank, step."
        in error
    )


def test_all_commands_that_train_are_known(commands):
    """By their source, since the flags of several commands do not go into one process."""
    files = pathlib.Path(common.__file__).parent.glob("*.py")
    trains = {file.stem for file in files if f'training.run_training("{file.stem}", ' in file.read_text()}
    done = commands.python("from larq_ssl.experiments import grid; print(*grid.TRAINING)")
    assert trains
    assert set(done.out.split()) == trains

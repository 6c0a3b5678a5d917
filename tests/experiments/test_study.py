"""Which commands a study runs, what its table calls them, and that a killed one measures nothing twice."""

import json
import pathlib
import re

import pytest

RECIPES = pathlib.Path(__file__).parents[2] / "experiments" / "recipes"
METHODS = "bssl,s2bnn_contrastive,s2bnn_contrastive_guided,s2bnn_guided"

COMMANDS = """
import json, pathlib
from absl import flags
from larq_ssl.experiments import study

flags.FLAGS(["study", *{typed}])
told = study.commands(pathlib.Path("out/seed1"), 1)
titles = {{run: title for title, run in study.titled({{name: name for name in told}}).items()}}
print(json.dumps([[name, titles[name], *command] for name, command in told.items()]))
"""


def told(commands, *typed: str) -> list[list[str]]:
    done = commands.python(COMMANDS.format(typed=list(typed)))
    assert done.code == 0, done.err
    return json.loads(done.out.splitlines()[-1])


def test_the_demonstration_is_a_teacher_and_two_stages_of_bssl(commands):
    teacher = "out/seed1/teacher"
    arms = [
        [f"stage{n}", f"BSSL stage {n}", "bssl", f"--recipe=digits/bssl_stage{n}", f"--teacher={teacher}"]
        for n in (1, 2)
    ]
    assert told(commands) == [
        [
            *("teacher", "float teacher (MoCo v2)", "moco", "--recipe=digits/moco"),
            *(f"--workdir={teacher}", "--seed=1"),
        ],
        *([*arm, f"--workdir=out/seed1/{arm[0]}", "--seed=1"] for arm in arms),
    ]


def test_methods_have_the_same_arms_and_teacher(commands):
    typed = (f"--methods={METHODS}", "--arms=stage1,stage2,one_stage", "--recipes=cifar10", "--shared_teacher")
    (_, _, *teacher), *arms = told(commands, *typed, "--preset=released", "--dataset=folder", "--data_dir=images")
    assert teacher[-4:] == ["--workdir=out/seed0/teacher", "--dataset=folder", "--data_dir=images", "--seed=0"]
    assert len(arms) == 12
    assert len({name for name, *_ in arms}) == len({title for _, title, *_ in arms}) == 12
    assert ["s2bnn_guided/one_stage", "S2-BNN guided in one stage"] in [arm[:2] for arm in arms]
    for name, title, experiment, recipe, *others in arms:
        bssl = title.startswith("BSSL")
        assert experiment == ("bssl" if bssl else "s2bnn")
        assert (RECIPES / f"{recipe.removeprefix('--recipe=')}.flags").is_file()
        # So that stage 2 finds its stage 1.
        assert f"--workdir=out/seed1/{name}" in others
        assert name.rsplit("/", 1)[-1] in ("stage1", "stage2", "one_stage")
        assert ("--teacher=out/seed0/teacher" in others) == (not name.startswith("s2bnn_contrastive/"))
        assert ("--preset=released" in others) == bssl
        assert others[-3:] == ["--dataset=folder", "--data_dir=images", "--seed=1"]


def test_methods_with_multi_crop_train_float_and_binary_networks_without_a_teacher(commands):
    methods = [f"{method}_{views}" for method in ("dino", "swav", "moco_star") for views in ("baseline", "sslight")]
    arms = told(commands, f"--methods={','.join(methods)}", "--arms=float,one_stage", "--recipes=cifar10")
    assert [arm[0] for arm in arms] == [f"{method}/{arm}" for method in methods for arm in ("float", "one_stage")]
    titles = [arm[1] for arm in arms]
    assert titles[:2] == ["DINO (baseline) float", "DINO (baseline) in one stage"]
    assert titles[-1] == "MoCo-v2* (SSLight) in one stage"
    for name, _, experiment, recipe, *others in arms:
        assert name.startswith(f"{experiment}_")
        assert recipe == "--recipe=cifar10/" + name.replace("/float", "").replace("/", "_")
        assert (RECIPES / f"{recipe.removeprefix('--recipe=')}.flags").is_file()
        assert others == [f"--workdir=out/seed1/{name}", "--seed=1"]


@pytest.mark.parametrize(
    ("method", "title"), [("simclr", "SimCLR"), ("infomin", "InfoMin"), ("byol", "BYOL"), ("msbreg", "MSBReg")]
)
def test_a_method_of_its_own_has_all_arms_and_no_teacher(commands, method, title):
    arms = told(commands, f"--methods={method}", "--arms=float,stage1,stage2,one_stage", "--recipes=cifar10")
    assert [arm[:2] for arm in arms] == [
        [f"{method}/float", f"{title} float"],
        [f"{method}/stage1", f"{title} stage 1"],
        [f"{method}/stage2", f"{title} stage 2"],
        [f"{method}/one_stage", f"{title} in one stage"],
    ]
    for name, _, experiment, recipe, *others in arms:
        assert experiment == method
        assert recipe == "--recipe=cifar10/" + name.replace("/float", "").replace("/", "_")
        assert (RECIPES / f"{recipe.removeprefix('--recipe=')}.flags").is_file()
        assert others == [f"--workdir=out/seed1/{name}", "--seed=1"]


EVALUATE = """
import json, pathlib, types
from larq_ssl.experiments import study_table as study

folder = pathlib.Path("{folder}")
folder.mkdir()

def encoder(name):
    kind = "full" if "stage" in name else "none"
    return types.SimpleNamespace(name=name, spec=types.SimpleNamespace(binarization=kind))

study.load_encoder = encoder
study.encoder_hash = lambda encoder: encoder.name
study.untrained = lambda like, *_: encoder(f"like {{like.name}}")
study.datasets = types.SimpleNamespace(load_dataset=lambda *_, **__: None)
measured = []

def measure(name, images, encoder, size, picture):
    measured.append([name, picture is not None])
    if len(measured) == {killed}:
        raise KeyboardInterrupt
    return {{"encoder": name, **({{}} if encoder is None else {{"encoder_hash": encoder.name}}), "knn": len(measured)}}

study._measure = measure
told = {{"dataset": "digits", "image_size": "8"}}

def run(name):
    encoders = {{which: f"{{which}} of {{name}}" for which in ("student", "ema")}}
    return types.SimpleNamespace(results=lambda: {{"encoders": encoders}}, flags=lambda: told, encoder=encoders.get)

runs = {{name: run(name) for name in {names}}}
try:
    study.evaluate(folder, 0, runs, "teacher", ["none", "full"])
except KeyboardInterrupt:
    pass
rows = study.evaluate(folder, 0, runs, "teacher", ["none", "full"])
count = len(measured)
for some in (dict(list(runs.items())[:1]), runs):
    assert study.evaluate(folder, 0, some, "teacher", ["none", "full"]) == rows
assert len(measured) == count
print(json.dumps([measured, [[row["encoder"], row.get("encoder_hash")] for row in rows]]))
"""


def evaluated(commands, folder: pathlib.Path, killed: int, *names: str) -> tuple[list, list]:
    done = commands.python(EVALUATE.format(folder=folder, killed=killed, names=list(names)))
    assert done.code == 0, done.err
    return tuple(json.loads(done.out.splitlines()[-1]))


@pytest.mark.parametrize("killed", [3, 6])
def test_a_killed_study_measures_nothing_twice(commands, killed, tmp_path):
    measured, rows = evaluated(commands, tmp_path / "seed0", killed, "teacher", "plain", "stage")
    assert rows == [
        ["raw pixels", None],
        ["untrained float network", "like student of plain"],
        ["untrained binary network", "like student of stage"],
        ["teacher", "student of teacher"],
        ["plain", "student of plain"],
        ["stage", "student of stage"],
    ]
    names, expected = [name for name, _ in measured], [name for name, _ in rows]
    assert names == [*expected[:killed], *expected[killed - 1 :]]
    assert [name for name, picture in measured if picture] == ["stage"] * names.count("stage")


def test_there_is_no_untrained_teacher(commands, tmp_path):
    _, rows = evaluated(commands, tmp_path / "seed0", 0, "teacher", "stage")
    assert [name for name, _ in rows] == ["raw pixels", "untrained binary network", "teacher", "stage"]


COMPARE = """
import json
from absl import flags
from larq_ssl.experiments import study, study_comparison, study_table
from larq_ssl.experiments.study_comparison import Spent

flags.FLAGS(["study", *{typed}])
names = ["raw pixels", "untrained float network", "untrained binary network", "float teacher (MoCo v2)"]
names += [arm.title for arm in study.arms()]
seeds = [
    [dict(encoder=name, knn=(10 + i + 2 * seed) / 100, linear=i / 100) for i, name in enumerate(names[:last])]
    for seed, last in enumerate([len(names), 6])
]
costs = {{arm.name: [Spent(0.25, 6 + i), Spent(0.5, 6 + i)] for i, arm in enumerate(study.arms()[:2])}}
costs[study.arms()[2].name] = [Spent(0.125, 12)]
wanted = [study._TEACHER, *(arm.title for arm in study.arms())]
print(study_table.table(seeds, 2, wanted))
print(study_comparison.comparison(seeds, 2, study.arms(), study._TEACHER, costs))
print(study_table.table(seeds[1:], 2, wanted))
print(json.dumps(study.untrained_kinds()))
"""


def cells(text: str) -> dict[str, list[str]]:
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    return {line[0]: line[1:] for line in lines}


STUDY = """
import json, pathlib, sys
from absl import flags
from larq_ssl.experiments import study

sys.argv = ["study", "--methods=all", "--arms=float,stage2", "--recipes=cifar10", "--notrain", "--out={out}"]
flags.FLAGS(sys.argv)
told, shown = [], []

def evaluate(folder, seed, runs, *_):
    told.append(list(runs))
    return [dict(encoder=name, knn=0.5, linear=0.25) for name in runs]

study.evaluate = evaluate
study._show = lambda out, folder, runs, text: shown.append(list(runs))
study.train = lambda *_: sys.exit("trained")
study.training_hours = lambda run: 0.5
print(json.dumps([study.main(), told, shown]))
"""


def test_without_training_the_table_is_of_what_is_finished(commands, tmp_path):
    for name in ("simclr/float", "supervised/stage2"):
        run = tmp_path / "seed0" / name
        run.mkdir(parents=True)
        (run / "results.json").write_text('{"metrics": {}}')
        (run / "flags.txt").write_text("--epochs=3\n")
    (tmp_path / "seed0" / "byol" / "float").mkdir(parents=True)
    done = commands.python(STUDY.format(out=tmp_path))
    assert done.code == 0, done.err
    code, told, shown = json.loads(done.out.splitlines()[-1])
    assert code == 0
    assert told == [["SimCLR float"], ["SimCLR float", "supervised training stage 2"]]
    assert shown == told[-1:]
    table = cells((tmp_path / "comparison.md").read_text())
    assert table["SimCLR"] == ["50.0", "25.0", "unfinished", "unfinished", "3, unfinished", "0.50 (1 of 2 runs)"]
    assert table["supervised training"][2:] == ["50.0", "25.0", "unfinished, 3", "0.50 (1 of 2 runs)"]
    assert table["BYOL"] == ["unfinished"] * 6
    assert "1 seed(s)" in (tmp_path / "comparison.md").read_text()


def test_without_training_there_must_be_something_to_tell(commands, tmp_path):
    done = commands.run("study", "--notrain", f"--out={tmp_path}")
    assert done.code == 2
    assert "--notrain: no run in" in done.err.splitlines()[-1]


def test_tables_mark_what_is_unfinished(commands):
    typed = ["--methods=bssl,dino_baseline", "--arms=stage1,stage2", "--recipes=cifar10"]
    done = commands.python(COMPARE.format(typed=typed))
    assert done.code == 0, done.err
    whole, compared, early, kinds = _parts(done.out)
    assert whole["raw pixels"][:2] == ["11.0 ± 1.4", "0.0 ± 0.0"]
    assert whole["BSSL stage 2"][:2] == ["16.0 ± 1.4", "5.0 ± 0.0"]
    assert whole["DINO (baseline) stage 1"][:2] == ["16.0 (1 of 2)", "6.0 (1 of 2)"]
    assert early["DINO (baseline) stage 1"][:2] == ["unfinished", "unfinished"]
    head = ["stage 1, kNN", "stage 1, linear", "stage 2, kNN", "stage 2, linear", "epochs", "hours of training"]
    assert compared["method"] == head
    assert compared["BSSL"] == ["15.0 ± 1.4", "4.0 ± 0.0", "16.0 ± 1.4", "5.0 ± 0.0", "6, 7", "1.50"]
    assert compared["DINO (baseline)"][2:] == ["17.0 (1 of 2)", "7.0 (1 of 2)", "12, unfinished", "0.12 (1 of 4 runs)"]
    assert compared["untrained"][:2] == ["unfinished", "unfinished"]
    assert compared["untrained"][2:4] == ["13.0 ± 1.4", "2.0 ± 0.0"]
    assert compared["float teacher (MoCo v2)"][:4] == ["-", "-", "-", "-"]
    assert kinds == ["activations", "full"]


def _parts(out: str) -> list:
    *tables, last = out.strip().split("\n\n")
    return [*(cells(text) for text in tables), json.loads(last)]


def test_all_methods_are_those_that_have_recipes(commands):
    found = told(commands, "--methods=all", "--arms=float,stage1,stage2", "--recipes=cifar10")
    names = [name for name, *_ in found]
    assert names[0] == "teacher"
    assert {"stage1", "stage2", "s2bnn_guided/stage2", "dino_baseline/float", "swav_sslight/stage2"} <= set(names)
    assert {"supervised/float", "supervised/stage1", "supervised/stage2"} <= set(names)
    assert "float" not in names  # of BSSL
    assert "dino/float" not in names
    for _, _, _, recipe, *_ in found:
        assert (RECIPES / f"{recipe.removeprefix('--recipe=')}.flags").is_file()


def test_hours_are_those_of_training_over_all_starts(tmp_path, commands):
    rows = [{"epoch": e, "step": 10 * e, "images_per_second": 2.0 * e} for e in (1, 2)] + [{"epoch": 3, "step": 30}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "flags.txt").write_text("--batch_size=36\n")
    code = "from larq_ssl.experiments import run_folder as r, study_runs as s\n"
    done = commands.python(code + f"print(s.training_hours(r.RunFolder({str(tmp_path)!r})))")
    assert done.code == 0, done.err
    assert float(done.out) == pytest.approx((360 / 2 + 360 / 4) / 3600)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("--methods=all,bssl", "--methods must be some of bssl, .*, got all,bssl."),
        ("--arms=stage3", "--arms must be some of float, stage1, stage2, one_stage, got stage3."),
        ("--arms=float", "--methods=bssl has no --arms=float with --recipes=digits: there is no recipe digits/bssl."),
        ("--methods=bssl,moco", "--methods must be some of bssl, s2bnn_contrastive, .*, got bssl,moco."),
    ],
)
def test_mistakes_are_one_sentence(commands, typed, message, tmp_path):
    done = commands.run("study", typed, f"--out={tmp_path}/study")
    assert done.code == 2
    assert done.err.splitlines()[-1].startswith("error: ")
    assert re.search(message, done.err)
    assert not (tmp_path / "study").exists()

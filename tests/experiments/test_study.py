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
    study.evaluate(folder, 0, runs, "teacher")
except KeyboardInterrupt:
    pass
rows = study.evaluate(folder, 0, runs, "teacher")
count = len(measured)
assert study.evaluate(folder, 0, runs, "teacher") == rows
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


@pytest.mark.parametrize(
    ("typed", "message"),
    [
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

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
print(json.dumps([[name, study.title(name), *command] for name, command in told.items()]))
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


EVALUATE = """
import json, pathlib, types
from absl import flags
from larq_ssl.experiments import study

flags.FLAGS(["study", "--methods=bssl,s2bnn_guided"])
folder = pathlib.Path("{folder}")
folder.mkdir()
study.load_encoder = lambda path: path
study.encoder_hash = str
study.untrained = lambda *_: "untrained"
study.datasets = types.SimpleNamespace(load_dataset=lambda *_, **__: None)
measured = []

def measure(name, images, encoder, size, picture):
    measured.append([name, picture is not None])
    if len(measured) == {killed}:
        raise KeyboardInterrupt
    return {{"encoder": name, **({{}} if encoder is None else {{"encoder_hash": str(encoder)}}), "knn": len(measured)}}

study._measure = measure
told = {{"dataset": "digits", "image_size": "8"}}

def run(name):
    return types.SimpleNamespace(
        results=lambda: {{"encoders": {{"student": name}}}}, flags=lambda: told, encoder=lambda _: name
    )

runs = {{name: run(name) for name in ("teacher", *study.arms())}}
try:
    study.evaluate(folder, 0, runs)
except KeyboardInterrupt:
    pass
rows = study.evaluate(folder, 0, runs)
count = len(measured)
assert study.evaluate(folder, 0, runs) == rows
assert len(measured) == count
print(json.dumps([measured, [row["encoder"] for row in rows]]))
"""


@pytest.mark.parametrize("killed", [4, 7])
def test_a_killed_study_measures_nothing_twice(commands, killed, tmp_path):
    done = commands.python(EVALUATE.format(folder=tmp_path / "seed0", killed=killed))
    assert done.code == 0, done.err
    measured, rows = json.loads(done.out.splitlines()[-1])
    expected = [
        *("raw pixels", "untrained binary network", "float teacher (MoCo v2)", "BSSL stage 1", "BSSL stage 2"),
        *("S2-BNN guided stage 1", "S2-BNN guided stage 2"),
    ]
    assert rows == expected
    names = [name for name, _ in measured]
    assert names == [*expected[:killed], *expected[killed - 1 :]]
    assert [name for name, picture in measured if picture] == [expected[-1]] * names.count(expected[-1])


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("--arms=stage3", "--arms must be some of stage1, stage2, one_stage, got stage3."),
        ("--methods=bssl,moco", "--methods must be some of bssl, s2bnn_contrastive, .*, got bssl,moco."),
    ],
)
def test_mistakes_are_one_sentence(commands, typed, message, tmp_path):
    done = commands.run("study", typed, f"--out={tmp_path}/study")
    assert done.code == 2
    assert done.err.splitlines()[-1].startswith("error: ")
    assert re.search(message, done.err)
    assert not (tmp_path / "study").exists()

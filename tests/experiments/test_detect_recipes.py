"""Recipes of detection are parsed by their command, have the published schedules, and say what is to be reached."""

import json
import re

import pytest

from tests.experiments.recipes import ROOT

FILES = sorted(ROOT.rglob("detect_*.flags"))
NAMES = [file.relative_to(ROOT).with_suffix("").as_posix() for file in FILES]

CHECK = """
import json
from absl import flags
from absl.testing import flagsaver
from larq_ssl.experiments import common, detect, detect_flags

FLAGS = flags.FLAGS
FLAGS.mark_as_parsed()
report = {{}}
for name in {names}:
    with flagsaver.flagsaver():
        left = FLAGS(common.with_recipe(["detect", f"--recipe={{name}}"], None))
        told = {{flag: FLAGS[flag].value for flag in FLAGS}}
        rate = detect_flags.learning_rate()
        told["moved"] = vars(detect_flags.augmentation())
        FLAGS.flip = not FLAGS.flip
        told["moved otherwise"] = vars(detect_flags.augmentation())
        told.update(left=left[1:], padded=detect_flags.settings(3).padded)
        told["rates"] = [float(rate(step)) for step in (0, FLAGS.warmup_steps, FLAGS.steps - 1)]
        report[name] = told
print(json.dumps(report, default=str))
"""

SHARED = dict(optimizer="sgd", schedule="step", weight_decay=1e-4, batch_size=16, freeze_stages=0, batch_norm="train")
VOC = dict(task="faster_rcnn", dataset="voc", steps=24000, lr=0.02, milestones="18000,22000", warmup_steps=100)
COCO = dict(task="mask_rcnn", dataset="coco", steps=90000, lr=0.02, milestones="60000,80000", warmup_steps=1000)
TWICE = dict(steps=180000, milestones="120000,160000")
PUBLISHED = {
    "voc/detect_bssl": (VOC, ("41.00", "70.91", "41.45")),
    "voc/detect_msbreg": (VOC, ("no number",)),
    "coco/detect_sslight_resnet_18": (COCO, ("34.1", "54.8", "36.3", "31.8", "51.8", "33.8")),
    "coco/detect_sslight_resnet_34": (COCO, ("38.6", "59.9", "41.9", "35.5", "56.9", "37.9")),
    "coco/detect_sslight_mobilenet_v2": ({**COCO, "min_level": 4}, ("32.1", "52.5", "33.8", "29.1", "48.8", "30.2")),
    "coco/detect_sslight_resnet_18_2x": ({**COCO, **TWICE}, ("37.3", "58.2", "40.7", "34.3", "55.1", "36.8")),
    "coco/detect_sslight_mobilenet_v2_2x": (
        {**COCO, **TWICE, "min_level": 4},
        ("35.1", "55.4", "37.8", "31.7", "52.1", "33.3"),
    ),
    "coco/detect_msbreg_resnet_50": ({**COCO, "lr": 0.05, "warmup_steps": 50}, ("41.8", "37.8")),
}
"""Schedules, and what the headers say that is to be reached: spec bnn 4.6, ssl 6.4 and 9.5, and the papers' tables."""


@pytest.fixture(scope="module")
def parsed(commands) -> dict[str, dict]:
    done = commands.python(CHECK.format(names=NAMES))
    assert done.code == 0, done.err
    return json.loads(done.out.splitlines()[-1])


def test_every_published_recipe_is_compared():
    assert {name for name in NAMES if not name.startswith("bccd/")} == set(PUBLISHED)
    assert {"bccd/detect_faster_rcnn", "bccd/detect_retinanet"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_flag_is_one_of_the_command(name, parsed):
    assert parsed[name]["left"] == []
    start, warm, last = parsed[name]["rates"]
    assert 0 < start < 0.01 * warm
    assert warm == pytest.approx(parsed[name]["lr"], rel=0.01)
    assert last < 0.02 * warm


def test_flips_are_those_of_the_flags(parsed):
    for name, own in parsed.items():
        scales = {"scale_min": own["scale_min"], "scale_max": own["scale_max"]}
        for key, flip in (("moved", True), ("moved otherwise", False)):
            assert own[key] == {"flip": flip, "vertical_flip": own["vertical_flip"], **scales}, name
    assert {own["vertical_flip"] for own in parsed.values()} == {True, False}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_recipe_is_as_published(name, parsed):
    wanted, numbers = PUBLISHED[name]
    assert {flag: parsed[name][flag] for flag in {**SHARED, **wanted}} == {**SHARED, **wanted}
    header = " ".join(line[2:] for line in (ROOT / f"{name}.flags").read_text().splitlines() if line.startswith("#"))
    assert re.search(r"\bCost: [\d,]+ steps of 16 images", header)
    reached = header.partition("Reach: ")[2]
    for number in numbers:
        assert number in reached

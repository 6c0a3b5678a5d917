"""What the flags of recipes come to, without training."""

import json
import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2] / "experiments" / "recipes"
FILES = sorted(file for file in ROOT.rglob("*.flags") if not file.name.startswith("detect_"))
"""Of all commands that pre-train or fine-tune; those of detection have other flags, and `test_detect_recipes`."""
NAMES = [file.relative_to(ROOT).with_suffix("").as_posix() for file in FILES]

COMMANDS = (
    *("bssl", "byol", "dino", "infomin", "moco", "moco_star", "msbreg", "s2bnn", "simclr", "swav"),
    *("distill", "fine_tune", "supervised"),
)

SWITCHES = ("train_teacher_head", "feature_source", "feature_scale", "teacher_batch_norm")

# Parses recipes with the flags of a command and tries, without training, what the command would do with them.
CHECK = """
import json, sys
from absl import flags
from absl.testing import flagsaver
from larq_ssl.data import views
from larq_ssl.experiments import common, stages, training, training_data
from larq_ssl.experiments import {command} as experiment
from larq_ssl.models.registry import ARCHITECTURES

FLAGS = flags.FLAGS
FLAGS.mark_as_parsed()
report = {{}}
for name in {names}:
    with flagsaver.flagsaver():
        left = FLAGS(common.with_recipe(["{command}", f"--recipe={{name}}", *{typed}], None))
        if FLAGS.encoder is None:
            FLAGS.encoder = "reactnet_18"  # that of --run or --teacher
        if hasattr(experiment, "complete_flags"):
            experiment.complete_flags()
        told = {{flag: FLAGS[flag].value for flag in FLAGS}}
        told.update(left=left[1:], binarization=stages.binarization(), stage_name=stages.stage_name())
        told["folder"] = str(stages.run_folder("{command}").path)
        views.policy(FLAGS.views, FLAGS.image_size)
        data = training_data.Data(None, None, steps_per_epoch=100)
        told["rates"] = [float(training.learning_rate(data)(step)) for step in (0, data.total_steps - 1)]
        told["optimizer_flag"] = FLAGS.optimizer
        told["optimizer"] = type(training.optimizer(data)).__name__
        told["binarizations"] = ARCHITECTURES[FLAGS.encoder].binarizations
        if "{command}" == "bssl":
            balance = [told["balance" + part] for part in ("_start", "_end", "", "_interval")]
            experiment.Balance(data.total_steps, *balance)
            switches = {{key: told[key] for key in {switches}}}
            told.update(vars(experiment.resolve_preset(FLAGS.preset, **switches)))
        report[name] = told
print(json.dumps(report, default=str))
"""


def command_of(name: str) -> str:
    """The longest name of a command with which the recipe's begins."""
    recipe = name.split("/")[1]
    return max((command for command in COMMANDS if recipe == command or recipe.startswith(f"{command}_")), key=len)


def reach(name: str) -> str:
    """What the header says that is to be reached, on one line."""
    header = [line for line in (ROOT / f"{name}.flags").read_text().splitlines() if line.startswith("#")]
    return re.search(r"Reach[^:]*: (.*?)\. ", " ".join(line[2:] for line in header) + " ")[1]


def parse(commands, command: str, names: list[str], *typed: str) -> dict[str, dict]:
    code = CHECK.format(command=command, names=names, typed=list(typed), switches=SWITCHES)
    done = commands.python(code)
    assert done.code == 0, done.err
    return json.loads(done.out.splitlines()[-1])


def parse_all(commands, names: list[str]) -> dict[str, dict]:
    """What the flags are after each of these recipes, each read by its command."""
    report: dict[str, dict] = {}
    for command in sorted({command_of(name) for name in names}):
        report |= parse(commands, command, [name for name in names if command_of(name) == command])
    return report

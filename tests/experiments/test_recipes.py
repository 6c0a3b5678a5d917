"""Every recipe can be parsed by its command, fits together, and says what it costs and what it is to reach."""

import json
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[2] / "experiments" / "recipes"
FILES = sorted(ROOT.rglob("*.flags"))
NAMES = [file.relative_to(ROOT).with_suffix("").as_posix() for file in FILES]

COMMANDS = ("bssl", "dino", "moco", "moco_star", "s2bnn", "swav")

SWITCHES = ("train_teacher_head", "feature_source", "feature_scale", "teacher_batch_norm")

# Parses recipes with the flags of a command and tries, without training, what the command would do with them.
CHECK = """
import json, sys
from absl import flags
from absl.testing import flagsaver
from larq_ssl.data import views
from larq_ssl.experiments import common, stages, training
from larq_ssl.experiments import {command} as experiment
from larq_ssl.models.registry import ARCHITECTURES

FLAGS = flags.FLAGS
FLAGS.mark_as_parsed()
report = {{}}
for name in {names}:
    with flagsaver.flagsaver():
        left = FLAGS(common.with_recipe(["{command}", f"--recipe={{name}}", *{typed}], None))
        if "{command}" == "s2bnn":
            experiment.complete_flags()
        told = {{flag: FLAGS[flag].value for flag in FLAGS}}
        told.update(left=left[1:], binarization=stages.binarization(), stage_name=stages.stage_name())
        told["folder"] = str(stages.run_folder("{command}").path)
        views.policy(FLAGS.views, FLAGS.image_size)
        data = training.Data(None, None, steps_per_epoch=100)
        told["rates"] = [float(training.learning_rate(data)(step)) for step in (0, data.total_steps - 1)]
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


def parse(commands, command: str, names: list[str], *typed: str) -> dict[str, dict]:
    code = CHECK.format(command=command, names=names, typed=list(typed), switches=SWITCHES)
    done = commands.python(code)
    assert done.code == 0, done.err
    return json.loads(done.out.splitlines()[-1])


@pytest.fixture(scope="module")
def parsed(commands) -> dict[str, dict]:
    """What the flags are after each recipe."""
    report: dict[str, dict] = {}
    for command in sorted({command_of(name) for name in NAMES}):
        report |= parse(commands, command, [name for name in NAMES if command_of(name) == command])
    return report


def test_there_are_recipes_for_each_data_set():
    assert {name.split("/")[0] for name in NAMES} >= {"digits", "cifar10", "imagenet", "imagenet100"}


@pytest.mark.parametrize("name", NAMES)
def test_the_name_says_method_and_stage(name, parsed):
    assert re.fullmatch(rf"[a-z0-9]+/({'|'.join(COMMANDS)})(_[a-z0-9]+)*", name)
    stage = re.search(r"_(stage[12]|one_stage)$", name)
    if stage:
        assert parsed[name]["stage_name"] == stage[1]


@pytest.mark.parametrize("name", NAMES)
def test_the_flags_fit_together(name, parsed):
    told = parsed[name]
    assert told["left"] == []
    assert told["recipe"] == name
    assert told["binarization"] in told["binarizations"]
    assert told["batch_size"] % told["accumulate"] == 0
    if told.get("queue_size") is not None:
        assert told["queue_size"] % told["batch_size"] == told["batch_size"] % told["batch_norm_groups"] == 0
    if command_of(name) == "bssl":
        # What `BSSL` refuses: it would collapse.
        assert not (told["train_teacher_head"] and told["feature_source"] == "logits")


@pytest.mark.parametrize("name", NAMES)
def test_the_data_set_is_that_of_the_folder(name, parsed):
    dataset = {"imagenet": "imagenet2012", "imagenet100": "folder"}.get(name.split("/")[0], name.split("/")[0])
    assert parsed[name]["dataset"] == dataset


@pytest.mark.parametrize("name", NAMES)
def test_a_flag_is_given_once(name):
    lines = (ROOT / f"{name}.flags").read_text().splitlines()
    given = [line.partition("=")[0].replace("--no", "--") for line in lines if line.startswith("--")]
    assert sorted(set(given)) == sorted(given)
    assert all(line.startswith(("--", "#")) for line in lines)
    assert not {"--recipe", "--fresh", "--data_dir", "--seed", "--flagfile"} & set(given)


@pytest.mark.parametrize("name", NAMES)
def test_the_header_states_cost_and_the_number_to_reach(name):
    lines = (ROOT / f"{name}.flags").read_text().splitlines()
    header = "\n".join(line for line in lines if line.startswith("#"))
    assert lines[0].startswith("# ")
    assert re.search(r"\bCost\b", header)
    assert re.search(r"\b[Rr]each(es)?\b", header)
    assert re.search(r"\d|experiments/results/", header)


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("_stage2")])
def test_stage_2_finds_its_stage_1_and_trains_the_same_network(name, parsed):
    first, second = parsed[name.replace("_stage2", "_stage1")], parsed[name]
    assert pathlib.Path(first["folder"]) == pathlib.Path(second["folder"]).parent / "stage1"
    differ = {flag for flag in first.keys() & second.keys() if first[flag] != second[flag]}
    assert differ <= {"stage", "recipe", "binarization", "stage_name", "folder", "workdir", "weight_decay", "flagfile"}


@pytest.mark.parametrize("scheme", ["contrastive", "contrastive_guided", "guided"])
@pytest.mark.parametrize("arm", ["stage1", "stage2", "one_stage"])
def test_s2bnn_is_as_published(scheme, arm, parsed):
    told = parsed[f"imagenet/s2bnn_{scheme}_{arm}"]
    assert told["scheme"] == scheme
    published = {
        "encoder": "reactnet_a",
        "views": "s2bnn",
        "optimizer": "Adam",
        "lr": 3e-4,
        "schedule": "linear",
        "epochs": 200,
        "batch_size": 256,
        "temperature": 0.2,
        "embedding_dim": 128,
        "hidden_dim": None,
        # Of the released commands.
        "weight_decay": 1e-4 if scheme == "contrastive" else 0,
    }
    published |= dict.fromkeys(["queue_size", "momentum", "batch_norm_groups"])
    if scheme != "guided":
        published |= {"queue_size": 65536, "momentum": 0.999, "batch_norm_groups": 8}
    assert {name: told[name] for name in published} == published
    assert told["rates"] == pytest.approx([3e-4, 3e-4 / 200], rel=1e-4)


@pytest.mark.parametrize("encoder", ["mobilenet_v2", "resnet_18", "resnet_34", "resnet_50"])
@pytest.mark.parametrize(("arm", "views", "alpha"), [("baseline", "dino_convnet", None), ("sslight", "sslight", 0.4)])
def test_moco_star_is_as_published(arm, views, alpha, encoder, parsed):
    told = parsed[f"imagenet/moco_star_{arm}_{encoder}"]
    published = {
        **{"encoder": encoder, "binarization": "none", "image_size": 224, "views": views, "alpha": alpha},
        **{"queue_size": 65536, "momentum": 0.999, "temperature": 0.2, "hidden_dim": 2048, "embedding_dim": 128},
        **{"optimizer": "LARS", "lr": 0.48 * 1024 / 256, "min_lr": 0.0048, "weight_decay": 1e-6},
        **{"warmup_epochs": 10, "warmup_lr": 0, "schedule": "cosine", "epochs": 200, "batch_size": 1024},
        **{"sync_batch_norm": True, "batch_norm_groups": 1, "gradient_clip": None, "local_views": None},
    }
    assert {name: told[name] for name in published} == published
    alone = parsed["imagenet/moco_star_global_only_mobilenet_v2"]
    differ = {name for name in published if alone[name] != parsed["imagenet/moco_star_baseline_mobilenet_v2"][name]}
    assert differ == {"local_views"}
    assert alone["local_views"] == 0


@pytest.mark.parametrize("arm", ["stage1", "stage2", "one_stage"])
@pytest.mark.parametrize("scheme", ["contrastive", "contrastive_guided", "guided"])
def test_the_methods_that_a_study_compares_train_the_same_student_on_the_same_images(scheme, arm, parsed):
    ours, theirs = parsed[f"cifar10/s2bnn_{scheme}_{arm}"], parsed[f"cifar10/bssl_{arm}"]
    for flag in (
        *("binarization", "encoder", "width", "stem", "preprocessing", "image_size", "views", "max_train_images"),
        *("epochs", "batch_size", "optimizer", "lr", "schedule", "warmup_epochs", "precision"),
    ):
        assert ours[flag] == theirs[flag], flag


def test_recipes_of_one_data_set_train_in_folders_of_their_own(parsed):
    folders = [(told["folder"], name) for name, told in parsed.items()]
    same = [name for folder, name in folders if [other for other, _ in folders].count(folder) > 1]
    assert same == []


def test_typed_flags_win_over_the_recipe(commands, parsed):
    name = "digits/bssl_stage1"
    typed = parse(commands, "bssl", [name], "--epochs=3", "--lr", "0.5", "--nodeterministic")[name]
    assert (typed["epochs"], typed["lr"]) == (3, 0.5)
    assert (parsed[name]["epochs"], parsed[name]["lr"]) != (3, 0.5)
    assert typed["classes"] == parsed[name]["classes"]

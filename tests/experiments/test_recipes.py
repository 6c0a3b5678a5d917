"""Every recipe can be parsed by its command, fits together, and says what it costs and what it is to reach."""

import pathlib
import re

import pytest

from tests.experiments.recipes import COMMANDS, NAMES, ROOT, command_of, parse, parse_all


@pytest.fixture(scope="module")
def parsed(commands) -> dict[str, dict]:
    """What the flags are after each recipe."""
    return parse_all(commands, NAMES)


def test_there_are_recipes_for_each_data_set():
    assert {name.split("/")[0] for name in NAMES} >= {"digits", "cifar10", "imagenet", "imagenet100", "stl10"}


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
        assert told["queue_size"] % told["batch_size"] == told["batch_size"] % told.get("batch_norm_groups", 1) == 0
    if command_of(name) == "bssl":
        # What `BSSL` refuses: it would collapse.
        assert not (told["train_teacher_head"] and told["feature_source"] == "logits")


# STL-10 is a folder because its unlabelled images belong to it.
FOLDERS = {"imagenet": "imagenet2012", "imagenet100": "folder", "stl10": "folder"}


@pytest.mark.parametrize("name", NAMES)
def test_the_data_set_is_that_of_the_folder(name, parsed):
    dataset = FOLDERS.get(name.split("/")[0], name.split("/")[0])
    # Or the images that have a label in SimCLR's lists.
    allowed = {dataset, *(f"{dataset}_subset/{part}" for part in ("1pct", "10pct"))}
    assert parsed[name]["dataset"] in (allowed if dataset == "imagenet2012" else {dataset})


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

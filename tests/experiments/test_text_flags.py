"""Every flag of every command whose value is a text, with one that is wrong: told before anything is trained.

What a text may be is found by the command itself, which runs here up to the first step of training.
"""

import json
import re

import numpy as np
import pytest
from PIL import Image

from larq_ssl import models
from larq_ssl.heads import linear_classifier, mlp_head
from larq_ssl.models.folder import save_encoder, save_head
from tests.experiments.test_all_flags import COMMANDS

TINY = ("--epochs=1", "--steps_per_epoch=2", "--batch_size=32", "--width=0.125", "--image_size=8")

TRAINING = {
    "dataset": (["--dataset=no_such"], r"dataset is 'no_such': it must be 'digits', 'folder' or"),
    "data_dir": (["--dataset=folder", "--data_dir={}/nowhere"], r"data_dir is '.*/nowhere': it must be a folder"),
    "classes_list": (["--classes_list=nowhere"], r"classes_list is 'nowhere': it must be one of"),
    "workdir": (["--workdir={}/foreign"], r"--workdir=.*/foreign holds other files and is not the folder of a run"),
    "recipe": (["--recipe=digits/no_such"], r"--recipe must be one of .*, got 'digits/no_such'"),
    "encoder": (["--encoder=no_such"], r"--encoder must be one of .*, got 'no_such'"),
    "views": (["--views=no_such"], r"policy is 'no_such': it must be one of"),
    "stage1": (
        ["--stage=2", "--stage1=nowhere"],
        r"--stage=2 starts from a finished stage 1, and nowhere does not exist",
    ),
}
LABELS = {
    "labels": (["--labels=nowhere"], r"--labels=nowhere has no labels\.json: it is not the folder of a run"),
    "label_list": (["--label_list=nowhere"], r"label_list is 'nowhere'"),
}
TEACHER = {"teacher": (["--teacher=nowhere"], r"--teacher=nowhere is neither a finished run, nor an encoder folder")}
PROBES = {
    "run": (["--run=nowhere"], r"--run=nowhere is not a finished run"),
    "encoder_dir": (["--encoder_dir=nowhere"], r"There is no encoder in nowhere"),
    "dataset": TRAINING["dataset"],
    "data_dir": TRAINING["data_dir"],
    "classes_list": TRAINING["classes_list"],
    "probe_dir": (["--probe_dir={}/file"], r"--probe_dir=.*/file cannot be made: .*/file is a file"),
}

SWEPT = {
    **PROBES,
    "run": (["--run=nowhere", "--dataset=digits", "--out={}/new"], PROBES["run"][1]),
    "probe_dir": (["--probe_dir=elsewhere"], r"--probe_dir=elsewhere has no meaning here: results go to --out"),
    "out": (["--out={}/file"], r"/file"),
    "with_flags": (["--with_flags=lr"], r"--with_flags must hold flags as --name=value, got 'lr'"),
}
"""Of the commands that fine-tune many times."""

NEEDED = {
    "bssl": ["--stage=1", "--teacher={}/teacher"],
    "s2bnn": ["--stage=1", "--teacher={}/float", "--embedding_dim=5"],
    "distill": ["--teacher={}/classifier", "--encoder=resnet_18", "--alpha=0.5", "--label_fraction=1"],
    "fine_tune": ["--encoder_dir={}/teacher", "--dataset=digits", "--head_layer=0"],
    "msbreg": ["--embedding_dim=16"],
    **{name: ["--encoder_dir={}/teacher", "--dataset=digits", "--image_size=8"] for name in ("codes", "knn", "linear")},
    **{
        name: ["--encoder_dir={}/teacher", "--dataset=digits", "--image_size=8"]
        for name in ("retrieval", "svm", "robustness")
    },
    "detect": ["--encoder_dir={}/teacher"],
    "export": ["--encoder_dir={}/teacher", "--dataset=digits", "--image_size=8", "--allow_float", "--out={}/new"],
    "encode": ["--images={}/images", "--encoder_dir={}/teacher", "--image_size=8", "--out={}/new.npz"],
    "grid": ["--train=moco", "--vary=lr=1,2", "--out={}/new"],
    "semi_supervised": ["--encoder_dir={}/teacher", "--dataset=digits", "--label_fraction=1", "--out={}/new"],
    "transfer": ["--encoder_dir={}/teacher", "--dataset=digits", "--out={}/new"],
    "endurance": ["--out={}/new"],
    "reliability": ["--out={}/new.md"],
    "scaling": ["--out={}/new"],
}
"""What a command line needs for the wrong flag to be what is wrong with it."""

WRONG = {
    **{name: TRAINING for name in ("byol", "dino", "infomin", "moco", "moco_star", "msbreg", "simclr", "swav")},
    "bssl": {**TRAINING, **TEACHER},
    "s2bnn": {**TRAINING, **TEACHER},
    "supervised": {**TRAINING, **LABELS, **TEACHER},
    "distill": {
        **TRAINING,
        **TEACHER,
        "labels": (["--label_fraction=1", "--labels=nowhere"], r"contradict each other: give one of them"),
        "label_list": (["--label_list=nowhere"], r"contradict each other: give one of them"),
    },
    "fine_tune": {
        **TRAINING,
        **LABELS,
        "encoder": (["--encoder=resnet_50"], r"--encoder=resnet_50 contradicts the network in"),
        "stage1": (["--stage1=nowhere"], r"--stage1 has no meaning here"),
        "run": (["--run=nowhere"], r"--run=nowhere and --encoder_dir=.* contradict"),
        "encoder_dir": (["--encoder_dir=nowhere"], r"There is no encoder in nowhere"),
    },
    "benchmark": {
        "precisions": (["--what=encode", "--precisions=float8"], r"--precisions must be some of .*, got float8"),
        "methods": (["--what=train_step", "--methods=mocco"], r"--methods must be some of .*, got mocco"),
        "views": (["--what=pipeline", "--views=blurry"], r"--views must be some of .*, got blurry"),
        "small_images": (
            ["--what=pipeline", "--small_images=nowhere"],
            r"--small_images must be a folder that holds a folder train/ .*, got nowhere",
        ),
        "photographs": (["--what=encode", "--photographs=nowhere"], r"--photographs must be a folder .*, got nowhere"),
        "export": (["--what=device", "--export=nowhere"], r"--export must be a folder that .*, got nowhere"),
        "out": (["--what=encode", "--out={}/file/x"], r"--out=.*/file/x cannot be made: .*/file is a file"),
        "with_flags": (
            ["--what=train_step", "--method=moco", "--with_flags='"],
            r"--with_flags=' cannot be read: No closing quotation",
        ),
        "compare": (["--compare=nowhere", "nowhere"], r"--compare: nowhere is not a .json file"),
    },
    "cost": {"out": (["--out={}/file/x"], r"--out=.*/file/x cannot be made: .*/file is a file")},
    "study": {
        "recipes": (["--recipes=no_such"], r"with --recipes=no_such: there is no recipe"),
        "methods": (["--methods=mocco"], r"--methods must be some of .*, got mocco"),
        "arms": (["--arms=stage3"], r"--arms must be some of .*, got stage3"),
        "out": (["--out={}/file"], r"--out=.*/file cannot be made: .*/file is a file"),
    },
    "simclrv2": {
        "recipes": (["--recipes=no_such"], r"--recipe must be in a folder that is one of .*, got 'no_such/simclr'"),
        "binary": (["--binary=stage3"], r"--binary must be some of .*, got stage3"),
        "out": (["--out={}/file"], r"--out=.*/file cannot be made: .*/file is a file"),
    },
    "import_torch": {
        "checkpoint": (["--checkpoint=nowhere.pth", "--out={}/new"], r"nowhere\.pth"),
        "out": (["--checkpoint={}/file", "--out={}/file"], r"/file"),
    },
    "views": {
        "dataset": (["--policy=bssl", "--dataset=no_such"], TRAINING["dataset"][1]),
        "data_dir": (["--policy=bssl", *TRAINING["data_dir"][0]], TRAINING["data_dir"][1]),
        "out": (["--policy=bssl", "--out={}/file"], r"--out=.*/file exists already"),
    },
    **{name: PROBES for name in ("codes", "knn", "linear", "retrieval", "svm", "robustness")},
    "export": {
        **PROBES,
        "run": (["--run=nowhere", "--out={}/new"], PROBES["run"][1]),
        "probe_dir": (["--probe_dir=elsewhere"], r"--probe_dir=elsewhere has no meaning here"),
        "linear_probe": (["--head=linear", "--linear_probe=nowhere"], r"--linear_probe=nowhere"),
        "out": (["--out={}/file/x"], r"--out=.*/file/x cannot be made: .*/file is a file"),
    },
    "encode": {
        "run": (["--run=nowhere", "--images={}/images", "--out={}/new.npz"], PROBES["run"][1]),
        "encoder_dir": (["--encoder_dir=nowhere"], r"There is no encoder in nowhere"),
        "images": (["--images=nowhere/*.png"], r"nowhere/\*\.png"),
        "out": (["--out=features.txt"], r"--out must be a file that ends in \.npz, got features\.txt"),
        "centre_of": (
            ["--codes", "--centre_of=nowhere.npz"],
            r"--centre_of=nowhere\.npz must be a file of features",
        ),
    },
    "detect": {
        "run": (["--run=nowhere"], PROBES["run"][1]),
        "encoder_dir": (["--encoder_dir=nowhere"], PROBES["encoder_dir"][1]),
        "data_dir": (["--data_dir={}/nowhere"], r"data_dir is '.*/nowhere': dataset 'folder' needs a folder in VOC"),
        "workdir": TRAINING["workdir"],
        "recipe": TRAINING["recipe"],
        "milestones": (["--milestones=50,30"], r"--milestones must be increasing numbers of steps .*, got '50,30'"),
    },
    "edge_demo": {
        "out": (["--out={}/file"], r"--out=.*/file cannot be made: .*/file is a file"),
    },
    "grid": {
        "train": (['--train=moco "x'], r'--train=moco "x must be words as in a shell: No closing quotation'),
        "vary": (["--vary=lr"], r"--vary must be given once or twice|--vary must be a flag and its values"),
        "out": (["--out={}/file"], r"--out=.*/file cannot be made: .*/file is a file"),
    },
    "report": {"out": (["runs", "--out={}/file"], r"/file")},
    "semi_supervised": {
        **SWEPT,
        "labels": (["--labels=nowhere"], r"contradict each other: give one of them"),
        "label_list": (["--label_list=nowhere"], r"contradict each other: give one of them"),
    },
    "transfer": SWEPT,
    "endurance": {
        "methods": (["--methods=mocco"], r"--recipe must be one of .*, got 'digits/mocco_stage1'"),
        "out": (["--out={}/file/x"], r"--out=.*/file/x cannot be made: .*/file is a file"),
    },
    "scaling": {
        "photographs": (["--photographs=nowhere"], r"--photographs=nowhere must be a folder of images"),
        "out": (["--out={}/file/x"], r"--out=.*/file/x cannot be made: .*/file is a file"),
    },
    "reliability": {
        "faults": (["--faults=nowhere"], r"--faults=nowhere"),
        "endurance": (["--endurance=nowhere"], r"--endurance=nowhere"),
        "out": (["--out={}/file/x"], r"--out=.*/file/x cannot be made: .*/file is a file"),
    },
}
"""By command and flag: words that are wrong, and what is told of them."""


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    save_encoder(models.build("resnet_18", None, "none", "cifar", 0.125), folder / "teacher")
    save_encoder(models.build("resnet_18", None, "none", "cifar", 0.125), folder / "float" / "encoders" / "student")
    save_head(mlp_head("student_head", 64, [8], 5, norm="none"), folder / "float" / "heads" / "student_head")
    (folder / "float" / "flags.txt").write_text("--dataset=digits\n")
    (folder / "float" / "results.json").write_text(json.dumps({"encoders": {"student": "0"}}))
    classifier = folder / "classifier"
    save_encoder(models.build("resnet_18", None, "none", "cifar", 0.125), classifier / "encoders" / "student")
    save_head(linear_classifier("classifier", 64, 10), classifier / "heads" / "classifier")
    (classifier / "flags.txt").write_text("--dataset=digits\n")
    (classifier / "inputs.json").write_text("{}")
    (classifier / "results.json").write_text(json.dumps({"encoders": {"student": "0"}}))
    (folder / "foreign").mkdir()
    (folder / "foreign" / "thesis.tex").write_text("")
    (folder / "file").write_text("")
    (folder / "images").mkdir()
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(folder / "images" / "one.png")
    return folder


@pytest.mark.parametrize("command", sorted(WRONG))
def test_a_wrong_text_is_told_before_training(command, places, commands, tmp_path):
    trains = "views" in WRONG[command] and "workdir" in WRONG[command]
    lines = []
    for name, (words, _) in WRONG[command].items():
        # A probe is of a run or of an encoder folder.
        shared = [f"--workdir={tmp_path}/{name}", *TINY] if trains else []
        shared += [] if name == "run" and not trains else NEEDED.get(command, [])
        lines.append([word.replace("{}", str(places)) for word in (*shared, *words)])
    done = commands.python(f"import walking; walking.walk_up_to_training({command!r}, {lines!r})")
    assert done.code == 0, done.err
    found = json.loads(done.out.splitlines()[-1])
    for (name, (_, sentence)), end in zip(WRONG[command].items(), found["ends"], strict=True):
        told = [line for line in end["err"].splitlines() if line.startswith("error: ")]
        assert end["code"] == 2, (name, end)
        assert "Traceback" not in end["err"], (name, end)
        assert len(told) == 1, (name, end)
        assert re.search(sentence, told[0]), (name, told[0])
    texts = {flag["name"] for flag in found["flags"] if flag["kind"] == "text"}
    assert texts <= set(WRONG[command]) | FREE.get(command, set()), "A flag has no wrong value here."


def test_no_command_is_left_out():
    """Folders are all that `status` takes; its own tests have wrong ones."""
    assert set(WRONG) == set(COMMANDS) - {"status"}


FREE: dict[str, set[str]] = {
    "detect": {"dataset_name"},
    "import_torch": {"licence"},
    # It shares a module with commands that have a teacher.
    "fine_tune": {"teacher"},
    # Of the commands that they run, which tell it themselves.
    "edge_demo": {"data_dir"},
    "grid": {"metrics"},
    "study": {"data_dir", "dataset", "preset"},
    "simclrv2": {"binary_encoder", "data_dir", "dataset"},
}
"""Flags by command that any text is right for, as far as the command itself can tell."""

"""Flags that go alone and not together, and files that do not fit: told before anything is trained."""

import json
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

from larq_ssl import models
from larq_ssl.heads import linear_classifier
from larq_ssl.models.folder import save_encoder, save_head

TINY = ("--epochs=1", "--steps_per_epoch=2", "--batch_size=32", "--width=0.125", "--image_size=8")
DIGITS = ("--dataset=digits", "--image_size=8")

CASES = {
    "moco": {
        "a queue of no whole batches": (("--queue_size=100",), r"--queue_size must be a multiple of --batch_size=32"),
        "more images in a batch than there are": (
            ("--batch_size=2048", "--queue_size=2048"),
            r"batch_size is 2048: it must lie in \[1, 1400",
        ),
        "a part of the digits held out": (("--val_fraction=0.5",), r"val_fraction is 0\.5: it must be 0"),
        "a rate at the end of no cosine": (
            ("--schedule=step", "--min_lr=0.1"),
            r"--min_lr=0\.1 needs --schedule=cosine or epoch_cosine, got --schedule=step",
        ),
        "a factor of steps where there are none": (
            ("--schedule=cosine", "--step_factor=0.5"),
            r"--step_factor=0\.5 needs --schedule=step, got --schedule=cosine",
        ),
        "a folder for what is in no folder": (
            (f"--data_dir={pathlib.Path(__file__).parent}",),
            r"data_dir is '.*': it must not be given, because the digits come with scikit-learn",
        ),
        "a warm-up of another schedule": (
            ("--schedule=linear", "--warmup_lr=0.1"),
            r"--warmup_lr=0\.1 needs --schedule=cosine, got --schedule=linear",
        ),
        "a warm-up that never ends": (
            ("--schedule=cosine", "--warmup_epochs=5"),
            r"--warmup_epochs must be less than --epochs=1, got 5\.0",
        ),
        "parts that do not divide a batch": (
            ("--accumulate=3",),
            r"--accumulate must divide --batch_size=32, got 3",
        ),
        "workers that nobody names": (
            ("--strategy=multi_worker",),
            r"strategy multi_worker needs the environment variable TF_CONFIG, with the addresses of all workers",
        ),
        "a TPU that is not there": (
            ("--strategy=tpu",),
            r"strategy tpu needs a TPU, here or named by the environment variable TPU_NAME, and 'local' is none",
        ),
        "a stage of no binary network": (
            ("--encoder=resnet_18", "--stage=1"),
            r"`binarization` of resnet_18 must be one of",
        ),
        "a stem of a transformer": (
            ("--encoder=vit_tiny_16", "--width=1", "--stem=cifar", "--image_size=32"),
            r"`stem` of vit_tiny_16 must be 'imagenet'",
        ),
        "images smaller than a patch of a transformer": (
            ("--encoder=vit_tiny_16", "--width=1", "--stem=imagenet", "--image_size=8"),
            r"`?image_size`?.* must be at least 16",
        ),
        "patches that nobody looks at": (
            ("--views=infomin_jigsaw",),
            r"policy is|jigsaw patches, which this command has no use for",
        ),
        "an empty folder of images": (
            ("--dataset=folder", "--data_dir={}/empty"),
            r"data_dir: no image lies in '.*/empty/train'",
        ),
        "a share of nothing": (
            ("--dataset=folder", "--data_dir={}/images", "--val_fraction=0.001"),
            r"val_fraction is 0\.001: of 12 images that leaves a split empty",
        ),
        "more steps than images": (("--steps_per_epoch=1000",), r"--steps_per_epoch must be at most 43"),
        "fewer images than classes of a list": (
            ("--classes_list={}/classes",),
            r"classes_list has 1 of 2 classes that digits",
        ),
        "a recipe of other flags": (("--flagfile={}/odd.flags",), r"Unknown command line flag 'no_such_flag'"),
        "a recipe with a wrong value": (
            ("--flagfile={}/wrong.flags",),
            r"--stage=7: the value must be an integer in the range",
        ),
    },
    "msbreg": {
        "an odd number of views": (
            ("--num_views=3", "--centroid=centroid_to_centroid"),
            r"--num_views must be even with --centroid=centroid_to_centroid, got 3",
        ),
        "more dimensions than rows": (
            ("--embedding_dim=4096", "--lambda_s=1"),
            r"--embedding_dim must be at most \d+, the rows that --batch_size=32 makes",
        ),
    },
    "dino": {
        "local views of a policy without": (
            ("--views=moco_v2", "--local_views=2"),
            r"--local_views=2 has no meaning with the views 'moco_v2', which are all global",
        ),
        "a batch in parts": (("--accumulate=2",), r"--accumulate must be 1 for DINO, .*, got 2"),
        "stochastic depth of a convolutional network": (
            ("--drop_path=0.1", "--image_size=16"),
            r"`drop_path` of resnet_18 must be 0",
        ),
    },
    "swav": {
        "a queue of less than a batch": (
            ("--queue_length=16",),
            r"--queue_length must be 0 or at least --batch_size=32, got 16",
        ),
        "a batch in parts": (("--accumulate=2",), r"--accumulate must be 1 for SwAV, .*, got 2"),
    },
    "simclr": {
        "a momentum without a memory": (("--momentum=0.9",), r"--momentum=0\.9 has no meaning without --memory"),
        "a batch in parts": (("--accumulate=2",), r"--accumulate must be 1 for SimCLR, .*, got 2"),
    },
    "bssl": {
        "a decay that ends and does not begin": (
            ("--stage=1", "--teacher={}/teacher", "--final_weight_decay=0.1"),
            r"--final_weight_decay=0\.1 needs --weight_decay, the first value",
        ),
        "a teacher with its classifier instead of features": (
            ("--stage=1", "--teacher={}/teacher", "--feature_source=logits"),
            r"collapse to a constant",
        ),
        "a binary teacher of the same kind as the student": (
            ("--stage=2", "--teacher={}/teacher", "--stage1={}/teacher"),
            r"--stage=2 starts from a finished stage 1",
        ),
        "a damaged teacher": (("--stage=1", "--teacher={}/damaged"), r"weights\.npz is not a readable file of weights"),
        "a teacher of another description": (("--stage=1", "--teacher={}/other"), r"the hash differs"),
        "a file that is no checkpoint": (("--stage=1", "--teacher={}/classes"), r"classes is no checkpoint of PyTorch"),
    },
    "distill": {
        "a teacher that tells no classes apart": (
            ("--teacher={}/teacher", "--encoder=resnet_18"),
            r"--teacher=.*/teacher tells no classes apart, it only gives features",
        ),
        "a teacher of other classes": (
            ("--teacher={}/classifier", "--encoder=resnet_18"),
            r"--teacher=.*/classifier tells 7 classes apart, the images of digits have 10",
        ),
        "a student of another kind than its teacher": (
            ("--teacher={}/classifier", "--preset=self", "--encoder=resnet_34"),
            r"--preset=self needs the network of the teacher, --encoder=resnet_18",
        ),
        "labels that nobody looks at": (
            ("--teacher={}/classifier", "--encoder=resnet_18", "--alpha=1", "--label_fraction=0.5"),
            r"--label_fraction=0\.5 has no meaning with --alpha=1",
        ),
        "no network of the student": (
            ("--teacher={}/classifier", "--preset=big_to_small"),
            r"--encoder is missing|tells 7 classes",
        ),
    },
    "fine_tune": {
        "a network that ends in classes": (
            ("--encoder_dir={}/ends", "--dataset=digits"),
            r"The encoder in .*/ends ends in a classifier",
        ),
        "another width than the network's": (
            ("--encoder_dir={}/teacher", "--dataset=digits", "--width=0.5"),
            r"--width=0\.5 contradicts the network in .*/teacher, which has 0\.125",
        ),
        "layers of a head that is not there": (
            ("--encoder_dir={}/teacher", "--dataset=digits", "--head_layer=2"),
            r"--head_layer=2, but the run of .* has no projection head",
        ),
        "two choices of labels": (
            (
                "--encoder_dir={}/teacher",
                "--dataset=digits",
                "--label_fraction=0.5",
                "--labels_per_class=3",
                "--head_layer=0",
            ),
            r"--label_fraction=0\.5 and --labels_per_class=3 contradict each other",
        ),
    },
    "benchmark": {
        "a file for a folder": (
            (
                "--what=encode",
                "--out={}/there.npz/table",
            ),
            r"--out=.* cannot be made: .*there\.npz is a file",
        ),
        "a float network on a device": (
            ("--what=device", "--binarization=none"),
            r"--what=device measures --binarization=full|Larq Compute Engine",
        ),
        "an export that is none": (
            ("--what=device", "--export={}/teacher"),
            r"--export must be a folder that .* wrote",
        ),
    },
    "cost": {
        "a file for a folder": (("--out={}/there.npz/table",), r"--out=.* cannot be made: .*there\.npz is a file"),
        "a network in a form that it has not": (
            ("--encoder=resnet_18", "--binarization=full"),
            r"`binarization` of resnet_18 must be one of",
        ),
    },
    "study": {
        "a file for a folder": (("--out={}/there.npz/study",), r"--out=.* cannot be made: .*there\.npz is a file"),
        "a study without recipes": (
            ("--recipes=no_such",),
            r"--methods=bssl has no --arms=stage1 with --recipes=no_such",
        ),
        "all methods of no recipes": (
            ("--recipes=no_such", "--methods=all"),
            r"--recipes=no_such has no recipe for --arms=stage1,stage2",
        ),
        "an unknown arm": (("--arms=stage3",), r"--arms must be some of .*, got stage3"),
        "an unknown method": (("--methods=mocco",), r"--methods must be some of .*, got mocco"),
    },
    "simclrv2": {
        "a file for a folder": (("--out={}/there.npz/study",), r"--out=.* cannot be made: .*there\.npz is a file"),
        "a study without recipes": (("--recipes=no_such",), r"--recipe must be in a folder that is one of"),
        "an unknown student": (("--binary=stage3",), r"--binary must be some of .*, got stage3"),
    },
    "endurance": {
        "a file that is there": (("--out={}/measured",), r"measured\.json exists already; choose another name"),
        "no methods": (("--methods=", "--out={}/new"), r"--methods must name a command, such as"),
        "other images": (
            ("--methods=dino/photos", "--out={}/new"),
            r"or have /photographs behind them, got dino/photos",
        ),
    },
    "grid": {
        "a file for a folder": (
            (
                "--vary=lr=1,2",
                "--train=moco",
                "--out={}/there.npz/grid",
            ),
            r"--out=.* cannot be made: .*there\.npz is a file",
        ),
        "no folder": ((), r"--out is missing"),
        "nothing varied": (("--out={}/grid",), r"--vary must be given once or twice, got 0"),
        "no values": (("--out={}/grid", "--vary=lr"), r"--vary must be a flag and its values, .*; got 'lr'"),
        "no command": (("--out={}/grid", "--vary=lr=1,2"), r"--train must be a command and its flags"),
        "a flag that the grid sets": (
            ("--out={}/grid", "--vary=lr=1,2", "--train=moco --lr=3"),
            r"--train must not give --lr, which the grid sets",
        ),
    },
    "encode": {
        "a file for a folder": (
            (
                "--images={}/images",
                "--out={}/there.npz/new.npz",
            ),
            r"--out=.* cannot be made: .*there\.npz is a file",
        ),
        "no file": (("--images={}/images",), r"--out must be a file that ends in \.npz, got None"),
        "a file that is there": (("--images={}/images", "--out={}/there.npz"), r"--out=.*there\.npz exists already"),
        "no images": (("--out={}/new.npz",), r"--images is missing"),
        "a pattern of nothing": (("--images={}/nowhere/*.png", "--out={}/new.npz"), r"nowhere/\*\.png"),
        "no encoder": (("--images={}/images", "--out={}/new.npz"), r"Give either --run"),
        "a folder that is no run": (
            ("--images={}/images", "--out={}/new.npz", "--run={}/images"),
            r"--run=.*/images is not a finished run",
        ),
    },
    "import_torch": {
        "no file": ((), r"--checkpoint is missing"),
        "an empty name": (("--checkpoint=", "--out={}/imported"), r"--checkpoint is missing"),
        "a file that is not there": (("--checkpoint=nowhere.pth", "--out={}/imported"), r"nowhere\.pth"),
        "a file that is no checkpoint": (
            ("--checkpoint={}/classes", "--out={}/imported"),
            r"is no checkpoint of PyTorch",
        ),
    },
    "export": {
        "no folder": (("--encoder_dir={}/teacher", *DIGITS), r"--out is missing"),
        "a folder that is there": (
            ("--encoder_dir={}/teacher", *DIGITS, "--out={}/images"),
            r"--out=.*/images exists already",
        ),
        "a float network": (("--encoder_dir={}/teacher", *DIGITS, "--out={}/exported"), r"--allow_float"),
        "the pixels": (
            ("--encoder_dir={}/teacher", *DIGITS, "--out={}/exported", "--raw_pixels"),
            r"--raw_pixels is no network",
        ),
    },
    "edge_demo": {
        "a file for a folder": (("--out={}/there.npz",), r"--out=.* cannot be made: .*there\.npz is a file"),
    },
    "report": {
        "no folder": ((), r"--out is missing"),
    },
    "knn": {
        "two baselines": (
            ("--encoder_dir={}/teacher", *DIGITS, "--random", "--raw_pixels"),
            r"--random and --raw_pixels are two",
        ),
        "one of several encoders where there is one": (
            ("--encoder_dir={}/teacher", *DIGITS, "--which=ema"),
            r"--which=ema has no meaning with --encoder_dir",
        ),
        "a damaged encoder": (("--encoder_dir={}/damaged", *DIGITS), r"weights\.npz is not a readable file of weights"),
        "more neighbours than images": (
            ("--encoder_dir={}/teacher", *DIGITS, "--k=20", "--k=5000"),
            r"--k=5000 must be at most 1400",
        ),
    },
    "robustness": {
        "a preset for small images": (
            ("--encoder_dir={}/teacher", "--dataset=digits", "--image_size=128", "--preset=cifar_c"),
            r"`preset` 'cifar_c' is for images of \d+ to \d+ pixels, these have 128",
        ),
    },
    "svm": {
        "draws of all images": (
            ("--encoder_dir={}/teacher", *DIGITS, "--samples=3"),
            r"--k and --samples go with --low_shot alone",
        ),
    },
}
"""By command: what is wrong, with its words and what is told of them."""

TRAINING = ("moco", "msbreg", "dino", "swav", "simclr", "bssl", "distill", "fine_tune")
NETWORK = {"dino": ("--encoder=resnet_18",), "swav": ("--encoder=resnet_18",), "msbreg": ("--encoder=resnet_18",)}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("combinations")
    teacher = models.build("resnet_18", None, "none", "cifar", 0.125)
    for name in ("teacher", "damaged", "other", "run/encoders/student"):
        save_encoder(teacher, folder / name)
    weights = folder / "damaged" / "weights.npz"
    weights.write_bytes(weights.read_bytes()[:1000])
    description = folder / "other" / "encoder.json"
    description.write_text(description.read_text().replace('"imagenet"', '"unit"'))
    save_encoder(models.build("resnet_18", None, "none", "cifar", 0.125, classes=10), folder / "ends")
    save_encoder(teacher, folder / "classifier" / "encoders" / "student")
    save_head(linear_classifier("classifier", teacher.feature_dim, 7), folder / "classifier" / "heads" / "classifier")
    (folder / "classifier" / "flags.txt").write_text("--dataset=digits\n")
    (folder / "classifier" / "results.json").write_text(json.dumps({"encoders": {"student": "0"}}))
    (folder / "classifier" / "inputs.json").write_text("{}")
    (folder / "empty" / "train").mkdir(parents=True)
    for number in range(12):
        place = folder / "images" / "train" / f"{number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((16, 16, 3), number, np.uint8)).save(place / f"{number}.png")
    (folder / "classes").write_text("1\ncat\n")
    (folder / "odd.flags").write_text("--no_such_flag=3\n")
    (folder / "wrong.flags").write_text("--stage=7\n")
    (folder / "there.npz").write_text("")
    (folder / "measured.json").write_text("{}")
    return folder


@pytest.mark.parametrize("command", CASES)
def test_what_does_not_go_together_is_told_before_training(command, places, commands, tmp_path):
    lines = []
    for number, (words, _) in enumerate(CASES[command].values()):
        shared = [f"--workdir={tmp_path}/{number}", *TINY, *NETWORK.get(command, ())] if command in TRAINING else []
        if command == "fine_tune":
            shared.remove("--width=0.125")
        lines.append([word.replace("{}", str(places)) for word in (*shared, *words)])
    done = commands.python(f"import walking; walking.walk_up_to_training({command!r}, {lines!r})")
    assert done.code == 0, done.err
    wrong = []
    for (name, (_, sentence)), end in zip(
        CASES[command].items(), json.loads(done.out.splitlines()[-1])["ends"], strict=True
    ):
        told = [line for line in end["err"].splitlines() if line.startswith("error: ")]
        fine = end["code"] in (1, 2) and len(told) == 1 and re.search(sentence, told[0])
        if not fine or "Traceback" in end["err"]:
            wrong.append((name, end["code"], end["err"][-1500:]))
    assert wrong == []
    assert not [path for path in tmp_path.rglob("*") if path.name != ".lock"]

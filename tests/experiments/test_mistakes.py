"""What a user can get wrong ends with one sentence before anything is trained, and leaves no trace that hinders."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from larq_ssl import models
from larq_ssl.heads import mlp_head
from larq_ssl.models.folder import save_encoder, save_head

TINY = ("--epochs=1", "--steps_per_epoch=2", "--batch_size=32", "--width=0.125", "--image_size=8")
MOCO = ("moco", "--queue_size=32", *TINY)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A teacher, a run that is no stage 1, an unfinished run, unlabelled and labelled images, broken images."""
    folder = tmp_path_factory.mktemp("mistakes")
    save_encoder(models.build("resnet_18", None, "none", "cifar", 0.125), folder / "teacher")
    save_encoder(models.build("resnet_18", None, "none", "cifar", 0.125), folder / "float" / "encoders" / "student")
    head = mlp_head("student_head", 64, [8], 5, norm="none")
    save_head(head, folder / "float" / "heads" / "student_head")
    for name, files in {
        "float": {"flags.txt": "--dataset=digits\n", "results.json": json.dumps({"encoders": {"student": "0"}})},
        "unfinished": {"flags.txt": "--dataset=digits\n--stage=1\n"},
        "probe": {"results.json": "{}"},
        "foreign": {"thesis.tex": ""},
    }.items():
        (folder / name).mkdir(exist_ok=True)
        for file, text in files.items():
            (folder / name / file).write_text(text)
    rng = np.random.default_rng(0)
    for name in ("labelled/train/cat", "labelled/train/dog", "flat/train", "broken/train"):
        (folder / name).mkdir(parents=True)
        for number in range(40):
            picture = rng.integers(0, 255, (70, 70, 3), np.uint8)
            Image.fromarray(picture).save(folder / name / f"{number}.png")
    for number in range(8):
        (folder / "broken" / "train" / f"{number}.png").write_bytes(b"not a picture")
    (folder / "file").write_text("")
    return folder


def bssl(*arguments):
    return ("bssl", "--teacher={}/teacher", "--hidden_dim=16", "--classes=16", *TINY, *arguments)


def s2bnn(*arguments):
    return ("s2bnn", *TINY, *arguments)


CASES = {
    # Typed wrongly.
    "a flag that does not exist": ((*MOCO, "--epoch=3"), 1, "Unknown command line flag 'epoch'"),
    "a value out of range": ((*MOCO, "--stage=3"), 1, "--stage=3"),
    "no number": ((*MOCO, "--lr=fast"), 1, "--lr=fast"),
    "a word that is no flag": ((*MOCO, "lr=3"), 2, "'lr=3' is not a flag: flags are written --name=value"),
    "a value after a switch": (bssl("--one_stage", "false"), 2, "'false' is not a flag"),
    "unknown recipe": (("moco", "--recipe=digits/mocco"), 2, "--recipe must be one of"),
    "a flagfile that is not there": (("moco", "--flagfile=nowhere"), 2, "nowhere"),
    # Stages.
    "bfloat16 where kernels are real": (
        bssl("--stage=1", "--binary_compute=bfloat16"),
        2,
        "--binary_compute=bfloat16 is for networks with binary inputs and kernels (--stage=2, --one_stage) and "
        "--precision=float32, not for --binarization=activations and --precision=float32",
    ),
    "no stage": (bssl(), 2, "--stage=1, --stage=2 or --one_stage"),
    "stage 1 in one stage": (bssl("--stage=1", "--one_stage"), 2, "which --stage=1 contradicts"),
    "one stage after stage 1": (bssl("--one_stage", "--stage1=x"), 2, "--one_stage starts from scratch"),
    "stage 1 after stage 1": (bssl("--stage=1", "--stage1=x"), 2, "--stage=1 contradicts --stage1=x"),
    "stage 1 all binary": (bssl("--stage=1", "--binarization=full"), 2, "--binarization=full contradicts the stage"),
    "stage 2 in float": (bssl("--stage=2", "--binarization=none"), 2, "--binarization=none contradicts the stage"),
    "stage 2 without stage 1": (bssl("--stage=2"), 2, "does not exist: run --stage=1 first"),
    "stage 2 after half a stage 1": (bssl("--stage=2", "--stage1={}/unfinished"), 2, "unfinished is not finished"),
    "stage 2 after a float run": (bssl("--stage=2", "--stage1={}/float"), 2, "is not a run of stage 1"),
    "stage 2 after a probe": (bssl("--stage=2", "--stage1={}/probe"), 2, "is not the folder of a run"),
    "a binary ResNet": ((*MOCO, "--one_stage"), 2, "`binarization` of resnet_18 must be one of ['none']"),
    # Teacher.
    "no teacher": (
        ("bssl", "--stage=1", "--dataset=folder", "--data_dir={}/labelled", "--batch_size=32"),
        2,
        "--teacher is missing",
    ),
    "a teacher that is not there": (bssl("--stage=1", "--teacher=nowhere"), 2, "neither a finished run, nor"),
    "an unfinished teacher": (bssl("--stage=1", "--teacher={}/unfinished"), 2, "neither a finished run, nor"),
    "a collapse": (bssl("--stage=1", "--feature_source=logits"), 2, "collapse to a constant"),
    "a teacher without a head": (
        s2bnn("--stage=1", "--teacher={}/teacher"),
        2,
        "has no projection head, whose embeddings the student is to follow",
    ),
    "no teacher for S2-BNN": (
        ("s2bnn", "--stage=1", "--dataset=folder", "--data_dir={}/labelled", "--batch_size=32"),
        2,
        "--teacher is missing",
    ),
    "embeddings of another width than the teacher's": (
        s2bnn("--stage=1", "--teacher={}/float", "--embedding_dim=4"),
        2,
        "--embedding_dim must be 5, as the outputs of the teacher's head in",
    ),
    # Schemes.
    "no stage of a scheme": (s2bnn("--scheme=guided"), 2, "--stage=1, --stage=2 or --one_stage"),
    "unknown scheme": (s2bnn("--scheme=both", "--stage=1"), 1, "--scheme=both"),
    "a queue without a contrast": (
        s2bnn("--scheme=guided", "--stage=1", "--queue_size=64"),
        2,
        "--queue_size=64 has no meaning with --scheme=guided; leave it out.",
    ),
    "a momentum without a contrast": (s2bnn("--stage=1", "--momentum=0.9"), 2, "--momentum=0.9 has no meaning"),
    "a teacher without guidance": (
        s2bnn("--scheme=contrastive", "--stage=1", "--teacher={}/float"),
        2,
        "float has no meaning with --scheme=contrastive",
    ),
    "a queue that is no whole batches in a scheme": (
        s2bnn("--scheme=contrastive", "--stage=1", "--queue_size=100"),
        2,
        "--queue_size must be a multiple of --batch_size=32",
    ),
    # Data.
    "no such data set": ((*MOCO, "--dataset=cifar11", "--data_dir={}"), 2, "'cifar11'"),
    "no folder": ((*MOCO, "--dataset=folder"), 2, "data_dir"),
    "an empty folder": ((*MOCO, "--dataset=folder", "--data_dir={}/foreign"), 2, "train/"),
    "labels but no val": ((*MOCO, "--dataset=folder", "--data_dir={}/labelled"), 2, "by --knn_every=0"),
    "too large a batch": ((*MOCO, "--batch_size=2048", "--queue_size=2048"), 2, "[1, 1400]"),
    "too many steps": ((*MOCO, "--steps_per_epoch=44"), 2, "--steps_per_epoch must be at most 43"),
    "unknown views": ((*MOCO, "--views=blurry"), 2, "blurry"),
    "broken images": (
        (
            *MOCO,
            "--dataset=folder",
            "--data_dir={}/broken",
            "--steps_per_epoch=1",
            "--knn_every=0",
            "--queue_size=32",
            "--max_bad_images=0.05",
        ),
        2,
        "of 40 images cannot be decoded, more than max_bad_images = 0.05 allows",
    ),
    # Training.
    "unknown encoder": ((*MOCO, "--encoder=resnet_19"), 2, "'resnet_19'"),
    "a queue of no whole batches": (
        (*MOCO, "--queue_size=100"),
        2,
        "--queue_size must be a multiple of --batch_size=32",
    ),
    "a queue as long as the data": ((*MOCO, "--queue_size=1408"), 2, "well below the number of images (1400)"),
    "no teacher for other data": (
        ("bssl", "--stage=1", "--dataset=cifar10", "--data_dir=nowhere"),
        2,
        "python -m larq_ssl.experiments.moco --dataset=cifar10",
    ),
    "a queue of all images": ((*MOCO, "--queue_size=1408"), 2, "--queue_size must be well below the number of images"),
    "MoCo in parts": ((*MOCO, "--accumulate=2"), 2, "accumulate must be 1 for MoCo"),
    "parts that do not fit": (bssl("--stage=1", "--accumulate=3"), 2, "--accumulate must divide --batch_size=32"),
    "BatchNorm groups that do not fit": ((*MOCO, "--batch_norm_groups=3"), 2, "--batch_norm_groups must divide"),
    "warm-up of a constant": ((*MOCO, "--schedule=constant", "--warmup_epochs=1"), 2, "--warmup_epochs must be 0"),
    "half an epoch of warm-up": ((*MOCO, "--schedule=epoch_cosine", "--warmup_epochs=.5"), 2, "must be whole"),
    # Folders.
    "a folder of something else": ((*MOCO, "--workdir={}/foreign"), 2, "holds other files"),
    "fresh in a folder of something else": ((*MOCO, "--workdir={}/foreign", "--fresh"), 2, "holds other files"),
    "a file for a folder": ((*MOCO, "--workdir={}/file"), 2, "file is a file"),
    "a folder that cannot be made": ((*MOCO, "--workdir=/proc/run"), 2, "/proc/run"),
    # Probes.
    "nothing to probe": (("knn",), 2, "Give either --run=<run folder> or --encoder_dir=<encoder folder>"),
    "two things to probe": (("knn", "--run=x", "--encoder_dir=y"), 2, "Give either"),
    "an unfinished run to probe": (("linear", "--run={}/unfinished"), 2, "unfinished is not a finished run"),
    "no encoder to probe": (("knn", "--encoder_dir=nowhere"), 2, "There is no encoder in nowhere"),
    "no momentum encoder": (("knn", "--run={}/float", "--which=ema"), 2, "the run has others: give --which=student"),
    "an encoder without images": (("knn", "--encoder_dir={}/teacher"), 2, "--dataset is missing"),
    "images without labels": (
        ("knn", "--encoder_dir={}/teacher", "--dataset=folder", "--data_dir={}/flat", "--val_fraction=.2"),
        2,
        "no labels",
    ),
    "a joint probe without labels": (
        (
            "simclr",
            *TINY,
            "--batch_size=16",
            "--knn_every=0",
            "--dataset=folder",
            "--data_dir={}/flat",
            "--joint_probe",
        ),
        2,
        "--joint_probe needs labels, which these images do not have",
    ),
    "too many neighbours": (
        ("knn", "--encoder_dir={}/teacher", "--dataset=digits", "--image_size=8", "--k=1401"),
        2,
        "1401",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_told_in_one_sentence(case, places, commands, tmp_path):
    (command, *arguments), code, sentence = CASES[case]
    arguments = [argument.replace("{}", str(places)) for argument in arguments]
    if command in ("moco", "bssl", "s2bnn", "simclr") and not any("--workdir" in argument for argument in arguments):
        arguments.append(f"--workdir={tmp_path}/run")
    done = commands.run(command, *arguments)
    assert done.code == code, done
    assert sentence in done.err
    assert "Traceback" not in done.err
    if code == 2:
        # A thread that reads ahead may still log a warning of its own.
        told = [line for line in done.err.splitlines() if not re.match(r"W\d{4} ", line)]
        assert [line for line in told if line.startswith("error: ")] == told[-1:]
    if (tmp_path / "run").exists():
        # So that the right command begins a run here.
        assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]
    assert [path.name for path in (places / "foreign").iterdir()] == ["thesis.tex"]


def test_a_batch_is_the_same_size_on_every_replica(commands):
    code = """
import tensorflow as tf
from absl import flags
from larq_ssl import distribute
from larq_ssl.experiments import moco, training

flags.FLAGS(["moco", "--batch_size=33", "--strategy=mirrored"])
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
distribute.strategy = lambda name: two
try:
    training.set_up()
except ValueError as error:
    print(error)
flags.FLAGS.batch_size = 34
assert training.set_up().strategy is two
"""
    done = commands.python(code)
    assert done.code == 0, done.err
    assert done.out.splitlines()[-1] == (
        "--batch_size must be a multiple of 2, the number of replicas (--strategy=mirrored), got 33."
    )


@pytest.mark.parametrize(
    "command",
    [
        *("moco", "bssl", "s2bnn", "simclr", "byol", "msbreg", "supervised", "fine_tune", "distill"),
        *("knn", "linear", "views"),
    ],
)
def test_help_lists_the_flags_of_a_command(command, commands):
    shown = commands.run(command, "--help").out
    for flag in ("--dataset", "--seed", "--image_size"):
        assert f"\n  {flag}:" in shown

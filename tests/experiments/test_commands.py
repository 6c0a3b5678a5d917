"""The main job, from digits to a measured binary encoder, by the commands that a user types; a few steps each."""

import json
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.compat.proto import event_pb2

from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.models.folder import encoder_hash, load_encoder
from tests.experiments.commands import SHORT, Done

TINY = ("--epochs=2", "--steps_per_epoch=4", "--batch_size=32", "--width=0.125", "--knn_every=2")
HEADS = ("--hidden_dim=16", "--classes=16")
STAGE_2 = ("bssl", "--stage=2", "--workdir=bssl/stage2", *HEADS, *TINY)
DIAGNOSED = {"gradient_norm", "saturated", "dead_channels", "beyond_clip"}
TERMS = {"loss", "kl", "feature", "lambda", "embedding_std", "target_entropy", "class_usage"}


class Runs:
    """What the commands of the main job said, and the folders they left behind."""

    def __init__(self, commands):
        self.commands = commands
        self.said: dict[str, Done] = {}
        self.run("teacher", "moco", "--workdir=teacher", "--queue_size=64", *TINY)
        self.run("stage1", "bssl", "--stage=1", "--teacher=teacher", "--workdir=bssl/stage1", *HEADS, *TINY)
        self.run("stage2", *STAGE_2)

    def run(self, name: str, *command: str) -> None:
        done = self.commands.run(*command)
        assert done.code == 0, done.err
        assert "Traceback" not in done.err
        self.said[name] = done

    def folder(self, name: str) -> RunFolder:
        return RunFolder(self.commands.folder / ("teacher" if name == "teacher" else f"bssl/{name}"))


@pytest.fixture(scope="module")
def runs(commands) -> Runs:
    return Runs(commands)


def rows(run: RunFolder) -> list[dict]:
    return [json.loads(line) for line in run.metrics_file.read_text().splitlines()]


def weights(file: pathlib.Path) -> dict[str, np.ndarray]:
    with np.load(file) as arrays:
        return dict(arrays)


HELD = {
    "teacher": {"encoders/student", "encoders/ema", "heads/student_head", "heads/momentum_head"},
    "stage1": {"encoders/student", "heads/teacher_head", "heads/student_head", "heads/projector"},
    "stage2": {"encoders/student", "heads/teacher_head", "heads/student_head", "heads/projector"},
}


@pytest.mark.parametrize("name", HELD)
def test_a_run_folder_holds_what_the_design_promises(runs, name):
    folder = runs.folder(name).path
    files = {
        *("flags.txt", "environment.json", "inputs.json", "metrics.jsonl", "results.json", "LICENSES.md"),
        *("summary.txt", "views.png", "curves.png", "progress.json"),
        # A float network has no binary layers to be diagnosed.
        *(() if name == "teacher" else ("diagnostics.jsonl", "diagnostics.png")),
    }
    assert {path.name for path in folder.iterdir()} == files | {
        *(".lock", "checkpoints", "tensorboard", "encoders", "heads"),
        *(["memories"] if name == "teacher" else []),
    }
    assert [path.name for path in folder.glob("memories/*")] == (["queue.npz"] if name == "teacher" else [])
    assert all((folder / file).stat().st_size > 0 for file in files)
    assert {f"{path.parent.name}/{path.name}" for path in folder.glob("[eh]*s/*")} == HELD[name]
    assert all((folder / head / "weights.npz").is_file() for head in HELD[name])
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step-000000008"]
    assert not [path for path in folder.rglob("*.tmp")]


@pytest.mark.parametrize("name", HELD)
def test_the_result_names_what_was_reached_and_made(runs, name):
    run = runs.folder(name)
    result = run.results()
    assert (result["epochs"], result["steps"]) == (2, 8)
    last = rows(run)[-1]
    assert result["metrics"] == {key: value for key, value in last.items() if key not in ("epoch", "step")}
    for encoder, digest in result["encoders"].items():
        assert encoder_hash(load_encoder(run.encoder(encoder))) == digest
    assert f"finished after 2 epochs; kNN {result['metrics']['knn']:.1%}" in runs.said[name].out


def test_flags_are_those_of_recipe_and_command_line(runs):
    told = runs.folder("stage1").flags()
    assert told["recipe"] == "digits/bssl_stage1"
    assert (told["epochs"], told["classes"], told["teacher"]) == ("2", "16", "teacher")
    assert (told["stage"], told["encoder"], told["image_size"]) == ("1", "reactnet_18", "16")
    assert "fresh" not in told
    assert "stage1" not in told


def test_the_stages_have_their_binarization_and_the_teacher_is_float(runs):
    binarizations = [load_encoder(runs.folder(name).encoder("student")).spec.binarization for name in HELD]
    assert binarizations == ["none", "activations", "full"]


def test_stage_2_finds_stage_1_by_itself_and_starts_with_all_its_kernels(runs):
    said = runs.said["stage2"].out
    stage1 = runs.folder("stage1")
    tensors = len(weights(stage1.encoder("student") / "weights.npz"))
    assert f"student starts from bssl/stage1/encoders/student: 16 of 16 binary kernels, {tensors} of {tensors}" in said
    for head in ("projector", "teacher_head", "student_head"):
        tensors = len(weights(stage1.head(head)))
        assert f"{head} starts from {stage1.head(head).relative_to(runs.commands.folder)}: {tensors} of" in said
    assert runs.folder("stage2").inputs()["stage 1"] == stage1.results()["encoders"]["student"]


def test_both_stages_learn_from_the_same_unchanged_teacher(runs):
    teacher = load_encoder(runs.folder("teacher").encoder("student"))
    for name in ("stage1", "stage2"):
        assert runs.folder(name).inputs()["teacher"] == encoder_hash(teacher)


@pytest.mark.parametrize("name", HELD)
def test_the_run_says_what_it_trains_and_what_it_costs(runs, name):
    said = runs.said[name].out
    assert re.search(r"a new run; global batch \d+; student, ", said)
    assert " learn with " in said
    assert "MACs" in said
    assert "KiB" in said


def test_the_frozen_networks_are_named(runs):
    assert "; not optimised: teacher." in runs.said["stage1"].out
    assert "; not optimised: momentum_encoder, momentum_head." in runs.said["teacher"].out


def test_a_log_has_a_line_per_epoch_with_the_terms_and_the_online_knn(runs):
    lines = [line for line in runs.said["stage2"].out.splitlines() if line.startswith("4/4 - ")]
    assert len(lines) == 2
    for term in ("loss: ", "kl: ", "feature: ", "embedding_std: "):
        assert all(term in line for line in lines)
    assert ["knn: " in line for line in lines] == [False, True]
    assert "sign_flips" not in lines[1]


@pytest.mark.parametrize("name", HELD)
def test_the_licences_of_images_and_teacher_are_recorded(runs, name):
    text = runs.folder(name).licences_file.read_text()
    assert "Images: digits, Optical Recognition of Handwritten Digits" in text
    assert ("Teacher: teacher/encoders/student. Made of: Images: digits" in text) == (name != "teacher")


def events(run: RunFolder) -> list[event_pb2.Event]:
    files = sorted(run.tensorboard.rglob("events.*"))
    return [
        event_pb2.Event.FromString(record.numpy()) for file in files for record in tf.data.TFRecordDataset(str(file))
    ]


@pytest.mark.parametrize("name", HELD)
def test_tensorboard_shows_all_that_is_logged(runs, name):
    run = runs.folder(name)
    scalars: dict[str, dict[int, float]] = {}
    others: dict[str, tuple] = {}
    for event in events(run):
        for value in event.summary.value:
            array = tf.make_ndarray(value.tensor)
            if value.metadata.plugin_data.plugin_name == "scalars":
                scalars.setdefault(value.tag, {})[event.step] = float(array)
            else:
                others[value.tag] = (value.metadata.plugin_data.plugin_name, array)
    layers = [] if name == "teacher" else load_encoder(run.encoder("student")).binary_layers
    of_layers = {tag for tag in scalars if tag.startswith("diagnostics/") and tag.count("/") > 1}
    # Float kernels have no clip to be beyond, but move.
    measures = DIAGNOSED - {"beyond_clip"} | {"weight_change"} if name == "stage1" else DIAGNOSED
    assert of_layers == {f"diagnostics/{measure}/{layer.name}" for measure in measures for layer in layers}
    assert all(set(scalars.pop(tag)) == {1, 2} for tag in of_layers)
    logged = {key: [(row["epoch"], row[key]) for row in rows(run) if key in row] for key in rows(run)[-1]}
    assert set(scalars) == set(logged) - {"epoch", "step"}
    for tag, points in scalars.items():
        assert sorted(points.items()) == [(epoch, pytest.approx(value, rel=1e-6)) for epoch, value in logged[tag]], tag

    wanted = {"loss", "embedding_std", "learning_rate", "images_per_second", "knn", "embedding_rank"}
    wanted |= {"alignment", "uniformity", "projection_rank", "projection_alignment", "projection_uniformity"}
    groups = ["feature_extractor", "head" if name == "teacher" else "classifier"]
    wanted |= {f"gradient_norm/{group}" for group in groups}
    wanted |= {"accuracy"} if name == "teacher" else {*TERMS, "gradient_norm/teacher_classifier"}
    if name != "teacher":
        wanted |= {f"diagnostics/{measure}" for measure in measures}
    if name == "stage2":
        wanted |= {"sign_flips", *(f"sign_flips/{layer.name}" for layer in layers)}
        assert len(layers) == 16
    assert set(scalars) == wanted

    plugin, images = others["views"]
    assert plugin == "images"
    width, height = (int(side) for side in images[:2])
    assert (width, height) == (2 * 16, 8 * 16)
    picture = tf.io.decode_png(images[2]).numpy()
    views = picture.reshape(8, 16, 2, 16, 3).swapaxes(1, 2)
    assert (views[:, 0] != views[:, 1]).any(axis=(1, 2, 3)).all()
    plugin, (text,) = others["summary"][0], others["summary"][1].reshape(-1)
    assert plugin == "text"
    assert run.path.joinpath("summary.txt").read_text() in text.decode()


def test_the_binary_layers_are_diagnosed(runs):
    of_stage = {name: runs.folder(name).path / "diagnostics.jsonl" for name in ("stage1", "stage2")}
    found = {name: [json.loads(line) for line in file.read_text().splitlines()] for name, file in of_stage.items()}
    assert [row["epoch"] for row in found["stage1"]] == [1, 2]
    assert [row["epoch"] for row in found["stage2"]] == [0, 1, 2]
    assert set(found["stage2"][2]) == {"epoch", "step", "latent_weights", "sign_flips", *DIAGNOSED}
    flips = {key.removeprefix("sign_flips/"): value for key, value in rows(runs.folder("stage2"))[-1].items()}
    assert all(flips[layer] == value for layer, value in found["stage2"][2]["sign_flips"].items())
    for name in of_stage:
        assert "Binary layers learn" in runs.said[name].out
        assert "Pictures: curves.png, diagnostics.png, views.png." in runs.said[name].out
    assert "Pictures: curves.png, views.png." in runs.said["teacher"].out


def test_lambda_falls_and_the_learning_rate_with_it(runs):
    first, last = rows(runs.folder("stage2"))
    assert 0.9 > first["lambda"] > last["lambda"] > 0.7
    assert 2e-3 >= first["learning_rate"] > last["learning_rate"] > 0


def test_a_finished_run_shows_its_result_and_trains_nothing(runs):
    folder = runs.folder("stage2").path
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    again = runs.commands.run(*STAGE_2)
    assert again.code == 0
    assert "finished earlier" in again.out
    shown = json.loads(again.out[again.out.index("{") :])
    assert shown == runs.folder("stage2").results()["metrics"]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before


def test_flags_txt_replays_the_run(runs):
    """Replayed in the same folder it is the same run, which is finished."""
    replay = runs.folder("stage2").flags_file.read_text().splitlines()[0].split()
    assert replay[:4] == ["#", "python", "-m", "larq_ssl.experiments.bssl"]
    assert "finished earlier" in runs.commands.run("bssl", *replay[4:]).out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("--lr=0.5", "--lr=0.5 differs from --lr=0.002"),
        ("--classes=17", "--classes=17 differs from --classes=16"),
        ("--seed=1", "--seed=1 differs from --seed=0"),
        ("--accumulate=2", "--accumulate=2 differs from --accumulate=1"),
    ],
)
def test_another_command_in_the_folder_of_a_run_is_refused(runs, change, message):
    done = runs.commands.run(*STAGE_2, change)
    assert done.code == 2
    assert message in done.err
    assert "--fresh" in done.err


def test_operational_flags_may_change(runs):
    assert (
        runs.commands.run(
            *STAGE_2, "--checkpoint_every=7", "--knn_every=1", "--diagnostics_every=0", "--teacher=teacher"
        ).code
        == 0
    )


def test_one_stage_trains_a_binary_network_from_scratch(runs):
    tiny = [flag for flag in TINY if "epochs" not in flag and "knn" not in flag]
    command = ["bssl", "--one_stage", "--teacher=teacher", "--workdir=bssl/one_stage", *HEADS, *tiny, *SHORT]
    done = runs.commands.run(*command, "--epochs=1", "--knn_every=0", "--diagnostics_every=0")
    assert done.code == 0, done.err
    assert "starts from" not in done.out
    run = runs.folder("one_stage")
    assert run.flags()["recipe"] == "digits/bssl_one_stage"
    assert "stage 1" not in run.inputs()
    assert load_encoder(run.encoder("student")).spec.binarization == "full"
    assert not {"knn", "diagnostics/saturated"} & set(run.results()["metrics"])
    assert not list(run.path.glob("diagnostics.*"))


def test_knn_in_a_process_of_its_own_measures_and_remembers(runs):
    command = [sys.executable, "-m", "larq_ssl.experiments.knn", "--run=bssl/stage2"]
    done = subprocess.run(command, cwd=runs.commands.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    results = json.loads((runs.folder("stage2").probe("knn-dino-digits") / "results.json").read_text())
    wanted = {f"knn/dino/digits/{k}/{metric}" for k in (10, 20, 100, 200) for metric in ("top1", "top5")}
    assert set(results["metrics"]) == wanted
    # The online kNN of the last epoch is the same measurement.
    assert results["metrics"]["knn/dino/digits/20/top1"] == runs.folder("stage2").results()["metrics"]["knn"]
    settings = results["settings"]
    assert settings["encoder_hash"] == runs.folder("stage2").results()["encoders"]["student"]
    assert settings["image_size"] == 16
    assert f"knn/dino/digits/20/top1: {results['metrics']['knn/dino/digits/20/top1']:.4f}" in done.stdout

    again = runs.commands.run("knn", "--run=bssl/stage2")
    assert (again.code, again.err) == (0, "")
    assert "measured earlier" in again.out
    other = runs.commands.run("knn", "--run=bssl/stage2", "--temperature=0.5")
    assert other.code == 2
    assert "holds results of other settings" in other.err
    assert "give another --probe_dir" in other.err


@pytest.fixture(scope="module")
def linear(runs):
    """What the linear probe of stage 2 says, and its folder."""
    done = runs.commands.run("linear", "--run=bssl/stage2", "--epochs=2", "--lr=0.1", "--lr=1")
    return done, runs.folder("stage2").probe("linear-bssl-digits")


def test_linear_measures_the_same_encoder(runs, linear):
    done, folder = linear
    assert (done.code, done.err) == (0, "")
    results = json.loads((folder / "results.json").read_text())
    assert all(name.startswith("linear/bssl/digits/") for name in results["metrics"])
    assert {"linear/bssl/digits/last/top1", "linear/bssl/digits/best/top5"} <= set(results["metrics"])
    assert results["settings"]["encoder_hash"] == runs.folder("stage2").results()["encoders"]["student"]
    assert results["settings"]["learning_rates"] == [0.1, 1.0]
    assert (folder / "confusion.png").stat().st_size > 0
    assert "linear/bssl/digits/last/top1: " in done.out


def test_linear_can_choose_on_training_images(runs, linear, tmp_path):
    arguments = (
        f"--encoder_dir={shutil.copytree(runs.folder('stage2').encoder('student'), tmp_path / 'encoder')}",
        "--dataset=digits",
        "--image_size=16",
        "--epochs=2",
        "--lr=0.1",
        "--lr=1",
    )
    done = runs.commands.run("linear", *arguments, "--holdout_per_class=5")
    assert (done.code, done.err) == (0, "")
    results = json.loads((tmp_path / "probes" / "linear-bssl-digits" / "results.json").read_text())
    assert results["settings"]["holdout_per_class"] == 5
    other = json.loads((linear[1] / "results.json").read_text())
    # Fewer images to train on: other classifiers.
    assert results["metrics"] != other["metrics"]
    held_out = {f"linear/bssl/digits/validation/{epoch}/top{top}" for epoch in ("last", "best") for top in (1, 5)}
    assert set(results["metrics"]) - set(other["metrics"]) == held_out
    too_many = runs.commands.run("linear", *arguments, "--holdout_per_class=1000")
    assert too_many.code == 2


def test_the_untrained_baseline_has_a_folder_of_its_own(runs):
    done = runs.commands.run("knn", "--run=bssl/stage2", "--random", "--k=20")
    assert done.code == 0, done.err
    results = json.loads((runs.folder("stage2").probe("knn-dino-digits-random") / "results.json").read_text())
    assert set(results["metrics"]) == {"knn/dino/digits/20/top1", "knn/dino/digits/20/top5"}
    assert results["settings"]["encoder_hash"] != runs.folder("stage2").results()["encoders"]["student"]


def test_raw_pixels_are_a_baseline_without_a_network(runs):
    folder = runs.folder("stage2").probe("knn-dino-digits-raw_pixels")
    done = runs.commands.run("knn", "--run=bssl/stage2", "--raw_pixels", "--k=20")
    assert done.code == 0, done.err
    # Of the digits' pixels it is known how well they do.
    assert json.loads((folder / "results.json").read_text())["metrics"]["knn/dino/digits/20/top1"] > 0.95
    both = runs.commands.run("knn", "--run=bssl/stage2", "--raw_pixels", "--random")
    assert both.code == 2
    assert "--random and --raw_pixels are two baselines" in both.err


def test_the_momentum_encoder_can_be_probed(runs):
    done = runs.commands.run("knn", "--run=teacher", "--which=ema", "--k=20")
    assert done.code == 0, done.err
    results = json.loads((runs.folder("teacher").probe("knn-dino-digits-ema") / "results.json").read_text())
    assert results["settings"]["encoder_hash"] == runs.folder("teacher").results()["encoders"]["ema"]


def test_the_encoder_that_is_probed_is_that_of_the_protocol(runs):
    done = runs.commands.run("linear", "--run=teacher", "--preset=dino", "--epochs=1")
    assert done.code == 0, done.err
    results = json.loads((runs.folder("teacher").probe("linear-dino-digits-ema") / "results.json").read_text())
    assert results["settings"]["encoder_hash"] == runs.folder("teacher").results()["encoders"]["ema"]
    # Of a run without one, another is not taken in its place.
    none = runs.commands.run("linear", "--run=bssl/stage2", "--preset=dino")
    assert none.code == 2
    assert "There is no encoder in" in none.err

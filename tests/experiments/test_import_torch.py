"""The command that makes a finished run of a PyTorch checkpoint, and the commands that take it for one."""

import dataclasses
import hashlib
import json
import os

import numpy as np
import pytest

from larq_ssl.experiments import imported_run
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.models.folder import encoder_hash, load_encoder, load_head
from tests import golden
from tests.torch_import import checkpoints, official, writing
from tests.torch_import.writing import Call


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    queue = {"module.queue": checkpoints.normal(3, 8, 24), "module.queue_ptr": np.array([16])}
    contents = {"epoch": 200, "state_dict": {**checkpoints.moco(), **queue}, "optimizer": {"state": {}}}
    return writing.save(tmp_path_factory.mktemp("torch") / "moco_v2.pth.tar", contents, "legacy")


@pytest.fixture(scope="module")
def done(commands, checkpoint):
    return commands.run("import_torch", f"--checkpoint={checkpoint}", "--out=imported", "--licence=CC BY-NC 4.0")


@pytest.fixture(scope="module")
def run(commands, done):
    return RunFolder(commands.folder / "imported")


def test_the_command_says_what_became_of_the_file(done):
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "MoCo v1 and v2 (--kind=moco), in PyTorch's legacy layout:",
        "  student: resnet_18 of width 0.125, 64 features; 20 of 20 convolutions, 100 of 100 tensors.",
        "  ema: resnet_18 of width 0.125, 64 features; 20 of 20 convolutions, 100 of 100 tensors.",
        "  student_head: 64-64-8, 4 tensors.",
        "  momentum_head: 64-64-8, 4 tensors.",
        "  queue: 24 x 8, pointer at 16.",
        "  Left out, for want of a place: 40 of num_batches_tracked.",
        "  Images: raw pixels, normalised as on ImageNet; exact for image sizes divisible by 32.",
        "imported: finished; give it as --run, --teacher or --stage1.",
    ]


def test_the_folder_is_that_of_a_finished_run(run, checkpoint):
    assert run.finished
    assert run.flags() == run.inputs() == {}
    files = {str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file()}
    assert files == {
        *(f"encoders/{name}/{file}" for name in ("student", "ema") for file in ("encoder.json", "weights.npz")),
        *(f"heads/{name}_head/{file}" for name in ("student", "momentum") for file in ("head.json", "weights.npz")),
        *("memories/queue.npz", "LICENSES.md", "import.json", "results.json"),
    }
    hashes = {name: encoder_hash(load_encoder(run.encoder(name))) for name in ("student", "ema")}
    assert run.results() == {"metrics": {}, "encoders": hashes}
    assert load_head(run.head("student_head").parent).spec.output_dim == 8
    with np.load(run.memory("queue")) as queue:
        assert {name: (queue[name].dtype.name, queue[name].shape) for name in queue.files} == {
            "keys": ("float32", (24, 8)),
            "pointer": ("int64", ()),
        }
    assert run.licences_file.read_text().endswith("\n- Weights: moco_v2.pth.tar. Their licence: CC BY-NC 4.0.\n")
    record = json.loads((run.path / "import.json").read_text())
    assert record["sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert (record["source"], record["kind"], record["layout"]) == ("moco_v2.pth.tar", "moco", "legacy")
    assert record["tensors"]["student"] == 100


@pytest.mark.parametrize("which", ["student", "ema"])
def test_probes_take_it_for_a_run(commands, run, which):
    arguments = ("knn", f"--run={run.path}", f"--which={which}", "--max_train_images=100", "--k=20")
    refused = commands.run(*arguments)
    assert refused.code == 2
    assert "--dataset is missing" in refused.err
    done = commands.run(*arguments, "--dataset=digits", "--image_size=32")
    assert done.code == 0, done.err
    assert "knn/dino/digits/20/top1: " in done.out


@pytest.mark.slow
def test_a_student_learns_from_it(commands, run):
    tiny = ("--epochs=1", "--steps_per_epoch=2", "--batch_size=32", "--width=0.125", "--knn_every=0")
    done = commands.run("bssl", "--stage=1", f"--teacher={run.path}", "--workdir=taught", "--classes=16", *tiny)
    assert done.code == 0, done.err
    taught = RunFolder(commands.folder / "taught")
    assert taught.inputs()["teacher"] == run.results()["encoders"]["student"]
    assert "moco_v2.pth.tar. Their licence: CC BY-NC 4.0." in taught.licences_file.read_text()


@pytest.mark.slow
def test_stage_2_goes_on_from_a_stage_1_of_pytorch(commands, tmp_path, checkpoint):
    """Kernels, head and all; the teacher is a PyTorch file as well."""
    step1 = writing.save(tmp_path / "step1.pth.tar", checkpoints.s2bnn())
    imported_run.convert(step1, tmp_path / "stage1", binarization="activations")
    tiny = ("--epochs=1", "--steps_per_epoch=2", "--batch_size=16", "--image_size=32", "--knn_every=0")
    # Nobody looks at what 31 layers do in two steps.
    tiny += ("--diagnostics_every=0", "--embeddings_every=0")
    network = ("--encoder=reactnet_a", "--width=0.25", "--stem=imagenet", "--embedding_dim=8")
    teacher = f"--teacher={checkpoint}"
    arguments = ("--scheme=guided", "--stage=2", f"--stage1={tmp_path / 'stage1'}", teacher, "--lr=0", "--workdir=two")
    done = commands.run("s2bnn", *arguments, *network, *tiny)
    assert done.code == 0, done.err
    assert f"student starts from {tmp_path / 'stage1'}/encoders/student: 31 of 31 binary kernels" in done.out
    assert f"{checkpoint} is converted into runs/imported/moco_v2, once." in done.out
    stage2 = RunFolder(commands.folder / "two")
    encoder, before = (load_encoder(run.encoder("student")) for run in (stage2, RunFolder(tmp_path / "stage1")))
    assert encoder.spec == dataclasses.replace(before.spec, binarization="full")
    for name, kernel in ((layer.name, layer.get_weights()[0]) for layer in before.binary_layers):
        np.testing.assert_array_equal(encoder.get_layer(name).get_weights()[0], kernel, err_msg=name)
    heads = [load_head(run.head("student_head").parent) for run in (stage2, RunFolder(tmp_path / "stage1"))]
    for one, other in zip(*(head.get_weights() for head in heads), strict=True):
        np.testing.assert_array_equal(one, other)


def test_official_features_from_raw_pixels(tmp_path):
    """All of the way: a file, a folder, an encoder, pictures as they come."""
    arrays = {key: array for key, array in golden.load("n3_networks").items() if key.startswith("resnet18/")}
    file = writing.save(tmp_path / "resnet18.pth", official.state_dict("resnet_18", golden.network_weights("resnet18")))
    lines = imported_run.convert(file, tmp_path / "features")
    assert any("Left out, for want of a place: 20 of num_batches_tracked, 2 of classifier." in line for line in lines)
    assert "licence of the weights is recorded as unknown" in lines[-1]
    licences = (tmp_path / "features" / "LICENSES.md").read_text()
    assert "resnet18.pth. Their licence: not known here: ask where the file comes from." in licences
    pixels = arrays["resnet18/x"] * np.float32([58.395, 57.12, 57.375]) + np.float32([123.675, 116.28, 103.53])
    encoder = load_encoder(RunFolder(tmp_path / "features").encoder("student"))
    np.testing.assert_allclose(encoder(pixels), arrays["resnet18/eval/features"], rtol=0, atol=1e-3)


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("all of it")
    with pytest.raises(ValueError, match="exists already"):
        imported_run.convert(tmp_path / "not looked at", tmp_path / "out")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "thesis.tex"]


def test_an_import_that_is_stopped_leaves_nothing(checkpoint, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(imported_run, "save_head", stop)
    with pytest.raises(KeyboardInterrupt):
        imported_run.convert(checkpoint, tmp_path / "out")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--out={}/out"], "--checkpoint is missing"),
        (["--checkpoint={}/cut.pth"], "--out is missing"),
        (["--checkpoint={}/none.pth", "--out={}/out"], "There is no file"),
        (["--checkpoint={}/cut.pth", "--out={}/out"], "cut.pth is damaged or cut short"),
        (["--checkpoint={}/evil.pth", "--out={}/out"], "evil.pth names 'os.system'"),
        (["--checkpoint={}/moco.pth", "--out={}/out", "--kind=swav"], "are not named as in a swav checkpoint"),
        (["--checkpoint={}/moco.pth", "--out={}/out", "--binarization=full"], "must be one of ['none']"),
        (["--checkpoint={}/moco.pth", "--out={}/out", "--classifier"], "no classifier to keep"),
        (["--checkpoint={}/moco.pth", "--out={}"], "exists already"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(arguments, sentence, commands, checkpoint, tmp_path):
    (tmp_path / "cut.pth").write_bytes(writing.zip_bytes({"state_dict": {}})[:-30])
    (tmp_path / "evil.pth").write_bytes(writing.zip_bytes(Call("os.system", ("touch ran",))))
    (tmp_path / "moco.pth").write_bytes(checkpoint.read_bytes())
    done = commands.run("import_torch", *(argument.replace("{}", str(tmp_path)) for argument in arguments))
    assert done.code == 2, done
    assert sentence in done.err
    assert [line for line in done.err.splitlines() if line.startswith("error: ")] == done.err.splitlines()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.pth", "evil.pth", "moco.pth"]

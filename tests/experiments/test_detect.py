"""The command of detection: what it refuses, that it goes on where it was killed, and what it leaves behind."""

import importlib.util
import json
import re
import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import models
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.models.folder import load_encoder, save_encoder
from larq_ssl.models.transfer import named_weights
from tests.detection import scenes
from tests.experiments.commands import ROOT
from tests.experiments.test_workers import MIRRORED

TINY = (
    *(
        "--image_height=48",
        "--image_width=64",
        "--min_level=3",
        "--max_level=5",
        "--anchor_size=2",
        "--filters=8",
    ),
    *("--batch_size=2", "--pictures=2"),
    *("--steps=6", "--steps_per_epoch=3", "--checkpoint_every=2", "--optimizer=adam", "--lr=1e-3", "--warmup_steps=1"),
)
REGIONS = ("--head_dense=1", "--head_units=16", "--proposals=16", "--samples=8", "--anchor_samples=32")


@pytest.fixture(scope="module")
def places(commands, tmp_path_factory):
    """A binary encoder, one for small images, and images in both formats."""
    folder = tmp_path_factory.mktemp("detect")
    tf.keras.utils.set_random_seed(99)  # that of no command: fresh weights are to be others
    for name, mode, stem in (
        ("encoder", "full", "imagenet"),
        ("cifar", "full", "cifar"),
        ("float", "none", "imagenet"),
    ):
        save_encoder(models.build("reactnet_stages", None, mode, stem, 0.125), folder / name)
    scenes.voc_folder(folder / "voc")
    scenes.coco_folder(folder / "coco")
    return folder


def arguments(places, *words):
    shared = [f"--encoder_dir={places}/encoder", f"--data_dir={places}/voc", *TINY]
    return [*shared, *(() if "--task=retinanet" in words else REGIONS), *words]


def detect(commands, places, *words, kill=None):
    return commands.run("detect", *arguments(places, *words), kill=kill)


def test_without_the_extra_it_is_told_what_to_install(commands, places):
    words = ["detect", *arguments(places)]
    done = commands.python(
        f"""
import runpy, sys
sys.modules["official"] = sys.modules["pycocotools"] = None
sys.argv = {words!r}
runpy.run_module("larq_ssl.experiments.detect", run_name="__main__", alter_sys=True)
"""
    )
    assert done.code == 2
    told = done.err.splitlines()[-1]
    assert told.startswith("error: Detection needs the TensorFlow Model Garden and pycocotools: install them with")
    assert "`make detection`" in told
    assert "larq_ssl[detection]" in told
    assert "Traceback" not in done.err
    assert not list(places.glob("probes/*"))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--run=runs/one",), "Give either --run=<run folder> or --encoder_dir=<encoder folder>"),
        (("--steps_per_epoch=4",), "--steps_per_epoch=4 must divide --steps=6"),
        (("--warmup_steps=6",), "--warmup_steps must be less than --steps=6, got 6"),
        (("--schedule=cosine", "--milestones=2,4"), "--milestones=2,4 needs --schedule=step, got --schedule=cosine"),
        (("--milestones=2,9",), "--milestones must be increasing numbers of steps below --steps=6"),
        (
            ("--task=retinanet", "--proposals=16"),
            "--proposals has no meaning for --task=retinanet, which proposes no regions",
        ),
        (("--task=retinanet", "--head_convs=0"), "head_convs must be at least 1 for retinanet"),
        (("--which=ema",), "--which has no meaning with --encoder_dir, which is one encoder: leave one out"),
        (("--dataset_name=../x",), "--dataset_name must be letters, digits, _, - and dots, the first one no dot"),
        (("--samples=512",), "samples must be at most proposals + 100 = 116, what they are drawn from, got 512"),
        (("--dataset=coco",), "a folder in the format of voc, and dataset is 'coco': give dataset 'voc' if it is that"),
        (("--task=retinanet", "--vertical_flip"), "--vertical_flip has no meaning for --task=retinanet"),
        (("--scale_min=1.5",), "scale_min must be above 0 and at most scale_max, got 1.5, 1.0"),
        (("--max_level=6",), "The coarsest level has a stride of 64 pixels, and images of 48 x 64 are smaller"),
        (("--dataset=coco", "--data_dir=nowhere"), "dataset 'coco/2017' is not prepared in 'nowhere'"),
        (
            ("--encoder_dir={}/float", "--export_backbone"),
            "--export_backbone has nothing to pack: The reactnet_stages is a float network",
        ),
        (("--encoder_dir={}/cifar",), "reactnet_stages has none at stride16 because of stem='cifar'"),
    ],
)
def test_what_does_not_go_together_is_told_in_a_sentence(commands, places, words, sentence):
    done = detect(commands, places, *(word.replace("{}", str(places)) for word in words))
    assert done.code == 2
    told = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(told) == 1
    assert sentence in told[0]
    assert "Traceback" not in done.err
    assert not list(places.glob("probes/*"))


def test_images_that_do_not_fit_are_told(commands, places):
    pytest.importorskip("official", reason="needs the extra detection")
    done = detect(commands, places, "--task=mask_rcnn")
    assert done.code == 2
    assert "--task=mask_rcnn needs an outline of each object, which those of folder have not" in done.err
    hard = places / "hard"
    shutil.copytree(places / "voc", hard)
    for file in hard.rglob("Annotations/*.xml"):
        file.write_text(re.sub("<difficult>0<", "<difficult>1<", file.read_text()))
    done = detect(commands, places, f"--data_dir={hard}")
    assert done.code == 2
    assert "There is nothing to be found in the test images of folder: none has an object that counts" in done.err
    done = detect(commands, places, "--batch_size=8")
    assert done.code == 2
    assert "--batch_size=8 must be at most 7, the images to train on" in done.err
    images = json.loads((places / "coco" / "annotations" / "instances_val2017.json").read_text())
    others = places / "others"
    shutil.copytree(places / "coco", others)
    categories = [{"id": 3, "name": "box"}, {"id": 7, "name": "ball"}]
    (others / "annotations" / "instances_val2017.json").write_text(json.dumps({**images, "categories": categories}))
    done = detect(commands, places, f"--data_dir={others}")
    assert done.code == 2
    assert "The classes to train on and to test on differ: ('box', 'disc'), ('box', 'ball')" in done.err


FROM_STEP = """
import runpy, sys
from larq_ssl.evaluation.detection import batches, detector

made = batches.training_batches

def told(images, settings, augmentation, batch_size, seed, start_step=0):
    print("batches from step", start_step)
    return made(images, settings, augmentation, batch_size, seed, start_step)

class Told(detector.Detector):
    def compile(self, *arguments, **names):
        print("gradients are clipped at", self.gradient_clip)
        super().compile(*arguments, **names)

batches.training_batches = told
detector.Detector = Told
sys.argv = {words!r}
runpy.run_module("larq_ssl.experiments.detect", run_name="__main__", alter_sys=True)
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_with_its_results(commands, places):
    pytest.importorskip("official", reason="needs the extra detection")
    words = ("--dataset_name=shapes", "--freeze_stages=1", "--gradient_clip=7.5", f"--workdir={places}/killed")
    killed = detect(commands, places, *words, kill=(signal.SIGKILL, "save", 4))
    assert killed.code == -signal.SIGKILL, killed.err
    run = RunFolder(places / "killed")
    assert [path.name for path in run.checkpoints.glob("step-*")] == ["step-000000002"]
    other = detect(commands, places, *words, "--lr=0.5")
    assert other.code == 2
    assert "--lr=0.5 differs from --lr=0.001, with which the run in" in other.err
    done = commands.python(FROM_STEP.format(words=["detect", *arguments(places, *words)]))
    assert done.code == 0, done.err
    assert "going on after step 2; 7 images to train on, 4 to test on" in done.out
    assert "batches from step 2" in done.out
    assert "gradients are clipped at 7.5" in done.out
    rows = [json.loads(line) for line in run.metrics_file.read_text().splitlines()]
    assert [(row["epoch"], row["step"]) for row in rows] == [(1, 3), (2, 6)]
    results = json.loads(run.results_file.read_text())
    assert {f"detection/faster_rcnn/shapes/test/{name}" for name in ("ap", "ap50", "ap75", "voc07/ap50")} <= set(
        results["metrics"]
    )
    assert results["settings"]["image_size"] == [48, 64]
    measured = json.loads((run.path / "truth.json").read_text())["images"]
    assert len(measured) == 4
    held = {path.name for path in run.path.iterdir()}
    assert {"detections.png", "errors.png", "errors.json", "truth.json", "detections.json", "tensorboard"} <= held
    # The product is the encoder as the detector has trained it; its frozen stage is the one that it started from.
    before, after = (named_weights(load_encoder(path)) for path in (places / "encoder", run.encoder("student")))
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved
    assert not [name for name in moved if name.startswith(("stem", "stage1"))]
    others = detect(commands, places, *words, f"--data_dir={places}/coco")
    assert others.code == 2
    assert "is not the one with which the run in" in others.err
    assert "test/ap50" not in others.out
    words = (*words, "--export_backbone") if importlib.util.find_spec("larq_compute_engine") else words
    again = detect(commands, places, *words)
    assert (again.code, "finished earlier" in again.out) == (0, True), again.err
    if "--export_backbone" in words:
        audit = json.loads((run.path / "backbone" / "export.json").read_text())["audit"]
        assert audit["packed_layers"] == audit["binary_layers"] == 4
    assert (
        f"detection/faster_rcnn/shapes/test/ap50: {results['metrics']['detection/faster_rcnn/shapes/test/ap50']:.4f}"
        in (again.out)
    )


@pytest.mark.slow
@pytest.mark.parametrize("task", ["mask_rcnn", "retinanet"])
def test_the_other_tasks_train_and_are_measured(commands, places, task):
    pytest.importorskip("official", reason="needs the extra detection")
    init = "random" if task == "mask_rcnn" else "encoder"
    words = (
        f"--init={init}",
        f"--task={task}",
        "--dataset_name=shapes",
        f"--data_dir={places}/coco",
        "--batch_norm=frozen",
    )
    done = detect(commands, places, *words)
    assert done.code == 0, done.err
    folder = places / "probes" / f"detection-{task}-shapes{'-random' * (init == 'random')}"
    results = json.loads((folder / "results.json").read_text())
    assert f"detection/{task}/shapes/test/ap" in results["metrics"]
    assert (f"detection/{task}/shapes/test/mask/ap" in results["metrics"]) == (task == "mask_rcnn")
    assert (folder / "detections.png").is_file()
    # Fresh weights are fresh, and frozen statistics, scales and shifts stay.
    source = load_encoder(places / "encoder")
    assert (results["settings"]["encoder_hash"] == models.encoder_hash(source)) == (init == "encoder")
    if init == "encoder":
        after = named_weights(load_encoder(folder / "encoders" / "student"))
        norms = [layer for layer in source.layers if isinstance(layer, tf.keras.layers.BatchNormalization)]
        fixed = {id(weight) for layer in norms for weight in layer.weights}
        for name, variable in named_weights(source).items():
            same = np.array_equal(variable.numpy(), after[name].numpy())
            assert same == (id(variable) in fixed), name


@pytest.mark.slow
@pytest.mark.parametrize("split", ["trainval", "test"])
def test_an_image_that_cannot_be_read_is_named(commands, places, tmp_path, split):
    """Where it is needed: in training, or when all is trained, which is kept."""
    pytest.importorskip("official", reason="needs the extra detection")
    root = tmp_path / "voc"
    shutil.copytree(places / "voc", root)
    names = next(root.rglob(f"ImageSets/Main/{split}.txt")).read_text().split()
    for name in names:
        file = next(root.rglob(f"JPEGImages/{name}.jpg"))
        file.write_bytes(file.read_bytes()[:100])
    done = detect(commands, places, f"--data_dir={root}", "--steps=3", f"--workdir={tmp_path}/run")
    assert done.code == 1, done.err
    (line,) = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert ".jpg cannot be read: its boxes need it (" in line
    assert "Traceback" not in done.err


@pytest.mark.slow
def test_a_detector_trains_on_two_devices(commands, places):
    """With the statistics of both."""
    pytest.importorskip("official", reason="needs the extra detection")
    words = ["detect", *arguments(places), "--strategy=mirrored", "--sync_batch_norm", "--dataset_name=two"]
    done = commands.python(MIRRORED.format(root=str(ROOT), words=words))
    assert done.code == 0, done.err
    folder = places / "probes" / "detection-faster_rcnn-two"
    metrics = json.loads((folder / "results.json").read_text())["metrics"]
    assert {"detection/faster_rcnn/two/test/ap", "detection/faster_rcnn/two/test/ap50"} <= metrics.keys()
    before, after = (
        named_weights(load_encoder(path)) for path in (places / "encoder", folder / "encoders" / "student")
    )
    moved = [name for name, variable in before.items() if not np.array_equal(variable.numpy(), after[name].numpy())]
    assert any(name.endswith("moving_mean") for name in moved)
    assert len(moved) > 0.9 * len(before)

"""The commands of linear evaluation and kNN: presets, flags that win over them, augmented training that goes on."""

import json
import signal

import numpy as np
import pytest

from larq_ssl import models
from larq_ssl.models.folder import save_encoder

DIGITS = ("--dataset=digits", "--max_train_images=100", "--image_size=8")
AUGMENTED = ("--augmented", "--preset=swav", "--epochs=3", "--train_batch_size=40", "--views=digits_plain")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An encoder that nothing was learned by."""
    folder = tmp_path_factory.mktemp("linear")
    encoder = models.build("resnet_18", binarization="none", stem="cifar", width=0.125)
    save_encoder(encoder, folder / "encoder")
    return folder


def run(commands, folder, command, *arguments):
    done = commands.run(command, f"--encoder_dir={folder}/encoder", *DIGITS, *arguments)
    assert "Traceback" not in done.err, done.err
    return done


def results(folder, probe):
    return json.loads((folder / "probes" / probe / "results.json").read_text())


def test_augmented_training_goes_on_after_its_last_epoch(commands, folder):
    probe = folder / "probes" / "linear-swav-augmented-digits"
    killed = f"""
import os, runpy, signal, sys
from larq_ssl.evaluation import linear_augmented
save = linear_augmented._Kept.save
def then_die(self, sweep, scores):
    save(self, sweep, scores)
    if len(scores.history["test"]) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
linear_augmented._Kept.save = then_die
sys.argv = ["linear", "--encoder_dir={folder}/encoder", *{DIGITS + AUGMENTED}]
runpy.run_module("larq_ssl.experiments.linear", run_name="__main__", alter_sys=True)
"""
    assert commands.python(killed).code == -signal.SIGKILL
    assert [path.name for path in probe.iterdir()] == ["progress.npz"]
    other = run(commands, folder, "linear", *AUGMENTED, "--lr=7")
    assert other.code == 2
    assert "progress.npz is of another measurement" in other.err
    assert run(commands, folder, "linear", *AUGMENTED).code == 0
    assert {path.name for path in probe.iterdir()} == {"results.json", "confusion.png", "head"}
    first = results(folder, probe.name)
    assert all(name.startswith("linear/swav/digits/augmented/") for name in first["metrics"])
    assert {"last/top1", "best/top5", "lr_0.3/best/epoch"} <= {
        name.removeprefix("linear/swav/digits/augmented/") for name in first["metrics"]
    }
    settings = first["settings"]
    assert (settings["augmented"], settings["views"], settings["interpolation"]) == (True, "digits_plain", None)
    assert (settings["schedule"], settings["weight_decay"], settings["batch_size"]) == ("epoch_cosine", 1e-6, 40)
    # One that was never stopped says the same.
    (probe / "results.json").unlink()
    assert run(commands, folder, "linear", *AUGMENTED).code == 0
    assert results(folder, probe.name)["metrics"] == first["metrics"]


def test_flags_win_over_the_preset_and_held_out_images_choose(commands, folder):
    flags = {
        "optimizer": "nesterov",
        "schedule": "cosine",
        "weight_decay": 0.5,
        "momentum": 0.5,
        "normalise": True,
        "min_lr": 0.001,
    }
    arguments = (*(f"--{name}={value}" for name, value in flags.items()), "--lr=0.1", "--lr=1", "--epochs=2")
    for more in ((), ("--augmented", "--views=digits_plain")):
        done = run(commands, folder, "linear", "--preset=moco", *arguments, *more, "--holdout_per_class=3")
        assert (done.code, done.err) == (0, "")
        told = results(folder, "linear-moco-augmented-digits" if more else "linear-moco-digits")
        assert flags.items() <= {**told["settings"], "min_lr": told["settings"]["min_learning_rate"]}.items()
        assert told["settings"]["learning_rates"] == [0.1, 1.0]
        assert told["settings"]["holdout_per_class"] == 3
        assert any("validation/best/top1" in name for name in told["metrics"])
    refused = run(commands, folder, "linear", "--views=digits")
    assert refused.code == 2
    assert "--views=digits has no meaning without --augmented" in refused.err


def test_a_preset_may_look_at_another_encoder_and_another_crop(commands, folder):
    for preset in ("dino", "simclr"):
        done = run(commands, folder, "linear", f"--preset={preset}", "--epochs=1")
        assert (done.code, done.err) == (0, "")
    assert results(folder, "linear-simclr-digits")["settings"]["evaluation"] == "simclr"
    keys = [json.loads(str(np.load(file)["key"])) for file in (folder / "probes" / "features").iterdir()]
    assert {key.get("view") for key in keys} == {None, "simclr"}


def test_knn_by_other_presets(commands, folder):
    done = run(commands, folder, "knn", "--preset=sslight_monitor")
    assert (done.code, done.err) == (0, "")
    found = results(folder, "knn-sslight_monitor-digits")
    assert set(found["metrics"]) == {f"knn/sslight_monitor/digits/20/top{top}" for top in (1, 5)}
    assert found["settings"]["leave_one_out"]
    assert run(commands, folder, "knn", "--preset=msbreg").code == 0
    # 200 neighbours do not fit into 100 images.
    assert set(results(folder, "knn-msbreg-digits")["metrics"]) == {f"knn/msbreg/digits/20/top{top}" for top in (1, 5)}
    too_many = run(commands, folder, "knn", "--k=200")
    assert too_many.code == 2
    assert "--k=200 must be at most 100, the images to look for neighbours in" in too_many.err

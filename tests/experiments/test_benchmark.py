"""The benchmark measures what it says it measures. (How fast anything is, no test looks at.)"""

import itertools
import json
import os
import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import models
from larq_ssl.data import load_dataset
from larq_ssl.experiments import benchmark_multi_crop, benchmark_networks, benchmark_pipeline, benchmark_s2bnn
from larq_ssl.experiments.benchmark_workers import Measurement, Variant, measure
from larq_ssl.optimizers import SGD

ENCODER = {"name": "reactnet_18", "binarization": "full", "stem": "cifar", "width": 0.125}


def slow_clock(log: str, name: str, images: int, seconds: float):
    """Turns that take no time but say that they did, and that write down whose they were."""

    def turn(steps):
        with open(log, "a") as file:
            file.write(f"{name} {steps} {os.getpid()}\n")
        return steps * images, steps * seconds

    return turn


def refuses():
    raise ValueError("size must be at least 1, got 0.")


def dies():
    os._exit(3)


def test_variants_take_turns_in_processes_of_their_own(tmp_path):
    log = tmp_path / "log"
    variants = [
        Variant(name, slow_clock, {"log": str(log), "name": name, "images": images, "seconds": seconds})
        for name, images, seconds in (("a", 8, 0.5), ("b", 8, 4.0))
    ]
    told = []
    results = measure(variants, repeats=3, seconds=2.0, progress=lambda *done: told.append(done))

    lines = [line.split() for line in log.read_text().splitlines()]
    assert [name for name, _, _ in lines[2:]] == ["a", "b", "a", "b", "a", "b", "a", "b"]
    # After a step to prepare and one to see how long it takes.
    assert [int(steps) for name, steps, _ in lines if name == "a"] == [1, 1, 4, 4, 4]
    assert [int(steps) for name, steps, _ in lines if name == "b"] == [1, 1, 1, 1, 1]
    assert len({(name, process) for name, _, process in lines}) == len({process for _, _, process in lines}) == 2
    assert str(os.getpid()) not in {process for _, _, process in lines}
    assert [result.name for result in results] == ["a", "b"]
    assert [result.rates for result in results] == [[16.0] * 3, [2.0] * 3]
    assert [result.steps for result in results] == [4, 1]
    assert all(2**26 < result.memory < 2**33 for result in results)
    assert told == [(done, 6) for done in range(7)]


def test_a_variant_that_refuses_its_settings_is_a_mistake_of_the_user():
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        measure([Variant("a", refuses, {})], 1, 0.0)


def test_a_variant_that_dies_is_named(capfd):
    with pytest.raises(RuntimeError, match="measures 'b' has died"):
        measure([Variant("b", dies, {})], 1, 0.0)


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> dict[int, pathlib.Path]:
    folders = {size: tmp_path_factory.mktemp("images") / str(size) for size in (32, 224)}
    benchmark_pipeline.make_images(folders[32], 32, 32, 6)
    benchmark_pipeline.make_images(folders[224], 75, 100, 6)
    return folders


def test_images_are_made_up_alike_each_time(images, tmp_path):
    benchmark_pipeline.make_images(tmp_path / "again", 32, 32, 6)
    first, second = (load_dataset("folder", data_dir=str(folder)) for folder in (images[32], tmp_path / "again"))
    np.testing.assert_array_equal(first.images, second.images)
    assert first.images.shape == (6, 32, 32, 3)
    for one, other in itertools.combinations(first.images.astype(int), 2):
        assert np.abs(one - other).mean() > 10
    # Neighbouring pixels are alike, as in photographs.
    assert np.abs(np.diff(first.images.astype(int), axis=2)).mean() < 0.8 * first.images.std()


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("size", [32, 224])
def test_the_pipeline_makes_batches(images, size, ours):
    groups = benchmark_pipeline.groups(images, ["bssl"], batch_size=4)
    reference, variant = groups[f"bssl, views of {size} px"]
    assert reference.settings == {**variant.settings, "ours": False}
    chosen = variant if ours else reference
    count, seconds = chosen.prepare(**{**chosen.settings, "size": 16})(2)
    assert count == 8
    assert seconds > 0


@pytest.mark.slow
def test_each_training_step_is_one():
    groups = benchmark_networks.train_step_groups(ENCODER, 16, 4, ["float32"], ["encoder", "moco", "bssl"])
    assert list(groups) == ["float32"]
    for variant in groups["float32"]:
        if variant.settings.get("method") == "moco" or not variant.settings.get("with_optimizer", True):
            turn = variant.prepare(**variant.settings)
            for steps in (2, 1):  # a second `fit` must train too
                count, seconds = turn(steps)
                assert count == 4 * steps
                assert seconds > 0


def test_s2bnn_is_measured_in_parts_and_as_a_whole(monkeypatch):
    narrow = {"binarization": "none", "stem": "cifar", "width": 0.125}
    monkeypatch.setattr(benchmark_s2bnn, "teacher", lambda encoder: models.build("resnet_18", **narrow))
    encoder = {"name": "resnet_18", **narrow}
    ((group, variants),) = benchmark_networks.train_step_groups(encoder, 16, 4, ["float32"], ["s2bnn"]).items()
    assert "S2-BNN" in group
    for variant in variants:
        if variant.settings.get("part") == "teacher" or variant.settings.get("method") == "s2bnn_guided":
            count, seconds = variant.prepare(**variant.settings)(2)
            assert count == 8
            assert seconds > 0
    # Turn by turn: 4 s of guided for 1 s and 2 s alone; 2 s more for both than guided, where keys take 2 s.
    seconds = {"student": [1, 1], "teacher": [2, 3], "keys": [2, 4], "guided": [4, 4], "contrastive": [6, 9]}
    measured = [
        Measurement(variant.name, [1 / second for second in seconds[name]], 1, 0, None)
        for variant, name in zip(variants, seconds, strict=True)
    ]
    assert all(name in result.name for name, result in zip(seconds, measured, strict=True))
    said = benchmark_s2bnn.summary({"float32": measured[:1], group: measured})
    assert said.count(group) == 1
    assert "the guided step takes 1.17 (1.00 to 1.33) times as long" in said
    assert "by 1.12 (1.00 to 1.25) times the forward pass of the keys" in said
    assert benchmark_s2bnn.summary({"float32": measured[:1]}) == ""


@pytest.mark.slow
def test_multi_crop_is_measured_with_and_without_local_views():
    encoder = {"name": "resnet_18", "binarization": "none", "stem": "cifar", "width": 0.125}
    ((group, variants),) = benchmark_networks.train_step_groups(encoder, 32, 4, ["float32"], ["multi_crop"]).items()
    assert "multi-crop, local views of 14 px" in group
    for variant in variants:
        count, seconds = variant.prepare(**variant.settings)(1)
        assert count == 4
        assert seconds > 0
    seconds = {"alone": [1, 2], "with": [1.5, 4]}
    measured = [
        Measurement(variant.name, [1 / second for second in seconds[name]], 1, 0, None)
        for variant, name in zip(variants, seconds, strict=True)
    ]
    # 6 x 14 x 14 pixels beside 2 x 32 x 32.
    said = benchmark_multi_crop.summary({"float32": measured[:1], group: measured}, 32)
    assert "takes 1.75 (1.50 to 2.00) times as long, and has 1.57 times the pixels: 1.11 (0.95 to 1.27)" in said
    assert benchmark_multi_crop.summary({"float32": measured[:1]}, 32) == ""


def test_bare_step_and_fit_do_the_same_work(monkeypatch):
    """From the same weights they reach the same weights."""
    build, built = benchmark_networks.models.build, []

    def remember(**arguments):
        tf.keras.utils.set_random_seed(1)
        built.append(build(**arguments))
        return built[-1]

    monkeypatch.setattr(benchmark_networks.models, "build", remember)
    # Adam turns the rounding of tiny gradients into steps.
    monkeypatch.setattr(tf.keras.optimizers.legacy, "Adam", lambda _: tf.keras.optimizers.legacy.SGD(0.1, 0.9))
    monkeypatch.setattr(benchmark_networks, "build_optimizer", lambda *_: SGD(0.1, momentum=0.9))
    settings = {"encoder": {**ENCODER, "binarization": "none"}, "image_size": 16, "batch_size": 4}
    start = remember(**settings["encoder"]).get_weights()
    benchmark_networks.prepare_bare(**settings, precision="float32")(2)
    benchmark_networks.prepare_fit(**settings, precision="float32", method="encoder")(1)  # and one not measured
    bare, fit = (network.get_weights() for network in built[1:])
    trained = {id(variable) for variable in built[0].trainable_weights}
    for variable, before, one, other in zip(built[0].weights, start, bare, fit, strict=True):
        # The float twin has thresholds, but no signs that they could shift.
        moves = id(variable) in trained or "moving" in variable.name
        assert np.array_equal(before, one) != moves, variable.name
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


def test_extraction_and_knn_count_their_images(images):
    groups = benchmark_networks.encode_groups(ENCODER, 16, 4, ["float32"], str(images[224]))
    assert len(groups) == 2
    for variant in itertools.chain(*groups.values()):
        count, seconds = variant.prepare(**variant.settings)(2)
        assert count == (4000 if "bare" in variant.settings else 8)
        assert seconds > 0


def test_a_ratio_is_one_of_neighbouring_turns(commands):
    code = """
from larq_ssl.experiments import benchmark_table as benchmark
from larq_ssl.experiments.benchmark_workers import Measurement
slow, fast = Measurement("slow", [1.0, 2.0, 3.0], 1, 2**30, None), Measurement("fast", [4.0, 4.0, 4.0], 1, 2**20, None)
print(benchmark.ratios(fast, slow, of_times=False), benchmark.ratios(fast, slow, of_times=True))
print(benchmark.table({"group": [slow, fast]}, compares_time=False))
"""
    done = commands.python(code)
    assert done.code == 0, done.err
    first, *rest = done.out.splitlines()
    assert first == "[4.0, 2.0, 1.3333333333333333] [0.25, 0.5, 0.75]"
    assert "| slow | 1 | 2.0 | 1.0 to 3.0 | 1.00 | 1.00 to 1.00 | 1,024 |" in rest
    assert "| fast | 1 | 4.0 | 4.0 to 4.0 | 2.00 | 1.33 to 4.00 | 1 |" in rest


def test_the_command_writes_table_and_numbers(commands, images, tmp_path):
    arguments = [
        "--what=encode",
        "--encoder=reactnet_18",
        "--width=0.125",
        "--precisions=",  # kNN alone
        f"--photographs={images[224]}",
        "--repeats=2",
        "--seconds=0",
        f"--out={tmp_path}/speed",
    ]
    done = commands.run("benchmark", *arguments)
    assert done.code == 0, done.err
    table = (tmp_path / "speed.md").read_text()
    assert re.search(r"^\| knn, k = 10, 20, 100, 200 \| [\d,.]+ \|", table, re.MULTILINE)
    assert "--width=0.125" in table
    assert table.split("\n", 1)[1].strip() in done.out
    numbers = json.loads((tmp_path / "speed.json").read_text())
    for results in numbers["measured"].values():
        for result in results:
            measured = Measurement(**result)
            assert len(measured.rates) == 2
            assert measured.steps == 1

    again = commands.run("benchmark", *arguments)
    assert again.code == 2
    assert "exists already" in again.err


def test_mistakes_are_one_sentence(commands):
    for arguments, message in (
        (["--what=pipeline", "--views=bssl,moco"], "--views must be some of"),
        (
            ["--what=train_step", "--methods=byol"],
            "--methods must be some of encoder, moco, bssl, s2bnn, multi_crop, got byol",
        ),
        (["--what=encode", "--photographs=/nowhere"], "--photographs must be a folder"),
    ):
        done = commands.run("benchmark", *arguments)
        assert done.code == 2
        assert message in done.err.splitlines()[-1]
        assert "Traceback" not in done.err

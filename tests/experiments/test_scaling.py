"""Scale on paper: formulas against numbers by hand and against a step of two replicas, and the page."""

import dataclasses
import json

import numpy as np
import pytest

from larq_ssl.data import views
from larq_ssl.data.datasets import ImageDataset, load_dataset
from larq_ssl.evaluation import pictures
from larq_ssl.experiments import scaling_checks, scaling_formulas, scaling_methods
from larq_ssl.experiments.benchmark_pipeline import make_images
from larq_ssl.experiments.scaling_formulas import Collective, Hardware, Norms, Workload
from larq_ssl.experiments.scaling_page import TITLE, page
from larq_ssl.experiments.scaling_tables import Question
from tests.experiments.commands import add_short_networks
from tests.experiments.recipes import reach
from tests.replicas import two_replicas

HARDWARE = Hardware(
    replicas_per_worker=4,
    cores_per_worker=10,
    flops=1e12,
    storage_bytes=1e9,
    copy_bytes=1e9,
    link_bytes=100.0,
    network_bytes=10.0,
    latency=0.5,
)


def work(method="byol", **changes) -> Workload:
    made = Workload(
        recipe=f"{method}_of_ours",
        method=method,
        batch_size=64,
        epochs=3,
        views=((2, 10),),
        parameters=100,
        macs=5 * 10**9,
        norms=(Norms(layers=2, channels=7, passes=2, learns=True), Norms(layers=1, channels=3, passes=4, learns=False)),
        width=6,
        checkpoint_bytes=1000,
        checkpoint_seconds=2.0,
        images_per_core_second=8.0,
    )
    return dataclasses.replace(made, **changes)


@pytest.mark.parametrize(
    ("recipe", "steps"),
    [
        ("bssl_paper_stage1", 125_000),
        ("moco_v2_resnet50", 1_000_800),
        ("dino_official_resnet_50", 251_200),
        ("msbreg_resnet_50", 750_600),
    ],
)
def test_steps_are_those_that_the_recipes_tell(recipe, steps):
    told = scaling_methods.settings(recipe)
    assert scaling_formulas.steps(int(told["batch_size"]), int(told["epochs"])) == steps
    assert reach(f"imagenet/{recipe}")


def test_images_per_second_do_not_depend_on_the_replicas():
    # 200 epochs of 625 batches of 2,048 in ten days.
    assert scaling_formulas.images_per_second(2048, 200, days=10) == pytest.approx(296.296, abs=1e-3)


def test_batches_are_multiples_of_the_replicas():
    assert [scaling_formulas.global_batch(256, replicas) for replicas in (8, 100, 512)] == [256, 300, 512]


def test_sums_and_gathers_by_hand():
    images, replicas = 4, 3
    shared = [
        Collective("gradients", "sum", 1, 400),
        # Two passes of two layers by five calls, four of one layer by three.
        Collective("statistics of BatchNorm", "sum", 20 + 12, 4 * (2 * 7 * 5 + 4 * 3 * 3)),
    ]
    rows = 4 * images * 6
    by_method = {
        "byol": {},
        "dino": {"sum": (1, 24)},
        "bssl": {"gather": (2, rows + 8)},
        # One view of 10 x 10 pixels of three colours, as float16, and the keys.
        "moco": {"gather": (4, 2 * images * 300 + 16 + rows + 8)},
        "swav": {"gather": (4, 2 * rows + 16)},
        "simclr": {"gather": (2, 2 * rows + 8), "sum": (1, replicas * 2 * rows)},
        "msbreg": {"gather": (2, rows + 8), "sum": (1, replicas * rows)},
    }
    for method, expected in by_method.items():
        found = scaling_formulas.collectives(work(method), images, replicas)
        assert found[:2] == shared, method
        assert scaling_checks.totals(found[2:]) == expected, method
    with pytest.raises(ValueError, match="method must be one that the formulas know, got 'supervised'"):
        scaling_formulas.collectives(work("supervised"), images, replicas)


def test_time_of_the_network_by_hand():
    found = [Collective("gradients", "sum", 1, 300), Collective("keys", "gather", 2, 30)]
    assert scaling_formulas.network_seconds(found, 1, HARDWARE) == 0
    # One machine: 2 * 300 * 3/4 and 30 * 3 bytes at 100 a second, and three calls of two times half a second.
    assert scaling_formulas.network_seconds(found, 4, HARDWARE) == pytest.approx(4.5 + 0.9 + 3.0)
    # Two: the sum also passes the network, 2 * 300 * 1/2 bytes at 10 a second; and keys of four other replicas.
    seconds = 4.5 + 30.0 + 30 * 7 / 100 + 30 * 4 / 10 + 3 * 3 * 0.5
    assert scaling_formulas.network_seconds(found, 8, HARDWARE) == pytest.approx(seconds)


def test_time_of_every_resource_by_hand():
    one = work(norms=(), parameters=0)
    seconds = scaling_formulas.step_seconds(one, 8, HARDWARE)
    assert list(seconds.values()) == sorted(seconds.values(), reverse=True)
    encoded = 64 * scaling_formulas.ENCODED_BYTES / scaling_formulas.IMAGES
    assert seconds == pytest.approx(
        {
            "network": 1.5,
            "processor cores": 64 / (2 * 10 * 8),
            "accelerators": 2 * 5e9 * 8 / 1e12,
            "storage": encoded / 2e9,
            "copies to devices": 8 * 600 / 1e9,
        }
    )
    whole = scaling_formulas.whole_step(one, 8, HARDWARE, interval=100)
    assert whole == pytest.approx(1.5 + 0.08 + 0.02)
    assert scaling_formulas.days(one, 8, HARDWARE, 100) == pytest.approx(1_281_167 // 64 * 3 * whole / 86_400)
    slow = scaling_formulas.whole_step(dataclasses.replace(one, images_per_core_second=0.1), 8, HARDWARE, 100)
    assert slow == pytest.approx(64 / 2 + 0.02)


@pytest.mark.parametrize("recipe", scaling_methods.RECIPES)
def test_networks_that_a_step_runs(recipe):
    told = scaling_methods.settings(recipe)
    groups = scaling_methods.policy(told).groups
    ran = scaling_methods.passes(recipe.partition("_")[0], tuple(map(len, groups.values())))
    assert ran["student"].learns
    seen = sum(ran["student"].seen)
    assert seen == {"moco": 1, "dino": 8, "swav": 8, "msbreg": 4}.get(recipe.partition("_")[0], 2)
    assert scaling_methods.encoder_arguments(told)["binarization"] == ("activations" if "bssl" in recipe else "none")


@pytest.mark.parametrize(
    ("method", "counts"),
    [
        ("moco", (2,)),
        ("simclr", (2,)),
        pytest.param("bssl", (2,), marks=pytest.mark.slow),
        pytest.param("byol", (2,), marks=pytest.mark.slow),
        pytest.param("dino", (2, 2), marks=pytest.mark.slow),
        pytest.param("swav", (2, 2), marks=pytest.mark.slow),
        pytest.param("msbreg", (4,), marks=pytest.mark.slow),
    ],
)
def test_two_replicas_exchange_what_the_formulas_say(method, counts, monkeypatch):
    # Convolutions take long to be traced.
    add_short_networks()
    monkeypatch.setitem(scaling_checks._ENCODER, "name", "resnet_short")
    formulas, counted = scaling_checks.exchanged(method, counts, two_replicas())
    assert counted == formulas
    calls, size = counted["sum"]
    assert calls >= 1
    assert size > 1000


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> ImageDataset:
    folder = tmp_path_factory.mktemp("photographs")
    make_images(folder, 70, 90, 6)
    return load_dataset("folder", "train", str(folder))


def test_a_shard_decodes_its_own_images_alone(photographs):
    policy = views.policy("bssl", 32)
    alone, first = (scaling_checks.shard_speed(photographs, policy, shards, 8, 12, 1) for shards in (1, 8))
    assert (alone.batch_size, first.batch_size) == (8, 64)
    for one in (alone, first):
        # What is prefetched at the beginning and at the end differs by some chunks.
        assert one.decoded == pytest.approx(8, rel=0.5)
        assert one.rate > 0


def found(tmp_path) -> dict:
    made = [dataclasses.asdict(work(method)) for method in ("byol", "moco")]
    return {
        "environment": {
            **{"commit": "abc1234", "packages": {"tensorflow": "2.15.1"}, "processor": "a processor", "cores": 2},
            "load_average": [1.5, 1.0, 1.0],
        },
        "decoding": {"rate": 500.0, "bytes": 110_000.0, "pixels": 190_000.0},
        "workloads": made,
        "step": {"rate": 3.0, "flops": 7e10},
        "exchanged": {
            "byol": {"formulas": {"sum": [3, 12]}, "counted": {"sum": [3, 12]}},
            "moco": {"formulas": {"sum": [3, 12]}, "counted": {"sum": [4, 16]}},
        },
        "shards": [{"shards": 8, "batch_size": 256, "decoded": 32.04, "rate": 123.4}],
    }


def test_the_page_tells_what_was_measured_and_which_is_first(tmp_path):
    asked = Question((8, 64), 10.0, 1000, HARDWARE, "bssl", "the command")
    text = page(found(tmp_path), [work("byol"), work("moco")], asked)
    assert text.startswith(TITLE)
    assert "| a core decodes" in text
    assert "measured: photographs of 110 kB and 0.19 megapixels" in text
    assert "- **64 replicas**: the first bottleneck is network for 2 of 2 recipes" in text
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| ")}
    assert rows["byol"].rstrip(" |").endswith("yes")
    assert rows["moco"].rstrip(" |").endswith("**no**")
    assert "32.0" in rows["8"]
    assert "commit abc1234" in text


def test_the_command_makes_the_page_of_kept_constants(tmp_path, commands):
    out = tmp_path / "scaling"
    out.with_suffix(".json").write_text(json.dumps(found(tmp_path)))
    done = commands.run("scaling", f"--out={out}", "--replicas=8", "--replicas=16", "--teraflops=77")
    assert done.code == 0, done.err
    text = out.with_suffix(".md").read_text()
    assert "| 77 TFLOP/s" in text
    assert "`byol_of_ours`" in text
    assert out.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"
    done = commands.run("scaling", f"--out={out}", "--seconds=3")
    assert done.code == 2
    assert "--photographs and --seconds are for measuring" in done.err
    out.with_suffix(".md").write_text("mine")
    done = commands.run("scaling", f"--out={out}")
    assert done.code == 2
    assert "is another file than such a page" in done.err
    small = tmp_path / "small"
    make_images(small, 32, 32, 2)
    done = commands.run("scaling", f"--out={tmp_path / 'new'}", f"--photographs={small}")
    assert done.code == 2
    assert "must hold larger images" in done.err


def test_the_picture_has_a_panel_per_training(tmp_path):
    panel = pictures.InputSpeed("one", (8, 64), (10.0, 80.0), {"storage": (5.0, 40.0)}, 7.0)
    figure = pictures.input_speeds(tmp_path / "a.png", [panel] * 5, "10 days")
    drawn = [axes for axes in figure.axes if axes.lines]
    assert [axes.get_title(loc="left") for axes in drawn] == ["one"] * 5
    np.testing.assert_array_equal(drawn[0].lines[1].get_ydata(), (5.0, 40.0))
    with pytest.raises(ValueError, match="`panels` must not be empty"):
        pictures.input_speeds(tmp_path / "b.png", [], "10 days")
    many = dataclasses.replace(panel, given=dict.fromkeys("abcd", (1.0, 2.0)))
    with pytest.raises(ValueError, match="`given` may have up to 3 resources, got 4"):
        pictures.input_speeds(tmp_path / "b.png", [many], "10 days")

"""The benchmark of a whole step trains what its command trains, grows as it should, and is compared."""

import dataclasses
import json

import numpy as np
import pytest

from larq_ssl.experiments import benchmark_growth, benchmark_pipeline, benchmark_steps
from larq_ssl.experiments.benchmark_compare import compare
from larq_ssl.experiments.benchmark_growth import Growth
from larq_ssl.experiments.benchmark_steps import Asked
from larq_ssl.experiments.benchmark_workers import Measurement
from tests.experiments.commands import ROOT

SHORT = {"name": "reactnet_short", "binarization": "full", "stem": "cifar", "width": 0.125}
TRAINER = """
import json, sys
sys.path.insert(0, {root!r})
import numpy as np
from absl import flags
flags.DEFINE_integer("batch_size", 7, "Of the benchmark.")
flags.FLAGS(["benchmark"])
from larq_ssl.experiments.benchmark_steps import Trainer
trainer = Trainer(**{settings!r})
before = [variable.numpy() for variable in trainer.method.optimized_variables]
times = [trainer.fit(3), trainer.fit(2)]
moved = [np.any(variable.numpy() != value) for variable, value in zip(trainer.method.optimized_variables, before)]
print(json.dumps({{
    "steps": int(trainer.method.optimizer.iterations), "batch": trainer.batch_size, "moved": int(sum(moved)),
    "of": len(moved), "times": [vars(each) for each in times], "computes": trainer.computes,
    "shape": list(trainer.batch["global"].shape), "teacher": "teacher" in trainer.method.networks,
}}))
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("step_images") / "images"
    benchmark_pipeline.make_images(folder, 16, 16, 24, classes=2)
    return folder


def asked_step(method, images, folder, more):
    return benchmark_steps.step(Asked(method, SHORT, 8, 4, images, folder, more))


MORE = {
    "bssl": "--classes=8 --hidden_dim=8",
    "dino": "--output_dim=8",
    "msbreg": "--embedding_dim=3",
    **dict.fromkeys(("moco", "infomin", "moco_star"), "--queue_size=8"),
}
QUICK = ("moco", "bssl", "simclr")


@pytest.mark.parametrize(
    "method",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in benchmark_steps.METHODS],
)
def test_the_step_is_that_of_the_command(commands, images, tmp_path, monkeypatch, method):
    monkeypatch.setattr(benchmark_steps, "_TEACHER", "resnet_short")
    more, teacher = MORE.get(method, ""), method in ("bssl", "s2bnn")
    step = asked_step(method, images, tmp_path, f"{more} --lr=0.1")
    variants = benchmark_steps.variants(step)
    assert variants[0].name == benchmark_steps.PLAIN
    done = commands.python(TRAINER.format(root=str(ROOT), settings=dict(variants[0].settings)))
    assert done.code == 0, done.err
    found = json.loads(done.out.splitlines()[-1])
    assert found["steps"] == 4 + 3
    views = {"supervised": 1, "s2bnn": 1, "msbreg": 4}.get(method, 2)
    assert (found["batch"], found["shape"], found["teacher"]) == (4, [4, views, 8, 8, 3], teacher)
    assert found["moved"] == found["of"] > 10
    assert found["computes"]["binary_compute"] == "float32"
    assert not teacher or found["computes"]["teacher_compute"] == "float32"
    for times in found["times"]:
        assert 0 < times["callbacks"] < times["seconds"]
        assert 0 < times["training"] < times["seconds"]
        assert times["callbacks"] + times["training"] <= times["seconds"]


def test_flags_that_the_command_does_not_know_are_a_mistake_of_the_user(commands, images, tmp_path):
    step = asked_step("moco", images, tmp_path, "--no_such=1")
    done = commands.python(TRAINER.format(root=str(ROOT), settings=step.settings()))
    assert "ValueError: moco refuses its flags: Unknown command line flag 'no_such'" in done.err


def test_variants_differ_in_arithmetic_alone(images, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark_steps, "_TEACHER", "resnet_short")
    step = asked_step("bssl", images, tmp_path, "")
    variants = benchmark_steps.variants(step)
    for variant in variants:
        more = [word for word in variant.settings["arguments"] if "_compute=" in word]
        assert tuple(more) == benchmark_steps.flags_of(variant.name, "bssl")
        assert [word for word in variant.settings["arguments"] if word not in more] == list(step.arguments)
    plain, default = benchmark_steps.PLAIN, benchmark_steps.DEFAULT
    assert benchmark_steps.flags_of(default, "bssl") == benchmark_steps.flags_of(default, "moco") == ()
    assert benchmark_steps.flags_of(plain, "bssl") == ("--binary_compute=float32", "--teacher_compute=float32")
    assert benchmark_steps.flags_of(plain, "moco") == ("--binary_compute=float32",)
    alone = benchmark_steps.variants(asked_step("moco", images, tmp_path, ""))
    assert [variant.name for variant in alone] == [plain, default, "no bfloat16"]


def test_slopes_are_exponents_or_shares():
    sizes = [1.0, 2.0, 4.0, 8.0]
    curve = Growth("batch", sizes, [0.5 * size**1.5 for size in sizes], [7.0] * 4)
    assert curve.slope(curve.seconds) == pytest.approx(1.5)
    assert curve.named(curve.seconds) == "~ size^1.50"
    assert curve.slope(curve.memory) == pytest.approx(0, abs=1e-9)
    views = Growth("local views", [0.0, 2.0, 4.0], [2.0, 3.0, 4.0], [1.0, 1.0, 1.0])
    assert views.slope(views.seconds) == pytest.approx(0.25)
    assert views.named(views.seconds) == "+25 % each"


def test_growth_is_measured_along_each_axis_alone(images, tmp_path):
    groups = benchmark_growth.groups(Asked("simclr", SHORT, 32, 8, images, tmp_path, "--temperature=0.3"))
    assert list(groups) == ["batch", "image side, px", "width", "local views", "queue, keys"]
    base = {"batch_size": "8", "image_size": "32", "width": "0.125"}
    for flag, variants in zip(
        ("batch_size", "image_size", "width", "local_views", "queue_size"), groups.values(), strict=True
    ):
        values = []
        for variant in variants:
            # Flags of one command, which another may not have.
            assert ("--temperature=0.3" in variant.settings["arguments"]) == (variant.settings["method"] == "simclr")
            told = dict(word[2:].split("=", 1) for word in variant.settings["arguments"] if "=" in word)
            assert float(told[flag]) == float(variant.name)
            values.append(float(told[flag]))
            assert {name: told[name] for name in base if name != flag} == {n: v for n, v in base.items() if n != flag}
        assert values == sorted(set(values))
        assert len(values) == 4
    assert values == [1024, 4096, 16384, 65536]
    assert len(list((tmp_path / "queue" / "train").iterdir())) == 2 * 65536  # a queue is shorter than its data
    rates = {"batch": [8.0, 8.0], "queue, keys": [4.0, 2.0]}
    measured = {
        title: [
            Measurement(str(size), [99.0 * rate, rate, 0.5 * rate], 1, 9, None, own_memory=size)
            for size, rate in zip((4, 8), found, strict=True)
        ]
        for title, found in rates.items()
    }
    batch, queue = benchmark_growth.growths(measured, 16)
    assert (batch.seconds, queue.seconds) == ([0.5, 1.0], [4.0, 8.0])
    assert (batch.values, batch.memory) == ([4.0, 8.0], [4.0, 8.0])
    assert "| batch | 4, 8 | 500, 1,000 | ~ size^1.00 |" in benchmark_growth.table([batch, queue])


def result_file(path, rates, memory=2**30, cores=2):
    measured = {"group": [dataclasses.asdict(Measurement("fit", rates, 1, memory, None))]}
    path.write_text(json.dumps({"measured": measured, "machine": {"processor": "CPU", "cores": cores}}))
    return str(path)


@pytest.mark.parametrize(
    ("rates", "memory", "cores", "worse", "told"),
    [
        ([10.0, 11.0], 2**30, 2, False, "| 10.50 | 10.50 | 1.00 | yes |"),
        ([8.0, 9.0], 2**30, 2, True, "| 10.50 | 8.50 | 0.81 | no |"),
        ([8.0, 10.5], 2**30, 2, False, "| yes |"),
        ([20.0, 21.0], 2**31, 2, True, "| 1,024 | 2,048 | 2.00 |"),
        ([20.0, 21.0], 2**30, 4, False, "different hardware: CPU, 2 cores; CPU, 4 cores."),
    ],
)
def test_results_are_compared(tmp_path, rates, memory, cores, worse, told):
    before = result_file(tmp_path / "a.json", [10.0, 11.0])
    text, found = compare(before, result_file(tmp_path / "b.json", rates, memory, cores))
    assert told in text
    assert found == (["group / fit"] if worse else [])


def test_comparing_is_a_command(commands, tmp_path):
    files = [result_file(tmp_path / name, rates) for name, rates in (("a.json", [10.0]), ("b.json", [5.0]))]
    done = commands.run("benchmark", f"--compare={files[0]}", files[1])
    assert done.code == 1
    assert "Slower or larger: group / fit." in done.out
    assert commands.run("benchmark", f"--compare={files[0]}", files[0]).code == 0


def test_mistakes_are_one_sentence(commands, tmp_path):
    other = result_file(tmp_path / "a.json", [1.0])
    broken = tmp_path / "broken.json"
    broken.write_text('{"measured": {"group": [{"name": "fit"}]}}')
    empty = tmp_path / "empty.json"
    empty.write_text('{"measured": {}, "machine": {}}')
    for words, message in (
        ([], "Say what to measure, with --what, or which results to compare, with --compare."),
        ([f"--compare={other}"], "--compare needs two files"),
        ([f"--compare={other}", other, "--what=encode"], "--compare compares what was measured and writes nothing"),
        ([f"--compare={other}", str(broken)], "broken.json is not a .json file that --out of the benchmark wrote"),
        ([f"--compare={other}", str(empty)], "have no variant in common"),
        ([f"--compare={tmp_path}/none.json", other], "none.json is not a .json file that --out of the benchmark"),
        (["--what=growth"], "--what=growth needs --method, whose step grows."),
        (["--what=encode", "--method=moco"], "--method has no meaning with --what=encode: leave it out."),
        (["--what=encode", "--with_flags=--lr=1"], "--with_flags has no meaning without --method"),
        (["--what=train_step", "--method=moco", "--methods=moco"], "have no meaning with --method: leave them out."),
        (["--what=encode", "word"], "'word' is not a flag"),
    ):
        done = commands.run("benchmark", *words)
        assert done.code == 2, words
        assert message in done.err.splitlines()[-1]
        assert "Traceback" not in done.err


@pytest.mark.slow
def test_a_whole_step_is_measured_and_drawn(commands, tmp_path):
    arguments = (
        *("--what=train_step", "--method=moco", "--encoder=reactnet_18", "--stem=cifar", "--width=0.125"),
        *("--image_size=16", "--batch_size=4", "--repeats=1", "--seconds=0", "--with_flags=--queue_size=8"),
        f"--out={tmp_path}/step",
    )
    done = commands.run("benchmark", *arguments)
    assert done.code == 0, done.err
    numbers = json.loads((tmp_path / "step.json").read_text())
    (results,) = numbers["measured"].values()
    assert [result["name"] for result in results] == [benchmark_steps.PLAIN, benchmark_steps.DEFAULT, "no bfloat16"]
    plain, default = numbers["profiles"]
    assert (plain["name"], default["name"]) == (benchmark_steps.PLAIN, benchmark_steps.DEFAULT)
    for profile in (plain, default):
        assert {name for name, seconds in profile["operations"].items() if seconds > 0} >= {
            *("convolutions, forward", "convolutions, gradient by kernel", "convolutions, gradient by input"),
            *("BatchNorm", "optimizer", "element by element", "matrix products"),
        }
        assert 0 < sum(profile["operations"].values()) < 4 * profile["seconds"]
        assert sum(profile["kept"].values()) > 2**16
        assert profile["pipeline"] > 0
    assert plain["computes"]["binary_compute"] == "float32"
    text = (tmp_path / "step.md").read_text()
    assert "![The measurement](step.png)" in text
    assert "| convolutions, gradient by kernel |" in text
    assert (tmp_path / "step.png").stat().st_size > 10_000


@pytest.mark.slow
def test_growth_is_measured_and_drawn(commands, tmp_path):
    arguments = (
        *("--what=growth", "--method=simclr", "--encoder=reactnet_18", "--stem=cifar", "--width=0.125"),
        *("--image_size=16", "--batch_size=4", "--repeats=1", "--seconds=0", f"--out={tmp_path}/growth"),
    )
    done = commands.run("benchmark", *arguments)
    assert done.code == 0, done.err
    curves = json.loads((tmp_path / "growth.json").read_text())["growth"]
    assert len(curves) == 5
    for curve in curves:
        assert np.all(np.array(curve["seconds"]) > 0)
        assert np.all(np.array(curve["memory"]) > 2**20)
    assert (tmp_path / "growth.png").stat().st_size > 10_000


def test_queues_of_all_batches_that_grow_are_shorter_than_the_images(commands):
    code = """
from absl import flags
from larq_ssl.experiments import benchmark, benchmark_growth, benchmark_pipeline
import pathlib
flags.FLAGS(["benchmark", "--what=growth", "--method=moco", "--batch_size=12"])
made = []
benchmark_pipeline.make_images = lambda folder, height, width, count, classes: made.append(count)
(folder,) = benchmark.image_folders(pathlib.Path("beside")).values()
largest = max(benchmark_growth.axes("moco", 224, 12, 1.0)[0].values)
print(made, largest)
"""
    done = commands.python(code)
    assert done.code == 0, done.err
    made, largest = done.out.split()
    assert int(made.strip("[]")) > int(largest) == 48

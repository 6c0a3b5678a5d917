"""The command of InfoMin: what a run holds, with a jigsaw and without, what stage 2 starts from, and exact resume."""

import json
import signal

import numpy as np
import pytest

from larq_ssl.experiments.run_folder import RunFolder
from tests.experiments import saved
from tests.experiments.commands import SHORT
from tests.experiments.recipes import parse, reach

TINY = (
    *("infomin", "--deterministic", "--epochs=2", "--steps_per_epoch=2", "--batch_size=16", *SHORT),
    *("--image_size=16", "--queue_size=96", "--hidden_dim=8", "--embedding_dim=6", "--knn_every=0"),
    *("--checkpoint_every=2", "--views=infomin_cifar"),
)
FROM_1 = "--schedule=epoch_cosine_from_1"
STEPS = 4
HEADS = ("student_head", "momentum_head", "patch_head", "jigsaw_head")


def _run(commands, name: str, *arguments: str) -> RunFolder:
    run = RunFolder(commands.folder / "infomin" / name)
    done = commands.run(*TINY, *arguments, f"--workdir={run.path}")
    assert done.code == 0, done.err
    return run


@pytest.fixture(scope="module")
def stages(commands) -> list[RunFolder]:
    """Both stages of a tiny run on digits with patches; the networks of the second stand still."""
    still = ("--lr=0", "--momentum=1")
    return [_run(commands, f"stage{stage}", f"--stage={stage}", "--jigsaw", *(still * (stage - 1))) for stage in (1, 2)]


def test_a_run_holds_networks_heads_and_the_queue(stages):
    for stage, run in enumerate(stages, start=1):
        found = {path.relative_to(run.path).as_posix() for path in run.path.glob("[ehm]*s/*")}
        assert found == {"encoders/student", "encoders/ema", *(f"heads/{name}" for name in HEADS), "memories/queue.npz"}
        queue = saved.arrays(run.memory("queue"))
        assert queue["keys"].shape == (96, 6)
        assert queue["pointer"] == stage * STEPS * 16 % 96
        terms = {"loss", "accuracy", "embedding_std", "contrastive", "jigsaw", "jigsaw_accuracy"}
        assert terms <= run.results()["metrics"].keys()
        last = run.results()["metrics"]
        assert last["loss"] == pytest.approx((last["contrastive"] + last["jigsaw"]) / 2, rel=1e-5)
        assert (run.path / "patches.png").read_bytes()[1:4] == b"PNG"


def test_stage_2_goes_on_with_everything(stages):
    first, second = stages
    for name in HEADS:
        saved.assert_equal_parameters(first.head(name), second.head(name))
    for name in ("student", "ema"):
        saved.assert_equal_parameters(*(run.encoder(name) / "weights.npz" for run in stages))
    # The keys of stage 1 that were not overwritten, beside those that were, from where it stopped.
    before, after = (saved.arrays(run.memory("queue"))["keys"] for run in stages)
    np.testing.assert_array_equal(after[32:64], before[32:64])
    assert not np.any(np.all(after == before, axis=1)[[*range(32), *range(64, 96)]])


@pytest.mark.slow
def test_stage_1_without_a_jigsaw_is_no_start_for_a_stage_2_with_one(commands):
    first = _run(commands, "plain", "--stage=1", "--views=infomin")
    assert "jigsaw" not in first.results()["metrics"]
    assert not first.head("patch_head").exists()
    assert not (first.path / "patches.png").exists()
    done = commands.run(
        *TINY, "--stage=2", "--jigsaw", f"--stage1={first.path}", "--workdir=infomin/mixed", "--views=infomin"
    )
    assert done.code == 2
    assert "patch_head" in done.err.splitlines()[-1]
    assert "Traceback" not in done.err


def test_mistakes_are_one_sentence(commands):
    for command, arguments, message in (
        (TINY, ["--accumulate=2"], "--accumulate must be 1 for InfoMin"),
        (TINY, ["--queue_size=100"], "--queue_size must be a multiple of --batch_size=16, got 100"),
        (TINY, ["--queue_size=1600"], "well below the number of images"),
        (TINY, ["--stage=2", "--stage1=infomin/nothing"], "does not exist"),
        (TINY, ["--views=simclr", "--jigsaw"], "its crops are torchvision's, those of simclr are not"),
        (TINY, ["--schedule=step", "--min_lr=0.1"], "--min_lr=0.1 needs --schedule=cosine or epoch_cosine"),
        ((*TINY, FROM_1), ["--warmup_lr=0.1"], "--warmup_lr=0.1 needs --schedule=cosine, got --schedule=epoch_cosine"),
        ((*TINY, FROM_1), ["--warmup_epochs=0.5"], "--warmup_epochs must be whole with epoch_cosine_from_1"),
        (
            ("moco", *TINY[1:]),
            ["--views=infomin_jigsaw"],
            "'infomin_jigsaw' have jigsaw patches, which this command has",
        ),
    ):
        done = commands.run(*command, "--workdir=infomin/mistake", *arguments)
        assert done.code in (1, 2), message
        assert message in done.err.splitlines()[-1]
        assert "Traceback" not in done.err


@pytest.mark.parametrize("stop", [(signal.SIGTERM, 1), pytest.param((signal.SIGKILL, 3), marks=pytest.mark.slow)])
def test_a_stopped_run_ends_as_one_that_was_not(commands, stages, stop):
    saved.assert_goes_on(commands, (*TINY, "--stage=1", "--jigsaw"), stop, stages[0], STEPS)


BUILD = """
import json
import numpy as np
from absl import flags
from larq_ssl.experiments import chosen_views, stages, training, training_data
from larq_ssl.experiments import infomin as experiment

FLAGS = flags.FLAGS
FLAGS(["infomin", *{typed}])
data = training_data.Data(None, chosen_views.policy(FLAGS.views), steps_per_epoch=10)
method = experiment.build(data, None)
heads = {{name: [*head.spec.hidden_dims, head.spec.output_dim] for name, head in method.heads.items()}}
rate = training.learning_rate(data)
contrast = method.contrast
print(json.dumps({{
    "heads": heads,
    "inputs": {{name: head.spec.input_dim for name, head in method.heads.items()}},
    "kernels": [float(np.std(head.layers[0].kernel)) for head in method.heads.values()],
    "numbers": [contrast.temperature, contrast.momentum, contrast.batch_norm_groups, method.queue.size],
    "clip": method.gradient_clip,
    "rates": [float(rate(step)) for step in (0, 10, data.total_steps - 1)],
    "folder": str(stages.run_folder("infomin").path),
    **{{name: FLAGS[name].value for name in ("encoder", "views", "optimizer", "lr", "weight_decay", "schedule")}},
}}))
"""
SMALL = ("--encoder=resnet_18", "--width=0.125", "--image_size=32", "--epochs=4")


def _built(commands, *typed: str) -> dict:
    done = commands.python(BUILD.format(typed=list(typed)))
    assert done.code == 0, done.err
    return json.loads(done.out.splitlines()[-1])


def test_defaults_are_those_of_the_released_code(commands):
    told = _built(commands, *SMALL)
    dim = 64
    assert told["heads"] == {"student_head": [dim, 128], "momentum_head": [dim, 128]}
    # PyTorch's start: uniform within 1 / sqrt(inputs).
    assert told["kernels"] == pytest.approx([(3 * dim) ** -0.5] * 2, rel=0.05)
    assert told["numbers"] == [0.15, 0.999, 1, 65536]
    assert (told["optimizer"], told["lr"], told["weight_decay"]) == ("sgd", 0.03, 1e-4)
    assert (told["views"], told["clip"]) == ("infomin", None)
    floor = 3e-5
    rates = [floor + (0.03 - floor) * (1 + np.cos(np.pi * epoch / 4)) / 2 for epoch in (1, 2, 4)]
    assert told["rates"] == pytest.approx(rates, rel=1e-5)
    assert told["folder"] == "runs/infomin/digits-resnet_18/float"


@pytest.mark.parametrize("typed", [("--jigsaw",), ("--views=infomin_jigsaw",)])
def test_a_jigsaw_has_heads_of_its_own(commands, typed):
    told = _built(
        *(commands, *SMALL, *typed, "--hidden_dim=20", "--embedding_dim=10", "--queue_size=96"),
        *("--temperature=0.3", "--momentum=0.9", "--batch_norm_groups=2", "--gradient_clip=2"),
    )
    assert told["heads"] == {
        **{"student_head": [20, 10], "momentum_head": [20, 10], "patch_head": [20, 10], "jigsaw_head": [10]}
    }
    assert told["inputs"] == {"student_head": 64, "momentum_head": 64, "patch_head": 64, "jigsaw_head": 90}
    assert told["kernels"] == pytest.approx([(3 * width) ** -0.5 for width in told["inputs"].values()], rel=0.1)
    assert (told["numbers"], told["clip"]) == ([0.3, 0.9, 2, 96], 2)
    assert told["folder"].endswith("jigsaw/float") == ("--jigsaw" in typed)


def test_recipes_are_as_published(commands):
    names = ["imagenet/infomin_resnet_50", *(f"imagenet100/infomin_reactnet_a_stage{stage}" for stage in (1, 2))]
    official, *binary = parse(commands, "infomin", names).values()
    published = {
        **{"encoder": "resnet_50", "views": "infomin", "jigsaw": True, "queue_size": 65536, "temperature": 0.15},
        **{"momentum": 0.999, "embedding_dim": 128, "hidden_dim": None, "lr": 0.03, "min_lr": 3e-5},
        **{"weight_decay": 1e-4, "schedule": "epoch_cosine_from_1", "epochs": 200, "batch_size": 256},
        **{"optimizer_flag": "sgd", "warmup_epochs": 0, "batch_norm_groups": 8, "image_size": 224},
    }
    assert {name: official[name] for name in published} == published
    assert official["rates"] == pytest.approx([0.03, 3e-5], rel=1e-3)
    assert "70.1 %" in reach(names[0])
    # The optimizer is S2-BNN's.
    ours = {
        **{"encoder": "reactnet_a", "views": "infomin", "jigsaw": False, "temperature": 0.15, "queue_size": 16384},
        **{"momentum": 0.999, "embedding_dim": 128, "hidden_dim": None, "lr": 3e-4, "weight_decay": 1e-4, "min_lr": 0},
        **{"optimizer_flag": "adam", "schedule": "linear", "epochs": 200, "batch_size": 256, "image_size": 224},
        **{"batch_norm_groups": 8, "warmup_epochs": 0, "gradient_clip": None},
    }
    for name, told in zip(names[1:], binary, strict=True):
        assert {flag: told[flag] for flag in ours} == ours
        assert "45.38 %" in reach(name)

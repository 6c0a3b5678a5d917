"""The command of SimCLR: what its flags build, what a run holds, what stage 2 starts from, and (slow) exact resume."""

import json
import signal

import numpy as np
import pytest

from larq_ssl.experiments.run_folder import RunFolder
from tests.experiments import saved
from tests.experiments.commands import SHORT

TINY = (
    *("simclr", "--deterministic", "--epochs=2", "--steps_per_epoch=2", "--batch_size=16", *SHORT),
    *("--image_size=16", "--embedding_dim=6", "--knn_every=0", "--checkpoint_every=2"),
)
OURS = ("--joint_probe", "--memory", "--queue_size=96")
STEPS = 4


def _run(commands, name: str, *arguments: str) -> RunFolder:
    run = RunFolder(commands.folder / "simclr" / name)
    done = commands.run(*TINY, *arguments, f"--workdir={run.path}")
    assert done.code == 0, done.err
    return run


@pytest.fixture(scope="module")
def stages(commands) -> list[RunFolder]:
    """Both stages of a tiny run on digits; the networks of the second stand still."""
    still = ("--lr=0", "--momentum=1")
    return [_run(commands, f"stage{stage}", f"--stage={stage}", *OURS, *(still * (stage - 1))) for stage in (1, 2)]


def test_a_run_holds_networks_heads_and_the_queue(stages):
    for stage, run in enumerate(stages, start=1):
        found = {path.relative_to(run.path).as_posix() for path in run.path.glob("[ehm]*s/*")}
        assert found == {
            *("encoders/student", "encoders/ema", "heads/student_head", "heads/momentum_head", "memories/queue.npz")
        }
        queue = saved.arrays(run.memory("queue"))
        assert queue["keys"].shape == (96, 6)
        assert queue["pointer"] == stage * STEPS * 32 % 96
        np.testing.assert_allclose(np.linalg.norm(queue["keys"], axis=1), np.ones(96), rtol=1e-4)
        assert {"contrastive", "accuracy", "entropy", "embedding_std", "probe_accuracy"} <= run.results()[
            "metrics"
        ].keys()


def test_stage_2_goes_on_with_everything(stages):
    first, second = stages
    for name in ("student_head", "momentum_head"):
        saved.assert_equal_parameters(first.head(name), second.head(name))
    for name in ("student", "ema"):
        saved.assert_equal_parameters(*(run.encoder(name) / "weights.npz" for run in stages))


@pytest.mark.slow
def test_stage_2_keeps_the_queue_of_stage_1(commands, stages):
    """With one step, keys of stage 1 that are not overwritten lie beside those of the batch, from where it stopped."""
    one = ("--epochs=1", "--steps_per_epoch=1", f"--stage1={stages[0].path}")
    after = _run(commands, "one_step", "--stage=2", *OURS, *one)
    before, now = (saved.arrays(run.memory("queue"))["keys"] for run in (stages[0], after))
    place = STEPS * 32 % 96
    fresh = np.arange(place, place + 32) % 96
    kept = np.setdiff1d(np.arange(96), fresh)
    np.testing.assert_array_equal(now[kept], before[kept])
    assert not np.any(np.all(now[fresh] == before[fresh], axis=1))


@pytest.mark.slow
def test_a_float_network_without_memory_by_the_published_optimizer(commands):
    # Its branches start at zero and its learning rate too: the run itself checks that all of them wake up.
    published = ("--encoder=simclr_resnet_18", "--views=simclr", "--optimizer=lars_simclr", "--schedule=simclr")
    published += ("--lr=0.4", "--weight_decay=1e-4", "--warmup_epochs=1", "--joint_probe")
    run = _run(commands, "plain", "--binarization=none", *published, "--proj_layers=2")
    assert np.isfinite(run.results()["metrics"]["loss"])
    assert not run.memory("queue").exists()
    assert not run.encoder("ema").exists()
    kernels = [array for key, array in saved.arrays(run.head("student_head")).items() if key.endswith("kernel")]
    assert len(kernels) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--accumulate=2"], "--accumulate must be 1 for SimCLR"),
        (["--memory", "--queue_size=48"], "--queue_size must be a multiple of 32, the views of --batch_size=16 images"),
        (["--memory", "--queue_size=3200"], "--queue_size must be well below 2800, the views of 1400 images"),
        (["--queue_size=96"], "--queue_size=96 has no meaning without --memory"),
        (["--momentum=0.9"], "--momentum=0.9 has no meaning without --memory"),
        (["--proj_layers=5"], "--proj_layers"),
        (["--stage=2", "--stage1=simclr/nothing"], "does not exist"),
        (
            ["--optimizer=lars_simclr", "--final_weight_decay=0.1", "--joint_probe"],
            "--final_weight_decay=0.1 does not reach the classifier of --joint_probe",
        ),
    ],
)
def test_mistakes_are_one_sentence(commands, arguments, message):
    done = commands.run(*TINY, "--workdir=simclr/mistake", *arguments)
    assert done.code in (1, 2), message
    assert message in done.err
    assert "Traceback" not in done.err


@pytest.mark.slow
@pytest.mark.parametrize("stop", [(signal.SIGTERM, 1), (signal.SIGKILL, 3)])
def test_a_stopped_run_ends_as_one_that_was_not(commands, stages, stop):
    saved.assert_goes_on(commands, (*TINY, "--stage=1", *OURS), stop, stages[0], STEPS)


BUILD = """
import json
import numpy as np
from absl import flags
from larq_ssl.data import datasets
from larq_ssl.experiments import simclr as experiment, training, training_data
from larq_ssl.roles import variable_roles

FLAGS = flags.FLAGS
FLAGS(["simclr", *{typed}])
experiment.complete_flags()
experiment.check_flags()
data = training_data.Data(datasets.load_dataset("digits"), None, steps_per_epoch=10)
method = experiment.build(data, None)
specs = {{name: head.spec for name, head in method.heads.items()}}
layers = [layer for head in method.heads.values() for layer in head.layers]
rate = training.learning_rate(data)
print(json.dumps({{
    "encoder": [method.networks["student"].spec.name, method.networks["student"].spec.preprocessing],
    "heads": {{name: [spec.input_dim, *spec.hidden_dims, spec.output_dim] for name, spec in specs.items()}},
    "kernels": [float(np.std(layer.kernel)) for layer in layers if hasattr(layer, "kernel")],
    "norms": [[layer.synchronized, layer.center] for layer in layers if "bn" in layer.name],
    "temperature": method.temperature,
    "memory": method.queue and [method.queue.size, method.queue.seed, method.momentum],
    "networks": sorted(method.networks),
    "probe": [role.value for _, role in variable_roles(method.networks["linear_probe"])] if FLAGS.joint_probe else None,
    "probe_weight_decay": method._probe.weight_decay,
    "clip": method.gradient_clip,
    "optimizer": FLAGS.optimizer,
    "decay": training.optimizer(data).get_config()["weight_decay"],
    "rates": [float(rate(step)) for step in (0, 5, 10, 20, data.total_steps - 1, data.total_steps)],
    "warmup_epochs": FLAGS.warmup_epochs,
}}))
"""
SMALL = ("--encoder=resnet_18", "--width=0.125", "--image_size=16", "--stem=cifar")


def built(commands, *typed: str) -> dict:
    done = commands.python(BUILD.format(typed=[*SMALL, *typed]))
    assert done.code == 0, done.err
    return json.loads(done.out.splitlines()[-1])


def test_by_default_it_is_simclr_v2_without_memory(commands):
    told = built(commands)
    assert told["encoder"] == ["resnet_18", "unit"]
    assert told["heads"] == {"student_head": [64, 64, 64, 128]}
    assert told["kernels"] == pytest.approx([0.01] * 3, rel=0.05)
    # The last norm has no shift. One device: Keras's faster layer does the same as a synchronised one.
    assert told["norms"] == [[False, True], [False, True], [False, False]]
    assert told["temperature"] == 0.1
    assert (told["memory"], told["networks"]) == (None, ["student", "student_head"])
    assert (told["optimizer"], told["clip"]) == ("lars_simclr", None)
    assert told["decay"] == told["probe_weight_decay"] == pytest.approx(1e-4)
    # 5 % of 200 epochs of 10 steps are a warm-up of 100 from zero, the cosine ends after the last step.
    assert told["warmup_epochs"] == 10
    cosine = [0.8 * (1 + np.cos(np.pi * step / 1901)) for step in (1899, 1900)]
    assert told["rates"] == pytest.approx([0, 0.08, 0.16, 0.32, *cosine], rel=1e-5, abs=1e-9)


def test_it_has_what_its_flags_say(commands):
    told = built(
        commands,
        *("--proj_layers=4", "--embedding_dim=20", "--temperature=0.5", "--memory", "--queue_size=1024", "--seed=3"),
        *("--momentum=0.9", "--joint_probe", "--gradient_clip=2", "--weight_decay=1e-3", "--strategy=mirrored"),
        *("--epochs=4", "--lr=0.5", "--warmup_epochs=1"),
    )
    assert told["heads"] == {name: [64, 64, 64, 64, 20] for name in ("student_head", "momentum_head")}
    assert told["norms"] == [[True, True]] * 3 + [[True, False]] + [[True, True]] * 3 + [[True, False]]
    assert (told["temperature"], told["clip"]) == (0.5, 2)
    assert told["memory"] == [1024, 3, 0.9]
    assert told["networks"] == ["linear_probe", "momentum_encoder", "momentum_head", "student", "student_head"]
    assert told["probe"] == ["last_layer", "bias"]
    assert told["decay"] == told["probe_weight_decay"] == pytest.approx(1e-3)
    assert told["rates"][:4] == pytest.approx([0, 0.25, 0.5, 0.25 * (1 + np.cos(np.pi * 10 / 31))], rel=1e-5)


def test_the_memory_by_default_is_that_of_the_paper(commands):
    assert built(commands, "--memory")["memory"] == [65536, 0, 0.999]


def test_an_optimizer_that_decays_the_probe_itself_is_not_helped(commands):
    told = built(commands, "--optimizer=adam", "--schedule=cosine", "--lr=1e-3", "--joint_probe")
    assert (told["probe_weight_decay"], told["warmup_epochs"]) == (0, 0)
    assert told["decay"] == pytest.approx(1e-4)
    assert told["rates"][0] == pytest.approx(1e-3)


def test_defaults(commands):
    expected = {
        **{"encoder": "simclr_resnet_50", "views": "simclr", "preprocessing": "unit", "optimizer": "lars_simclr"},
        **{"lr": 1.6, "weight_decay": 1e-4, "schedule": "simclr", "sync_batch_norm": True, "batch_size": 256},
        **{"epochs": 200, "temperature": 0.1, "proj_layers": 3, "embedding_dim": 128, "memory": False},
        **{"queue_size": None, "momentum": None, "joint_probe": False, "min_lr": 0, "final_weight_decay": None},
    }
    code = f"""
import json
from absl import flags
from larq_ssl.experiments import simclr
flags.FLAGS(["simclr"])
print(json.dumps({{name: flags.FLAGS[name].value for name in {list(expected)}}}))
"""
    done = commands.python(code)
    assert done.code == 0, done.err
    assert json.loads(done.out.splitlines()[-1]) == expected

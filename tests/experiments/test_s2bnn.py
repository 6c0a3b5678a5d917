"""The S2-BNN command: what a scheme makes and starts from; (slow) a stopped run ends to the bit as one that was not."""

import json
import signal

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import models
from larq_ssl.experiments.common import SIGTERM_EXIT
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.heads import mlp_head
from larq_ssl.memories import load_memory, save_memory
from larq_ssl.models.folder import encoder_hash, load_encoder, save_encoder, save_head
from larq_ssl.queue import KeyQueue
from tests.experiments.commands import SHORT, SHORT_FLOAT

TINY = (
    *("s2bnn", "--deterministic", "--epochs=2", "--steps_per_epoch=2", "--batch_size=32", *SHORT),
    *("--image_size=8", "--embedding_dim=8", "--knn_every=0", "--checkpoint_every=2"),
)
BOTH = (*TINY, "--scheme=contrastive_guided", "--queue_size=160", "--stage=2", "--stage1=s2bnn/stage1")
GUIDED = (*TINY, "--scheme=guided")
# A float student, which is built sooner.
FLOAT = (*GUIDED, "--binarization=none", *SHORT_FLOAT, "--stem=cifar", "--views=digits")
TEACHER = "--teacher=s2bnn/teacher"
STEPS = 4

# What flags and method are without a recipe, by scheme; nothing is built.
BARE = """
import json
from unittest import mock
from absl import flags
from absl.testing import flagsaver
from larq_ssl.experiments import contrast_flags, s2bnn

FLAGS, report = flags.FLAGS, {{}}
FLAGS.mark_as_parsed()
networks = lambda before, *heads: [(None, None)] * len(heads)
for scheme in s2bnn.SCHEMES:
    with (
        flagsaver.flagsaver(),
        mock.patch.object(contrast_flags, "networks", networks),
        mock.patch.object(s2bnn, "S2BNN", lambda *_, **arguments: arguments),
    ):
        FLAGS(["s2bnn", f"--scheme={{scheme}}", *{typed}])
        s2bnn.complete_flags()
        report[scheme] = {{"flags": {{name: FLAGS[name].value for name in FLAGS}}, "method": s2bnn.build(None, None)}}
print(json.dumps(report, default=str))
"""


class Runs:
    """Stage 2 of both terms, after a stage 1 that was imported, and a guided network."""

    def __init__(self, commands):
        self.commands = commands
        teacher = models.build("resnet_short", None, "none", "cifar", 0.125)
        self._finished("teacher", {"student": teacher}, ("student_head",))
        students = {
            name: models.build("reactnet_short", None, "activations", "cifar", 0.125) for name in ("student", "ema")
        }
        stage1 = self._finished("stage1", students, ("student_head", "momentum_head"))
        (stage1.path / "import.json").write_text("{}")
        queue = KeyQueue(160, 8, seed=5)
        queue.pointer.assign(64)
        save_memory(queue, stage1.memory("queue"))
        self.said = {
            "both": self.run(*BOTH, TEACHER, "--workdir=s2bnn/both"),
            "guided": self.run(*FLOAT, TEACHER, "--workdir=s2bnn/guided"),
        }

    def _finished(self, name, encoders, heads):
        run = self.folder(name)
        for encoder, network in encoders.items():
            save_encoder(network, run.encoder(encoder))
        dim = encoders["student"].feature_dim
        for head in heads:
            save_head(mlp_head(head, dim, [dim], 8, norm="none"), run.head(head).parent)
        hashes = {encoder: encoder_hash(network) for encoder, network in encoders.items()}
        run.results_file.write_text(json.dumps({"metrics": {}, "encoders": hashes}))
        return run

    def run(self, *command):
        done = self.commands.run(*command)
        assert done.code == 0, done.err
        return done.out

    def folder(self, name):
        return RunFolder(self.commands.folder / "s2bnn" / name)


def bare(commands, *typed) -> dict[str, dict]:
    done = commands.python(BARE.format(typed=list(typed)))
    assert done.code == 0, done.err
    return json.loads(done.out.splitlines()[-1])


@pytest.fixture(scope="module")
def runs(commands) -> Runs:
    return Runs(commands)


def arrays(file) -> dict[str, np.ndarray]:
    with np.load(file) as held:
        return dict(held)


def state(run: RunFolder, step: int = STEPS) -> dict[str, np.ndarray]:
    reader = tf.train.load_checkpoint(str(run.checkpoints / f"step-{step:09d}" / "state"))
    names = [name for name in reader.get_variable_to_shape_map() if name != "_CHECKPOINTABLE_OBJECT_GRAPH"]
    return {name: np.asarray(reader.get_tensor(name)) for name in names}


def test_without_a_recipe_flags_are_those_of_the_released_commands(commands):
    decays = {"contrastive": 1e-4, "contrastive_guided": 0.0, "guided": 0.0}
    report = bare(commands)
    assert report.keys() == decays.keys()
    for scheme, told in report.items():
        expected = {"encoder": "reactnet_a", "views": "s2bnn", "optimizer": "adam", "lr": 3e-4, "schedule": "linear"}
        expected |= {"weight_decay": decays[scheme], "temperature": 0.2, "embedding_dim": 128, "hidden_dim": None}
        assert {name: told["flags"][name] for name in expected} == expected
        contrast = {"queue_size": 65536, "momentum": 0.999, "batch_norm_groups": 1, "seed": 0}
        assert {name: told["method"].get(name) for name in contrast} == (
            dict.fromkeys(contrast) if scheme == "guided" else contrast
        )


def test_typed_flags_reach_the_method(commands):
    typed = {"temperature": 0.3, "gradient_clip": 0.5, "accumulate": 2}
    report = bare(commands, *(f"--{name}={value}" for name, value in typed.items()), "--weight_decay=0.01", "--seed=3")
    for scheme, told in report.items():
        assert {name: told["method"][name] for name in typed} == typed
        assert told["method"]["distillation_temperature"] is None
        assert told["method"].get("seed") == (None if scheme == "guided" else 3)
        assert told["flags"]["weight_decay"] == 0.01


def test_a_run_holds_what_its_scheme_makes(runs):
    of_contrast = {"encoders/ema", "heads/momentum_head", "memories/queue.npz"}
    for name, made, inputs, arithmetic in (
        ("both", of_contrast, {"stage 1"}, {"binary compute", "teacher compute"}),
        ("guided", set(), set(), {"teacher compute"}),
    ):
        run = runs.folder(name)
        found = {path.relative_to(run.path).as_posix() for path in run.path.glob("[ehm]*s/*")}
        assert found == {"encoders/student", "heads/student_head"} | made
        student = load_encoder(run.encoder("student"))
        assert student.spec.binarization == ("full" if name == "both" else "none")
        assert run.results()["encoders"]["student"] == encoder_hash(student)
        assert set(run.inputs()) == {"data", "teacher", "teacher head"} | inputs | arithmetic
        assert "Teacher: s2bnn/teacher/encoders/student" in run.licences_file.read_text()


def test_the_metrics_are_those_of_the_scheme(runs):
    both, guided = (runs.folder(name).results()["metrics"] for name in ("both", "guided"))
    of_contrast = {"contrastive", "accuracy"}
    terms = {"loss", "distillation", "distillation_kl", "target_entropy", "embedding_std"} | of_contrast
    assert terms <= both.keys()
    assert terms & guided.keys() == terms - of_contrast
    assert both["loss"] == pytest.approx(both["contrastive"] + both["distillation"], rel=1e-5)
    for metrics in (both, guided):
        above = metrics["distillation"] - metrics["target_entropy"]
        assert metrics["distillation_kl"] == pytest.approx(above, abs=1e-5)


def test_the_defaults_of_a_scheme_are_on_record_and_replay_it(runs):
    both, guided = (runs.folder(name).flags() for name in ("both", "guided"))
    assert both["recipe"] == "digits/s2bnn_contrastive_guided_stage2"
    assert (both["momentum"], both["batch_norm_groups"], both["weight_decay"]) == ("0.99", "1", "0.0")
    assert (guided["schedule"], guided["lr"], guided["weight_decay"]) == ("linear", "0.0003", "0.0")
    assert not {"momentum", "queue_size", "batch_norm_groups"} & set(guided)
    replay = runs.folder("guided").flags_file.read_text().splitlines()[0].split()[4:]
    assert "finished earlier" in runs.run("s2bnn", *replay)


def test_guided_has_no_variable_of_a_momentum_encoder_or_queue_and_one_view(runs):
    of_guided, of_both = state(runs.folder("guided")), state(runs.folder("both"))
    for part in ("momentum", "queue"):
        assert not [name for name in of_guided if part in name]
        assert [name for name in of_both if part in name]
    assert "; not optimised: teacher, teacher_head." in runs.said["guided"]
    # Rows are images, columns are views.
    pictures = [tf.io.read_file(str(runs.folder(name).path / "views.png")) for name in ("guided", "both")]
    (height, one, _), (same_height, two, _) = (tf.io.decode_png(picture).shape for picture in pictures)
    assert height == same_height
    assert one < two


def test_stage_2_starts_with_all_that_stage_1_made(runs):
    said = runs.said["both"]
    for name in ("student", "ema"):
        assert f"{name} starts from s2bnn/stage1/encoders/{name}: 3 of 3 binary kernels" in said
    for name in ("student_head", "momentum_head"):
        assert f"{name} starts from s2bnn/stage1/heads/{name}/weights.npz: 4 of 4 tensors." in said
    assert "queue starts from s2bnn/stage1/memories/queue.npz." in said
    # It has no flags to be compared with.
    assert "Warning" not in said
    before, after = (arrays(runs.folder(name).memory("queue")) for name in ("stage1", "both"))
    # Four batches of 32 keys, from row 64 on, in a queue of 160.
    assert after["pointer"] == (before["pointer"] + STEPS * 32) % 160 == 32
    same = (before["keys"] == after["keys"]).all(axis=1)
    assert same.tolist() == [False] * 32 + [True] * 32 + [False] * 96


def test_the_teacher_is_in_the_last_checkpoint_what_it_was_at_first(runs):
    saved = state(runs.folder("both"))
    for folder, network in (("encoders/student", "teacher"), ("heads/student_head", "teacher_head")):
        given = arrays(runs.folder("teacher").path / folder / "weights.npz").values()
        kept = [value for name, value in saved.items() if f"/{network}/" in name]
        assert sorted(value.tobytes() for value in kept) == sorted(value.tobytes() for value in given)


@pytest.mark.slow
def test_batches_that_do_not_fit_the_queue_of_stage_1_are_refused(runs):
    done = runs.commands.run(*BOTH, TEACHER, "--batch_size=80", "--workdir=s2bnn/other")
    assert done.code == 2
    assert "--batch_size must divide the place at which the queue of stage 1 stopped (64), got 80" in done.err
    assert not runs.folder("other").path.exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["both", "guided", "contrastive"])
def test_a_run_that_was_stopped_ends_as_one_that_was_not(runs, name):
    contrastive = tuple(flag.replace("contrastive_guided", "contrastive") for flag in BOTH)
    guided = (*GUIDED, TEACHER, "--one_stage")
    command = {"both": (*BOTH, TEACHER), "guided": guided, "contrastive": contrastive}[name]
    whole, disturbed = runs.folder(f"{name}-whole"), runs.folder(f"{name}-disturbed")
    runs.run(*command, f"--workdir={whole.path}")
    command = (*command, f"--workdir={disturbed.path}")
    assert runs.commands.run(*command, kill=(signal.SIGTERM, "step", 3)).code == SIGTERM_EXIT
    assert not disturbed.finished
    runs.run(*command)
    left, right = state(disturbed), state(whole)
    assert set(left) == set(right)
    assert [part for part in right if left[part].tobytes() != right[part].tobytes()] == []
    for part in ["student", "/m/", "/v/", *(["queue/keys", "momentum_encoder"] if name != "guided" else [])]:
        assert any(part in saved for saved in right), part
    files = [file.relative_to(whole.path) for file in whole.path.glob("[ehm]*s/**/*.npz")]
    assert len(files) == (2 if name == "guided" else 5)
    for file in files:
        assert (disturbed.path / file).read_bytes() == (whole.path / file).read_bytes()
    if name != "guided":
        queue = KeyQueue(160, 8)
        load_memory(queue, disturbed.memory("queue"))
        assert int(queue.pointer) == 32

"""What a teacher is computed in is tried without a trace, found out once, and right to a thousandth of the loss."""

import json
import signal
import types

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import models
from larq_ssl.experiments import teacher_arithmetic
from larq_ssl.experiments.common import TIME_EXIT
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.heads import mlp_head
from larq_ssl.methods.bssl import BSSL
from larq_ssl.methods.s2bnn import S2BNN
from larq_ssl.models.folder import load_encoder, save_encoder, save_head
from larq_ssl.optimizers import SGD
from tests.experiments import saved
from tests.experiments.commands import ROOT, SHORT

STUDENT = {"name": "reactnet_short", "stem": "cifar", "width": 0.125}
TEACHER = {"name": "resnet_short", "binarization": "none", "stem": "cifar", "width": 0.5}


@pytest.fixture(scope="module")
def teacher(commands, tmp_path_factory):
    """A run of a float network, of which only what a teacher needs is there."""
    tf.keras.utils.set_random_seed(0)
    run = RunFolder(tmp_path_factory.mktemp("teacher") / "run")
    encoder = models.build(**TEACHER)
    for _ in range(60):  # its BatchNorm knows such images, as of one that is trained
        encoder(batch_of(64)["global"][:, 0], training=True)
    save_encoder(encoder, run.encoder("student"))
    save_head(mlp_head("student_head", encoder.feature_dim, [16], 8, norm="none"), run.head("student_head").parent)
    return run


@pytest.fixture
def flags(monkeypatch):
    told = types.SimpleNamespace(teacher_compute="auto", precision="float32")
    monkeypatch.setattr(teacher_arithmetic, "FLAGS", told)
    return told


@pytest.fixture
def crew():
    return types.SimpleNamespace(strategy=tf.distribute.get_strategy(), numbers=lambda number: [number])


def ratio_of(monkeypatch, ratio):
    monkeypatch.setattr(teacher_arithmetic, "_measured_ratio", lambda *_: ratio)


def method_of(teacher, name="bssl"):
    tf.keras.utils.set_random_seed(1)
    frozen = teacher_arithmetic.load(teacher.encoder("student"))
    if name == "bssl":
        method = BSSL(frozen, models.build(**STUDENT))
    else:
        student = models.build(**STUDENT)
        heads = [
            mlp_head(head, net.feature_dim, [16], 8, norm="none")
            for head, net in (("student_head", student), ("teacher_head", frozen))
        ]
        method = S2BNN(student, heads[0], "guided", frozen, heads[1])
    method.compile(SGD(0.1))
    return method


def batch_of(size=8, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (size, 2, 16, 16, 3), np.uint8)
    return {"global": tf.constant(pixels), "id": tf.range(size), "label": tf.range(size)}


@pytest.mark.parametrize("name", ["bssl", "s2bnn"])
def test_bfloat16_leaves_the_loss_within_a_thousandth(teacher, flags, crew, monkeypatch, name):
    ratio_of(monkeypatch, 2.0)
    method, other = method_of(teacher, name), method_of(teacher, name)
    variables = method.variables
    before = [variable.numpy() for variable in variables]
    found = teacher_arithmetic.settle(crew, teacher.encoder("student"), method, batch_of(64))
    assert found == {"teacher compute": "bfloat16"}
    assert flags.teacher_compute == "bfloat16"
    # No statistic and no weight has moved, and the teacher is the same network.
    for variable, value in zip(variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value, err_msg=variable.name)
    assert method.networks["teacher"].layers[-1].compute_dtype == "float32"
    assert {layer.compute_dtype for layer in method.networks["teacher"].layers} == {"float32", "bfloat16"}
    for seed in range(3):
        losses = [float(tf.reduce_mean(each.loss_terms(batch_of(64, seed))["loss"])) for each in (method, other)]
        assert losses[0] != losses[1]
        assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert tf.keras.mixed_precision.global_policy().name == "float32"
    # It trains, and the teacher stays.
    frozen = [weight.numpy() for weight in method.networks["teacher"].weights]
    moved = [weight.numpy() for weight in method.optimized_variables]
    method.fit(tf.data.Dataset.from_tensors(batch_of()).repeat(2), verbose=0)
    assert not method.variables_without_gradient()
    for weight, value in zip(method.networks["teacher"].weights, frozen, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)
    assert all(np.any(weight.numpy() != value) for weight, value in zip(method.optimized_variables, moved, strict=True))


def test_a_loss_that_changes_more_is_not_taken(teacher, flags, crew, monkeypatch, capsys):
    ratio_of(monkeypatch, 2.0)
    method = method_of(teacher)
    plain, seen = method.networks["teacher"], []

    def loss(strategy, method, batch):
        seen.append(method.networks["teacher"])
        method.networks["student"].variables[0].assign_add(tf.ones_like(method.networks["student"].variables[0]))
        return [2.0, 2.0024][len(seen) - 1]

    monkeypatch.setattr(teacher_arithmetic, "_loss", loss)
    before = method.networks["student"].variables[0].numpy()
    found = teacher_arithmetic.settle(crew, teacher.encoder("student"), method, batch_of())
    assert found == {"teacher compute": "float32"}
    assert method.networks["teacher"] is plain is seen[0]
    assert seen[1] is not plain
    np.testing.assert_array_equal(method.networks["student"].variables[0].numpy(), before)
    told = capsys.readouterr().out
    assert "The teacher computes in float32: in bfloat16 it takes 0.50 times as long as in float32" in told
    assert "changes the loss of the first batch by 1.2e-03 of it" in told


def test_where_bfloat16_is_no_faster_the_loss_is_not_computed(teacher, flags, crew, monkeypatch, capsys):
    ratio_of(monkeypatch, 1.04)
    monkeypatch.setattr(teacher_arithmetic, "_loss", lambda *_: pytest.fail("computed"))
    method = method_of(teacher)
    found = teacher_arithmetic.settle(crew, teacher.encoder("student"), method, batch_of())
    assert (found, flags.teacher_compute) == ({"teacher compute": "float32"}, "float32")
    assert "The teacher computes in float32" in capsys.readouterr().out


def test_what_is_timed_is_both_networks(teacher, flags):
    plain = teacher_arithmetic.load(teacher.encoder("student"))
    calls = []

    def watched(images, training):
        calls.append(training)
        return plain(images, training=training)

    assert teacher_arithmetic._measured_ratio(plain, watched, batch_of()) > 0
    assert calls == [False]  # traced once, in inference mode


def test_binary_teachers_and_other_precisions_stay_as_they_are(flags, crew, tmp_path):
    save_encoder(models.build(**STUDENT), tmp_path / "binary")
    method = types.SimpleNamespace(networks={"teacher": None})
    assert teacher_arithmetic.settle(crew, tmp_path / "binary", method, {}) == {}
    assert flags.teacher_compute == "float32"
    flags.teacher_compute = "bfloat16"
    with pytest.raises(ValueError, match="--teacher_compute=bfloat16 is for float teachers and --precision=float32"):
        teacher_arithmetic.load(tmp_path / "binary")


def test_weights_and_features_are_float32(teacher, flags):
    flags.teacher_compute = "bfloat16"
    small, plain = teacher_arithmetic.load(teacher.encoder("student")), load_encoder(teacher.encoder("student"))
    for one, other in zip(small.weights, plain.weights, strict=True):
        assert one.dtype == tf.float32
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    features = [network(batch_of()["global"][:, 0], training=False) for network in (small, plain)]
    assert features[0].dtype == tf.float32
    assert np.any(features[0].numpy() != features[1].numpy())
    np.testing.assert_allclose(*features, rtol=0.05, atol=0.05 * np.abs(features[1]).max())


WORDS = (
    *("s2bnn", "--scheme=guided", "--deterministic", "--one_stage", "--epochs=2", "--steps_per_epoch=3"),
    *("--batch_size=16", "--embedding_dim=8", "--image_size=8", "--knn_every=0", "--diagnostics_every=0"),
    *("--embeddings_every=0", "--binary_compute=float32", *SHORT),
)
MEASURED = """
import runpy, sys
sys.path.insert(0, {root!r})
from larq_ssl.experiments import teacher_arithmetic
teacher_arithmetic._measured_ratio = lambda *_: {ratio}
sys.argv = {words!r}
runpy.run_module("larq_ssl.experiments.s2bnn", run_name="__main__", alter_sys=True)
"""


def train(commands, teacher, name, *words, ratio=None):
    words = [*WORDS, f"--teacher={teacher.path}", f"--workdir=teacher-{name}", *words]
    if ratio is None:
        return commands.run(*words)
    return commands.python(MEASURED.format(root=str(ROOT), ratio=ratio, words=words))


@pytest.mark.parametrize("stop", [(signal.SIGTERM, 1), (signal.SIGKILL, 5)])
def test_a_run_that_is_stopped_ends_as_one_that_was_not(commands, teacher, stop):
    command = (*WORDS, f"--teacher={teacher.path}", "--teacher_compute=bfloat16", "--checkpoint_every=2")
    whole = RunFolder(commands.folder / "of_teacher" / "whole")
    if not whole.finished:
        done = commands.run(*command, f"--workdir={whole.path}")
        assert done.code == 0, done.err
    saved.assert_goes_on(commands, command, stop, whole, 6)


def test_two_workers_learn_from_the_teacher_of_one(commands, teacher):
    """One step, of which flipped signs are a small part."""
    command = [*WORDS, f"--teacher={teacher.path}", "--sync_batch_norm", "--optimizer=sgd", "--lr=0.01", "--epochs=1"]
    command += ["--steps_per_epoch=1", "--teacher_compute=bfloat16"]
    one, two = (RunFolder(commands.folder / "of_teacher" / name) for name in ("one", "two"))
    done = commands.run(*command, f"--workdir={one.path}")
    assert done.code == 0, done.err
    chief, other = commands.together(*command, f"--workdir={two.path}")
    assert (chief.code, other.code) == (0, 0), chief.out + other.out
    expected, actual = saved.state(one, 1), saved.state(two, 1)
    assert expected.keys() == actual.keys()
    for name in expected:
        if "student" in name and "moving_variance" not in name:
            np.testing.assert_allclose(actual[name], expected[name], rtol=0, atol=2e-3, err_msg=name)
    losses = [json.loads(run.metrics_file.read_text().splitlines()[-1])["loss"] for run in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


@pytest.mark.parametrize(("compute", "ratio"), [("float32", 0.5), ("bfloat16", 2.0)])
def test_a_run_goes_on_as_it_began(commands, teacher, compute, ratio):
    """Also where the trial would end otherwise; the end is that of a run with the flag, to the bit."""
    given = train(commands, teacher, compute, f"--teacher_compute={compute}")
    assert given.code == 0, given.err
    assert "The teacher computes" not in given.out
    stopped = train(commands, teacher, f"auto-{compute}", "--max_hours=1e-9", ratio=ratio)
    assert stopped.code == TIME_EXIT, stopped.err
    assert f"The teacher computes in {compute}" in stopped.out
    run = RunFolder(commands.folder / f"teacher-auto-{compute}")
    assert run.inputs()["teacher compute"] == compute
    ended = train(commands, teacher, f"auto-{compute}", ratio=1 / ratio)
    assert ended.code == 0, ended.err
    assert "going on after step" in ended.out
    assert "The teacher computes" not in ended.out
    other = RunFolder(commands.folder / f"teacher-{compute}")
    assert "teacher compute" not in other.inputs()
    assert run.results()["encoders"] == other.results()["encoders"]


def test_runs_of_before_there_were_the_flags_go_on_in_float32(commands, teacher):
    begun = ["--binary_compute=float32", "--teacher_compute=float32"]
    assert train(commands, teacher, "new", *begun).code == 0
    stopped = train(commands, teacher, "old", *begun, "--max_hours=1e-9")
    assert stopped.code == TIME_EXIT, stopped.err
    run = RunFolder(commands.folder / "teacher-old")
    lines = run.flags_file.read_text().splitlines()
    run.flags_file.write_text("".join(f"{line}\n" for line in lines if "_compute" not in line))
    refused = train(commands, teacher, "old", "--teacher_compute=bfloat16")
    assert refused.code == 2
    assert "--teacher_compute=bfloat16 differs" in refused.err
    ended = train(commands, teacher, "old", "--binary_compute=auto", ratio=2.0)
    assert ended.code == 0, ended.err
    assert run.results()["encoders"] == RunFolder(commands.folder / "teacher-new").results()["encoders"]

"""Stage 2 starts from stage 1: all 31 binary kernels of ReActNet-A, strictly."""

import dataclasses
import types

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import models
from larq_ssl.experiments import stages
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.files import write_json
from larq_ssl.heads import mlp_head
from larq_ssl.memories import save_memory
from larq_ssl.methods.bssl import BSSL, default_heads
from larq_ssl.methods.s2bnn import S2BNN
from larq_ssl.models.folder import save_encoder, save_weights
from larq_ssl.models.transfer import named_weights
from larq_ssl.queue import KeyQueue

CLASSES = 8


def bssl(binarization: str, width: float = 0.125) -> BSSL:
    teacher = models.build("resnet_18", None, "none", "cifar", 0.125)
    student = models.build("reactnet_a", None, binarization, "imagenet", width)
    heads = default_heads(teacher, student, classes=CLASSES, hidden_dim=CLASSES)
    return BSSL(teacher=teacher, student=student, heads=heads)


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """Stage 1, in which every weight has a value of its own, and the folder of its run."""
    method, rng = bssl("activations"), np.random.default_rng(0)
    for network in (*method.encoders.values(), *method.heads.values()):
        for variable in named_weights(network).values():
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    run = RunFolder(tmp_path_factory.mktemp("stage1"))
    for name, encoder in method.encoders.items():
        save_encoder(encoder, run.encoder(name))
    for name, head in method.heads.items():
        save_weights(head, run.head(name))
    # Not the networks: Keras is cleared after each test.
    return run, {name: values(network) for name, network in (method.encoders | method.heads).items()}


def values(network) -> dict[str, np.ndarray]:
    return {name: variable.numpy() for name, variable in named_weights(network).items()}


def equal(network, expected: dict[str, np.ndarray]) -> bool:
    given = values(network)
    return set(given) == set(expected) and all(np.array_equal(given[name], expected[name]) for name in expected)


def test_stage_2_starts_with_31_of_31_binary_kernels_and_all_else(before, capsys):
    run, saved = before
    method = bssl("full")
    assert len(method.encoders["student"].binary_layers) == 31
    stages.inherit(method, run)
    tensors = len(saved["student"])
    expected = f"student starts from {run.encoder('student')}: 31 of 31 binary kernels, {tensors} of {tensors} tensors."
    said = capsys.readouterr().out.splitlines()
    assert expected in said
    assert len(said) == len(saved) == 4
    for name, network in (method.encoders | method.heads).items():
        assert equal(network, saved[name]), name


def test_other_settings_than_those_of_stage_1_are_told(before, monkeypatch, capsys):
    run, _ = before
    told = {"classes": "8", "preset": "paper", "temperature": "0.2"}
    monkeypatch.setattr(RunFolder, "flags", lambda self: told)
    values_now = {"classes": 9, "preset": "paper", "temperature": 0.2, "feature_scale": 2.0, "feature_source": None}
    monkeypatch.setattr(
        stages, "FLAGS", {name: types.SimpleNamespace(value=value) for name, value in values_now.items()}
    )
    stages.warn_of_other(run, ["preset", "temperature", "feature_source"])
    assert capsys.readouterr().out == ""
    stages.warn_of_other(run, list(values_now))
    assert capsys.readouterr().out == (
        f"Warning: stage 2 trains by other settings than {run.path}: --classes=9 (8 in stage 1), "
        "--feature_scale=2.0 (None in stage 1).\n"
    )


def test_a_head_may_start_anew(before, capsys):
    run, saved = before
    method = bssl("full")
    fresh = values(method.heads["teacher_head"])
    stages.inherit(method, run, leave=("teacher_head",))
    assert equal(method.heads["teacher_head"], fresh)
    assert equal(method.heads["student_head"], saved["student_head"])
    assert "teacher_head" not in capsys.readouterr().out


def test_another_width_is_refused_and_nothing_is_copied(before):
    run, _ = before
    method = bssl("full", width=0.5)
    fresh = values(method.encoders["student"])
    with pytest.raises(ValueError, match=r"The weight '.*' must have the shape"):
        stages.inherit(method, run)
    assert equal(method.encoders["student"], fresh)


def test_another_network_is_refused(before):
    run, _ = before
    method = bssl("full")
    method.networks["student"] = models.build("reactnet_18", None, "full", "cifar", 0.125)
    with pytest.raises(ValueError, match=r"The weight '.*' of `reactnet_18` is missing"):
        stages.inherit(method, run)


def contrastive() -> S2BNN:
    """A contrastive method, with a momentum encoder and a queue."""
    networks = {}
    for encoder, head in (("student", "student_head"), ("momentum_encoder", "momentum_head")):
        # Float, which is built sooner: what is inherited is the same.
        networks[encoder] = models.build("resnet_18", None, "none", "cifar", 0.125)
        networks[head] = mlp_head(head, networks[encoder].feature_dim, [6], 5, norm="none")
    return S2BNN(scheme="contrastive", **networks, queue_size=12)


def test_stage_2_goes_on_with_momentum_encoder_and_queue(tmp_path, capsys):
    method, rng, run = contrastive(), np.random.default_rng(1), RunFolder(tmp_path)
    saved = {}
    for name, network in (method.encoders | method.heads).items():
        for variable in named_weights(network).values():
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        saved[name] = values(network)
    keys = rng.uniform(size=(12, 5)).astype(np.float32)
    method.queue.keys.assign(keys)
    method.queue.pointer.assign(8)
    for name, encoder in method.encoders.items():
        save_encoder(encoder, run.encoder(name))
    for name, head in method.heads.items():
        save_weights(head, run.head(name))
    save_memory(method.queue, run.memory("queue"))

    for network in (*method.encoders.values(), *method.heads.values(), method.queue):
        for variable in network.weights:
            variable.assign(tf.zeros_like(variable))
    stages.inherit(method, run)
    for name, network in (method.encoders | method.heads).items():
        assert equal(network, saved[name]), name
    assert set(saved) == {"student", "ema", "student_head", "momentum_head"}
    np.testing.assert_array_equal(method.queue.keys, keys)
    assert int(method.queue.pointer) == 8
    said = capsys.readouterr().out
    assert f"ema starts from {run.encoder('ema')}: " in said
    assert f"queue starts from {run.memory('queue')}." in said

    # The same weights, but of other pixels.
    student = method.networks["student"]
    method.networks["student"] = models.build("resnet_18", None, "none", "cifar", 0.125, preprocessing="unit")
    with pytest.raises(ValueError, match="preprocessing must be 'imagenet', as of the encoder in .*, got 'unit'"):
        stages.inherit(method, run)
    method.networks["student"] = student

    method.queue = KeyQueue(16, 5)
    with pytest.raises(
        ValueError, match=r"does not fit `queue`: keys must be float32 \[16, 5\], not float32 \[12, 5\]"
    ):
        stages.inherit(method, run)
    # What is missing is named before anything is copied.
    run.memory("queue").unlink()
    method.networks["student_head"].layers[0].bias.assign(tf.zeros([6]))
    with pytest.raises(ValueError, match="memories/queue.npz does not exist, with which stage 2 goes on"):
        stages.inherit(method, run)
    assert not method.networks["student_head"].layers[0].bias.numpy().any()


def stage2_flags(monkeypatch, **values_now):
    told = {"stage": 2, "one_stage": False, "stage1": None, **values_now}
    monkeypatch.setattr(stages, "FLAGS", types.SimpleNamespace(**told))


def finished(folder, binarization: str, *files: str) -> RunFolder:
    run = RunFolder(folder)
    spec = dataclasses.asdict(models.EncoderSpec("reactnet_18", binarization=binarization))
    write_json(run.encoder("student") / "encoder.json", {"format": "larq_ssl encoder, version 1", "spec": spec})
    for file in ("results.json", *files):
        (run.path / file).write_text("{}")
    return run


def test_a_stage_1_is_told_by_its_encoder(tmp_path, monkeypatch):
    # Whatever its flags say; an imported one has none.
    run = finished(tmp_path / "stage1", "activations", "import.json")
    stage2_flags(monkeypatch)
    assert stages.stage1_run(RunFolder(tmp_path / "stage2")).path == run.path
    stages.warn_of_other(run, ["lr"])
    assert run.flags() == run.inputs() == {}
    other = finished(tmp_path / "binary", "full", "flags.txt")
    (other.path / "flags.txt").write_text("--stage=1\n")
    stage2_flags(monkeypatch, stage1=str(other.path))
    with pytest.raises(ValueError, match="binary is not a run of stage 1"):
        stages.stage1_run(RunFolder(tmp_path / "stage2"))


def test_runs_of_schemes_have_folders_of_their_own(monkeypatch):
    def flag(value):
        return types.SimpleNamespace(value=value)

    class Flags(dict):
        dataset, encoder = "digits", "reactnet_18"

    for variant in ({"preset": flag("paper")}, {"scheme": flag("guided")}):
        monkeypatch.setattr(stages, "FLAGS", Flags(variant))
        (value,) = (flag.value for flag in variant.values())
        assert stages.default_folder("any").as_posix() == f"runs/any/digits-reactnet_18-{value}"
    monkeypatch.setattr(stages, "FLAGS", Flags())
    assert stages.default_folder("any").as_posix() == "runs/any/digits-reactnet_18"

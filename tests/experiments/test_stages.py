"""Stage 2 starts from stage 1: all 31 binary kernels of ReActNet-A, strictly."""

import numpy as np
import pytest

from larq_ssl import models
from larq_ssl.experiments import stages
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.methods.bssl import BSSL, default_heads
from larq_ssl.models.folder import save_encoder, save_weights
from larq_ssl.models.transfer import named_weights

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

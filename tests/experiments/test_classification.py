"""What the flags of the commands with a classifier say reaches the method that they train."""

import json

import pytest

from larq_ssl import models
from larq_ssl.models.folder import save_encoder

BUILT = """
import json
from absl import flags
from larq_ssl.experiments import {command} as experiment

flags.FLAGS(["{command}", "--encoder=resnet_18", "--width=0.125", "--stem=cifar", *{typed}])
method = {built}
print(json.dumps({{name: getattr(method, name, None) for name in {names}}}))
"""
DEFAULTS = {
    **{"label_smoothing": 0.0, "classifier_rate": 1.0, "classifier_decay": 0.0, "gradient_clip": None},
    **{"accumulate": 1, "temperature": None, "alpha": None},
}


def built(commands, command: str, method: str, typed: list[str]) -> dict:
    """What the method has besides defaults."""
    done = commands.python(BUILT.format(command=command, built=method, typed=typed, names=list(DEFAULTS)))
    assert done.code == 0, done.err
    told = json.loads(done.out.splitlines()[-1])
    return {name: value for name, value in told.items() if value != DEFAULTS[name]}


@pytest.mark.parametrize(
    ("command", "teacher", "typed", "expected"),
    [
        ("supervised", None, [], {}),
        (
            *("supervised", None, ["--label_smoothing=0.1", "--lr=0.2", "--classifier_lr=1"]),
            {"label_smoothing": 0.1, "classifier_rate": 5.0},
        ),
        ("supervised", None, ["--gradient_clip=2", "--accumulate=4"], {"gradient_clip": 2.0, "accumulate": 4}),
        # Which this optimizer leaves to the loss.
        ("supervised", None, ["--optimizer=lars_simclr", "--weight_decay=0.3"], {"classifier_decay": 0.3}),
        ("supervised", "a teacher", [], {"temperature": 1.0, "alpha": 1.0}),
        ("supervised", "a teacher", ["--temperature=2"], {"temperature": 2.0, "alpha": 1.0}),
        (
            *("distill", "a teacher", ["--temperature=0.5", "--alpha=0.25"]),
            {"temperature": 0.5, "alpha": 0.25, "classifier_decay": 1e-4},
        ),
        (
            *("distill", "a teacher", ["--temperature=1", "--optimizer=adam", "--lr=0.1", "--classifier_lr=0.2"]),
            {"temperature": 1.0, "alpha": 1.0, "classifier_rate": 2.0},
        ),
    ],
)
def test_flags_reach_the_method(commands, command, teacher, typed, expected):
    assert built(commands, command, f"experiment.build(10, None, {teacher!r}, cached=True)", typed) == expected


def test_flags_reach_fine_tuning(commands, tmp_path):
    save_encoder(models.build("resnet_18", None, "none", "cifar", 0.125), tmp_path / "encoder")
    typed = ["--label_smoothing=0.1", "--lr=0.2", "--classifier_lr=1", "--optimizer=lars_simclr", "--weight_decay=0.3"]
    method = f"experiment.build(experiment.load_encoder('{tmp_path / 'encoder'}'), None, 10)"
    expected = {"label_smoothing": 0.1, "classifier_rate": 5.0, "classifier_decay": 0.3}
    assert built(commands, "fine_tune", method, typed) == expected

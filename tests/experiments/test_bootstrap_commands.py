"""What the commands of BYOL and MSBReg build of their flags, without training."""

import json

import pytest

BUILD = """
import json
from absl import flags
from larq_ssl.data import views
from larq_ssl.experiments import training_data
from larq_ssl.experiments import {command} as experiment

FLAGS = flags.FLAGS
FLAGS(["{command}", *{typed}])
policy = views.policy(FLAGS.views, FLAGS.image_size)
method = experiment.build(training_data.Data(None, policy, steps_per_epoch=10), None)
heads = {{name: head.spec for name, head in method.heads.items()}}
norms = [layer for head in method.heads.values() for layer in head.layers if "bn" in layer.name]
print(json.dumps({{
    "encoder": [method.networks[name].spec.name for name in ("student", "momentum_encoder")],
    "binarization": method.networks["student"].spec.binarization,
    "heads": [[spec.input_dim, *spec.hidden_dims, spec.output_dim, spec.norm] for spec in heads.values()],
    "norms": [layer.synchronized for layer in norms],
    "clip": [method.gradient_clip, method.accumulate],
    "momentum": [float(method.momentum(step)) for step in (0, 20, 40)],
    **{{name: getattr(method, name) for name in {own}}},
}}))
"""
OWN = {
    "byol": ["uniformity_weight"],
    "msbreg": ["lambda_s", "lambda_b", "centroid", "spectrum", "rows", "brownian_per_view", "seed"],
}
SMALL = ("--encoder=resnet_18", "--width=0.125", "--image_size=32", "--binarization=none", "--epochs=4")


def built(commands, command: str, *typed: str) -> dict:
    done = commands.python(BUILD.format(command=command, typed=list(typed), own=OWN[command]))
    assert done.code == 0, done.err
    return json.loads(done.out.splitlines()[-1])


def test_byol_has_what_its_flags_say(commands):
    told = built(
        commands,
        *("byol", *SMALL, "--hidden_dim=70", "--embedding_dim=20", "--head_norm=layer", "--momentum=0.9"),
        *("--uniformity_weight=0.25", "--gradient_clip=2"),
    )
    assert told["encoder"] == ["resnet_18"] * 2
    assert told["heads"] == [[64, 70, 20, "layer"], [20, 70, 20, "layer"], [64, 70, 20, "layer"]]
    assert told["norms"] == []
    assert told["clip"] == [2, 1]
    assert told["momentum"] == pytest.approx([0.9, 0.95, 1.0])
    assert told["uniformity_weight"] == 0.25


def test_byol_by_default_is_that_of_its_authors(commands):
    told = built(commands, "byol", *SMALL, "--accumulate=2")
    assert told["heads"] == [[64, 4096, 256, "batch"], [256, 4096, 256, "batch"], [64, 4096, 256, "batch"]]
    assert told["clip"] == [None, 2]
    assert told["momentum"] == pytest.approx([0.99, 0.995, 1.0])
    assert told["uniformity_weight"] == 0


def test_msbreg_has_what_its_flags_say(commands):
    told = built(
        commands,
        *("msbreg", *SMALL, "--hidden_dim=70", "--embedding_dim=20", "--head_norm=weight", "--momentum=0.5"),
        *("--lambda_s=0.1", "--lambda_b=0.2", "--centroid=centroid_to_centroid", "--singular_values=nuclear"),
        *("--rows=view", "--brownian_per_view", "--seed=7"),
    )
    assert told["heads"] == [[64, 70, 20, "weight"], [20, 70, 20, "weight"], [64, 70, 20, "weight"]]
    assert [told["lambda_s"], told["lambda_b"], told["centroid"]] == [0.1, 0.2, "centroid_to_centroid"]
    assert [told["spectrum"], told["rows"], told["brownian_per_view"], told["seed"]] == ["nuclear", "view", True, 7]
    assert told["momentum"] == pytest.approx([0.5, 0.75, 1.0])


def test_msbreg_by_default_is_that_of_its_supplement(commands):
    told = built(commands, "msbreg", *SMALL)
    assert told["heads"] == [[64, 512, 128, "batch"], [128, 512, 128, "batch"], [64, 512, 128, "batch"]]
    assert [told["lambda_s"], told["lambda_b"], told["centroid"]] == [0.004, 0.5, "leave_one_out"]
    assert [told["spectrum"], told["rows"], told["brownian_per_view"]] == ["sv", "image", False]


@pytest.mark.parametrize("command", OWN)
def test_batch_norm_of_all_replicas(commands, command):
    assert built(commands, command, *SMALL)["norms"] == [False] * 3
    assert built(commands, command, *SMALL, "--strategy=mirrored")["norms"] == [True] * 3


DEFAULTS = {
    "byol": {
        **{"encoder": "resnet_50", "views": "byol", "optimizer": "lars_byol", "lr": 0.3, "weight_decay": 1e-6},
        **{"schedule": "cosine", "sync_batch_norm": True, "batch_size": 256},
    },
    "msbreg": {
        # 0.4 for 256 images, times the number of views.
        **{"encoder": "resnet_18", "views": "msbreg", "optimizer": "lars_byol", "lr": 1.6, "weight_decay": 1e-5},
        **{"schedule": "cosine", "sync_batch_norm": True, "batch_size": 256, "num_views": 4},
    },
}

VIEWS = """
from larq_ssl.data import views
from larq_ssl.experiments import msbreg

msbreg.FLAGS(["msbreg", "--num_views=5"])
policy = views.policy("digits", 16)
many = msbreg.many_views(policy)
assert many.global_views == policy.global_views[:1] * 5
assert (many.name, many.local_views) == ("digits", ())
"""


@pytest.mark.parametrize("command", DEFAULTS)
def test_defaults(commands, command):
    code = f"""
import json
from absl import flags
from larq_ssl.experiments import {command}
flags.FLAGS(["{command}"])
print(json.dumps({{name: flags.FLAGS[name].value for name in {list(DEFAULTS[command])}}}))
"""
    done = commands.python(code)
    assert done.code == 0, done.err
    assert json.loads(done.out.splitlines()[-1]) == DEFAULTS[command]


def test_views_that_are_alike_may_be_many(commands):
    done = commands.python(VIEWS)
    assert done.code == 0, done.err

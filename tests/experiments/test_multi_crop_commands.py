"""What the commands of DINO, SwAV and MoCo-v2* build of their flags, without training."""

import json

import pytest

BUILD = """
import json
import numpy as np
from absl import flags
from larq_ssl.data import views
from larq_ssl.experiments import common, training_data
from larq_ssl.experiments import {command} as experiment

FLAGS = flags.FLAGS
FLAGS(["{command}", *{typed}])
policy = views.policy(FLAGS.views, FLAGS.image_size)
method = experiment.build(training_data.Data(None, policy, steps_per_epoch=10), None)
heads = {{name: head.spec for name, head in method.heads.items()}}
kernels = {{
    name: [float(np.std(layer.kernel)) for layer in head.layers if hasattr(layer, "kernel")]
    for name, head in method.heads.items()
}}
norms = [layer for head in method.heads.values() for layer in head.layers if "bn" in layer.name]
print(json.dumps({report}))
"""

ALIKE = """{{
    "encoder": method.networks["student"].spec.name,
    "binarization": method.networks["student"].spec.binarization,
    "alpha": method.alpha,
    "clip": [method.gradient_clip, method.clip_norm],
    "kernels": kernels,
    "norms": [layer.synchronized for layer in norms],
    "drop_paths": {{
        name: sum(type(layer).__name__ == "DropPath" for layer in network.submodules)
        for name, network in method.networks.items()
    }},
    **{own},
}}"""
OWN = {
    "dino": """{
        "heads": [[*spec.hidden_dims, spec.output_dim, spec.last_layer] for spec in heads.values()],
        "free_gain": [spec.free_gain for spec in heads.values()],
        "temperatures": [method.student_temperature, *(float(method.teacher_temperature(s)) for s in (0, 15, 30, 35))],
        "momentum": [float(method.momentum(step)) for step in (0, 20, 39)],
        "center_momentum": method.center.momentum,
    }""",
    "swav": """{
        "heads": [[*spec.hidden_dims, spec.output_dim] for spec in heads.values()],
        "numbers": [method.temperature, method.epsilon, method.iterations],
        "queue": [method.queue and method.queue.size, method.queue_start_step],
    }""",
    "moco_star": """{
        "heads": [[*spec.hidden_dims, spec.output_dim] for spec in heads.values()],
        "numbers": [method.contrast.temperature, method.contrast.momentum, method.queue.size],
    }""",
}
SMALL = ("--encoder=resnet_18", "--width=0.125", "--image_size=32", "--binarization=none", "--epochs=4")


def built(commands, command: str, *typed: str) -> dict:
    report = ALIKE.replace("{own}", OWN[command]).replace("{{", "{").replace("}}", "}")
    done = commands.python(BUILD.format(command=command, typed=list(typed), report=report))
    assert done.code == 0, done.err
    return json.loads(done.out.splitlines()[-1])


def test_dino_has_what_its_flags_say(commands):
    told = built(
        commands,
        *("dino", "--encoder=vit_tiny_32", "--image_size=64", "--binarization=none", "--epochs=4", "--views=sslight"),
        *("--drop_path=0.2", "--free_gain", "--head_batch_norm", "--hidden_dim=60", "--bottleneck_dim=40"),
        *("--output_dim=30", "--student_temperature=0.2", "--warmup_teacher_temperature=0.03"),
        *("--teacher_temperature=0.09", "--warmup_teacher_temperature_epochs=3", "--momentum=0.9"),
        *("--final_momentum=0.95", "--center_momentum=0.8", "--gradient_clip=2", "--clip_norm=global"),
    )
    assert told["heads"] == [[60, 60, 40, 30]] * 2
    assert told["free_gain"] == [True, True]
    assert told["norms"] == [False] * 4
    assert (told["alpha"], told["clip"]) == (0.4, [2, "global"])
    # In steps of an epoch: three epochs of 10 steps, from 0.03 to 0.09, which stays.
    assert told["temperatures"] == pytest.approx([0.2, 0.03, 0.06, 0.09, 0.09])
    first, middle, last = told["momentum"]
    assert (first, middle) == pytest.approx((0.9, 0.925))
    assert 0.949 < last < 0.95
    assert told["center_momentum"] == 0.8
    # Two branches in each of 12 blocks, but for the first block, and none in the teacher.
    assert told["drop_paths"] == {"student": 22, "student_head": 0, "momentum_encoder": 0, "momentum_head": 0}


def test_dino_by_default_is_that_of_its_authors(commands):
    told = built(commands, "dino", *SMALL)
    assert told["heads"] == [[2048, 2048, 256, 65536]] * 2
    assert told["free_gain"] == [False, False]
    assert (told["norms"], told["alpha"], told["clip"]) == ([], None, [None, "variable"])
    assert told["temperatures"] == pytest.approx([0.1, 0.04, 0.04, 0.04, 0.04])
    assert told["momentum"][0] == pytest.approx(0.996)
    assert 0.9999 < told["momentum"][-1] < 1
    assert told["center_momentum"] == 0.9


def test_swav_has_what_its_flags_say(commands):
    told = built(
        commands,
        *("swav", *SMALL, "--views=sslight_swav", "--alpha=0.3", "--hidden_dim=70", "--embedding_dim=20"),
        *("--prototypes=50", "--temperature=0.2", "--epsilon=0.04", "--sinkhorn_iterations=2", "--batch_size=16"),
        *("--queue_length=50", "--queue_start_epoch=2", "--gradient_clip=2"),
    )
    assert told["heads"] == [[70, 20], [50]]
    assert told["norms"] == [False]
    assert (told["alpha"], told["clip"]) == (0.3, [2, "global"])
    assert told["numbers"] == [0.2, 0.04, 2]
    # Whole batches; and the epochs in steps.
    assert told["queue"] == [48, 20]


def uniform(inputs: int) -> float:
    """Deviation of PyTorch's initialiser."""
    return (3 * inputs) ** -0.5


@pytest.mark.parametrize(
    ("preset", "hidden", "deviations"),
    [("official", 2048, (uniform(64), uniform(2048), uniform(128))), ("sslight", 4096, (0.01, 0.01, 0.01))],
)
def test_presets_of_swav(commands, preset, hidden, deviations):
    told = built(commands, "swav", *SMALL, f"--preset={preset}")
    assert told["heads"] == [[hidden, 128], [3000]]
    assert [*told["kernels"]["student_head"], *told["kernels"]["prototypes"]] == pytest.approx(deviations, rel=0.02)
    assert told["numbers"] == [0.1, 0.05, 3]
    assert told["queue"] == [3840, 150]


def test_moco_star_has_what_its_flags_say(commands):
    told = built(
        commands,
        *("moco_star", *SMALL, "--views=sslight", "--hidden_dim=70", "--embedding_dim=20"),
        *("--queue_size=96", "--temperature=0.1", "--momentum=0.9", "--gradient_clip=2"),
    )
    assert told["heads"] == [[70, 20]] * 2
    assert (told["norms"], told["alpha"], told["clip"]) == ([], 0.4, [2, "global"])
    assert told["numbers"] == [0.1, 0.9, 96]


def test_moco_star_by_default_is_that_of_sslight(commands):
    told = built(commands, "moco_star", *SMALL)
    assert told["heads"] == [[2048, 128]] * 2
    assert told["kernels"]["student_head"] == pytest.approx([0.02, 0.02], rel=0.02)
    assert told["alpha"] is None
    assert told["numbers"] == [0.2, 0.999, 65536]


@pytest.mark.parametrize("command", OWN)
def test_batch_norm_of_all_replicas(commands, command):
    """Synchronised by default where there may be several; with one, Keras's faster layer does the same."""
    own = ("--output_dim=30", "--head_batch_norm") if command == "dino" else ()
    several = built(commands, command, *SMALL, "--strategy=mirrored", *own)
    assert several["norms"] == [True] * {"dino": 4, "swav": 1, "moco_star": 0}[command]


DEFAULTS = {
    "dino": {
        **{"encoder": "resnet_50", "views": "dino", "optimizer": "sgd", "lr": 0.03, "weight_decay": 1e-4},
        **{"schedule": "cosine", "sync_batch_norm": True, "freeze_last_layer_epochs": 1},
    },
    "swav": {
        **{"encoder": "resnet_50", "views": "swav", "optimizer": "lars_swav", "lr": 0.6, "min_lr": 6e-4},
        **{"weight_decay": 1e-6, "schedule": "cosine", "sync_batch_norm": True, "freeze_prototypes_epochs": 1},
    },
    "moco_star": {
        **{"encoder": "mobilenet_v2", "views": "dino_convnet", "optimizer": "lars_sslight", "lr": 0.48},
        **{"schedule": "cosine", "sync_batch_norm": True, "batch_norm_groups": 1},
    },
}


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

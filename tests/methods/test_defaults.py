"""What a method is if it is told no more than its networks: the numbers of its authors' code."""

import inspect

import pytest

from larq_ssl.center import Center
from larq_ssl.methods import BYOL, DINO, Distill, InfoMin, MoCoStar, MSBReg, MultiLabel, SimCLR, Supervised, SwAV

DEFAULTS = {
    DINO: {
        **{"alpha": None, "student_temperature": 0.1, "teacher_temperature": 0.04, "momentum": 0.996},
        **{"center_momentum": 0.9, "linear_probe": None, "gradient_clip": None, "clip_norm": "variable"},
    },
    SwAV: {
        **{"alpha": None, "epsilon": 0.05, "iterations": 3, "temperature": 0.1, "queue_size": 0},
        **{"queue_start_step": 0, "linear_probe": None, "gradient_clip": None, "clip_norm": "global"},
    },
    MoCoStar: {
        **{"alpha": None, "queue_size": 65536, "temperature": 0.2, "momentum": 0.999, "seed": 0},
        **{"linear_probe": None, "gradient_clip": None},
    },
    SimCLR: {
        **{"temperature": 0.1, "momentum_encoder": None, "momentum_head": None, "queue_size": 65536},
        **{"momentum": 0.999, "seed": 0, "linear_probe": None, "probe_weight_decay": 0.0, "gradient_clip": None},
    },
    BYOL: {
        **{"momentum": 0.996, "uniformity_weight": 0.0, "linear_probe": None, "gradient_clip": None},
        "accumulate": 1,
    },
    # Those of the supplement of MSBReg where it has any: the best of its Table 5.
    MSBReg: {
        **{"momentum": 0.99, "lambda_s": 0.004, "lambda_b": 0.5, "centroid": "leave_one_out"},
        **{"spectrum": "sv", "rows": "image", "brownian_per_view": False, "seed": 0},
        **{"linear_probe": None, "gradient_clip": None, "accumulate": 1},
    },
    InfoMin: {
        **{"patch_head": None, "jigsaw_head": None, "queue_size": 65536, "temperature": 0.15, "momentum": 0.999},
        **{"batch_norm_groups": 1, "seed": 0, "gradient_clip": None},
    },
    Supervised: {
        **{"student_head": None, "label_smoothing": 0.0, "classifier_rate": 1.0, "classifier_decay": 0.0},
        **{"gradient_clip": None, "accumulate": 1, "train_student": True},
    },
    MultiLabel: {
        **{"student_head": None, "classifier_rate": 1.0, "classifier_decay": 0.0, "gradient_clip": None},
        **{"accumulate": 1, "train_student": True},
    },
    Distill: {
        **{"student_head": None, "teacher": None, "teacher_head": None, "teacher_classifier": None},
        **{"temperature": 1.0, "alpha": 1.0, "classifier_rate": 1.0, "classifier_decay": 0.0},
        **{"gradient_clip": None, "accumulate": 1},
    },
    Center: {"momentum": 0.9, "name": "center"},
}


@pytest.mark.parametrize("made", DEFAULTS)
def test_defaults(made):
    parameters = inspect.signature(made).parameters.values()
    given = {parameter.name: parameter.default for parameter in parameters}
    assert {name: value for name, value in given.items() if value is not inspect.Parameter.empty} == DEFAULTS[made]

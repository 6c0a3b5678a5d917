"""The methods of the page on scale: published recipes at full size, and the same methods small enough to be tried."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from larq_ssl import heads, models
from larq_ssl.data import views
from larq_ssl.experiments import common
from larq_ssl.experiments.scaling_formulas import Norms
from larq_ssl.methods import BSSL, BYOL, DINO, MoCo, MSBReg, SelfSupervisedModel, SimCLR, SwAV
from larq_ssl.methods.bssl import default_heads
from larq_ssl.models import Encoder, profile

RECIPES = (
    *("bssl_paper_stage1", "moco_v2_resnet50", "simclr_resnet_50", "byol_resnet_50_300ep"),
    *("dino_official_resnet_50", "swav_official_resnet_50", "msbreg_resnet_50"),
)
"""Those of `experiments/recipes/imagenet` that the page is about."""

TEACHER = {"name": "resnet_50", "binarization": "none"}
"""Arguments of `larq_ssl.models.build` for the teacher that the published recipes of BSSL have."""


@dataclasses.dataclass(frozen=True)
class Pass:
    """How a step runs a network.

    # Attributes
        passes: How often.
        seen: Views of an image that it sees, of each size.
        learns: Whether gradients flow through it.
    """

    passes: int
    seen: tuple[int, ...]
    learns: bool


def settings(recipe: str) -> dict[str, str]:
    """The flags of a recipe for ImageNet, as they are typed."""
    lines = common.recipe_file(f"imagenet/{recipe}").read_text().splitlines()
    pairs = (line.removeprefix("--").partition("=") for line in lines if line.startswith("--"))
    return {name: value for name, _, value in pairs}


def policy(told: Mapping[str, str]) -> views.ViewPolicy:
    """The views that a recipe makes."""
    chosen = views.policy(told["views"], int(told["image_size"]))
    return chosen.with_views(int(told["num_views"])) if "num_views" in told else chosen


def encoder_arguments(told: Mapping[str, str]) -> dict[str, Any]:
    """Of `larq_ssl.models.build`, for the student of a recipe."""
    stages = {"1": "activations", "2": "full"}
    return {"name": told["encoder"], "binarization": stages.get(told.get("stage", ""), "none")}


def sizes(told: Mapping[str, str]) -> dict[str, int]:
    """The widths that a recipe gives its heads, its classes and its queue."""
    names = ("hidden_dim", "embedding_dim", "classes", "output_dim", "queue_size")
    defaults = {"hidden_dim": 2048, "embedding_dim": 128, "prototypes": 3000}
    return {**defaults, **{name: int(told[name]) for name in names if name in told}}


def small_sizes(rows: int) -> dict[str, int]:
    """For methods that are only tried: no wider than a batch of so many rows, which singular values need."""
    names = ("hidden_dim", "embedding_dim", "classes", "output_dim", "prototypes")
    return {**dict.fromkeys(names, rows), "queue_size": 4 * rows}


def passes(method: str, counts: tuple[int, ...]) -> dict[str, Pass]:
    """How a step of a method runs its networks, those with a synchronised BatchNormalization or an encoder.

    # Arguments
        counts: Views of an image, of each size.
    """
    every, first = sum(counts), (counts[0],)
    if method == "bssl":
        learned = dict.fromkeys(("student", "student_head", "teacher_head"), Pass(every, counts, True))
        return {"teacher": Pass(every, counts, False), **learned}
    if method == "moco":
        return {"student": Pass(1, (1,), True), "momentum_encoder": Pass(1, (1,), False)}
    if method in ("byol", "msbreg"):
        learned = dict.fromkeys(("student", "student_head", "predictor"), Pass(every, counts, True))
        return learned | dict.fromkeys(("momentum_encoder", "momentum_head"), Pass(every, counts, False))
    learned = {"student": Pass(len(counts), counts, True), "student_head": Pass(1, counts, True)}
    if method == "dino":
        return learned | dict.fromkeys(("momentum_encoder", "momentum_head"), Pass(1, first, False))
    return learned


def norms(method: SelfSupervisedModel, ran: Mapping[str, Pass]) -> tuple[Norms, ...]:
    """The synchronised BatchNormalization of a method's networks."""
    found = []
    for name, network in method.networks.items():
        kinds = [layer for layer in network.submodules if isinstance(layer, tf.keras.layers.BatchNormalization)]
        channels = [int(layer.gamma.shape[0]) for layer in kinds if layer.synchronized]
        if channels:
            found.append(Norms(len(channels), sum(channels), ran[name].passes, ran[name].learns))
    return tuple(found)


def parameters(method: SelfSupervisedModel) -> int:
    """Numbers that the optimizer moves, and so that replicas sum up."""
    return sum(int(np.prod(variable.shape)) for variable in method.optimized_variables)


def macs(method: SelfSupervisedModel, ran: Mapping[str, Pass], sides: tuple[int, ...]) -> int:
    """Multiply-accumulates of the encoders for an image in a step; heads are left out, which have few.

    A binary network trains with products of floats, so that binary ones count as others.
    """
    total = 0
    for name, how in ran.items():
        network = method.networks[name]
        if isinstance(network, Encoder):
            for seen, side in zip(how.seen, sides, strict=False):
                cost = profile.cost(network, side)
                total += (3 if how.learns else 1) * seen * (cost.float_macs + cost.binary_macs)
    return total


def width(method: str, of: Mapping[str, int]) -> int:
    """Numbers per image that a method gathers, or that its centre has."""
    return {"bssl": of.get("classes", 0), "dino": of.get("output_dim", 0), "byol": 0}.get(method, of["embedding_dim"])


def build(
    method: str, encoder: Mapping[str, Any], of: Mapping[str, int], teacher: Mapping[str, Any]
) -> SelfSupervisedModel:
    """A method with the heads of its command, BatchNormalization synchronised as there.

    # Arguments
        method: Of those of `RECIPES`.
        encoder: Of `larq_ssl.models.build`, for the student.
        of: See `sizes`.
        teacher: As `encoder`, for the teacher of a method that has one.
    """
    if method == "bssl":
        networks = models.build(**teacher), models.build(**encoder)
        own = default_heads(*networks, "features", of["classes"], of["hidden_dim"], synchronized=True)
        return BSSL(*networks, own)
    make = functools.partial(models.build, **encoder, synchronized=method != "moco")
    student = make()
    if method == "swav":
        return _swav(student, of)
    if method == "simclr":
        outputs = of["embedding_dim"]
        return SimCLR(student, heads.simclr_head("student_head", student.feature_dim, outputs, synchronized=True))
    if method == "dino":
        made = [_dino_head(name, student.feature_dim, of) for name in ("student_head", "momentum_head")]
        return DINO(student, made[0], make(), made[1])
    if method == "moco":
        dim = student.feature_dim
        names = ("student_head", "momentum_head")
        made = [heads.mlp_head(name, dim, [dim], of["embedding_dim"], norm="none") for name in names]
        return MoCo(student, made[0], make(), made[1], queue_size=of["queue_size"])
    return _bootstrap({"byol": BYOL, "msbreg": MSBReg}[method], student, make(), of)


def _swav(student: Encoder, of: Mapping[str, int]) -> SwAV:
    dim = of["embedding_dim"]
    head = heads.mlp_head("student_head", student.feature_dim, [of["hidden_dim"]], dim, "batch", synchronized=True)
    return SwAV(student, head, heads.prototypes("prototypes", dim, of["prototypes"]))


def _dino_head(name: str, dim: int, of: Mapping[str, int]) -> tf.keras.Sequential:
    hidden = [of["hidden_dim"]] * 2
    return heads.dino_head(name, dim, of["output_dim"], batch_norm=True, hidden_dims=hidden, synchronized=True)


def _bootstrap(kind: type[Any], student: Encoder, follower: Encoder, of: Mapping[str, int]) -> SelfSupervisedModel:
    dims = {"student_head": student.feature_dim, "predictor": of["embedding_dim"], "momentum_head": student.feature_dim}
    made = {
        name: heads.byol_head(name, dim, of["hidden_dim"], of["embedding_dim"], synchronized=True)
        for name, dim in dims.items()
    }
    return kind(student, made["student_head"], made["predictor"], follower, made["momentum_head"])

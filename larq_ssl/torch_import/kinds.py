"""Takes checkpoints apart: which of their tensors are which network, by what the published codes call them.

A kind is what surrounds a backbone (see `larq_ssl.torch_import.naming`): two networks and a queue in MoCo,
a projection head and prototypes in SwAV, and so on. Every tensor has to belong somewhere or be left out by name.
"""

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from larq_ssl.torch_import.heads import is_mlp
from larq_ssl.torch_import.naming import (
    MOBILENET_V2,
    REACTNET_A,
    REACTNET_RESNET,
    RESNET,
    VIT,
    Naming,
    Tensors,
    classifier_of,
    official_step,
)
from larq_ssl.torch_import.state_dict import state_dict
from larq_ssl.torch_import.tensors import StoredTensor


@dataclasses.dataclass
class Parts:
    """The networks of a checkpoint, each in PyTorch's names within it.

    # Attributes
        encoders: `student`, and `ema` where there is a momentum encoder.
        heads: Projection heads, and SwAV's prototypes.
        queue: MoCo's queue `[dim, size]` and its pointer `[1]`.
        left_out: Number of tensors without a place here, by what they are.
        binarization: Told by the kind; `None` if it is not.
    """

    encoders: dict[str, Tensors]
    heads: dict[str, Tensors] = dataclasses.field(default_factory=dict)
    queue: tuple[StoredTensor, StoredTensor] | None = None
    left_out: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    binarization: str | None = None


class _Pile:
    """The tensors that have no place yet."""

    def __init__(self, tensors: Tensors, left_out: collections.Counter, classifier: bool):
        self.tensors, self.left_out, self.classifier = dict(tensors), left_out, classifier

    def take(self, prefix: str, wanted: Callable[[str], bool] = lambda _: True) -> dict[str, StoredTensor]:
        """Takes away what lies under a prefix and is wanted; names lose the prefix."""
        names = [name for name in self.tensors if name.startswith(prefix) and wanted(name[len(prefix) :])]
        return {name[len(prefix) :]: self.tensors.pop(name) for name in names}

    def leave(self, what: str, tensors: Tensors) -> None:
        if tensors:
            self.left_out[what] += len(tensors)

    def take_encoder(self) -> dict[str, StoredTensor]:
        """Takes all that is left, as an encoder; its classifier only if it is wanted."""
        if not self.classifier:
            prefix = f"{classifier_of(self.tensors)}."
            self.leave("classifier", self.take(prefix, lambda name: name in ("weight", "bias")))
        return self.take("")


def _backbone_alone(pile: _Pile) -> Parts:
    return Parts({"student": pile.take_encoder()})


def _reactnet(pile: _Pile) -> Parts:
    student = pile.take_encoder()
    return Parts({"student": student}, binarization=official_step(student))


def _moco(pile: _Pile) -> Parts:
    heads = {"student_head": pile.take("encoder_q.fc."), "momentum_head": pile.take("encoder_k.fc.")}
    encoders = {"student": pile.take("encoder_q."), "ema": pile.take("encoder_k.")}
    queue = pile.take("queue", lambda name: name in ("", "_ptr"))
    if len(queue) == 1:
        raise ValueError("it has a queue without a pointer, or the other way round")
    return Parts(_present(encoders), _present(heads), (queue[""], queue["_ptr"]) if queue else None)


def _swav(pile: _Pile) -> Parts:
    heads = {"student_head": pile.take("projection_head.")}
    prototypes = pile.take("prototypes.")
    if "weight" in prototypes:
        heads["prototypes"] = prototypes
    else:  # several sets, called prototypes0.weight and so on
        heads |= {name.removesuffix(".weight"): {"weight": tensor} for name, tensor in prototypes.items()}
    return Parts({"student": pile.take_encoder()}, _present(heads))


def _dino(pile: _Pile) -> Parts:
    networks = {}
    for name in ("student", "teacher"):
        pile.leave("DINO's head (GELU, normalised weights)", pile.take(f"{name}.head."))
        networks[name] = pile.take(f"{name}.backbone.") or pile.take(f"{name}.")
    if not networks["student"]:
        return Parts({"student": networks["teacher"]})
    return Parts(_present({"student": networks["student"], "ema": networks["teacher"]}))


def _burn(pile: _Pile) -> Parts:
    # The names of what is around the backbones differ; what is in them tells them apart.
    students = [
        pile.take(prefix, lambda name: name.startswith(("feature.", "fc.0.")))
        for prefix in _prefixes(pile, REACTNET_A.mark)
    ]
    teachers = [
        pile.take(prefix, lambda name: RESNET.name(name) is not None) for prefix in _prefixes(pile, RESNET.mark)
    ]
    for teacher in teachers:
        pile.leave("the teacher's backbone", teacher)
    inputs = {"student_head": _features(students, REACTNET_A), "teacher_head": _features(teachers, RESNET)}
    found: dict[str, list[Tensors]] = collections.defaultdict(list)
    for prefix in _prefixes(pile, "1.running_mean"):
        tensors = pile.take(prefix, lambda name: name.startswith(("0.", "1.", "3.")))
        shape = tensors["0.weight"].shape if is_mlp(set(tensors)) else ()
        roles = [role for role, features in inputs.items() if shape[1:] == (features,)]
        if len(roles) != 1:
            raise ValueError(f"its head {prefix!r} of shape {shape} fits neither the student nor the teacher")
        found[roles[0]].append(tensors)
    heads = {role: _one(pile, role, alike) for role, alike in found.items()}
    return Parts({"student": _one(pile, "student", students)}, heads)


def _features(networks: Sequence[Tensors], naming: Naming) -> int | None:
    """Features of the first network: both of BURN's have 32 times as many as channels after the stem."""
    stem = networks[0].get(naming.stem[0]) if networks and naming.stem else None
    return stem.shape[0] * 32 if stem is not None and stem.shape else None


def _present(networks: Mapping[str, Tensors]) -> dict[str, Tensors]:
    return {name: tensors for name, tensors in networks.items() if tensors}


def _prefixes(pile: _Pile, end: str) -> list[str]:
    """What stands before the names of tensors that end so, the shortest first."""
    return sorted((name.removesuffix(end) for name in pile.tensors if f".{name}".endswith(f".{end}")), key=len)


def _one(pile: _Pile, role: str, alike: Sequence[Tensors]) -> Tensors:
    """A network that the checkpoint has under several names, if its tensors are the same under all."""
    first, *others = alike
    for other in others:
        if first.keys() != other.keys() or not all(
            np.array_equal(first[name].numpy(), other[name].numpy()) for name in first
        ):
            raise ValueError(f"it has several networks that could be the {role}, and they differ")
        pile.leave(f"the {role} under another name", other)
    return first


@dataclasses.dataclass(frozen=True)
class Kind:
    """What published code wrote a checkpoint.

    # Arguments
        what: For people.
        fits: Tells it by the names of the tensors.
        take_apart: Finds its networks among the tensors.
    """

    what: str
    fits: Callable[[Tensors], bool]
    take_apart: Callable[[_Pile], Parts]


def _starts(tensors: Tensors, *prefixes: str) -> bool:
    return any(name.startswith(prefixes) for name in tensors)


def _is_burn(tensors: Tensors) -> bool:
    if _starts(tensors, "encoder_q."):
        return False
    return any(name.endswith(f".{REACTNET_A.mark}") for name in tensors) or (
        REACTNET_A.mark in tensors and "fc.0.weight" in tensors
    )


def _is_swav(tensors: Tensors) -> bool:
    return _starts(tensors, "projection_head.", "prototypes.")


KINDS = {
    "moco": Kind(
        "MoCo v1 and v2",
        lambda tensors: _starts(tensors, "encoder_q.") and not _starts(tensors, "encoder_q.feature."),
        _moco,
    ),
    "s2bnn": Kind("S2-BNN: a ReActNet-A in MoCo", lambda tensors: _starts(tensors, "encoder_q.feature."), _moco),
    "swav": Kind("SwAV", _is_swav, _swav),
    "dino": Kind(
        "DINO's full checkpoints",
        lambda tensors: _starts(tensors, "student.", "teacher.") and not _is_burn(tensors),
        _dino,
    ),
    "burn": Kind("BURN, whole or its backbone alone", _is_burn, _burn),
    "reactnet": Kind(
        "official ReActNets",
        lambda tensors: REACTNET_RESNET.mark in tensors or (REACTNET_A.mark in tensors and not _is_burn(tensors)),
        _reactnet,
    ),
    "resnet": Kind(
        "ResNets in torchvision's names: torchvision's own, and backbones alone such as DINO's",
        lambda tensors: RESNET.mark in tensors and not _is_swav(tensors),
        _backbone_alone,
    ),
    "mobilenet_v2": Kind(
        "MobileNetV2 in torchvision's names",
        lambda tensors: MOBILENET_V2.mark in tensors and not _is_swav(tensors),
        _backbone_alone,
    ),
    "vit": Kind(
        "vision transformers in timm's names, such as DINO's backbones alone",
        lambda tensors: VIT.mark in tensors and not _is_swav(tensors),
        _backbone_alone,
    ),
}
"""All kinds of checkpoints by name."""


def take_apart(contents: Any, kind: str | None = None, classifier: bool = False) -> tuple[str, Parts]:
    """Finds the networks of a checkpoint.

    # Arguments
        contents: Of a file, see `larq_ssl.torch_import.reader`.
        kind: One of `KINDS`; `None` to tell it by the names of the tensors.
        classifier: Whether the last dense layer of a classifier is kept.
    # Returns
        The kind, and its parts.
    # Raises
        ValueError: If the kind is unknown, does not fit, or cannot be told, or a tensor has no place; in words
            that go on after the name of the file.
    """
    if kind is not None and kind not in KINDS:
        raise ValueError(f"`kind` must be one of {list(KINDS)}, not {kind!r}")
    left_out: collections.Counter = collections.Counter()
    tensors = state_dict(contents, left_out)
    fitting = [name for name, one in KINDS.items() if one.fits(tensors)]
    if not fitting or (kind is not None and kind not in fitting):
        raise ValueError(
            f"its tensors ({', '.join(map(repr, list(tensors)[:3]))}, ...) are not named as in "
            f"{f'a {kind} checkpoint' if kind else 'any kind known here'}; there are: {_known()}"
        )
    if kind is None and len(fitting) > 1:
        raise ValueError(f"it could be of several kinds, {' or '.join(fitting)}: say which with `kind`")
    kind = kind or fitting[0]
    pile = _Pile(tensors, left_out, classifier)
    parts = KINDS[kind].take_apart(pile)
    for name in pile.tensors:
        raise ValueError(f"there is no place for its tensor {name!r} in a {kind} checkpoint")
    if classifier and not any(f"{classifier_of(encoder)}.weight" in encoder for encoder in parts.encoders.values()):
        raise ValueError("it has no classifier to keep")
    parts.left_out = left_out
    return kind, parts


def _known() -> str:
    return "; ".join(f"{name} ({kind.what})" for name, kind in KINDS.items())

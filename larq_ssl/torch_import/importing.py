"""From a checkpoint file to encoders, heads and the queue."""

import collections
import dataclasses
import os
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from larq_ssl.models.encoder import Encoder
from larq_ssl.torch_import import backbones, heads
from larq_ssl.torch_import.kinds import take_apart
from larq_ssl.torch_import.pickles import RefusedError
from larq_ssl.torch_import.reader import Checkpoint, read_checkpoint
from larq_ssl.torch_import.tensors import FLOATS, StoredTensor


@dataclasses.dataclass(frozen=True)
class Imported:
    """What a checkpoint became.

    # Attributes
        kind: One of `larq_ssl.torch_import.KINDS`.
        layout: Of the file: `zip` or `legacy`.
        encoders: `student`, and `ema` where there is a momentum encoder. They take raw pixels, normalised as on
            ImageNet, and equal the PyTorch networks for image sizes divisible by 32 (vision transformers for all).
        heads: By name, as the methods name theirs.
        memories: `queue`: `keys` `[size, dim]` and `pointer`, as `larq_ssl.queue.KeyQueue` has them.
        tensors: Number of tensors that each of these is made of.
        left_out: Number of tensors that have no place, by what they are.
    """

    kind: str
    layout: str
    encoders: Mapping[str, Encoder]
    heads: Mapping[str, tf.keras.Sequential]
    memories: Mapping[str, Mapping[str, np.ndarray]]
    tensors: Mapping[str, int]
    left_out: Mapping[str, int]


def import_checkpoint(
    path: str | os.PathLike[str],
    kind: str | None = None,
    binarization: str | None = None,
    classifier: bool = False,
) -> Imported:
    """Reads a PyTorch checkpoint and builds what is in it.

    # Arguments
        path: A file of `torch.save`.
        kind: One of `larq_ssl.torch_import.KINDS`; `None` to tell it by the names of the tensors.
        binarization: `activations` (step 1) or `full` (step 2) of a binary network. Official ReActNet-A files tell
            it, all others have equal tensors in both steps.
        classifier: Whether a classifier is kept: the encoder then gives logits, not features.
    # Raises
        ValueError: If the file cannot be read, its kind not be told, or not every tensor has its place; in one
            sentence that names the file.

    Differences from the published networks: SwAV divides reds by 0.228 instead of 0.229 when it normalises images;
    DINO's head, which has GELU and normalised weights, is left out.
    """
    checkpoint = read_checkpoint(path)
    try:
        return _build(checkpoint, kind, binarization, classifier)
    except RefusedError:
        raise  # which names the file itself
    except ValueError as error:
        raise ValueError(f"{path}: {str(error).rstrip('.')}.") from error


def _build(checkpoint: Checkpoint, kind: str | None, binarization: str | None, classifier: bool) -> Imported:
    kind, parts = take_apart(checkpoint.contents, kind, classifier)
    for name, tensors in {**parts.encoders, **parts.heads}.items():
        # Tensors may share numbers, but not so that a small file fills the memory.
        if sum(tensor.nbytes for tensor in tensors.values()) > checkpoint.size:
            raise ValueError(f"the tensors of its {name} together are larger than the file")
    plans = {
        name: backbones.backbone(tensors, binarization or parts.binarization)
        for name, tensors in parts.encoders.items()
    }
    left_out = collections.Counter(parts.left_out)
    for plan in plans.values():
        left_out["layers that their blocks do not use"] += plan.spare
    memories = {"queue": _queue(*parts.queue)} if parts.queue else {}
    built_heads = {name: heads.head(name, tensors) for name, tensors in parts.heads.items()}
    counts = {name: len(plan.tensors) for name, plan in plans.items()}
    counts |= {name: len(tensors) for name, tensors in parts.heads.items()}
    counts |= {name: len(memory) for name, memory in memories.items()}
    return Imported(
        kind=kind,
        layout=checkpoint.layout,
        encoders={name: plan.build() for name, plan in plans.items()},
        heads=built_heads,
        memories=memories,
        tensors=counts,
        left_out=+left_out,
    )


def _queue(keys: StoredTensor, pointer: StoredTensor) -> dict[str, np.ndarray]:
    """PyTorch's `[dim, size]` as rows."""
    if len(keys.shape) != 2 or keys.storage.kind not in FLOATS or pointer.shape != (1,):
        raise ValueError(f"its queue has the shapes {keys.shape} and {pointer.shape}, not (dim, size) and (1,)")
    place = int(pointer.numpy()[0])
    if not 0 <= place < keys.shape[1]:
        raise ValueError(f"the pointer of its queue is {place}, beyond its {keys.shape[1]} keys")
    rows = np.ascontiguousarray(keys.numpy().T, np.float32)
    if not np.isfinite(rows).all():
        raise ValueError("its queue is not finite")
    return {"keys": rows, "pointer": np.array(place, np.int64)}

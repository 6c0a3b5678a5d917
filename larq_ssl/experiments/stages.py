"""Which binarization a command trains, where its run lives, and what stage 2 takes over from stage 1."""

import pathlib
from collections.abc import Collection
from typing import Any

from absl import flags

from larq_ssl.experiments import common
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.memories import load_memory
from larq_ssl.methods.base import SelfSupervisedModel
from larq_ssl.models import ARCHITECTURES, Encoder, build, zoo
from larq_ssl.models import folder as model_folder
from larq_ssl.models.folder import load_encoder
from larq_ssl.models.transfer import copy_weights

FLAGS = flags.FLAGS

_OF_STAGE = {1: "activations", 2: "full"}
# What sets the runs of a command on one data set and encoder apart.
_VARIANTS = ("preset", "scheme")
_NUMBERS = {"label_fraction": "labels", "labels_per_class": "perclass", "head_layer": "layer"}


def binarization() -> str:
    """The binarization that the stage flags ask for.

    # Raises
        ValueError: If they contradict each other.
    """
    if FLAGS.one_stage:
        if FLAGS.stage == 1:
            raise ValueError("--one_stage trains a fully binary network from scratch, which --stage=1 contradicts.")
        if FLAGS.stage1 is not None:
            raise ValueError(f"--one_stage starts from scratch, which --stage1={FLAGS.stage1} contradicts.")
        wanted = "full"
    elif FLAGS.stage is not None:
        wanted = _OF_STAGE[FLAGS.stage]
    else:
        wanted = FLAGS.binarization or "none"
    if FLAGS.stage == 1 and FLAGS.stage1 is not None:
        raise ValueError(f"--stage1 is what stage 2 starts from; --stage=1 contradicts --stage1={FLAGS.stage1}.")
    if FLAGS.binarization not in (None, wanted):
        raise ValueError(f"--binarization={FLAGS.binarization} contradicts the stage, which makes it {wanted}.")
    return wanted


def run_folder(experiment: str) -> RunFolder:
    """`--workdir`, or the default place of the run.

    # Raises
        ValueError: If the stage flags contradict each other.
    """
    binarization()
    if FLAGS.workdir is not None:
        return RunFolder(FLAGS.workdir)
    return RunFolder(default_folder(experiment) / stage_name())


def default_folder(experiment: str) -> pathlib.Path:
    variants = [FLAGS[name].value for name in _VARIANTS if name in FLAGS]
    if "local_views" in FLAGS:  # multi-crop, whose policies are what is compared
        variants.append(FLAGS.views)
    if "jigsaw" in FLAGS and FLAGS.jigsaw:
        variants.append("jigsaw")
    for name, word in _NUMBERS.items():
        if name in FLAGS and FLAGS[name].value is not None:
            variants.append(f"{word}{FLAGS[name].value:g}")
    dataset = FLAGS.dataset.replace("/", "_")
    return pathlib.Path("runs") / experiment / "-".join([dataset, FLAGS.encoder, *variants])


def stage_name() -> str:
    if FLAGS.one_stage:
        return "one_stage"
    if FLAGS.stage is not None:
        return f"stage{FLAGS.stage}"
    return {"none": "float", "activations": "stage1", "full": "one_stage"}[binarization()]


def require_stage() -> None:
    """Raises a `ValueError` unless the flags say which stage to train."""
    if FLAGS.stage is None and not FLAGS.one_stage and FLAGS.binarization is None:
        raise ValueError("Say which stage to train: --stage=1, --stage=2 or --one_stage.")


def stage1_run(run: RunFolder) -> RunFolder | None:
    """The finished stage 1 that this command starts from, or `None` if it starts from scratch.

    # Raises
        ValueError: If stage 2 is asked for and its stage 1 is not there, not finished, or another kind of run.
    """
    if FLAGS.stage != 2 or FLAGS.one_stage:
        return None
    before = RunFolder(FLAGS.stage1 if FLAGS.stage1 is not None else run.path.parent / "stage1")
    if not before.finished:
        how = "is not finished" if before.path.exists() else "does not exist"
        raise ValueError(
            f"--stage=2 starts from a finished stage 1, and {before.path} {how}: run --stage=1 first, name its "
            "folder with --stage1, or train from scratch with --one_stage."
        )
    student = before.encoder("student")
    if not student.is_dir():
        raise ValueError(f"{before.path} is not the folder of a run: it has no {student.relative_to(before.path)}.")
    if model_folder.read_spec(student).binarization != _OF_STAGE[1]:
        raise ValueError(
            f"{before.path} is not a run of stage 1 (binary activations, float weights), from which --stage=2 starts: "
            "name the folder of one with --stage1."
        )
    return before


def student(before: RunFolder | None, **options: Any) -> Encoder:
    """The encoder that the flags describe, turned like that of stage 1, which may come from PyTorch.

    # Arguments
        options: Further arguments of `larq_ssl.models.build`.
    """
    if FLAGS.encoder not in ARCHITECTURES:
        reason = zoo.REFUSED.get(FLAGS.encoder, "")
        raise ValueError(f"--encoder must be one of {', '.join(ARCHITECTURES)}, got {FLAGS.encoder!r}{reason}.")
    turned = before is not None and model_folder.read_spec(before.encoder("student")).rotate_input
    return build(
        FLAGS.encoder,
        None,
        binarization(),
        FLAGS.stem,
        FLAGS.width,
        FLAGS.preprocessing,
        rotate_input=turned,
        synchronized=synchronized(),
        binary_compute=FLAGS.binary_compute,
        **options,
    )


def synchronized() -> bool:
    """Whether BatchNorm of the encoder sees all replicas; with one, Keras's faster layers do the same."""
    return FLAGS.sync_batch_norm and FLAGS.strategy != "single"


def warn_of_other(before: RunFolder, names: Collection[str]) -> None:
    """Says so if stage 2 trains by other settings than its stage 1, which is allowed and seldom meant."""
    if before.imported:
        return
    told = before.flags()
    now = {name: None if FLAGS[name].value is None else str(FLAGS[name].value) for name in names}
    other = [
        f"--{name}={value} ({told.get(name)} in stage 1)" for name, value in now.items() if value != told.get(name)
    ]
    if other:
        common.say(f"Warning: stage 2 trains by other settings than {before.path}: {', '.join(sorted(other))}.")


def inherit(method: SelfSupervisedModel, before: RunFolder, leave: tuple[str, ...] = ()) -> None:
    """Gives a method the encoders, heads and memories of stage 1, strictly; heads named in `leave` start anew.

    # Raises
        ValueError: If stage 1 lacks one of them, or one does not fit.
    """
    heads = {name: head for name, head in method.heads.items() if name not in leave}
    parts = [before.encoder(name) for name in method.encoders] + [before.head(name) for name in heads]
    for part in (*parts, *(before.memory(name) for name in method.memories)):
        if not part.exists():
            raise ValueError(f"{part} does not exist, with which stage 2 goes on: was stage 1 trained in another way?")
    for name, encoder in method.encoders.items():
        source = load_encoder(before.encoder(name))
        _refuse_other_input(source, encoder, before.encoder(name))
        report = copy_weights(source, encoder)
        common.say(f"{name} starts from {before.encoder(name)}: {report}.")
    for name, head in heads.items():
        report = model_folder.load_weights(head, before.head(name))
        common.say(f"{name} starts from {before.head(name)}: {report.tensors} of {report.total_tensors} tensors.")
    for name, memory in method.memories.items():
        load_memory(memory, before.memory(name))
        common.say(f"{name} starts from {before.memory(name)}.")


def _refuse_other_input(source: Encoder, target: Encoder, folder: pathlib.Path) -> None:
    """Weights do not tell what becomes of the pixels before they meet them."""
    for field in ("preprocessing", "rotate_input"):
        wanted, given = (getattr(encoder.spec, field) for encoder in (source, target))
        if wanted != given:
            raise ValueError(f"{field} must be {wanted!r}, as of the encoder in {folder}, got {given!r}.")

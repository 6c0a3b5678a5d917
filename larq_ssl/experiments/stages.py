"""Which binarization a command trains, where its run lives, and what stage 2 takes over from stage 1."""

import pathlib

from absl import flags

from larq_ssl.experiments import common
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.methods.base import SelfSupervisedModel
from larq_ssl.models import folder as model_folder
from larq_ssl.models.folder import load_encoder
from larq_ssl.models.transfer import copy_weights

FLAGS = flags.FLAGS

_OF_STAGE = {1: "activations", 2: "full"}


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
    parts = [FLAGS.dataset, FLAGS.encoder, getattr(FLAGS, "preset", None)]
    return pathlib.Path("runs") / experiment / "-".join(part for part in parts if part)


def stage_name() -> str:
    if FLAGS.one_stage:
        return "one_stage"
    if FLAGS.stage is not None:
        return f"stage{FLAGS.stage}"
    return {"none": "float", "activations": "stage1", "full": "one_stage"}[binarization()]


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
    told = before.flags()
    if told.get("stage") != "1" and told.get("binarization") != "activations":
        raise ValueError(
            f"{before.path} is not a run of stage 1 (binary activations, float weights), from which --stage=2 starts: "
            "name the folder of one with --stage1."
        )
    return before


def inherit(method: SelfSupervisedModel, before: RunFolder, leave: tuple[str, ...] = ()) -> None:
    """Gives a method the encoders and heads of stage 1, strictly; heads named in `leave` start anew."""
    for name, encoder in method.encoders.items():
        report = copy_weights(load_encoder(before.encoder(name)), encoder)
        common.say(f"{name} starts from {before.encoder(name)}: {report}.")
    for name, head in method.heads.items():
        if name not in leave:
            report = model_folder.load_weights(head, before.head(name))
            common.say(f"{name} starts from {before.head(name)}: {report.tensors} of {report.total_tensors} tensors.")

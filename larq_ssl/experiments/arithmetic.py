"""What binary convolutions are computed in, and teachers as far as a run remembers: asked of the hardware once."""

from absl import flags

from larq_ssl.experiments import common, stages
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.experiments.workers import Workers
from larq_ssl.models.binary_compute import choose

FLAGS = flags.FLAGS

PLAIN, SMALL = "float32", "bfloat16"
_BINARY, TEACHER = "binary compute", "teacher compute"
"""What a run remembers among its inputs."""


def settle(run: RunFolder, crew: Workers) -> dict[str, str]:
    """Gives `--binary_compute` its final value; returns what a run has to remember of arithmetic among its inputs.

    `--teacher_compute` of a run that goes on gets its final value, too.

    A run that goes on computes as it began, and workers compute as their chief does.

    # Raises
        ValueError: If there is nothing that bfloat16 would change.
    """
    with crew.as_one():
        _refuse_bfloat16()
        began = crew.is_chief and run.flags_file.is_file() and not FLAGS.fresh
        known = run.inputs() if began else {}
    return {**_binary(known, began, crew), **_teacher(known, began, crew)}


def _has_choice() -> bool:
    """Whether there are binary convolutions that bfloat16 would change."""
    return FLAGS.precision == PLAIN and stages.binarization() == "full"


def _refuse_bfloat16() -> None:
    if FLAGS.binary_compute == SMALL and not _has_choice():
        raise ValueError(
            "--binary_compute=bfloat16 is for networks with binary inputs and kernels (--stage=2, --one_stage) and "
            f"--precision=float32, not for --binarization={stages.binarization()} and --precision={FLAGS.precision}."
        )


def _binary(known: dict[str, str], began: bool, crew: Workers) -> dict[str, str]:
    if not _has_choice():
        FLAGS.binary_compute = PLAIN
        return {}
    if FLAGS.binary_compute != "auto":
        return {}
    small, recorded = 0, 1
    if crew.is_chief:
        # One that began before there was a choice computes as it did then, and has nothing to remember.
        choice = choose(known.get(_BINARY, PLAIN) if began else "auto")
        common.say(str(choice))
        small, recorded = int(choice.compute == SMALL), int(not began or _BINARY in known)
    FLAGS.binary_compute = SMALL if crew.numbers(small)[0] else PLAIN
    return {_BINARY: FLAGS.binary_compute} if crew.numbers(recorded)[0] else {}


def _teacher(known: dict[str, str], began: bool, crew: Workers) -> dict[str, str]:
    """As far as a run has begun; where it has not, `teacher_arithmetic` settles it, which needs the networks."""
    if "teacher_compute" not in FLAGS or FLAGS.teacher_compute != "auto":
        return {}
    kept = {PLAIN: 0, SMALL: 1}.get(known.get(TEACHER, ""), 2)
    (kept, begun) = (crew.numbers(number)[0] for number in (kept, int(began)))
    if not begun:
        return {}
    FLAGS.teacher_compute = (PLAIN, SMALL, PLAIN)[kept]
    return {TEACHER: FLAGS.teacher_compute} if kept < 2 else {}

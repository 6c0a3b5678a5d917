"""What binary convolutions are computed in: asked of the hardware once, and remembered by the run."""

from absl import flags

from larq_ssl.experiments import common, stages
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.experiments.workers import Workers
from larq_ssl.models.binary_compute import choose

FLAGS = flags.FLAGS

_INPUT, _SMALL, _PLAIN = "binary compute", "bfloat16", "float32"


def settle(run: RunFolder, crew: Workers) -> dict[str, str]:
    """Gives `--binary_compute` its final value; returns what a run has to remember of that among its inputs.

    A run that goes on computes as it began, and workers compute as their chief does.

    # Raises
        ValueError: If there is nothing that bfloat16 would change.
    """
    binarization = stages.binarization()
    if FLAGS.precision != _PLAIN or binarization != "full":
        if FLAGS.binary_compute == _SMALL:
            raise ValueError(
                "--binary_compute=bfloat16 is for networks with binary inputs and kernels (--stage=2, --one_stage) and "
                f"--precision=float32, not for --binarization={binarization} and --precision={FLAGS.precision}."
            )
        FLAGS.binary_compute = _PLAIN
        return {}
    if FLAGS.binary_compute != "auto":
        return {}
    small = 0
    if crew.is_chief:
        began = run.flags_file.is_file() and not FLAGS.fresh
        choice = choose(run.inputs().get(_INPUT, _PLAIN) if began else "auto")
        common.say(str(choice))
        small = int(choice.compute == _SMALL)
    FLAGS.binary_compute = _SMALL if crew.numbers(small)[0] else _PLAIN
    return {_INPUT: FLAGS.binary_compute}
